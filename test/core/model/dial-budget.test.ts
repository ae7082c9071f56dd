import assert from 'node:assert/strict'
import fc from 'fast-check'
import { DIAL_BURST, DialBudget, DIALS_PER_SECOND } from '../../../src/core/model/dial-budget.ts'

describe('the budget of dials to addresses that are not proven', () => {
  it('grants a group no more than its burst and its rate in any time, whatever is asked', () => {
    const steps = fc.array(fc.record({ wanted: fc.nat(400), pauseMs: fc.nat(5_000) }), { maxLength: 100 })
    fc.assert(
      fc.property(steps, (list) => {
        const budget = new DialBudget()
        const grants: { readonly atMs: number; readonly granted: number }[] = []
        let nowMs = 0
        for (const { wanted, pauseMs } of list) {
          grants.push({ atMs: nowMs, granted: budget.take('east', wanted, nowMs) })
          nowMs += pauseMs
        }
        for (const [first, { atMs }] of grants.entries()) {
          let sum = 0
          for (const grant of grants.slice(first)) {
            sum += grant.granted
            const seconds = (grant.atMs - atMs) / 1000
            assert.ok(sum <= DIAL_BURST + seconds * DIALS_PER_SECOND + 1e-6, `${sum} in ${seconds} s`)
          }
        }
      })
    )
  })

  it('has a budget for each group, and tells when the next attempt is due', () => {
    const budget = new DialBudget()
    assert.equal(budget.take('east', 99, 0), DIAL_BURST)
    assert.equal(budget.take('east', 1, 0), 0)
    assert.equal(budget.take('west', 1, 0), 1)
    const waitMs = budget.waitMs('east', 0)
    assert.equal(budget.take('east', 1, waitMs - 1), 0)
    assert.equal(budget.take('east', 1, waitMs), 1)
  })

  it('makes a group wait longer after an impostor answered', () => {
    const budget = new DialBudget()
    budget.charge('east', 10, 0)
    assert.equal(budget.take('east', 1, 0), 0)
    assert.ok(budget.waitMs('east', 0) >= (5 / DIALS_PER_SECOND) * 1000 - 1)
  })

  it('remembers no more groups than there are clusters, and none that has all its attempts', () => {
    const budget = new DialBudget()
    for (let n = 0; n < 5_000; n++) assert.equal(budget.take(`c${n}`, 1, n * 60_000), 1)
    assert.equal(budget.take('c0', 99, 5_000 * 60_000), DIAL_BURST)
  })
})
