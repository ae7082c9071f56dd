import assert from 'node:assert/strict'
import type { Origin } from '../../../../src/core/model/values.ts'
import type { Head } from '../../../../src/core/replication/head.ts'
import { claimOf, isSameState, isWorthPulling } from '../../../../src/core/replication/pull/claim.ts'

const head: Head = {
  origin: 'a' as Origin,
  epoch: 2,
  seq: 5,
  prevSeq: 4,
  stateHash: new Uint8Array(32).fill(7),
  bytes: new Uint8Array(),
  signature: new Uint8Array(64)
}
const held = claimOf(head)

describe('a claim', () => {
  for (const { name, claim, isSame, isWorth } of [
    { name: 'of the state held', claim: held, isSame: true, isWorth: false },
    { name: 'of a later sequence number', claim: { ...held, seq: 6 }, isSame: false, isWorth: true },
    { name: 'of a later epoch', claim: { ...held, epoch: 3, seq: 1 }, isSame: false, isWorth: true },
    { name: 'of an older state', claim: { ...held, seq: 4 }, isSame: false, isWorth: false },
    {
      name: 'of another state at the same position',
      claim: { ...held, check: 1 },
      isSame: false,
      isWorth: true
    },
    {
      name: 'of the same position without a check',
      claim: { ...held, check: 0 },
      isSame: false,
      isWorth: false
    }
  ])
    it(`${name} is ${isWorth ? '' : 'not '}worth a pull`, () => {
      assert.equal(isSameState(claim, head), isSame)
      assert.equal(isWorthPulling(claim, head), isWorth)
    })

  it('is worth a pull where nothing is held', () => {
    assert.equal(isSameState(held, undefined), false)
    assert.equal(isWorthPulling(held, undefined), true)
  })
})
