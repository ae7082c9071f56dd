// Consequences of offences (O1–O5), in virtual time.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import type { Origin } from '../../../src/core/model/values.ts'
import { Offences } from '../../../src/core/replication/offences.ts'

const origins = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${prefix}${index}` as Origin)

/** Commits offences every `everyMs` until a verdict is not `noted`; the time and the verdict. */
function flood(offences: Offences, peer: Origin, others: readonly Origin[], fromMs = 0, everyMs = 1) {
  for (let nowMs = fromMs; ; nowMs += everyMs) {
    const verdict = offences.note(peer, [peer, ...others], nowMs)
    if (verdict.kind !== 'noted') return { verdict, nowMs }
    assert.ok(nowMs - fromMs < 3_600_000, 'it is never banned')
  }
}

describe('offences', () => {
  const [bad] = origins('bad', 1) as [Origin]
  const honest = origins('honest', 2)

  it('of a flood end in a ban within 2 s, and those of a program with a fault do not', () => {
    const { verdict, nowMs } = flood(new Offences(), bad, honest, 0, 50)
    assert.deepEqual(verdict, { kind: 'banned', ms: 10_000 })
    assert.ok(nowMs < 2000)
    const offences = new Offences()
    for (let atMs = 0; atMs < 3_600_000; atMs += 2000)
      // 30 a minute
      assert.equal(offences.note(bad, [bad, ...honest], atMs).kind, 'noted')
  })

  it('lengthen each ban up to ten minutes, and are forgotten after ten minutes of good behaviour', () => {
    const offences = new Offences()
    const lengths: number[] = []
    let nowMs = 0
    for (let ban = 0; ban < 9; ban++) {
      const { verdict, nowMs: atMs } = flood(offences, bad, honest, nowMs)
      assert.ok(verdict.kind === 'banned')
      lengths.push(verdict.ms / 1000)
      assert.ok(offences.isBanned(bad, atMs + verdict.ms - 1))
      assert.ok(!offences.isBanned(bad, atMs + verdict.ms))
      assert.deepEqual(offences.ended(atMs + verdict.ms - 1), [])
      assert.deepEqual(offences.ended(atMs + verdict.ms), [bad])
      assert.deepEqual(offences.ended(atMs + verdict.ms), [])
      nowMs = atMs + verdict.ms + 1000
    }
    assert.deepEqual(lengths, [10, 20, 40, 80, 160, 320, 600, 600, 600])
    assert.deepEqual(flood(offences, bad, honest, nowMs + 600_000).verdict, { kind: 'banned', ms: 10_000 })
  })

  it('never leave fewer than two neighbours that this agent would keep, and ban as soon as there are two', () => {
    const offences = new Offences()
    const [first] = honest
    assert.ok(first)
    assert.equal(flood(offences, bad, [first]).verdict.kind, 'spared')
    assert.ok(!offences.isBanned(bad, 1000))
    assert.equal(offences.note(bad, [bad, ...honest], 1000).kind, 'banned')
  })

  it('of six identities of one attacker ban all six, and no honest neighbour, in any order', () => {
    const attackers = origins('bad', 6)
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 5 }), { minLength: 400, maxLength: 800 }),
        fc.integer({ min: 2, max: 5 }),
        (order, count) => {
          const offences = new Offences()
          const kept = origins('honest', count)
          for (const [atMs, index] of [
            ...order,
            ...order.toSorted((left, right) => left - right)
          ].entries()) {
            const peer = attackers[index] as Origin
            if (!offences.isBanned(peer, atMs)) offences.note(peer, [...attackers, ...kept], atMs)
          }
          const nowMs = 2 * order.length
          for (const peer of kept) assert.ok(!offences.isBanned(peer, nowMs))
          const often = attackers.filter((_, index) => order.filter((each) => each === index).length > 20)
          for (const peer of often) assert.ok(offences.isBanned(peer, nowMs), peer)
        }
      ),
      { numRuns: 50 }
    )
  })

  it('are remembered of 2,048 agents, and the banned ones are forgotten last', () => {
    const offences = new Offences()
    flood(offences, bad, honest)
    for (const [index, peer] of origins('many', 5000).entries()) offences.note(peer, honest, 100 + index)
    assert.ok(offences.isBanned(bad, 5200))
    assert.equal(offences.banned(5200), 1)
  })
})
