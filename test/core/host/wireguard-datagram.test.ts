import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { DATAGRAM_BYTES_MAX, datagramKind, sessionOf } from '../../../src/core/host/wireguard-datagram.ts'

const of = (type: number, bytes: number): Uint8Array => {
  const datagram = new Uint8Array(bytes)
  datagram[0] = type
  return datagram
}

describe('a datagram of WireGuard', () => {
  it('is recognised by type and length', () => {
    assert.deepEqual([of(1, 148), of(2, 92), of(3, 64), of(4, 32), of(4, 1452)].map(datagramKind), [
      'initiation',
      'response',
      'cookie',
      'data',
      'data'
    ])
  })

  it('is nothing else', () => {
    const long = of(4, DATAGRAM_BYTES_MAX + 1)
    const reserved = of(4, 64)
    reserved[3] = 1
    for (const other of [
      of(0, 148),
      of(5, 148),
      of(1, 147),
      of(1, 149),
      of(2, 148),
      of(4, 31),
      of(4, 0),
      long,
      reserved
    ])
      assert.equal(datagramKind(other), undefined)
  })

  it('is judged without an exception, whatever the bytes; data always has a session', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        if (datagramKind(bytes) === 'data') assert.ok(sessionOf(bytes) >= 0)
      })
    )
    const part = new Uint8Array([9, 9, 4, 0, 0, 0, 1, 2, 0, 0, ...new Uint8Array(24)]).subarray(2)
    assert.equal(sessionOf(part), 0x201)
  })
})
