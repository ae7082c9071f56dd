import assert from 'node:assert/strict'
import type { Origin } from '../../../src/core/model/values.ts'
import { isEquivocation, type Head } from '../../../src/core/replication/head.ts'

describe('two heads', () => {
  const first = headOf({ origin: 'east', seq: 3, text: 'first' })

  it('are an equivocation when they differ at one position of one origin', () => {
    assert.equal(isEquivocation(first, headOf({ origin: 'east', seq: 3, text: 'second' })), true)
  })

  it('are none when they are the same, or of two positions, epochs or origins', () => {
    assert.equal(isEquivocation(first, headOf({ origin: 'east', seq: 3, text: 'first' })), false)
    assert.equal(isEquivocation(first, headOf({ origin: 'east', seq: 4, text: 'second' })), false)
    assert.equal(
      isEquivocation(first, { ...headOf({ origin: 'east', seq: 3, text: 'second' }), epoch: 2 }),
      false
    )
    assert.equal(isEquivocation(first, headOf({ origin: 'west', seq: 3, text: 'second' })), false)
  })
})

function headOf({ origin, seq, text }: { origin: string; seq: number; text: string }): Head {
  return {
    origin: origin as Origin,
    epoch: 1,
    seq,
    prevSeq: seq - 1,
    stateHash: new Uint8Array(32),
    bytes: new TextEncoder().encode(text),
    signature: new Uint8Array(64)
  }
}
