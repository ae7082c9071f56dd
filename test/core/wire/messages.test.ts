import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { decodeFrame, decodeHead, encodeFrame, encodeMessage, wire } from '../../../src/core/wire/messages.ts'

describe('wire', () => {
  it('carries integers up to 2^53 - 1 as numbers', () => {
    const bytes = encodeMessage(wire.Head, { seq: Number.MAX_SAFE_INTEGER, epoch: 3 })
    assert.equal(decodeHead(bytes)?.seq, Number.MAX_SAFE_INTEGER)
    assert.equal(decodeHead(bytes)?.prevSeq, 0)
  })

  it('refuses integers beyond 2^53 instead of rounding them', () => {
    // Field 4 (seq), varint 2^53 and 2^53 + 1.
    assert.equal(decodeHead(Uint8Array.of(0x20, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10)), undefined)
    assert.equal(decodeHead(Uint8Array.of(0x20, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10)), undefined)
  })

  it('answers undefined for malformed bytes and for frames above the limit', () => {
    assert.equal(decodeFrame(Uint8Array.of(0x32, 0xff)), undefined)
    assert.equal(decodeFrame(new Uint8Array(256 * 1024 + 1)), undefined)
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void decodeFrame(bytes)))
  })

  it('encodes to memory of its own, never to a slice of a shared pool', () => {
    const frame = encodeFrame({ ping: { id: 1 } })
    assert.equal(frame.buffer.byteLength, frame.length)
    assert.equal(Object.getPrototypeOf(frame), Uint8Array.prototype)
  })

  it('skips fields of a newer version', () => {
    const ping = encodeFrame({ ping: { id: 7 } })
    assert.equal(decodeFrame(Uint8Array.of(...ping, 0xf8, 0x06, 1))?.ping?.id, 7)
  })
})
