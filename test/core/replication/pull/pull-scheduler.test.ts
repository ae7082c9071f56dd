import assert from 'node:assert/strict'
import { PROTOCOL_LIMITS } from '../../../../src/core/replication/limits.ts'
import type { Origin } from '../../../../src/core/model/values.ts'
import { PullScheduler } from '../../../../src/core/replication/pull/pull-scheduler.ts'
import { DEFAULT_LIMITS } from '../../../../src/io/p2p/limits.ts'

const PART = 10
const limits = { ...PROTOCOL_LIMITS, partBytes: PART, windowsBytesMax: 400, pullsMax: 8 }
const [peer, other] = ['peer', 'other'] as Origin[] as [Origin, Origin]

describe('pulls', () => {
  it('give an answer that is alone all that a neighbour may have on its way', () => {
    const pulls = new PullScheduler(limits)
    assert.deepEqual(startAll(pulls, ['a'], peer), [400])
  })

  it('give credit early: with a quarter taken, three are still on their way', () => {
    const pulls = new PullScheduler(limits)
    startAll(pulls, ['a'], peer)
    assert.equal(pulls.progress('a' as Origin, { peer, bytes: 99, nowMs: 1, isOld: false }), 0)
    assert.equal(pulls.progress('a' as Origin, { peer, bytes: 1, nowMs: 1, isOld: false }), 100)
  })

  it('give one that may be of an older version credit only when it cannot go on without', () => {
    const pulls = new PullScheduler(limits)
    startAll(pulls, ['a'], peer)
    assert.equal(pulls.progress('a' as Origin, { peer, bytes: 300, nowMs: 1, isOld: true }), 0)
    assert.equal(pulls.progress('a' as Origin, { peer, bytes: 150, nowMs: 1, isOld: true }), 450)
  })

  it('share the window of a neighbour evenly as answers come and go, and never have more on their way', () => {
    const pulls = new PullScheduler(limits)
    const flights = new Map([['a', startAll(pulls, ['a'], peer)[0] ?? 0]])
    for (const [index, windowBytes] of startAll(pulls, ['b', 'c', 'd'], peer).entries())
      flights.set('bcd'[index] ?? '', windowBytes)
    const take = (name: string) => {
      const bytes = Math.min(PART, flights.get(name) ?? 0)
      const creditBytes = pulls.progress(name as Origin, { peer, bytes, nowMs: 1, isOld: false })
      flights.set(name, (flights.get(name) ?? 0) - bytes + creditBytes)
    }
    for (let turn = 0; turn < 100; turn++) {
      for (const name of flights.keys()) take(name)
      assert.ok(sum(flights.values()) <= limits.windowsBytesMax + 3 * PART)
    }
    for (const [name, bytes] of flights) assert.ok(bytes >= 60 && bytes <= 100, `${name} has ${bytes}`)
    for (const name of ['b', 'c', 'd']) {
      pulls.settle(name as Origin)
      flights.delete(name)
    }
    for (let turn = 0; turn < 20; turn++) take('a')
    assert.ok((flights.get('a') ?? 0) >= 300)
  })

  it('leave every neighbour its share of the pulls, whatever another one takes', () => {
    const pulls = new PullScheduler(limits)
    const begun: Origin[] = []
    const names = Array.from({ length: 20 }, (_, index) => `o${index}`)
    for (const name of names) pulls.want(name as Origin, 0)
    const greedy = () => (pulls.isBusy(peer, [peer, other], 0) ? ('busy' as const) : { peer })
    pulls.start(0, greedy, () => begun.push(peer))
    assert.equal(begun.length, 4)
    pulls.wake()
    pulls.start(
      0,
      () => ({ peer: other }),
      () => begun.push(other)
    )
    assert.equal(begun.filter((each) => each === other).length, 4)
  })

  it('of a neighbour that failed three times lately are one at a time, while there are others', () => {
    const pulls = new PullScheduler(limits)
    startAll(pulls, ['a', 'b', 'c'], peer)
    for (const name of ['a', 'b', 'c']) pulls.fail(name as Origin, { peer, nowMs: 0, fromZero: false })
    for (const name of ['a', 'b', 'c']) pulls.fail(name as Origin, { peer, nowMs: 3000, fromZero: false })
    assert.ok(!pulls.isBusy(peer, [peer, other], 3000), 'failures at one time are one')
    for (const name of ['a', 'b', 'c']) {
      pulls.fail(name as Origin, { peer, nowMs: 6000, fromZero: false })
      pulls.settle(name as Origin)
    }
    startAll(pulls, ['d'], peer)
    assert.ok(pulls.isBusy(peer, [peer, other], 6000))
    assert.ok(!pulls.isBusy(peer, [peer], 6000))
    assert.ok(!pulls.isBusy(peer, [peer, other], 66_000), 'a failure is forgiven each minute')
  })

  it('that trickle fail as those without an answer do, and those that flow do not', () => {
    for (const [bytes, isKept] of [
      [1, false],
      [PART, true]
    ] as const) {
      const pulls = new PullScheduler({ ...limits, partBytes: 8 * PART, windowsBytesMax: 10_000 })
      startAll(pulls, ['a'], peer)
      for (let nowMs = 0; nowMs <= 12_000; nowMs += 1000) {
        pulls.progress('a' as Origin, { peer, bytes, nowMs, isOld: false })
        pulls.expire(nowMs)
      }
      assert.equal(pulls.isAsked('a' as Origin, peer), isKept)
    }
  })

  it('forget nothing that only waits for a neighbour that is busy', () => {
    const pulls = new PullScheduler(limits)
    pulls.want('a' as Origin, 0)
    pulls.start(
      0,
      () => 'busy',
      () => assert.fail('asked')
    )
    pulls.start(
      1,
      () => assert.fail('nothing has happened since'),
      () => undefined
    )
    pulls.wake()
    assert.equal(startAll(pulls, [], peer).length, 1)
  })

  it('have far less on their way than the send queue of a neighbour takes before it is reset', () => {
    const { windowsBytesMax, pullsMax, partBytes } = PROTOCOL_LIMITS
    assert.ok(windowsBytesMax + pullsMax * partBytes <= 0.75 * DEFAULT_LIMITS.queueBytesMax)
    assert.ok(DEFAULT_LIMITS.windowBytesMax >= windowsBytesMax)
  })
})

/** Wants these as well and starts all that may start, with one neighbour; answers their windows. */
function startAll(pulls: PullScheduler, origins: readonly string[], peer: Origin): number[] {
  const windows: number[] = []
  for (const origin of origins) pulls.want(origin as Origin, 0)
  pulls.start(
    0,
    () => ({ peer }),
    (_pull, _peer, windowBytes) => windows.push(windowBytes)
  )
  return windows
}

function sum(values: Iterable<number>): number {
  return [...values].reduce((total, value) => total + value, 0)
}
