import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import type { HostOp } from '../../../src/core/host/host-state.ts'
import type { Cidr } from '../../../src/core/model/values.ts'
import { attempt } from '../../../src/io/host/attempt.ts'
import { HostError } from '../../../src/io/host/errors.ts'

const ops = (count: number): HostOp[] =>
  Array.from({ length: count }, (_, index) => ({
    kind: 'addRoute',
    route: { destination: `10.0.${index >> 8}.${index & 255}/32` as Cidr, source: undefined }
  }))

/** A tool that refuses a bundle whole when one of these is in it, as `nft -f` does. */
function transaction(bad: ReadonlySet<HostOp>) {
  const done = new Set<HostOp>()
  let calls = 0
  return {
    done,
    calls: () => calls,
    act: async (some: readonly HostOp[]) => {
      calls += 1
      if (some.some((op) => bad.has(op))) throw new Error('refused')
      for (const op of some) done.add(op)
      return []
    }
  }
}

/** Sets of refused operations: spread at random, or side by side, as those of one service are. */
const refused = (count: number, refusedMax: number): fc.Arbitrary<readonly number[]> => {
  const index = fc.nat(count - 1)
  const run = fc.tuple(index, fc.integer({ min: 1, max: refusedMax }))
  return fc.oneof(
    fc.uniqueArray(index, { maxLength: refusedMax }),
    run.map(([first, length]) =>
      Array.from({ length: Math.min(length, count - first) }, (_, at) => first + at)
    )
  )
}

/** A clock that each try of the tool moves on by 20 ms. */
const clockOf = (tool: { calls(): number }) => () => tool.calls() * 20

describe('a bundle of operations', () => {
  it('does all but the refused ones, whichever they are and however many', async () => {
    const sizes = fc
      .integer({ min: 1, max: 200 })
      .chain((count) => fc.tuple(fc.constant(count), refused(count, count)))
    await fc.assert(
      fc.asyncProperty(sizes, async ([count, indices]) => {
        const all = ops(count)
        const bad = new Set(indices.map((index) => all[index] ?? assert.fail()))
        const tool = transaction(bad)
        const failures = await attempt(all, tool.act, () => 0)
        assert.deepEqual(new Set(failures.map(({ op }) => op)), bad)
        assert.equal(failures.length, bad.size)
        assert.ok(failures.every(({ scope }) => scope === 'operation'))
        assert.deepEqual(tool.done, new Set(all).difference(bad))
        assert.ok(tool.calls() <= 1 + 2 * bad.size * Math.ceil(Math.log2(count)))
        assert.ok(tool.calls() < 2 * count)
      })
    )
  })

  it('does all good ones in one pass where 30 of 2,000 are refused and a command takes 20 ms', async () => {
    const all = ops(2_000)
    await fc.assert(
      fc.asyncProperty(refused(2_000, 30), async (indices) => {
        const bad = new Set(indices.map((index) => all[index] ?? assert.fail()))
        const tool = transaction(bad)
        const failures = await attempt(all, tool.act, clockOf(tool))
        assert.deepEqual(new Set(failures.map(({ op }) => op)), bad)
        assert.equal(tool.done.size, all.length - bad.size)
      }),
      { numRuns: 30 }
    )
  })

  it('keeps the order of the operations', async () => {
    const all = ops(100)
    const tool = transaction(new Set(all.filter((_, index) => index % 7 === 0)))
    await attempt(all, tool.act, () => 0)
    assert.deepEqual(
      [...tool.done],
      all.filter((_, index) => index % 7 !== 0)
    )
  })

  it('finds one among 10,000 with a few commands', async () => {
    const all = ops(10_000)
    const tool = transaction(new Set([all[7_777] ?? assert.fail()]))
    assert.equal((await attempt(all, tool.act)).length, 1)
    assert.equal(tool.done.size, 9_999)
    assert.ok(tool.calls() < 30)
  })

  it('ends after 10 s where all are refused, with some tried alone, also if a command takes seconds', async () => {
    const all = ops(10_000)
    for (const [tryMs, callsMax] of [
      [20, 600],
      [4_000, 50]
    ] as const) {
      const tool = transaction(new Set(all))
      const failures = await attempt(all, tool.act, () => tool.calls() * tryMs)
      assert.equal(failures.length, all.length)
      assert.ok(tool.calls() < callsMax, `${tool.calls()} calls`)
      assert.ok(failures.some(({ scope }) => scope === 'operation'))
      assert.ok(failures.some(({ scope }) => scope === 'untried'))
    }
  })

  it('asks a tool that hangs, or is missing, once', async () => {
    for (const code of ['TOOL_TIMEOUT', 'TOOL_MISSING'] as const) {
      let calls = 0
      const failures = await attempt(ops(100), async () => {
        calls += 1
        throw new HostError({ code, message: 'no answer' })
      })
      assert.equal(calls, 1)
      assert.equal(failures.filter(({ scope }) => scope === 'part').length, 100)
    }
  })
})
