import assert from 'node:assert/strict'
import type { Role } from '../../../src/core/model/values.ts'
import { createIdentity, initMesh, pendingMembership } from '../../../src/app/identity/identity.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { OwnCertificate } from '../../../src/app/session/own-certificate.ts'
import { openCredential } from '../../../src/core/trust/members/credential.ts'
import { createMembers } from '../../../src/core/trust/members/members.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import type { Identity } from '../../../src/io/store/store.ts'

const crypto = createCrypto()
const NOW_MS = Date.UTC(2026, 0, 1)
const DAY_MS = 86_400_000
const west = initMesh(
  { cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] },
  { crypto, identity: createIdentity(crypto), nowMs: NOW_MS, hostNetworks: [] }
)
const membership = pendingMembership(west, crypto)
const members = createMembers({ crypto, roots: membership.roots, owners: new Map(), generations: new Map() })

describe('the certificate of an agent', () => {
  let saved: Identity
  const store = {
    identity: () => saved,
    changeIdentity: async (change: (identity: Identity) => Identity) => (saved = change(saved))
  }
  /** The agent as it is started with this name. */
  const named = (node: string, role?: Role) => {
    const nodeSeed = bytes(west.nodeSeed)
    return new OwnCertificate({ ...membership, crypto, nodeSeed, node, store, ...(role && { role }) })
  }
  const shown = (certificate: OwnCertificate) => {
    const { stage } = membership
    assert.ok(stage.kind === 'member')
    const credential = openCredential(members.set, certificate.make(stage.clusterItem))
    assert.ok(credential.kind === 'credential')
    return credential
  }

  beforeEach(() => {
    saved = west
  })

  it('has the same generation at each start, so that a restart tells the members nothing new', async () => {
    for (let start = 0; start < 3; start++) {
      const certificate = named('gw')
      assert.equal(await certificate.settle(0, NOW_MS), start === 0)
      assert.equal(shown(certificate).cert.generation, 1)
    }
  })

  it('has a higher generation when the node has another name, so members take the new one', async () => {
    await named('gw').settle(0, NOW_MS)
    members.addCredential(shown(named('gw')))
    for (const [at, node] of ['gw-2', 'gw-3', 'gw-2'].entries()) {
      const certificate = named(node)
      assert.equal(await certificate.settle(0, NOW_MS), true)
      const credential = shown(certificate)
      assert.equal(credential.cert.generation, at + 2)
      assert.equal(members.addCredential(credential).kind, 'admitted')
      assert.equal(members.agentOf(credential.origin)?.node, node)
    }
  })

  it('has a higher generation when the agent has another role, and allows this role only', async () => {
    for (const [at, role] of (['gateway', 'node', 'gateway'] as const).entries()) {
      const certificate = named('gw', role)
      assert.equal(await certificate.settle(0, NOW_MS), true)
      const { generation, roles } = shown(certificate).cert
      assert.deepEqual([generation, roles], [at + 1, [role]])
    }
  })

  it('takes over the highest generation of its cluster, and never a lower one', async () => {
    const certificate = named('gw')
    assert.equal(await certificate.settle(9, NOW_MS), true)
    assert.equal(shown(certificate).cert.generation, 9)
    assert.equal(await certificate.settle(4, NOW_MS), false)
    assert.equal(await named('other').settle(12, NOW_MS), true)
    assert.equal(saved.generation, 12)
  })

  it('rises each 15 days, also by those for which the agent was stopped', async () => {
    const certificate = named('gw')
    await certificate.settle(0, NOW_MS)
    assert.equal(await certificate.settle(0, NOW_MS + 14 * DAY_MS), false)
    assert.equal(await certificate.settle(0, NOW_MS + 15 * DAY_MS), true)
    assert.equal(saved.generation, 2)
    assert.equal(await certificate.settle(0, NOW_MS + 75 * DAY_MS), true)
    assert.equal(saved.generation, 6)
  })

  it('rises again after a clock was ahead for a while', async () => {
    const certificate = named('gw')
    await certificate.settle(0, NOW_MS + 1000 * DAY_MS)
    const { generation = 0 } = saved
    await certificate.settle(0, NOW_MS)
    await certificate.settle(0, NOW_MS + 15 * DAY_MS)
    assert.equal(saved.generation, generation + 1)
  })
})
