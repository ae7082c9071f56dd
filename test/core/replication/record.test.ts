import assert from 'node:assert/strict'
import { newestOf, type Operation } from '../../../src/core/replication/record.ts'

describe('the newest operations', () => {
  it('are all of them, as the same list, when no key comes twice', () => {
    const operations = [operationOf('a', 1), operationOf('b', 2)]
    assert.equal(newestOf(operations), operations)
  })

  it('are the last one of each key, in the order given', () => {
    const operations = [operationOf('a', 1), operationOf('b', 2), operationOf('a', 3), operationOf('c', 4)]
    assert.deepEqual(
      newestOf(operations).map(({ key, seq }) => `${key}${seq}`),
      ['b2', 'a3', 'c4']
    )
  })
})

function operationOf(key: string, seq: number): Operation {
  return { key, seq, value: new Uint8Array([seq]) }
}
