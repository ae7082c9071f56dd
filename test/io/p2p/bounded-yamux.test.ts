import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { FrameGuard } from '../../../src/io/p2p/bounded-yamux.ts'

const MAX = 1000

describe('the guard of yamux frames', () => {
  it('takes frames up to the limit, however they are cut, and the first one over it is the last', () => {
    const frame = fc.record({ isData: fc.boolean(), length: fc.integer({ min: 0, max: 1200 }) })
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 20 }), fc.integer({ min: 1, max: 50 }), (frames, cut) => {
        const isTooLarge = frames.some(({ isData, length }) => isData && length > MAX)
        const bytes = Buffer.concat(frames.map(encode))
        const guard = new FrameGuard(MAX)
        let taken = true
        for (let at = 0; at < bytes.length && taken; at += cut)
          taken = guard.takes(bytes.subarray(at, at + cut))
        assert.equal(taken, !isTooLarge)
      })
    )
  })

  it('does not mind what a window update says', () => {
    assert.ok(new FrameGuard(MAX).takes(header({ isData: false, length: 0xffff_ffff })))
    assert.ok(!new FrameGuard(MAX).takes(header({ isData: true, length: 0xffff_ffff })))
  })
})

interface Frame {
  readonly isData: boolean
  readonly length: number
}

/** https://github.com/hashicorp/yamux/blob/master/spec.md: version, type, flags, stream, length. */
function header({ isData, length }: Frame): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt8(isData ? 0 : 1, 1)
  bytes.writeUInt32BE(1, 4)
  bytes.writeUInt32BE(length, 8)
  return bytes
}

function encode(frame: Frame): Buffer {
  return Buffer.concat([header(frame), Buffer.alloc(frame.isData ? frame.length : 0, 1)])
}
