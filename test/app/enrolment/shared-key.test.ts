import assert from 'node:assert/strict'
import pino from 'pino'
import { SharedKey, type KeyMember } from '../../../src/app/enrolment/shared-key.ts'
import { faultSentence } from '../../../src/app/observe/health.ts'
import { base64, bytes } from '../../../src/app/identity/encoding.ts'
import * as membership from '../../../src/app/identity/identity.ts'
import { invite } from '../../../src/app/identity/invite.ts'
import { sharedOf, withShared } from '../../../src/app/identity/shared-identity.ts'
import { admitCluster } from '../../../src/core/trust/author/join.ts'
import { clusterSecretData, type ClusterSecret } from '../../../src/core/trust/cluster-secret-data.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import type { Identity } from '../../../src/io/store/store.ts'
import { eventually } from '../../eventually.ts'
import { seatsOf } from '../identity/seats.ts'
import { FakeSecrets } from './fake-secrets.ts'

const crypto = createCrypto()
const NOW_MS = 1_795_392_000_000
const HOUR_MS = 3_600_000
const ADDRESS = '/ip4/192.0.2.1/tcp/7946'

describe('the key that the gateways of a cluster share', () => {
  let api: FakeSecrets
  let lines: string[]
  let keys: SharedKey[]

  const west = membership.initMesh(
    { cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] },
    { crypto, identity: membership.createIdentity(crypto), nowMs: NOW_MS, hostNetworks: [] }
  )
  const token = tokenFor('east', '10.2.0.0/16')

  beforeEach(() => {
    api = new FakeSecrets()
    lines = []
    keys = []
  })

  afterEach(async () => {
    const faults = keys.map((key) => said(key)) // a key that rests has none
    await Promise.all(keys.map((key) => key.stop()))
    const words = [...lines, ...faults].join('\n')
    for (const secret of [
      api.secret?.data?.['clusterSeed'],
      api.secret?.data?.['inviteSeed'],
      west.clusterSeed
    ])
      assert.ok(secret === undefined || !words.includes(secret), 'a secret was told')
  })

  function gateway(): SharedKey {
    const log = pino({ level: 'debug' }, { write: (line: string) => lines.push(line) })
    const key = new SharedKey({ api, namespace: 'mesh', crypto, log })
    keys.push(key)
    return key
  }

  function enrol(
    text: string | undefined,
    { before = membership.createIdentity(crypto), nowMs = NOW_MS } = {}
  ) {
    const saved: Identity[] = []
    const save = async (identity: Identity): Promise<void> => void saved.push(identity)
    return gateway()
      .enrol({ before, token: text, nowMs, save })
      .then((enrolled) => ({ ...enrolled, before, saved }))
  }

  const said = ({ fault }: SharedKey): string => (fault === undefined ? '' : faultSentence(fault))

  function keep(identity: Identity, more: Partial<KeyMember> = {}): SharedKey {
    const key = gateway()
    const origin = originOf(crypto.publicKeyOf(bytes(identity.nodeSeed)))
    key.keep({
      identity: () => identity,
      self: () => ({ origin, addresses: [ADDRESS], stands: () => false }),
      take: () => assert.fail('nothing to take'),
      ...more
    })
    return key
  }

  it('the first gateway makes it and keeps it on disk before it is in the Secret', async () => {
    let onDisk = false
    api.meanwhile = () => {
      onDisk = true
    }
    const { identity, isMember, saved, untilAnswered } = await enrol(token)
    assert.ok(onDisk)
    assert.equal(isMember, false)
    assert.deepEqual(saved, [identity])
    assert.equal(untilAnswered, identity)
    assert.equal(api.key?.membership.kind, 'pending')
    assert.deepEqual(api.key, sharedOf(identity, crypto))
  })

  it('of two at once one is first, and both have its key', async () => {
    const both = await Promise.all([enrol(token), enrol(token)])
    const [one, two] = both.map(({ identity }) => identity)
    assert.equal(one?.clusterSeed, two?.clusterSeed)
    assert.notEqual(one?.nodeSeed, two?.nodeSeed)
    assert.equal(api.writes, 1)
    for (const { identity, before, untilAnswered, saved } of both) {
      if (untilAnswered === identity) continue
      assert.equal(untilAnswered, before, 'the slower one forgets the key that it had made')
      assert.equal(saved.at(-1), before)
    }
  })

  it('a later gateway comes up with it, whether its token has expired or there is none', async () => {
    const first = await enrol(token)
    put(admitted(first.identity))
    for (const text of [token, undefined]) {
      const { identity, isMember, before } = await enrol(text, { nowMs: NOW_MS + 100 * HOUR_MS })
      assert.equal(isMember, true)
      assert.equal(identity.nodeSeed, before.nodeSeed)
      assert.equal(identity.clusterSeed, first.identity.clusterSeed)
      assert.deepEqual(membership.membershipOf(identity, crypto)?.bootstrap, first.identity.bootstrap)
    }
  })

  it('waits for a key where there is neither one nor a token, and for the mesh where it is not accepted yet', async () => {
    await assert.rejects(enrol(undefined), { code: 'NO_CLUSTER_KEY' })
    await enrol(token)
    assert.equal((await enrol(undefined)).isMember, false)
  })

  const mismatches: readonly (readonly [what: string, text: () => string, says: RegExp])[] = [
    ['another cluster', () => tokenFor('edge', '10.3.0.0/16'), /of cluster east, not edge/],
    [
      'other prefixes',
      () => tokenFor('east', '10.9.0.0/16'),
      /pod prefixes 10\.2\.0\.0\/16.*10\.9\.0\.0\/16/
    ],
    ['another mesh', () => tokenFor('east', '10.2.0.0/16', otherMesh()), /in another mesh/]
  ]
  for (const [what, text, says] of mismatches) {
    it(`refuses a token for ${what}, naming the Secret, both sides and the fix`, async () => {
      await enrol(token)
      const before = structuredClone(api.secret)
      await assert.rejects(enrol(text()), (error: Error & { code?: string; fix?: string }) => {
        assert.equal(error.code, 'CLUSTER_KEY_MISMATCH')
        assert.match(error.message, /Secret mesh\/rhizome-cluster-key/)
        assert.match(error.message, says)
        assert.match(error.fix ?? '', /kubectl -n mesh patch secret rhizome-cluster-key/)
        return true
      })
      assert.deepEqual(api.secret, before)
    })
  }

  it('refuses a bad token with the same code, whether the Secret has a key or not', async () => {
    const refusesBoth = async (): Promise<void> => {
      await assert.rejects(enrol(token.replace(/^rzm2/, 'rzm3')), { code: 'TOKEN_NEWER_VERSION' })
      await assert.rejects(enrol(token.slice(0, -1)), { code: 'TOKEN_DAMAGED' })
    }
    await refusesBoth()
    await enrol(token)
    await refusesBoth()
  })

  it('a corrupt Secret is an error with the fix, for a newcomer and for a member, and stays as it is', async () => {
    api.put({ clusterSeed: 'broken' })
    const before = structuredClone(api.secret)
    await assert.rejects(enrol(token), { code: 'CLUSTER_KEY_CORRUPT' })
    const key = keep(west)
    await eventually(() => key.fault !== undefined)
    assert.match(said(key), /mesh\/rhizome-cluster-key cannot be read.*empty it \(`kubectl/)
    assert.deepEqual(api.secret, before)
  })

  it('a member writes it back when it was deleted, with the address that later gateways dial', async () => {
    api.secret = undefined
    keep(west)
    await eventually(() => api.key !== undefined)
    assert.equal(api.key?.membership.kind, 'member')
    assert.equal(Buffer.from(api.key?.clusterSeed ?? []).toString('base64'), west.clusterSeed)
    assert.match(api.key?.bootstrap.join() ?? '', new RegExp(`^${ADDRESS}/p2p/`))
  })

  it('a member takes the first admission of its key from it, and gives it to the others', async () => {
    const { identity } = await enrol(token)
    const [first, second] = [admitted(identity, 1), admitted({ ...identity, generation: 7 }, 2)]
    put(first)
    let taken: ClusterSecret | undefined
    keep(second, { take: async (secret) => void (taken = secret) })
    await eventually(() => taken !== undefined)
    const renewed = withShared(second, taken ?? assert.fail(), { crypto, nowMs: NOW_MS })
    assert.equal(renewed.generation, 7, 'what else it knows it keeps')
    assert.equal(renewed.clusterItem, first.clusterItem)
    put(second)
    keep(renewed)
    await eventually(() => itemOf(api.key) === first.clusterItem)
  })

  it('a gateway that waits for a member takes the key that was written first', async () => {
    const [first, other] = [await enrol(token), membership.redeemToken(token, redeeming())]
    let taken: ClusterSecret | undefined
    keep(other, { take: async (secret) => void (taken = secret) })
    await eventually(() => taken !== undefined)
    const next = withShared(other, taken ?? assert.fail(), { crypto, nowMs: NOW_MS })
    assert.equal(next.clusterSeed, first.identity.clusterSeed)
    assert.equal(next.nodeSeed, other.nodeSeed)
  })

  it('an agent with a key of its own says what to do, and overwrites nothing', async () => {
    const [one, two] = [
      admitted(membership.redeemToken(token, redeeming())),
      admitted(membership.redeemToken(token, redeeming()))
    ]
    put(one)
    const key = keep(two)
    await eventually(() => said(key).includes('holds another key of cluster east'))
    assert.match(said(key), /`meshctl leave` on this agent/)
    assert.equal(api.writes, 0)
  })

  it('a key that replaces another is written in its place, and the other gateway takes it when it is told to hurry', async () => {
    const [one, two] = [
      admitted(membership.redeemToken(token, redeeming())),
      admitted(membership.redeemToken(token, redeeming()))
    ]
    const [before, next] = [sharedOf(one, crypto), sharedOf(two, crypto)]
    put(one)
    let [isHeard, looks] = [false, 0]
    let taken: ClusterSecret | undefined
    const origin = originOf(crypto.publicKeyOf(bytes(one.nodeSeed)))
    const stands = (key: string) => key === (isHeard ? next : before).membership.clusterKey
    const other = keep(one, {
      self: () => {
        looks++
        return { origin, addresses: [], stands }
      },
      take: async (secret) => void (taken = secret)
    })
    await eventually(() => looks > 0)
    await gateway().succeed(before, next)
    assert.equal(itemOf(api.key), two.clusterItem)
    isHeard = true
    other.hurry()
    await eventually(() => taken !== undefined)
    assert.equal(
      withShared(one, taken ?? assert.fail(), { crypto, nowMs: NOW_MS }).clusterSeed,
      two.clusterSeed
    )
    // The key that was replaced is not there any more, so nothing can take its place.
    await assert.rejects(
      gateway().succeed(before, sharedOf(admitted(membership.redeemToken(token, redeeming())), crypto)),
      {
        code: 'CLUSTER_KEY_OTHER'
      }
    )
  })

  it('is taken back when the mesh refuses it, by who made it, and not when a member has accepted it', async () => {
    const { identity } = await enrol(token)
    await gateway().retract(west, { onlyPending: true })
    assert.ok(api.key, 'not ours')
    put(admitted(identity))
    await gateway().retract(identity, { onlyPending: true })
    assert.ok(api.key, 'accepted meanwhile')
    put(identity)
    await gateway().retract(identity, { onlyPending: true })
    assert.equal(api.key, undefined)
  })

  it('an API server that is away is awaited, shown, and then an error with the fix', async function () {
    api.away = true
    const key = gateway()
    const found = key.find(AbortSignal.timeout(1500))
    await eventually(() => said(key).includes('ECONNREFUSED'))
    await assert.rejects(found, { code: 'NETWORK' })
    const late = gateway().find()
    api.away = false
    assert.equal(await late, undefined)
    assert.ok(said(key).includes('ECONNREFUSED'))
  })

  it('no mesh is made where the Secret has the key of one', async () => {
    await gateway().found(sharedOf(west, crypto))
    await assert.rejects(gateway().expectNone(), { code: 'CLUSTER_KEY_TAKEN' })
    const other = sharedOf(otherMesh(), crypto)
    await assert.rejects(gateway().found(other), { code: 'CLUSTER_KEY_TAKEN' })
    await gateway().found(sharedOf(west, crypto))
  })

  function put(identity: Identity): void {
    api.put(clusterSecretData(sharedOf(identity, crypto)))
  }

  /** The identity after west has admitted it. */
  function admitted(identity: Identity, seen = 1): Identity {
    const roots = membership.rootsOf(identity, crypto) ?? assert.fail()
    const certItem = bytes(identity.pending?.certItem ?? '')
    const sponsorSeed = bytes(west.clusterSeed ?? '')
    const { item } = admitCluster({ crypto, roots }, { certItem, sponsorSeed, seen, time: NOW_MS / 1000 })
    return membership.admitted(identity, item)
  }

  function itemOf(secret: ClusterSecret | undefined): string | undefined {
    const of = secret?.membership
    return of?.kind === 'member' ? base64(of.item) : undefined
  }

  function redeeming() {
    return { crypto, identity: membership.createIdentity(crypto), nowMs: NOW_MS }
  }

  function otherMesh(): Identity {
    return membership.initMesh(
      { cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] },
      { crypto, identity: membership.createIdentity(crypto), nowMs: NOW_MS, hostNetworks: [] }
    )
  }

  function tokenFor(cluster: string, podCidr: string, identity: Identity = west): string {
    return invite(
      {
        cluster,
        podCidrs: [podCidr],
        serviceCidrs: ['10.102.0.0/16'],
        ttlSeconds: HOUR_MS / 1000,
        bootstrap: []
      },
      {
        crypto,
        identity,
        nowMs: NOW_MS,
        view: { self: 'west' as never, clusters: new Map() },
        bootstrap: new Map([
          ['west' as never, [`${ADDRESS}/p2p/${originOf(crypto.publicKeyOf(crypto.random(32)))}`]]
        ]),
        seats: seatsOf(identity, crypto),
        hostNetworks: []
      }
    ).token
  }
})
