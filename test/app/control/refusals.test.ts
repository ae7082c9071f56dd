import assert from 'node:assert/strict'
import { Refusals } from '../../../src/app/control/refusals.ts'

describe('refusals', () => {
  it('counts by what was wrong, without what a peer said', () => {
    const refusals = new Refusals()
    assert.equal(refusals.count('bad signature'), 'bad signature')
    assert.equal(refusals.count('record too large: svc/shop/web'), 'record too large')
    refusals.count('record too large: svc/shop/db')
    assert.deepEqual(refusals.counts(), { 'bad signature': 1, 'record too large': 2 })
  })

  it('stays small whatever a hostile member thinks of', () => {
    const refusals = new Refusals()
    refusals.count('bad signature')
    for (let index = 0; index < 5000; index++) refusals.count(`the chain is of 12D3Koo${index} and no other`)
    refusals.count('bad signature')
    const counts = refusals.counts()
    assert.ok(Object.keys(counts).length <= 65)
    assert.equal(counts['bad signature'], 2)
    assert.equal(
      Object.values(counts).reduce((sum, count) => sum + count, 0),
      5002
    )
  })
})
