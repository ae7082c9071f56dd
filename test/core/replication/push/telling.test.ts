import assert from 'node:assert/strict'
import { tellingOf } from '../../../../src/core/replication/push/telling.ts'

const facts = { isKnown: false, canPush: true, isPruned: false, isEager: true, isOwn: false }

describe('a new head', () => {
  for (const { name, given, telling } of [
    { name: 'is not told to a neighbour that has it', given: { isKnown: true }, telling: 'none' },
    { name: 'is pushed with its batch', given: {}, telling: 'push' },
    { name: 'is told later to a neighbour that has pruned', given: { isPruned: true }, telling: 'later' },
    {
      name: 'is told later in a large mesh when its batch is too large',
      given: { canPush: false },
      telling: 'later'
    },
    {
      name: 'is told at once when an own batch is too large',
      given: { canPush: false, isOwn: true },
      telling: 'heads'
    },
    { name: 'is told at once in a small mesh', given: { canPush: false, isEager: false }, telling: 'heads' }
  ] as const)
    it(name, () => {
      assert.equal(tellingOf({ ...facts, ...given }), telling)
    })
})
