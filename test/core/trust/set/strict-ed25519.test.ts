import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { ED25519_TORSION_SUBGROUP, ed25519, x25519 } from '@noble/curves/ed25519.js'
import { pointFault, signatureFault, wireguardKeyOf } from '../../../../src/core/trust/set/strict-ed25519.ts'
import { createCrypto } from '../../../../src/io/crypto/crypto.ts'

const { Point } = ed25519
const { Fn } = Point
const P = 2n ** 255n - 19n
const crypto = createCrypto()
/** A point of order 8. */
const T8 = Point.fromHex(ED25519_TORSION_SUBGROUP[1] ?? '')

type Curve = typeof Point.BASE

interface Case {
  readonly key: Uint8Array
  readonly signature: Uint8Array
  readonly message: Uint8Array
}

/** A signature whose key and R have these parts of small order: S = r + k·a, where k hashes R, A and the message. */
function signed(of: { readonly key: Curve; readonly a: bigint; readonly nonce: Curve; readonly r: bigint }) {
  return (message: Uint8Array): Case & { readonly k: bigint } => {
    const [key, nonce] = [of.key.toBytes(), of.nonce.toBytes()]
    const k = Fn.create(little(createHash('sha512').update(nonce).update(key).update(message).digest()))
    const s = Fn.add(of.r, Fn.mul(k, of.a))
    return { key, message, k, signature: Uint8Array.from([...nonce, ...bytes(s)]) }
  }
}

function little(value: Uint8Array): bigint {
  return value.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
}

function bytes(value: bigint): Uint8Array {
  return Uint8Array.from({ length: 32 }, (_, at) => Number((value >> BigInt(8 * at)) & 0xffn))
}

/** The first of many messages for which the signature has the property. */
function search<T>(make: (message: Uint8Array) => T, property: (found: T) => boolean): T {
  for (let at = 0; at < 1000; at++) {
    const found = make(Uint8Array.of(at & 255, at >> 8))
    if (property(found)) return found
  }
  throw new Error('no message has the property')
}

const A = { a: 12_345n, r: 6789n }
const BASE = Point.BASE
const mixedKey = BASE.multiply(A.a).add(T8)
const plain = signed({ key: BASE.multiply(A.a), nonce: BASE.multiply(A.r), ...A })(Uint8Array.of(1))

describe('strict Ed25519 (F2)', () => {
  // The kinds of the paper "Taming the many EdDSAs", table 5, computed anew.
  it('refuses small order, S ≥ L and every second encoding', () => {
    const s = little(plain.signature.subarray(32))
    const refused: readonly (readonly [string, Case])[] = [
      [
        'small key, small R, S = 0',
        { ...plain, key: T8.toBytes(), signature: Uint8Array.from([...T8.toBytes(), ...bytes(0n)]) }
      ],
      [
        'small key, mixed R',
        signed({ key: T8, a: 0n, nonce: BASE.multiply(A.r).add(T8), r: A.r })(Uint8Array.of(2))
      ],
      ['mixed key, small R', signed({ key: mixedKey, a: A.a, nonce: T8, r: 0n })(Uint8Array.of(3))],
      ['S + L', { ...plain, signature: withS(s + Fn.ORDER) }],
      ['S far above L', { ...plain, signature: withS(s + 8n * Fn.ORDER) }],
      ['R with y ≥ p', { ...plain, signature: Uint8Array.from([...bytes(P), ...bytes(s)]) }],
      ['key with y ≥ p', { ...plain, key: bytes(P + 3n) }],
      ['key with y ≥ p and a sign', { ...plain, key: bytes(P + 4n + 2n ** 255n) }]
    ]
    for (const [name, one] of refused)
      assert.ok(pointFault(one.key) !== undefined || signatureFault(one.signature) !== undefined, name)
  })

  it('leaves what is not of small order to the equation without cofactor', () => {
    const mixed = signed({ key: mixedKey, a: A.a, nonce: BASE.multiply(A.r).add(T8), r: A.r })
    const cancels = search(mixed, ({ k }) => k % 8n === 7n)
    const remains = search(mixed, ({ k }) => k % 8n !== 7n)
    for (const one of [plain, cancels, remains]) {
      assert.equal(pointFault(one.key), undefined)
      assert.equal(signatureFault(one.signature), undefined)
    }
    assert.ok(crypto.verify(plain.key, plain.signature, plain.message))
    assert.ok(crypto.verify(cancels.key, cancels.signature, cancels.message))
    assert.ok(!crypto.verify(remains.key, remains.signature, remains.message))
  })

  it('refuses exactly the points of small order, whatever their sign bit', () => {
    for (const hex of ED25519_TORSION_SUBGROUP) {
      const point = Uint8Array.from(Buffer.from(hex, 'hex'))
      assert.equal(pointFault(point), 'smallOrder', hex)
      assert.equal(pointFault(point.with(31, (point[31] ?? 0) ^ 0x80)), 'smallOrder', hex)
    }
    assert.equal(pointFault(bytes(P - 1n)), 'smallOrder')
    assert.equal(pointFault(bytes(P)), 'notCanonical')
    assert.equal(pointFault(bytes(P - 2n)), undefined)
    assert.equal(pointFault(new Uint8Array(31)), 'length')
    assert.equal(signatureFault(new Uint8Array(63)), 'length')
  })

  function withS(s: bigint): Uint8Array {
    return Uint8Array.from([...plain.signature.subarray(0, 32), ...bytes(s)])
  }
})

describe('the WireGuard key of an Ed25519 key', () => {
  it('is the one that clamp(SHA-512(seed)) gives, for A and −A alike', () => {
    for (let at = 0; at < 20; at++) {
      const seed = createHash('sha256').update(`seed ${at}`).digest()
      const key = crypto.publicKeyOf(seed)
      const secret = createHash('sha512').update(seed).digest().subarray(0, 32)
      const found = Buffer.from(wireguardKeyOf(key)).toString('hex')
      assert.equal(found, Buffer.from(ed25519.utils.toMontgomery(key)).toString('hex'))
      assert.equal(found, Buffer.from(x25519.getPublicKey(secret)).toString('hex'))
      const negative = Uint8Array.from(key).with(31, (key[31] ?? 0) ^ 0x80)
      assert.equal(found, Buffer.from(wireguardKeyOf(negative)).toString('hex'))
    }
  })

  it('does not exist for a key that F2 refuses', () => {
    assert.throws(() => wireguardKeyOf(bytes(1n)), RangeError)
    assert.throws(() => wireguardKeyOf(bytes(P + 3n)), RangeError)
  })
})
