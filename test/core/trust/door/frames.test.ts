// The frames of the door: every code, every bound.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { printable } from '../../../../src/core/model/printable.ts'
import {
  type HandshakeCode,
  NUMBER_OF_CODE,
  rejection,
  REMEDIES,
  RETRY_CODES
} from '../../../../src/core/trust/door/codes.ts'
import {
  ANSWER_FRAME_BYTES_MAX,
  decodeDoorFrame,
  DOOR_FRAME_BYTES_MAX,
  encodeAdmitted,
  encodeKnock,
  encodeProof,
  encodeReject
} from '../../../../src/core/trust/door/frames.ts'
import { encodeFrame } from '../../../../src/core/wire/messages.ts'

const CODES = Object.keys(NUMBER_OF_CODE) as HandshakeCode[]
const decode = (frame: Uint8Array) => decodeDoorFrame(frame, ANSWER_FRAME_BYTES_MAX)

describe('a frame of the door', () => {
  for (const code of CODES)
    it(`carries the code ${code} with a reason and what to do`, () => {
      const { detail } = rejection(code, 'this is the reason')
      const read = decode(encodeReject({ code, detail }))
      assert.ok(read.kind === 'reject')
      assert.deepEqual([read.code, read.detail], [code, `this is the reason; ${REMEDIES[code]}`])
      assert.ok(REMEDIES[code].length < 150)
    })

  it('has one number for each code', () => {
    const numbers = Object.values(NUMBER_OF_CODE)
    assert.deepEqual(
      [...numbers].sort((a, b) => a - b),
      numbers.map((_, at) => at)
    )
    assert.ok([...RETRY_CODES].every((code) => CODES.includes(code)))
  })

  it('cuts a long reason and never the remedy', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...CODES),
        fc.string({ unit: 'binary', maxLength: 400 }),
        (code, reason) => {
          const { detail } = rejection(code, reason)
          assert.ok(new TextEncoder().encode(detail).length <= 300)
          assert.ok(detail.endsWith(`; ${REMEDIES[code]}`))
          assert.equal(printable(detail), detail, 'it is safe to print')
        }
      )
    )
  })

  it('explains with the first four items that fit into it', () => {
    const item = (bytes: number, fill: number) => new Uint8Array(bytes).fill(fill)
    const read = (items: readonly Uint8Array[], bytesMax?: number) => {
      const frame = encodeReject({ code: 'used', detail: 'x'.repeat(300) }, items, bytesMax)
      assert.ok(frame.length <= (bytesMax ?? DOOR_FRAME_BYTES_MAX))
      const message = decode(frame)
      return message.kind === 'reject' ? message.explain.map((one) => one[0]) : []
    }
    assert.deepEqual(read([1, 2, 3, 4, 5].map((fill) => item(100, fill))), [1, 2, 3, 4])
    assert.deepEqual(read([item(20_000, 1), item(9000, 2), item(9000, 3), item(5000, 4)]), [2, 4])
    assert.deepEqual(read([item(40_000, 1), item(20_000, 2), item(9000, 3)], ANSWER_FRAME_BYTES_MAX), [1, 2])
  })

  it('brings no more than four of the items that a peer sends', () => {
    const explain = Array.from({ length: 300 }, () => new Uint8Array(1))
    const message = decode(encodeFrame({ reject: { code: 1, detail: '', explain } }))
    assert.ok(message.kind === 'reject')
    assert.equal(message.explain.length, 4)
  })

  it('comes back as it was sent', () => {
    const [cert, signature] = [new Uint8Array(300).fill(1), new Uint8Array(64).fill(2)]
    const plain = (message: ReturnType<typeof decode>) => JSON.parse(JSON.stringify(message)) as unknown
    const same = (frame: Uint8Array, expected: ReturnType<typeof decode>) =>
      assert.deepEqual(plain(decode(frame)), plain(expected))
    same(encodeProof(signature), { kind: 'proof', signature })
    same(encodeKnock(cert, signature), { kind: 'knock', clusterCert: cert, signature })
    same(encodeAdmitted(cert, undefined), { kind: 'admitted', item: cert, sponsor: undefined })
    same(encodeAdmitted(cert, signature), { kind: 'admitted', item: cert, sponsor: signature })
  })

  it('is malformed above its bound, without a message of the door, and with lengths that no sender writes', () => {
    const table: readonly (readonly [Uint8Array, RegExp])[] = [
      [new Uint8Array(ANSWER_FRAME_BYTES_MAX + 1), /65537 bytes before authentication/],
      [Uint8Array.of(0xff, 0xff), /not decodable/],
      [new Uint8Array(), /does not belong/],
      [encodeFrame({ ping: { id: 1 } }), /does not belong/],
      [encodeFrame({ proof: { signature: new Uint8Array(63) } }), /signature of 63 bytes/],
      [encodeKnock(new Uint8Array(), new Uint8Array(64)), /certificate of 0 bytes/],
      [encodeKnock(new Uint8Array(1025), new Uint8Array(64)), /certificate of 1025 bytes/],
      [encodeKnock(new Uint8Array(10), new Uint8Array(65)), /signature of 65 bytes/]
    ]
    for (const [frame, reason] of table) {
      const message = decode(frame)
      assert.ok(message.kind === 'malformed', message.kind)
      assert.match(message.reason, reason)
    }
  })

  it('never throws on any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => assert.ok(decode(bytes).kind)),
      {
        numRuns: 2000
      }
    )
  })
})
