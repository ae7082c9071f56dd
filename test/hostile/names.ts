// Claim 2: no member gets what belongs to another: its name, prefixes, PeerId, certificate, proof or tunnel key.
import assert from 'node:assert/strict'
import type { PeersAnswer, StatusAnswer } from '../../src/api/answers.ts'
import type { TrustAnswer } from '../../src/api/trust-answers.ts'
import type { AgentValue, Cidr, ClusterName, Origin, TunnelKey, Value } from '../../src/core/model/values.ts'
import { decodeDoorFrame } from '../../src/core/trust/door/frames.ts'
import { encodeItem, openItem } from '../../src/core/trust/set/form.ts'
import { rangeOf } from '../../src/core/trust/set/prefix-range.ts'
import { signStatement } from '../../src/core/trust/set/signatures.ts'
import { decodeFrame, encodeFrame } from '../../src/core/wire/messages.ts'
import { decodeValue } from '../../src/core/wire/value-codec.ts'
import { podCidr, serviceCidr, type Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { crypto, originOfDoor, textOf } from './attacker.ts'
import { service, state, values } from './forgery.ts'
import { codeOf, keyOf } from './tokens.ts'
import { ask, type HostileMember, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']
const FRAME_BYTES = 64 * 1024

export function nameClaims(world: () => World): void {
  describe('a member takes nothing of another:', () => {
    let member: HostileMember

    before(async () => {
      await world().complete()
      member = await world().member('thief')
    })

    after(() => world().dismiss())

    it('no prefix, be it equal, inside, or around all', async () => {
      const prefixes = [podCidr('east'), '10.2.7.0/24', '0.0.0.0/0', '::/0'] as Cidr[]
      const content: Record<string, Value> = {
        cluster: {
          kind: 'cluster',
          podPrefixes: prefixes,
          servicePrefixes: [serviceCidr('east'), '0.0.0.0/0'] as Cidr[],
          term: 2 ** 40,
          complete: true
        },
        'svc/shop/web': service('10.102.0.10')
      }
      await world().unharmed(ALL, async () => {
        publish(world(), member, values(content))
        await eventually(async () => {
          const { refused } = await ask<StatusAnswer>(world().agent('west'), 'status')
          return Object.keys(refused).length > 0
        })
      })
      for (const at of ALL) {
        const { peers } = await ask<PeersAnswer>(world().agent(at), 'peers')
        const cidrs = peers.filter(({ cluster }) => cluster === 'thief').flatMap((row) => row.cidrs)
        assert.deepEqual(
          cidrs.filter((cidr) => prefixes.includes(cidr as Cidr)),
          []
        )
        assert.deepEqual(await world().names(at, 'thief'), [])
      }
      for (const at of ALL)
        await world().told(at, {
          kind: 'refused',
          of: member.attacker,
          cluster: 'thief',
          reason: /^record refused/
        })
    })

    it('no tunnel key: that of east with its proof, or with one of the thief', async () => {
      const stolen = await tunnelKeysOf(world(), member, originOfDoor(world().door('east')))
      const proof = Buffer.from(crypto.random(64)).toString('base64')
      const lies: readonly (readonly TunnelKey[])[] = [stolen, stolen.map(({ edKey }) => ({ edKey, proof }))]
      for (const tunnelKeys of lies) {
        await world().unharmed(ALL, async () => {
          const agent: AgentValue = {
            kind: 'agent',
            tunnelKeys,
            wireguardAddresses: [],
            multiaddrs: [],
            tunnelAddress: undefined,
            node: 'gw',
            role: 'gateway',
            version: '9',
            probePort: 0
          }
          publish(world(), member, values({ agent }))
          await eventually(async () => {
            const { refused } = await ask<StatusAnswer>(world().agent('west'), 'status')
            return Object.keys(refused).some((reason) => reason.includes('tunnelKeys'))
          })
        })
        const { peers } = await ask<PeersAnswer>(world().agent('west'), 'peers')
        assert.ok(peers.some(({ cluster, state: is }) => cluster === 'east' && is !== 'conflict'))
        assert.ok(peers.some(({ peerId }) => peerId === originOfDoor(world().door('east'))))
      }
      await world().told('west', {
        kind: 'refused',
        of: member.attacker,
        cluster: 'thief',
        reason: /tunnelKeys/
      })
    })

    it('no PeerId and no certificate', async () => {
      const thief = await stranger(world(), member)
      const { attacker } = thief
      const credential = await credentialOf(world(), thief, 'east')
      const east = originOfDoor(world().door('east'))
      for (const as of [attacker.origin, east]) {
        await attacker.dial(world().door('west'))
        const ended = await attacker.shake(world().door('west'), { kind: 'member', credential }, { as })
        assert.equal(codeOf(ended), 'certificate', textOf(ended))
      }
      await world().told('west', {
        kind: 'refused',
        of: attacker,
        cluster: 'thief',
        reason: /^handshake certificate/
      })
    })

    it('no proof of an earlier connection, and no lower version of the protocol', async () => {
      const { attacker, credential } = await stranger(world(), member)
      const door = world().door('west')
      const shows = { kind: 'member', credential } as const
      let old: Uint8Array | undefined
      await attacker.dial(door)
      await attacker.shake(door, shows, {
        tamper(frame) {
          if (isProof(frame)) old = frame
          return frame
        }
      })
      attacker.transport.disconnect(originOfDoor(door), 'again')
      await attacker.dial(door)
      const replay = (frame: Uint8Array): Uint8Array | undefined => (isProof(frame) ? old : frame)
      await attacker.shake(door, shows, { tamper: replay })
      await world().told('west', {
        kind: 'refused',
        of: attacker,
        cluster: 'thief',
        reason: /^handshake proof/
      })
      for (const [versionMin, versionMax, code] of [
        [1, 1, 'version'],
        [1, 2, 'proof']
      ] as const) {
        await attacker.dial(door)
        const lower = (frame: Uint8Array): Uint8Array => {
          const hello = decodeFrame(frame)?.hello
          return hello
            ? encodeFrame({ hello: { ...hello, versionMin, versionMax, trustHead: undefined } } as never)
            : frame
        }
        await attacker.shake(door, shows, { tamper: lower })
        await world().told('west', {
          kind: 'refused',
          of: attacker,
          cluster: 'thief',
          reason: new RegExp(`^handshake ${code}`)
        })
      }
    })

    it('no name: a certificate, a seat and a grant beyond its rights are offences', async () => {
      const thief = await world().sibling(member, 'west')
      const { roots, clusterSeed } = member.redeemed
      const context = { crypto, roots }
      const invite = openItem(context, member.redeemed.certItem)
      assert.equal(invite.kind, 'item')
      const envelopes = invite.statements.map(({ envelope }) => envelope)
      const inviteId = invite.statements.at(-2)?.statement.id
      const seat = invite.statements.at(0)?.statement.id
      const all = { pods: [rangeOf('10.2.0.0/16' as Cidr)], services: [] }
      const clusterKey = keyOf(member.redeemed) as never
      const drafts = [
        {
          kind: 'clusterCert',
          invite: inviteId,
          name: 'east' as ClusterName,
          clusterKey,
          pods: [],
          services: []
        },
        { kind: 'grant', under: seat, clusterKey, add: all, drop: [] },
        { kind: 'decide', under: seat, name: 'east' as ClusterName, clusterKey },
        { kind: 'bar', by: { seat }, target: { cluster: await keyAt(world(), 'east') }, keepOnly: undefined },
        { kind: 'void', under: seat, target: seat, keep: new Set() }
      ] as const
      await world().unharmed(ALL, async () => {
        for (const draft of drafts) {
          const { envelope } = signStatement(context, draft as never, {
            issuer: clusterSeed,
            accepting: clusterSeed
          })
          const below = draft.kind === 'clusterCert' ? envelopes.slice(0, -1) : envelopes.slice(0, 1)
          thief.attacker.offer(world().door('west'), [encodeItem([...below, envelope])])
        }
        await world().told('west', { kind: 'refused', of: thief.attacker, cluster: 'thief' })
      })
    })

    it('no place beside the invites: a founding certificate by a root of its own is an offence', async () => {
      const founder = await world().sibling(member, 'east')
      const { roots, clusterSeed } = member.redeemed
      const clusterKey = keyOf(member.redeemed) as never
      const founding = {
        kind: 'clusterCert',
        invite: undefined,
        name: 'edge' as ClusterName,
        clusterKey
      } as const
      const { envelope } = signStatement(
        { crypto, roots: { ...roots, keys: [crypto.publicKeyOf(clusterSeed)] } },
        { ...founding, pods: [rangeOf('10.2.0.0/16' as Cidr)], services: [] },
        { roots: [clusterSeed], accepting: clusterSeed }
      )
      await world().unharmed(ALL, async () => {
        founder.attacker.offer(world().door('east'), [encodeItem([envelope])])
        await world().told('east', { kind: 'refused', of: founder.attacker, cluster: 'thief' })
      })
      for (const at of ALL) {
        const { clusters } = await ask<TrustAnswer>(world().agent(at), 'trust')
        assert.ok(!clusters.some(({ name, key }) => name === 'edge' && key === clusterKey))
      }
    })
  })
}

/** Sends a new state of the member to west, which hands it on. */
function publish(
  world: World,
  { attacker, redeemed, credential }: HostileMember,
  content: ReturnType<typeof values>
): void {
  for (const frame of state({ seed: attacker.seed, roots: redeemed.roots }, content, { credential }))
    attacker.send(world.door('west'), frame)
}

/** One more agent of the cluster, which is not connected. */
async function stranger(world: World, member: HostileMember): Promise<HostileMember> {
  const sibling = await world.sibling(member, 'west')
  sibling.attacker.transport.disconnect(originOfDoor(world.door('west')), 'done')
  await eventually(() => !sibling.attacker.isConnected(world.door('west')))
  return sibling
}

/** What an agent shows to each that dials it. */
async function credentialOf(
  world: World,
  { attacker, credential }: HostileMember,
  of: Cluster
): Promise<Uint8Array> {
  const door = world.door(of)
  let shown: Uint8Array | undefined
  await attacker.dial(door)
  const seen = (frame: Uint8Array): void => {
    const message = decodeDoorFrame(frame, FRAME_BYTES)
    if (message.kind === 'hello' && message.hello.shows.kind === 'credential')
      shown = message.hello.shows.item
  }
  await attacker.shake(door, { kind: 'member', credential }, { seen })
  attacker.transport.disconnect(originOfDoor(door), 'seen')
  assert.ok(shown, `${of} showed no credential`)
  return shown
}

function isProof(frame: Uint8Array): boolean {
  return (decodeFrame(frame)?.proof ?? null) !== null
}

async function keyAt(world: World, cluster: Cluster): Promise<string> {
  const { clusters } = await ask<{ clusters: readonly { name: string; key: string }[] }>(
    world.agent('west'),
    'trust'
  )
  const found = clusters.find(({ name }) => name === cluster)
  assert.ok(found)
  return found.key
}

/** Pulls the record of an agent from west, as every member may. */
async function tunnelKeysOf(
  world: World,
  { attacker }: HostileMember,
  origin: Origin
): Promise<readonly TunnelKey[]> {
  let found: readonly TunnelKey[] | undefined
  attacker.onFrame = (frame) => {
    const delta = decodeFrame(frame)?.delta
    for (const { key, value } of delta?.operations ?? []) {
      if (key !== 'agent') continue
      const decoded = decodeValue(key, value)
      if (decoded.kind === 'value' && decoded.value.kind === 'agent') found = decoded.value.tunnelKeys
    }
  }
  const pull = { origin, epoch: 0, fromSeq: 0, afterKey: '', afterSeq: 0, atSeq: 0, window: 0 }
  attacker.send(world.door('west'), encodeFrame({ pull }))
  await eventually(() => found !== undefined)
  attacker.onFrame = () => undefined
  assert.ok(found)
  return found
}
