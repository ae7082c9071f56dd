import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import type { Origin } from '../../../src/core/model/values.ts'
import { CheckBudget } from '../../../src/core/replication/check-budget.ts'

describe('the budget of signature checks', () => {
  const peer = 'a' as Origin

  it('lets a first join pass, and then 1,000 checks a second of one neighbour, whatever it sends', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 100, maxLength: 300 }), (costs) => {
        const budget = new CheckBudget()
        let [nowMs, checks] = [0, 0]
        for (const cost of costs) {
          checks += cost
          const waitMs = budget.spend(peer, cost, nowMs)
          if (checks <= 4000) assert.equal(waitMs, 0)
          nowMs += waitMs + 1
          budget.sweep(nowMs)
        }
        assert.ok(checks <= 4000 + 500 + (nowMs / 1000) * 1000, `${checks} checks in ${nowMs} ms`)
      })
    )
  })

  it('is one for each neighbour, and is forgotten only when it is whole again', () => {
    const budget = new CheckBudget()
    assert.ok(budget.spend(peer, 5000, 0) > 0)
    assert.equal(budget.spend('b' as Origin, 100, 0), 0)
    budget.sweep(500)
    assert.ok(budget.spend(peer, 1000, 500) > 0)
    budget.sweep(60_000)
    assert.equal(budget.spend(peer, 4000, 60_000), 0)
  })
})
