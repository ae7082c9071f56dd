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

describe('a bundle of operations', () => {
  it('does all but the refused ones, whichever they are', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 60 }), fc.infiniteStream(fc.nat(9)), async (count, dice) => {
        const all = ops(count)
        const bad = new Set(all.filter(() => dice.next().value === 0).slice(0, 5))
        const tool = transaction(bad)
        const failures = await attempt(all, tool.act)
        assert.deepEqual(new Set(failures.map(({ op }) => op)), bad)
        assert.ok(failures.every(({ scope }) => scope === 'operation'))
        assert.deepEqual(tool.done, new Set(all).difference(bad))
      })
    )
  })

  it('finds one among 10,000 with a few commands, and gives up in time where all are refused', async () => {
    const all = ops(10_000)
    const one = transaction(new Set([all[7_777] ?? assert.fail()]))
    assert.equal((await attempt(all, one.act)).length, 1)
    assert.equal(one.done.size, 9_999)
    assert.ok(one.calls() < 40)
    const none = transaction(new Set(all))
    const failures = await attempt(all, none.act)
    assert.equal(failures.length, all.length)
    assert.ok(none.calls() < 100)
    assert.ok(failures.some(({ scope }) => scope === 'operation'))
    assert.ok(failures.some(({ scope }) => scope === 'untried'))
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
