import assert from 'node:assert/strict'
import {
  BOOTSTRAP_MAX,
  clusterKeyData,
  readClusterKey,
  settleClusterKey,
  type ClusterKey,
  type KeyReading
} from '../../../src/core/trust/cluster-key.ts'
import type { Cidr, ClusterName, Origin } from '../../../src/core/model/values.ts'
import { createMesh } from '../../../src/core/trust/issue.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { laterChain } from './later-chain.ts'

const crypto = createCrypto()
const NOW = 1_795_392_000
const SELF = { origin: 'me' as Origin, addresses: ['/ip4/192.0.2.1/tcp/7946'] }
const OWN = '/ip4/192.0.2.1/tcp/7946/p2p/me'

function makeMesh(cluster = 'east') {
  return createMesh({
    crypto,
    cluster: cluster as ClusterName,
    podPrefixes: ['10.2.0.0/16' as Cidr],
    servicePrefixes: ['10.102.0.0/16' as Cidr],
    nowSeconds: NOW
  })
}
const mesh = makeMesh()
const key = (more: Partial<ClusterKey> = {}): ClusterKey => ({
  seed: mesh.clusterSeed,
  chain: mesh.chain,
  pending: false,
  bootstrap: [OWN],
  ...more
})
const another = (pending = false): ClusterKey => {
  const { clusterSeed: seed, chain } = makeMesh()
  return { seed, chain: { ...chain, meshId: mesh.meshId }, pending, bootstrap: [] }
}
const later = key({ chain: laterChain(crypto, { ...mesh, issuerSeed: mesh.rootSeed }, NOW + 86_400) })
const read = (data: Readonly<Record<string, unknown>>): KeyReading => readClusterKey(data, crypto)
const settle = (ours: ClusterKey, found: KeyReading) => settleClusterKey(ours, found, SELF)
const holds = (found: ClusterKey): KeyReading => ({ kind: 'key', key: found })

describe('the key of a cluster in its Secret', () => {
  it('is read as it was written', () => {
    for (const each of [key(), key({ pending: true, bootstrap: [] }), later]) {
      const found = read(clusterKeyData(each))
      assert.ok(found.kind === 'key')
      assert.deepEqual(clusterKeyData(found.key), clusterKeyData(each))
      assert.deepEqual(found.key.chain, each.chain)
    }
  })

  it('is none where nothing was written', () => assert.deepEqual(read({}), { kind: 'empty' }))

  const good = clusterKeyData(key())
  const damaged: readonly (readonly [what: string, data: Readonly<Record<string, unknown>>])[] = [
    ['something else', { token: 'eA==' }],
    ['no chain', { ...good, chain: undefined }],
    ['no state', { ...good, state: undefined }],
    ['another state', { ...good, state: btoa('maybe') }],
    ['a seed that is not base64', { ...good, seed: '%%%' }],
    ['a short seed', { ...good, seed: btoa('short') }],
    ['the seed of another key', { ...good, seed: clusterKeyData(another()).seed }],
    ['a chain with one bit changed', { ...good, chain: flip(good['chain'] ?? '') }],
    ['numbers', { seed: 1, chain: 2, state: 3 }],
    ['a list of no addresses', { ...good, bootstrap: btoa('rm -rf') }],
    ['too many addresses', { ...good, bootstrap: btoa(`${OWN}\n`.repeat(BOOTSTRAP_MAX + 1)) }]
  ]
  for (const [what, data] of damaged) {
    it(`is corrupt with ${what}, and the reason quotes nothing of it`, () => {
      const found = read(data)
      assert.equal(found.kind, 'corrupt')
      for (const text of Object.values(data)) assert.ok(!JSON.stringify(found).includes(String(text)))
      assert.deepEqual(settle(key(), found).kind, 'conflict', 'and is not written over')
    })
  }
})

describe('what a gateway does about what is in the Secret', () => {
  it('leaves it where it is as it should be', () =>
    assert.deepEqual(settle(key(), holds(key())), { kind: 'agreed' }))

  it('writes its own where there is none, with its addresses', () =>
    assert.deepEqual(settle(key({ bootstrap: [] }), { kind: 'empty' }), { kind: 'write', key: key() }))

  it('takes a later certificate, and writes one over an earlier', () => {
    assert.deepEqual(settle(key(), holds(later)), { kind: 'take', key: later })
    assert.deepEqual(settle(later, holds(key())), { kind: 'write', key: later })
  })

  it('adds its addresses in the place of its former ones, beside those of the others', () => {
    const found = key({ bootstrap: ['/dns/a/p2p/other', '/ip4/192.0.2.9/tcp/1/p2p/me'] })
    const wanted = key({ bootstrap: ['/dns/a/p2p/other', OWN] })
    assert.deepEqual(settle(key(), holds(found)), { kind: 'write', key: wanted })
  })

  it('does not fight for a place in a full list', () => {
    const full = key({
      bootstrap: Array.from({ length: BOOTSTRAP_MAX }, (_, index) => `/dns/a/p2p/${index}`)
    })
    assert.deepEqual(settle(key(), holds(full)), { kind: 'agreed' })
  })

  it('says that the mesh knows the key, and never the contrary', () => {
    assert.deepEqual(settle(key(), holds(key({ pending: true }))), { kind: 'write', key: key() })
    assert.deepEqual(settle(key({ pending: true }), holds(key())), { kind: 'agreed' })
  })

  it('gives up a key that nobody has accepted for another, and never one that somebody has', () => {
    const [other, pending] = [another(), another(true)]
    assert.deepEqual(settle(key({ pending: true }), holds(other)), { kind: 'take', key: other })
    assert.deepEqual(settle(key(), holds(pending)), { kind: 'write', key: key() })
    const verdict = settle(key(), holds(other))
    assert.equal(verdict.kind === 'conflict' && verdict.code, 'other')
  })

  it('refuses the key of another cluster or mesh', () => {
    const [west, elsewhere] = [makeMesh('west'), makeMesh()]
    for (const { clusterSeed: seed, chain } of [west, elsewhere]) {
      const verdict = settle(key(), holds({ seed, chain, pending: false, bootstrap: [] }))
      assert.equal(verdict.kind === 'conflict' && verdict.code, 'mismatch')
    }
  })
})

function flip(text: string): string {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
  bytes[bytes.length - 3] = (bytes.at(-3) ?? 0) ^ 1
  return btoa(String.fromCharCode(...bytes))
}
