import assert from 'node:assert/strict'
import { createPrivateKey, createPublicKey } from 'node:crypto'
import fc from 'fast-check'
import { x25519 } from '@noble/curves/ed25519.js'
import { originOf } from '../../../src/core/model/identity.ts'
import { TunnelKeys, tunnelKeyOf, wireguardKeyOfEd25519 } from '../../../src/core/trust/tunnel-key.ts'
import { createCrypto, wireguardPrivateKey } from '../../../src/io/crypto/crypto.ts'

const crypto = createCrypto()
const seed = fc.uint8Array({ minLength: 32, maxLength: 32 })
const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')

const meshId = new Uint8Array(32).fill(9)
const agentKey = crypto.publicKeyOf(new Uint8Array(32).fill(1))
const origin = originOf(agentKey)

describe('the tunnel key', () => {
  it('has the WireGuard key of the private key of its seed, for node:crypto and for @noble/curves', () => {
    fc.assert(
      fc.property(seed, (bytes) => {
        const privateKey = wireguardPrivateKey(bytes)
        const key = createPrivateKey({
          key: Buffer.concat([X25519_PKCS8, privateKey]),
          format: 'der',
          type: 'pkcs8'
        })
        const spki = createPublicKey(key).export({ format: 'der', type: 'spki' })
        const expected = spki.subarray(-32).toString('base64')
        assert.equal(Buffer.from(x25519.getPublicKey(privateKey)).toString('base64'), expected)
        assert.equal(wireguardKeyOfEd25519(crypto.publicKeyOf(bytes)), expected)
      }),
      { numRuns: 200 }
    )
  })

  it('is clamped as WireGuard clamps it, so that `wg` shows the same private key', () => {
    fc.assert(
      fc.property(seed, (bytes) => {
        const key = wireguardPrivateKey(bytes)
        assert.deepEqual([key.length, (key[0] ?? 1) & 7, (key[31] ?? 0) & 0xc0], [32, 0, 0x40])
      })
    )
  })

  it('is proved to its own mesh for its own agent only, and by each byte of key and proof', () => {
    fc.assert(
      fc.property(seed, fc.nat(95), fc.integer({ min: 1, max: 255 }), (bytes, at, change) => {
        const keys = new TunnelKeys({ crypto, meshId })
        const tunnelKey = tunnelKeyOf({ crypto, meshId, agentKey, seed: bytes })
        const verdict = keys.prove(origin, [tunnelKey])
        assert.deepEqual(verdict, {
          kind: 'proved',
          wireguardKeys: [wireguardKeyOfEd25519(crypto.publicKeyOf(bytes))]
        })
        const other = originOf(crypto.publicKeyOf(new Uint8Array(32).fill(2)))
        assert.equal(keys.prove(other, [tunnelKey]).kind, 'refused')
        const elsewhere = new TunnelKeys({ crypto, meshId: agentKey })
        assert.equal(elsewhere.prove(origin, [tunnelKey]).kind, 'refused')
        const parts = Buffer.concat(
          [tunnelKey.edKey, tunnelKey.proof].map((text) => Buffer.from(text, 'base64'))
        )
        parts[at] = (parts[at] ?? 0) ^ change
        const changed = {
          edKey: parts.subarray(0, 32).toString('base64'),
          proof: parts.subarray(32).toString('base64')
        }
        assert.equal(keys.prove(origin, [changed]).kind, 'refused')
        assert.equal(keys.prove(origin, [tunnelKey, changed]).kind, 'refused')
      }),
      { numRuns: 100 }
    )
  })

  it('is verified once for each value', () => {
    let verified = 0
    const counting = {
      ...crypto,
      verify: (...of: Parameters<typeof crypto.verify>) => {
        verified += 1
        return crypto.verify(...of)
      }
    }
    const keys = new TunnelKeys({ crypto: counting, meshId })
    const tunnelKey = tunnelKeyOf({ crypto, meshId, agentKey, seed: new Uint8Array(32).fill(3) })
    const forged = { ...tunnelKey, proof: Buffer.alloc(64).toString('base64') }
    for (let time = 0; time < 3; time++) {
      assert.equal(keys.prove(origin, [tunnelKey]).kind, 'proved')
      assert.equal(keys.prove(origin, [forged]).kind, 'refused')
    }
    assert.equal(verified, 2)
  })

  it('of small order is refused, whatever the proof', () => {
    const keys = new TunnelKeys({ crypto, meshId })
    const proof = Buffer.alloc(64).toString('base64')
    for (const first of [0, 1, 0xec]) {
      const edKey = Buffer.alloc(32, first === 0xec ? 0xff : 0)
      edKey[0] = first
      if (first === 0xec) edKey[31] = 0x7f
      assert.equal(keys.prove(origin, [{ edKey: edKey.toString('base64'), proof }]).kind, 'refused')
    }
  })
})
