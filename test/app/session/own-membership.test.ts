// What the agent shows of its membership while a session runs.
import assert from 'node:assert/strict'
import { Health } from '../../../src/app/observe/health.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { createIdentity, initMesh, pendingMembership } from '../../../src/app/identity/identity.ts'
import { OwnCertificate } from '../../../src/app/session/own-certificate.ts'
import { OwnMembership } from '../../../src/app/session/own-membership.ts'
import type { Cidr } from '../../../src/core/model/values.ts'
import { grant } from '../../../src/core/trust/author/command.ts'
import { openItem } from '../../../src/core/trust/set/form.ts'
import { keyId } from '../../../src/core/trust/set/ids.ts'
import { SILENT } from '../control/trust-parts.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { openCredential } from '../../../src/core/trust/members/credential.ts'
import { createMembers } from '../../../src/core/trust/members/members.ts'
import { certifyAgent } from '../../../src/core/trust/author/join.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import type { Identity } from '../../../src/io/store/store.ts'
import { eventually } from '../../eventually.ts'

const crypto = createCrypto()

describe('the own membership', () => {
  const west = initMesh(
    { cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] },
    { crypto, identity: createIdentity(crypto), nowMs: Date.now(), hostNetworks: [] }
  )
  const membership = pendingMembership(west, crypto)
  const { roots, clusterSeed, stage } = membership
  assert.ok(stage.kind === 'member')
  const { clusterItem } = stage
  let members = createMembers({ crypto, roots, owners: new Map(), generations: new Map() })
  let saved: Identity
  let shown: number[]
  let own: OwnMembership
  let health: Health

  const add = (credential: Uint8Array): number => {
    const opened = openCredential(members.set, credential)
    assert.ok(opened.kind === 'credential')
    members.addCredential(opened)
    return opened.cert.generation
  }
  /** Another gateway of the cluster shows a certificate of this generation. */
  const other = { seed: crypto.random(32), node: 'gw-2', roles: ['gateway'] as const }
  const shows = (generation: number) =>
    add(
      certifyAgent(
        { crypto, roots },
        { ...other, clusterItem, clusterSeed, agentSeed: other.seed, generation }
      ).bytes
    )

  beforeEach(async () => {
    members = createMembers({ crypto, roots, owners: new Map(), generations: new Map() })
    saved = west
    shown = []
    health = new Health({ log: SILENT, now: Date.now })
    const store = {
      identity: () => saved,
      changeIdentity: async (change: (identity: Identity) => Identity) => (saved = change(saved))
    }
    const nodeSeed = bytes(west.nodeSeed)
    const certificate = new OwnCertificate({ crypto, roots, clusterSeed, nodeSeed, node: 'gw', store })
    await certificate.settle(0)
    own = new OwnMembership({
      membership,
      certificate,
      control: () => ({
        members,
        origin: originOf(crypto.publicKeyOf(nodeSeed)),
        renewed: (credential) => void shown.push(add(credential))
      }),
      log: SILENT,
      store,
      health,
      onAdmitted: async () => assert.fail('it is a member')
    })
  })

  afterEach(() => own.stop())

  it('takes the prefixes that the trust set gives the cluster now, and saves them', async () => {
    const before = own.current.podPrefixes
    const founded = openItem({ crypto, roots }, clusterItem)
    assert.ok(founded.kind !== 'refused')
    members.addItems([founded])
    assert.equal(own.followPrefixes(), false)
    const grown = grant(
      { crypto, roots },
      {
        seatItem: bytes(west.seats?.[0]?.seatItem ?? ''),
        adminSeed: bytes(west.seats?.[0]?.adminSeed ?? '')
      },
      {
        clusterKey: keyId(crypto.publicKeyOf(clusterSeed)),
        add: { pods: ['10.77.0.0/16' as Cidr], services: [] },
        drop: []
      }
    )
    const opened = openItem({ crypto, roots }, grown.item)
    assert.ok(opened.kind !== 'refused')
    members.addItems([opened])
    assert.equal(own.followPrefixes(), true)
    assert.deepEqual(own.current.podPrefixes, [...before, '10.77.0.0/16'])
    assert.equal(own.followPrefixes(), false)
    await Promise.resolve()
    assert.deepEqual(saved.podPrefixes, [...before, '10.77.0.0/16'])
  })

  it('gives a real prefix the one that the mesh has in place of the former, and says so while there is none', async () => {
    const services = ['10.101.0.0/16' as Cidr]
    const real = { kind: 'pod', real: '10.9.0.0/16' as Cidr } as const
    const translated = initMesh(
      { cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: services },
      {
        crypto,
        identity: createIdentity(crypto),
        nowMs: Date.now(),
        hostNetworks: [],
        real: { podPrefixes: [real.real], servicePrefixes: [] }
      }
    )
    const { realPrefixes, translation } = pendingMembership(translated, crypto)
    assert.deepEqual(realPrefixes, [{ ...real, virtual: '10.1.0.0/16' }])
    own.renew({ ...membership, realPrefixes, translation })
    const founded = openItem({ crypto, roots }, clusterItem)
    assert.ok(founded.kind !== 'refused')
    members.addItems([founded])
    const change = (add: readonly string[], drop: readonly string[]) => {
      const seat = {
        seatItem: bytes(west.seats?.[0]?.seatItem ?? ''),
        adminSeed: bytes(west.seats?.[0]?.adminSeed ?? '')
      }
      const grown = grant({ crypto, roots }, seat, {
        clusterKey: keyId(crypto.publicKeyOf(clusterSeed)),
        add: { pods: add as Cidr[], services: [] },
        drop: drop as Cidr[]
      })
      const opened = openItem({ crypto, roots }, grown.item)
      assert.ok(opened.kind !== 'refused')
      members.addItems([opened])
      assert.equal(own.followPrefixes(), true)
      own.follow()
    }
    change(['10.77.0.0/16'], [])
    assert.deepEqual(own.current.realPrefixes, [{ ...real, virtual: '10.1.0.0/16' }])
    assert.deepEqual(own.realPrefixes.podPrefixes, ['10.9.0.0/16', '10.77.0.0/16'])
    change([], ['10.1.0.0/16'])
    assert.deepEqual(own.current.realPrefixes, [{ ...real, virtual: '10.77.0.0/16' }])
    change(['10.78.0.0/17'], ['10.77.0.0/16'])
    assert.deepEqual(own.current.realPrefixes, [real])
    assert.equal(health.faults().find(({ code }) => code === 'PREFIX_UNTRANSLATED')?.subject, '10.9.0.0/16')
    change(['10.79.0.0/16'], [])
    assert.deepEqual(own.current.realPrefixes, [{ ...real, virtual: '10.79.0.0/16' }])
    assert.deepEqual(health.faults(), [])
    await Promise.resolve()
    assert.deepEqual(saved.realPrefixes, [{ ...real, virtual: '10.79.0.0/16' }])
  })

  it('raises the generation with each renewal, on disk before it is shown', async () => {
    for (const generation of [2, 3]) {
      assert.deepEqual(await own.renewCertificate({ force: false }), { before: generation - 1, generation })
      assert.equal(saved.generation, generation)
    }
    assert.deepEqual(shown, [2, 3])
  })

  it('takes the generation above the highest that another gateway has shown', async () => {
    shows(5)
    assert.deepEqual(await own.renewCertificate({ force: false }), { before: 5, generation: 6 })
  })

  it('is not renewed while another gateway would fall by it, unless that is forced', async () => {
    shows(1)
    await own.renewCertificate({ force: false })
    await assert.rejects(own.renewCertificate({ force: false }), {
      code: 'GATEWAYS_BEHIND',
      message: /1 other gateways of this cluster still show .*older than generation 2, for example gw-2/
    })
    assert.equal(saved.generation, 2)
    shows(2)
    assert.equal((await own.renewCertificate({ force: false })).generation, 3)
    assert.equal((await own.renewCertificate({ force: true })).generation, 4)
  })

  it('follows a higher generation as soon as it hears of it', async () => {
    own.start()
    own.follow()
    assert.deepEqual(shown, [])
    shows(3)
    own.follow()
    await eventually(() => shown.includes(3))
    assert.equal(saved.generation, 3)
  })
})
