import assert from 'node:assert/strict'
import { Neighbourhood } from '../../../src/app/control/neighbourhood.ts'
import type { ConnectionInfo } from '../../../src/app/control/handshakes.ts'
import type { Origin } from '../../../src/core/model/values.ts'

describe('the clocks of neighbours', () => {
  const { now } = Date
  afterEach(() => {
    Date.now = now
  })

  it('follow a step of the own clock: what was ahead by an hour is level when the own clock is set', () => {
    const neighbours = new Neighbourhood()
    const origin = 'a' as Origin
    neighbours.add(origin, {} as ConnectionInfo, 3600)
    assert.equal(neighbours.skews().get(origin), 3600)
    Date.now = () => now() + 3_600_000
    assert.equal(neighbours.skews().get(origin), 0)
    Date.now = () => now() - 60_000
    assert.equal(neighbours.skews().get(origin), 3660)
    assert.equal(neighbours.get(origin)?.skewSeconds, 3660)
    neighbours.remove(origin)
    assert.equal(neighbours.skews().size, 0)
  })
})
