import assert from 'node:assert/strict'
import { isPingSpared } from '../../../../src/core/replication/failure/pinger.ts'

const state = { neighbours: 33, sincePingedMs: 1000, sincePingMs: 1000 }

describe('a ping', () => {
  it('is spared with very many neighbours to one that pings this agent', () => {
    assert.equal(isPingSpared(state, 1000), true)
    assert.equal(isPingSpared({ ...state, neighbours: 32 }, 1000), false)
  })

  it('is sent to a neighbour that does not ping', () => {
    assert.equal(isPingSpared({ ...state, sincePingedMs: 1500 }, 1000), false)
  })

  it('is sent every four intervals in any case: it carries the digest', () => {
    assert.equal(isPingSpared({ ...state, sincePingMs: 4000 }, 1000), false)
  })
})
