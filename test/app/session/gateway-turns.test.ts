import assert from 'node:assert/strict'
import { GatewayTurns } from '../../../src/app/session/gateway-turns.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'

const WEST = 'west' as ClusterName

/** Looks once a second for `seconds`, and returns the turn after each look. */
function looks(
  turns: GatewayTurns,
  {
    from = 0,
    seconds,
    answers = false,
    order = 'a,b',
    gateways = 2
  }: {
    readonly from?: number
    readonly seconds: number
    readonly answers?: boolean
    readonly order?: string
    readonly gateways?: number
  }
): number[] {
  return Array.from({ length: seconds }, (_, second) => {
    turns.update({ nowMs: (from + second) * 1000, clusters: new Map([[WEST, answers]]), order, gateways })
    return turns.of(WEST)
  })
}

describe('the turns of a node', () => {
  it('go on to the next gateway while a cluster does not answer, and stay while it does', () => {
    const turns = new GatewayTurns()
    assert.deepEqual(looks(turns, { seconds: 7 }), [0, 0, 0, 1, 1, 1, 2])
    assert.deepEqual(looks(turns, { from: 7, seconds: 30, answers: true }).at(-1), 2)
    assert.deepEqual(looks(turns, { from: 37, seconds: 3 }), [2, 2, 2], 'a pause is no reason yet')
  })

  it('slow down while nothing helps: a cluster that is gone costs little', () => {
    const turns = new GatewayTurns()
    const day = looks(turns, { seconds: 86_400 }).at(-1) ?? 0
    assert.ok(day < 86_400 / 60 + 20, String(day))
    assert.ok(day > 86_400 / 60 - 20, String(day))
  })

  it('begin again when the order of the gateways changes', () => {
    const turns = new GatewayTurns()
    looks(turns, { seconds: 5 })
    assert.equal(turns.of(WEST), 1)
    looks(turns, { from: 5, seconds: 1, order: 'b,a' })
    assert.equal(turns.of(WEST), 0)
  })

  it('never go on where there is one gateway, and forget clusters that left', () => {
    const turns = new GatewayTurns()
    assert.equal(looks(turns, { seconds: 60, gateways: 1 }).at(-1), 0)
    looks(turns, { from: 60, seconds: 9, order: 'a,b' })
    turns.update({ nowMs: 99_000, clusters: new Map(), order: 'a,b', gateways: 2 })
    assert.equal(turns.of(WEST), 0)
  })
})
