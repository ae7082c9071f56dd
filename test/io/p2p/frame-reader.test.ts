import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { FrameReader, frameHeader, join } from '../../../src/io/p2p/frame-reader.ts'

function wire(frames: readonly Uint8Array[]): Uint8Array {
  const parts = frames.flatMap((frame) => [frameHeader(frame.byteLength), frame])
  return join(
    parts,
    parts.reduce((bytes, part) => bytes + part.byteLength, 0)
  )
}

function readAll(reader: FrameReader): Uint8Array[] {
  const frames: Uint8Array[] = []
  for (let result = reader.next(); result.kind === 'frame'; result = reader.next()) frames.push(result.frame)
  return frames
}

describe('frame reader', () => {
  it('yields the frames that were written, however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1 }),
        (frames, cuts) => {
          const reader = new FrameReader(300)
          const bytes = wire(frames)
          const got: Uint8Array[] = []
          for (let at = 0, i = 0; at < bytes.byteLength; i += 1) {
            const size = cuts[i % cuts.length] ?? 1
            reader.push(bytes.subarray(at, at + size))
            got.push(...readAll(reader))
            at += size
          }
          assert.deepEqual(got, frames)
        }
      )
    )
  })

  it('refuses a frame over the limit as soon as its header is there', () => {
    const reader = new FrameReader(10)
    reader.push(frameHeader(11))
    assert.deepEqual(reader.next(), { kind: 'tooLarge', bytes: 11 })
    assert.deepEqual(reader.next(), { kind: 'tooLarge', bytes: 11 })
  })

  it('gives each frame memory of its own', () => {
    const reader = new FrameReader(10)
    const bytes = wire([Uint8Array.of(1, 2, 3)])
    reader.push(bytes)
    const [frame] = readAll(reader)
    bytes.fill(0)
    assert.deepEqual(frame, Uint8Array.of(1, 2, 3))
    assert.equal(frame?.buffer.byteLength, 3)
  })
})
