// Turns, in virtual time: each frame costs what the test says.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { Turns, type FrameSource } from '../../../src/io/p2p/turns.ts'

/** A loop whose turns the test runs, and streams whose frames take time. */
class World {
  nowMs = 0
  #due: (() => void)[] = []
  /** The names of the streams in the order of their delivered frames, and the longest turn of the loop. */
  readonly served: string[] = []
  longestMs = 0
  readonly turns = new Turns({ now: () => this.nowMs, later: (callback) => void this.#due.push(callback) })

  source(name: string, frames: number, costMs: number): FrameSource {
    let left = frames
    return {
      deliver: () => {
        if (left === 0) return false
        left--
        this.nowMs += costMs
        this.served.push(name)
        return left > 0
      }
    }
  }

  /** Runs one turn of the loop, in which these streams announce frames. */
  turn(...sources: readonly FrameSource[]): void {
    const startMs = this.nowMs
    for (const source of sources) this.turns.ready(source)
    const due = this.#due.splice(0)
    this.longestMs = Math.max(this.longestMs, this.nowMs - startMs)
    const immediateMs = this.nowMs
    for (const callback of due) callback()
    this.longestMs = Math.max(this.longestMs, this.nowMs - immediateMs)
  }
}

describe('turns', () => {
  it('deliver a frame of an idle loop at once', () => {
    const world = new World()
    world.turns.ready(world.source('a', 1, 0.1))
    assert.deepEqual(world.served, ['a'])
  })

  it('serve a quiet neighbour within one round, however many frames another has', () => {
    const world = new World()
    world.turn(world.source('flood', 1_000_000, 0.3))
    const before = world.served.length
    world.turn(world.source('quiet', 1, 0.1))
    world.turn()
    const wait = world.served.indexOf('quiet') - before
    assert.ok(wait >= 0 && wait <= 2 * (5 / 0.3) + 4, `${wait} frames before it`)
  })

  it('keep the loop for 5 ms and one frame at most, and serve everyone with everything', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ frames: fc.nat({ max: 300 }), costMs: fc.double({ min: 0, max: 8, noNaN: true }) }),
          {
            minLength: 1,
            maxLength: 12
          }
        ),
        (streams) => {
          const world = new World()
          const sources = streams.map(({ frames, costMs }, index) => world.source(`${index}`, frames, costMs))
          world.turn(...sources)
          for (let turn = 0; turn < 5000 && sources.some((each) => world.turns.isWaiting(each)); turn++)
            world.turn()
          const costMs = Math.max(...streams.map((each) => each.costMs))
          assert.ok(world.longestMs <= 5 + costMs + 1e-6, `${world.longestMs} ms`)
          for (const [index, { frames }] of streams.entries())
            assert.equal(world.served.filter((name) => name === `${index}`).length, frames)
        }
      ),
      { numRuns: 50 }
    )
  })

  it('serve a stream that has new frames after its last one was taken', () => {
    const world = new World()
    let left = 0
    const source: FrameSource = {
      deliver() {
        if (left-- > 0) return true
        if (world.served.push('end') < 3) {
          left = 1
          world.turns.ready(source) // as the stream does that continues to read
        }
        return false
      }
    }
    world.turns.ready(source)
    assert.equal(world.served.length, 3)
  })

  it('share the loop by time: a neighbour with cheap frames is not held up by one with dear ones', () => {
    const world = new World()
    world.turn(world.source('dear', 1000, 4), world.source('cheap', 1000, 0.1))
    for (let turn = 0; turn < 100; turn++) world.turn()
    assert.equal(world.served.filter((name) => name === 'cheap').length, 1000)
  })
})
