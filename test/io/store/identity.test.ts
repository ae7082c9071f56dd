import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { decodeIdentity, encodeIdentity, type Identity } from '../../../src/io/store/identity.ts'

const base64 = (bytes = 32): string => randomBytes(bytes).toString('base64')
const keys = { nodeSeed: base64(), tunnelSeed: base64() }
const pending = {
  token: base64(),
  inviteItem: base64(600),
  inviteSeed: base64(),
  certItem: base64(900)
}
const founder: Identity = {
  ...keys,
  mesh: { k: 1, rootKeys: [base64()] },
  cluster: 'west',
  clusterSeed: base64(),
  clusterItem: base64(300),
  rootSeeds: [base64()],
  rootExported: false,
  seats: [{ adminSeed: base64(), seatItem: base64(250) }],
  generation: 0,
  certified: { node: 'west-1', roles: ['gateway'] },
  bootstrap: [],
  invites: [
    { id: 'ab'.repeat(32), cluster: 'east', prefixes: ['10.1.0.0/16'], expiresMs: 1, item: base64(600) }
  ],
  joinedBy: 'init',
  joinedAtMs: 1
}

describe('the fields of the trust set in identity.json', () => {
  it('are read as they were written: of a founder, and of a newcomer that no member has admitted', () => {
    const newcomer: Identity = {
      ...keys,
      mesh: { k: 2, rootKeys: [base64(), base64(), base64()] },
      cluster: 'east',
      clusterSeed: base64(),
      pending
    }
    for (const identity of [founder, newcomer]) {
      const file = decodeIdentity(encodeIdentity(identity, 'identity.json'))
      assert.deepEqual(file, { kind: 'ok', identity })
    }
  })

  const item = base64(70_000)
  const wrong: readonly (readonly [field: string, identity: Record<string, unknown>])[] = [
    ['mesh.k', { ...founder, mesh: { k: 6, rootKeys: [base64()] } }],
    ['mesh.rootKeys', { ...founder, mesh: { k: 1, rootKeys: [] } }],
    ['mesh.rootKeys.0', { ...founder, mesh: { k: 1, rootKeys: [base64(31)] } }],
    ['clusterItem', { ...founder, clusterItem: item }],
    ['clusterItem', { ...founder, clusterItem: '' }],
    ['pending.inviteSeed', { ...founder, pending: { ...pending, inviteSeed: undefined } }],
    ['clusterSeed', { ...founder, clusterSeed: base64(16) }],
    ['certified.node', { ...founder, certified: { node: 'n'.repeat(254), roles: [] } }],
    ['rootSeeds', { ...founder, rootSeeds: Array.from({ length: 6 }, () => base64()) }],
    ['seats.0.seatItem', { ...founder, seats: [{ adminSeed: base64() }] }],
    ['generation', { ...founder, generation: -1 }],
    ['invites.0.id', { ...founder, invites: [{ id: 'AB', cluster: 'a', prefixes: [], expiresMs: 1 }] }],
    ['unknown field secret', { ...founder, secret: base64() }]
  ]
  for (const [field, identity] of wrong) {
    it(`are refused with a wrong ${field}, which the error names without a value`, () => {
      assert.throws(
        () => encodeIdentity(identity as Identity, 'identity.json'),
        (error: unknown) => {
          assert.ok(error instanceof Error && error.message.includes(field), String(error))
          for (const value of JSON.stringify(identity).match(/[A-Za-z0-9+/]{40,}/g) ?? [])
            assert.ok(!`${error.message}${error.stack}`.includes(value))
          return true
        }
      )
    })
  }
})
