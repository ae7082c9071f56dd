import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { bid, observe, type LeaseSpec, type Observed } from '../../../src/core/kube/election.ts'

const times = { leaseDurationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2000 }
const self = { holder: 'me', times, termFloor: 0 }
const lease = (holder: string, term: number, version = '1') => ({
  version,
  spec: { holder, durationMs: 15_000, term }
})

describe('an election', () => {
  it('makes the Lease that is missing', () => {
    assert.deepEqual(bid(undefined, { ...self, termFloor: 7 }, 0), {
      kind: 'write',
      version: undefined,
      spec: { holder: 'me', durationMs: 15_000, term: 7 }
    })
  })

  it('waits for another’s Lease from when it was seen, whatever is written in it', () => {
    const seen = observe(undefined, lease('other', 3), 1000)
    assert.equal(bid(seen, self, 15_999).kind, 'wait')
    assert.deepEqual(bid(seen, self, 16_000), {
      kind: 'write',
      version: '1',
      spec: { holder: 'me', durationMs: 15_000, term: 4 }
    })
    const renewed = observe(seen, lease('other', 3, '2'), 16_000)
    assert.equal(bid(renewed, self, 30_999).kind, 'wait')
    assert.equal(observe(seen, lease('other', 3, '1'), 9999).sinceMs, 1000)
  })

  it('takes a Lease that was given back at once, with the next term', () => {
    const bidding = bid(observe(undefined, lease('', 3), 0), self, 0)
    assert.equal(bidding.kind === 'write' && bidding.spec.term, 4)
  })

  it('keeps its own term over a restart, and never goes below the floor', () => {
    const own = observe(undefined, lease('me', 3), 0)
    const again = bid(own, self, 0)
    assert.equal(again.kind === 'write' && again.spec.term, 3)
    const floored = bid(own, { ...self, termFloor: 9 }, 0)
    assert.equal(floored.kind === 'write' && floored.spec.term, 9)
  })

  it('has one leader at most, whatever the clocks, delays and lost requests', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ who: fc.nat(2), passMs: fc.nat(4000), lost: fc.boolean() }), { maxLength: 200 }),
        fc.array(fc.integer({ min: -1_000_000, max: 1_000_000 }), { minLength: 3, maxLength: 3 }),
        (steps, skews) => {
          let stored: { readonly version: string; readonly spec: LeaseSpec } | undefined
          let version = 0
          let trueMs = 0
          const seen: (Observed | undefined)[] = [undefined, undefined, undefined]
          const untilMs = [0, 0, 0]
          const terms: number[] = []
          for (const { who, passMs, lost } of steps) {
            trueMs += passMs
            const nowMs = trueMs + (skews[who] ?? 0)
            seen[who] = stored && observe(seen[who], stored, nowMs)
            const decision = bid(seen[who], { ...self, holder: `h${who}` }, nowMs)
            if (decision.kind === 'wait' || decision.version !== stored?.version) continue
            version += 1
            stored = { version: String(version), spec: decision.spec }
            // Written, but the answer was lost: the writer does not know that it leads.
            if (lost) continue
            untilMs[who] = trueMs + times.renewDeadlineMs
            terms.push(decision.spec.term)
            assert.ok(untilMs.filter((each) => each > trueMs).length <= 1, 'two lead')
          }
          assert.deepEqual(
            terms,
            terms.toSorted((a, b) => a - b)
          )
        }
      ),
      { numRuns: 300 }
    )
  })
})
