import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { isSoundPoint } from '../../../src/core/model/ed25519-point.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'

const P = 2n ** 255n - 19n
const D = (-121665n * power(121666n, P - 2n)) % P

function power(base: bigint, exponent: bigint): bigint {
  let [result, square] = [1n, ((base % P) + P) % P]
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % P
    square = (square * square) % P
  }
  return result
}

/** y in 32 bytes, little-endian, with this sign bit. */
function encode(y: bigint, sign: 0 | 1): Uint8Array {
  const number = y + (BigInt(sign) << 255n)
  return Uint8Array.from({ length: 32 }, (_, index) => Number((number >> BigInt(8 * index)) & 255n))
}

describe('a point of Ed25519', () => {
  const crypto = createCrypto()

  it('of small order is refused, with either sign', () => {
    // Order 8: doubling it gives a point with y = 0, so y² = −x² with x² = (y² − 1) / (dy² + 1), as RFC 8032 has them.
    const y8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n
    const x2 = ((y8 * y8 - 1n) * power(D * y8 * y8 + 1n, P - 2n)) % P
    assert.equal((((y8 * y8 + x2) % P) + P) % P, 0n)
    for (const y of [0n, 1n, P - 1n, y8, P - y8])
      for (const sign of [0, 1] as const) assert.equal(isSoundPoint(encode(y, sign)), false, String(y))
  })

  it('is refused in its second encoding, and accepted just below', () => {
    for (let more = 0n; more < 19n; more++)
      assert.equal(isSoundPoint(encode(P + more, 0)), false, `p + ${more}`)
    assert.equal(isSoundPoint(encode(P - 2n, 0)), true)
    assert.equal(isSoundPoint(encode(2n, 1)), true)
  })

  it('is accepted in every honest key and signature', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (seed) => {
        const key = crypto.publicKeyOf(seed)
        const signature = crypto.sign(seed, seed)
        assert.ok(isSoundPoint(key) && isSoundPoint(signature.subarray(0, 32)))
        assert.ok(crypto.verify(key, signature, seed))
      })
    )
  })

  it('is no key whose signature anyone can make', () => {
    const one = encode(1n, 0)
    const signature = Uint8Array.from([...one, ...new Uint8Array(32)])
    assert.equal(crypto.verify(one, signature, new Uint8Array(8)), false)
  })
})
