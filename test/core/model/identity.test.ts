import assert from 'node:assert/strict'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import {
  meshIdText,
  originOf,
  parseClusterName,
  parseOrigin,
  publicKeyOf
} from '../../../src/core/model/identity.ts'
import { crypto } from '../trust/fixtures.ts'

describe('origin', () => {
  it('is the PeerId that libp2p derives from the same seed', async () => {
    for (let run = 0; run < 5; run++) {
      const seed = crypto.random(32)
      const peerId = peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', seed))
      assert.equal(originOf(crypto.publicKeyOf(seed)), peerId.toString())
    }
  })

  it('gives its public key back', () => {
    const key = crypto.publicKeyOf(crypto.random(32))
    assert.deepEqual(new Uint8Array(publicKeyOf(originOf(key)) ?? []), new Uint8Array(key))
  })

  it('is refused when it is no Ed25519 PeerId', () => {
    const good = originOf(crypto.publicKeyOf(crypto.random(32)))
    const bad = [
      '',
      'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
      good.slice(1),
      `${good}1`,
      `0${good.slice(1)}`
    ]
    for (const text of bad) assert.equal(parseOrigin(text), undefined, text)
    assert.equal(parseOrigin(good), good)
  })
})

describe('cluster name', () => {
  it('is a DNS label', () => {
    for (const name of ['west', 'a', '1', 'eu-west-1', 'x'.repeat(63)]) {
      assert.equal(parseClusterName(name).kind, 'clusterName', name)
    }
  })

  const refusals: readonly (readonly [string, RegExp])[] = [
    ['', /empty/],
    ['all', /reserved/],
    ['local', /reserved/],
    ['West', /not a DNS label/],
    ['-west', /not a DNS label/],
    ['west-', /not a DNS label/],
    ['a.b', /not a DNS label/],
    ['west\n', /not a DNS label/],
    ['x'.repeat(64), /longer than 63/]
  ]
  for (const [name, reason] of refusals) {
    it(`is refused with a reason: ${JSON.stringify(name.slice(0, 10))}`, () => {
      const parsed = parseClusterName(name)
      assert.ok(parsed.kind === 'invalid' && reason.test(parsed.reason), JSON.stringify(parsed))
    })
  }
})

describe('mesh id text', () => {
  it('is short, lower case and prefixed', () => {
    assert.match(meshIdText(crypto.random(32)), /^mesh-[a-z2-7]{16}$/)
  })
})
