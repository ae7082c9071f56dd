// The changes of a tunnel between up and down, counted for ten minutes.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  FLAP_WINDOW_MS,
  isFlapping,
  NO_HISTORY,
  withState,
  type TunnelHistory
} from '../../../src/core/host/flapping.ts'
import type { TunnelState } from '../../../src/core/host/tunnel-state.ts'

type State = TunnelState['state']

const follow = (states: readonly State[], stepMs = 1000, from: TunnelHistory = NO_HISTORY): TunnelHistory =>
  states.reduce((history, state, index) => withState(history, state, index * stepMs), from)

describe('a tunnel that changes between up and down', () => {
  const rows: readonly [what: string, states: readonly State[], changes: number][] = [
    ['that comes up', ['connecting', 'up', 'up'], 0],
    ['that never comes up', ['connecting', 'down', 'down'], 0],
    ['with one outage', ['up', 'down', 'down', 'up'], 2],
    ['that connects anew in between', ['up', 'down', 'connecting', 'up'], 2],
    ['that connects and is up again without a failure', ['up', 'connecting', 'up'], 0],
    ['with two outages', ['up', 'down', 'up', 'down', 'up'], 4]
  ]
  for (const [what, states, changes] of rows)
    it(`counts ${changes} of one ${what}`, () => {
      const { changesMs } = follow(states)
      assert.equal(changesMs.length, changes)
      assert.equal(isFlapping(changes), changes === 4)
    })

  it('is forgotten after ten minutes', () => {
    const history = follow(['up', 'down', 'up', 'down', 'up'])
    const last = history.changesMs.at(-1) ?? assert.fail()
    assert.equal(withState(history, 'up', FLAP_WINDOW_MS).changesMs.length, 4)
    assert.equal(withState(history, 'up', last + FLAP_WINDOW_MS).changesMs.length, 0)
  })

  it('has as many changes as neighbours that differ, and none that is older than the window', () => {
    const states = fc.array(fc.constantFrom<State>('up', 'down', 'connecting'), { maxLength: 200 })
    fc.assert(
      fc.property(states, fc.integer({ min: 100, max: 20_000 }), (list, stepMs) => {
        const settled = list
          .map((state, index) => ({ state, ms: index * stepMs }))
          .filter(({ state }) => state !== 'connecting')
        const nowMs = (list.length - 1) * stepMs
        const expected = settled
          .filter(({ state }, index) => index > 0 && settled[index - 1]?.state !== state)
          .map(({ ms }) => ms)
          .filter((ms) => nowMs - ms < FLAP_WINDOW_MS)
        assert.deepEqual(follow(list, stepMs).changesMs, expected)
      })
    )
  })
})
