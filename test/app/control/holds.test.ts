import assert from 'node:assert/strict'
import type { Origin } from '../../../src/core/model/values.ts'
import { Holds } from '../../../src/app/control/holds.ts'

describe('holds', () => {
  const peer = 'a' as Origin
  const make = () => {
    const calls: string[] = []
    const holds = new Holds(() => ({ pause: () => calls.push('pause'), resume: () => calls.push('resume') }))
    return { holds, calls }
  }

  it('end when the last reason has gone', () => {
    const { holds, calls } = make()
    holds.for('disk').pause(peer)
    holds.holdUntil(peer, 'offences', 2000)
    holds.for('disk').resume(peer)
    holds.tick(1999)
    assert.deepEqual(calls, ['pause', 'pause'])
    holds.tick(2000)
    assert.deepEqual(calls, ['pause', 'pause', 'resume'])
    holds.for('disk').resume(peer)
    assert.equal(calls.length, 3)
  })

  it('are forgotten with the connection', () => {
    const { holds, calls } = make()
    holds.holdUntil(peer, 'offences', 2000)
    holds.forget(peer)
    holds.tick(3000)
    assert.deepEqual(calls, ['pause'])
  })
})
