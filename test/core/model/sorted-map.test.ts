import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { changesBetween, SortedMap, type Edit } from '../../../src/core/model/sorted-map.ts'

/** Many keys of few prefixes, so that runs begin, end, split and join within a test. */
const key = fc.nat(3000).map((n) => `ns-${n % 7}/service-${n}`)
const value = fc.option(fc.nat(4), { nil: undefined })
const edits = fc.array(fc.tuple(key, value), { maxLength: 40 })
const many = fc.array(fc.tuple(key, value), { minLength: 200, maxLength: 1500 })

function patched(map: ReadonlyMap<string, number>, with_: readonly Edit<number>[]): Map<string, number> {
  const after = new Map(map)
  for (const [name, to] of with_) {
    if (to === undefined) after.delete(name)
    else after.set(name, to)
  }
  return after
}

const sorted = (map: ReadonlyMap<string, number>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))

describe('a sorted map', () => {
  it('holds what an ordinary map holds after the same edits, in order', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(edits, many), { maxLength: 6 }), (steps) => {
        let map = SortedMap.empty<number>()
        let plain: ReadonlyMap<string, number> = new Map()
        for (const step of steps) {
          map = map.with(step)
          plain = patched(plain, step)
          assert.deepEqual([...map], sorted(plain))
          assert.equal(map.size, plain.size)
          for (const [name] of step) {
            assert.equal(map.get(name), plain.get(name))
            assert.equal(map.has(name), plain.has(name))
            const above = [...plain.keys()].filter((each) => each >= name).sort()
            assert.equal(map.keyFrom(name), above[0])
          }
        }
      }),
      { numRuns: 60 }
    )
  })

  it('has the same runs whatever edits led to its content', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(edits, many), { maxLength: 6 }), (steps) => {
        const map = steps.reduce((before, step) => before.with(step), SortedMap.empty<number>())
        assert.deepEqual(map, SortedMap.from(map))
      }),
      { numRuns: 60 }
    )
  })

  it('differs from what it came from by its edits, and by nothing else', () => {
    fc.assert(
      fc.property(many, fc.oneof(edits, many), (first, then) => {
        const before = SortedMap.empty<number>().with(first)
        const after = before.with(then)
        const changes = changesBetween(before, after)
        assert.deepEqual(changes, changesBetween(new Map(before), new Map(after)))
        assert.deepEqual(
          patched(
            before,
            changes.map((each) => [each.key, each.after] as const)
          ),
          new Map(after)
        )
        assert.ok(changes.every((each) => each.before !== each.after))
      }),
      { numRuns: 100 }
    )
  })

  it('shares the runs that an edit does not touch, and is the same object where nothing changed', () => {
    const map = SortedMap.from(Array.from({ length: 20_000 }, (_, n) => [`ns/${n}`, n] as const))
    assert.ok(map.runs.length > 40, `${map.runs.length} runs`)
    const after = map.with([['ns/777', -1]])
    assert.equal(after.runs.filter((run, at) => run !== map.runs[at]).length, 1)
    assert.equal(map.with([['ns/777', 777]]), map)
    assert.equal(map.with([['nowhere', undefined]]), map)
    const third = map.with(Array.from({ length: 7000 }, (_, n) => [`ns/${n}`, -n] as const))
    assert.ok(third.runs.some((run, at) => run === map.runs[at]))
  })

  it('joins and splits runs where they begin, one edit at a time', () => {
    const whole = SortedMap.from(Array.from({ length: 4000 }, (_, n) => [`ns/${n}`, n] as const))
    const firsts = whole.runs.map(({ keys }) => keys[0] ?? '')
    assert.ok(firsts.length > 5)
    fc.assert(
      fc.property(fc.shuffledSubarray(firsts, { minLength: 1 }), (keys) => {
        const before = keys.map((name) => [name, whole.get(name)] as const)
        let map = whole
        for (const name of keys) {
          map = map.with([[name, undefined]])
          assert.deepEqual(map, SortedMap.from(map))
        }
        for (const each of before) map = map.with([each])
        assert.deepEqual(map, whole)
      }),
      { numRuns: 10 }
    )
  })
})
