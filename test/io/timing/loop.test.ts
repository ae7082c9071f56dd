import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mock } from 'node:test'
import * as fc from 'fast-check'
import { Loop, type LoopOptions } from '../../../src/io/timing/loop.ts'

/** Lets promises settle; no timer is needed for that. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve()
}

/** A loop whose passes end when the test says so. */
class Passes {
  began = 0
  ended = 0
  aborted = false
  readonly errors: unknown[] = []
  #open: PromiseWithResolvers<number | void> | undefined
  readonly loop: Loop

  constructor(options: Partial<LoopOptions> = {}) {
    this.loop = new Loop({
      intervalMs: 1000,
      onError: (error) => this.errors.push(error),
      ...options,
      act: async (signal) => {
        assert.equal(this.began, this.ended, 'passes overlap')
        this.began++
        this.#open = Promise.withResolvers()
        signal.addEventListener('abort', () => {
          this.aborted = true
        })
        try {
          return await this.#open.promise
        } finally {
          this.ended++
        }
      }
    })
  }

  async end(how?: number | Error): Promise<void> {
    if (how instanceof Error) this.#open?.reject(how)
    else this.#open?.resolve(how)
    await settle()
  }
}

async function pass(ms: number): Promise<void> {
  mock.timers.tick(ms)
  await settle()
}

describe('a loop', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }))
  afterEach(() => mock.timers.reset())

  it('without onError ends the process at an error, and does not go on', () => {
    const file = JSON.stringify(new URL('../../../src/io/timing/loop.ts', import.meta.url).href)
    const act = "async () => { throw new Error('a fault of the program') }"
    const code = `import { Loop } from ${file}; new Loop({ intervalMs: 1, act: ${act} }).start()`
    const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code])
    assert.equal(status, 1)
    assert.match(stderr.toString(), /a fault of the program/)
  })

  it('begins its first pass after firstMs, or at a mark before that', async () => {
    const passes = new Passes({ firstMs: 500 })
    passes.loop.start()
    await pass(499)
    assert.equal(passes.began, 0)
    await pass(1)
    assert.equal(passes.began, 1)
    await passes.end()
    const marked = new Passes({ firstMs: 500 })
    marked.loop.start()
    marked.loop.mark()
    assert.equal(marked.began, 1)
    await marked.end()
    await pass(500)
    assert.equal(marked.began, 1)
    await Promise.all([passes.loop.stop(), marked.loop.stop()])
  })

  it('passes at once when marked first, then at its interval, counted from the end of a pass', async () => {
    const passes = new Passes()
    passes.loop.mark()
    assert.equal(passes.began, 0, 'not started')
    passes.loop.start()
    assert.equal(passes.began, 1)
    await pass(5000)
    assert.equal(passes.began, 1)
    await passes.end()
    await pass(999)
    assert.equal(passes.began, 1)
    await pass(1)
    assert.equal(passes.began, 2)
  })

  it('makes one more pass for all marks during a pass', async () => {
    const passes = new Passes()
    passes.loop.start()
    for (let n = 0; n < 5; n++) passes.loop.mark()
    assert.equal(passes.began, 1)
    await passes.end()
    await pass(0)
    assert.equal(passes.began, 2)
    await passes.end()
    await pass(999)
    assert.equal(passes.began, 2)
  })

  it('waits as long as a pass asks for, and after a failure as long as it is told', async () => {
    const passes = new Passes({ retryMs: 100 })
    passes.loop.start()
    await passes.end(5000)
    await pass(4999)
    assert.equal(passes.began, 1)
    await pass(1)
    const failure = new Error('no')
    await passes.end(failure)
    assert.deepEqual(passes.errors, [failure])
    await pass(100)
    assert.equal(passes.began, 3)
  })

  it('takes marks that follow one another closely into one pass', async () => {
    const passes = new Passes({ gapMs: 50 })
    passes.loop.start()
    await passes.end()
    passes.loop.mark()
    await pass(49)
    passes.loop.mark()
    assert.equal(passes.began, 1)
    await pass(1)
    assert.equal(passes.began, 2)
    await passes.end()
    await pass(50)
    await pass(949)
    assert.equal(passes.began, 2)
    await pass(1)
    assert.equal(passes.began, 3)
  })

  it('has ended once stop resolves: the pass under way is told, waited for, and none follows', async () => {
    const passes = new Passes()
    passes.loop.start()
    passes.loop.mark()
    let isStopped = false
    const stopped = passes.loop.stop().then(() => {
      isStopped = true
    })
    await settle()
    assert.deepEqual([passes.aborted, isStopped], [true, false])
    await passes.end(new Error('aborted'))
    await stopped
    passes.loop.mark()
    await pass(10_000)
    assert.deepEqual([passes.began, passes.errors], [1, []])
  })

  it('never overlaps itself and never stands still, whatever comes in whatever order', async () => {
    const step = fc.oneof(
      fc.constant({ kind: 'mark' as const }),
      fc.record({ kind: fc.constant('end' as const), how: fc.constantFrom(undefined, 70, new Error('no')) }),
      fc.record({ kind: fc.constant('tick' as const), ms: fc.constantFrom(0, 30, 200, 1000) })
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.constantFrom(0, 50), async (steps, gapMs) => {
        const passes = new Passes({ gapMs })
        passes.loop.start()
        for (const each of steps) {
          if (each.kind === 'mark') passes.loop.mark()
          else if (each.kind === 'end') await passes.end(each.how)
          else await pass(each.ms)
        }
        const before = passes.began
        await passes.end()
        await pass(50)
        await pass(1000)
        assert.ok(passes.began > before, 'no pass follows')
        const stopped = passes.loop.stop()
        await passes.end()
        await stopped
      }),
      { numRuns: 300 }
    )
  })
})
