// Who speaks for a site with several gateways and without a Lease: each decides by itself, and all come to one.
import assert from 'node:assert/strict'
import { SiteSpeaker } from '../../../src/app/session/site-speaker.ts'
import { SPEAKER_TERM_MIN, STANDBY_TERM } from '../../../src/app/session/speaker.ts'
import type { Origin } from '../../../src/core/model/values.ts'

const [a, b, c] = ['a', 'b', 'c'] as unknown as [Origin, Origin, Origin]

interface Known {
  readonly term?: number
  readonly gone?: boolean
  readonly unheard?: boolean
}

/** One gateway, and what it knows of all. */
function gateway(self: Origin, { isFurther = false } = {}) {
  const speaker = new SiteSpeaker(0)
  return {
    /** Its term while it speaks; else 'waits'. */
    at(nowMs: number, known: Readonly<Record<string, Known>>): number | 'waits' {
      const gateways = Object.entries(known).map(([origin, { term, gone = false, unheard = false }]) => ({
        origin: origin as Origin,
        term,
        isConnected: origin === self || !(gone || unheard),
        isSuspected: gone
      }))
      const leadership = speaker.decide({ self, gateways, isFurther }, nowMs)
      return leadership.leader ? leadership.term : 'waits'
    }
  }
}

describe('the speaker of a site', () => {
  it('is its only gateway, at once, and after a restart with its term', () => {
    assert.equal(gateway(a).at(0, {}), SPEAKER_TERM_MIN)
    assert.equal(gateway(a).at(0, { a: { term: 7 } }), 7)
  })

  it('stays when a gateway joins, whatever its PeerId, and the new one waits until it has heard of it', () => {
    const first = gateway(b)
    assert.equal(first.at(0, {}), 2)
    assert.equal(first.at(1000, { b: { term: 2 }, a: {} }), 2)
    assert.equal(first.at(20_000, { b: { term: 2 }, a: { term: STANDBY_TERM } }), 2)
    const joins = gateway(a, { isFurther: true })
    assert.equal(joins.at(0, {}), 'waits')
    assert.equal(joins.at(30_000, { a: {}, b: { term: 2 } }), 'waits')
    assert.equal(joins.at(90_000, { a: { term: STANDBY_TERM }, b: { term: 2 } }), 'waits')
    // The gateway that made its token is gone for good, and no member knows of it.
    assert.equal(gateway(a, { isFurther: true }).at(60_000, {}), 2)
  })

  it('is the lowest living PeerId when the one before has been gone for as long as a Lease lasts', () => {
    const [second, third] = [gateway(b), gateway(c)]
    const known = (gone: boolean) => ({ a: { term: 4, gone }, b: { term: STANDBY_TERM }, c: {} })
    for (const each of [second, third]) {
      assert.equal(each.at(0, known(false)), 'waits')
      assert.equal(each.at(14_000, known(true)), 'waits')
      each.at(14_500, known(false))
    }
    assert.equal(second.at(28_000, known(true)), 'waits')
    assert.equal(second.at(29_500, known(true)), 5)
    assert.equal(third.at(29_500, known(true)), 'waits')
    assert.equal(third.at(30_000, { ...known(true), b: { term: 5 } }), 'waits')
  })

  it('is the one that took over when the other comes back, which steps back', () => {
    const [old, now] = [gateway(a), gateway(b)]
    assert.equal(old.at(0, { a: { term: 4 } }), 4, 'it has not heard yet')
    assert.equal(old.at(1000, { a: { term: 4 }, b: { term: 5 } }), 'waits')
    assert.equal(now.at(0, { a: { term: 4 }, b: { term: 5 } }), 5)
    assert.equal(now.at(1000, { a: { term: 4 }, b: { term: 5 } }), 5)
  })

  it('is one again after a partition in which both spoke, also with one term', () => {
    const [one, two] = [gateway(a), gateway(b)]
    assert.equal(one.at(0, { a: { term: 3 } }), 3)
    assert.equal(two.at(0, { b: { term: 3 } }), 3)
    const healed = { a: { term: 3 }, b: { term: 3 } }
    assert.equal(one.at(1000, healed), 3)
    assert.equal(two.at(1000, healed), 'waits')
  })

  it('takes a higher term when a dead gateway has one that counts before its own', () => {
    const one = gateway(b)
    assert.equal(one.at(0, {}), 2)
    assert.equal(one.at(70_000, { b: { term: 2 }, a: { term: 2, gone: true, unheard: true } }), 3)
  })

  it('that was dead before this agent started is believed to live for a minute', () => {
    const one = gateway(b)
    const known = { a: { term: 4, unheard: true }, b: { term: STANDBY_TERM } }
    assert.equal(one.at(0, known), 'waits')
    assert.equal(one.at(59_000, known), 'waits')
    assert.equal(one.at(60_000, known), 5)
  })

  it('are never two for long, whoever hears of whom in which order', () => {
    // Both know of each other from the same moment on: after one second exactly one speaks.
    for (const terms of [
      [2, 2],
      [2, 3],
      [5, 2],
      [1, 1],
      [undefined, undefined]
    ] as const) {
      const [one, two] = [gateway(a), gateway(b)]
      let known: Record<string, Known> = {
        a: terms[0] === undefined ? {} : { term: terms[0] },
        b: terms[1] === undefined ? {} : { term: terms[1] }
      }
      let said: (number | 'waits')[] = []
      for (let ms = 0; ms < 5000; ms += 1000) {
        said = [one.at(ms, known), two.at(ms, known)]
        const [first, second] = said
        known = {
          a: typeof first === 'number' ? { term: first } : (known['a'] ?? {}),
          b: typeof second === 'number' ? { term: second } : (known['b'] ?? {})
        }
      }
      assert.equal(said.filter((each) => each !== 'waits').length, 1, terms.join())
    }
  })
})
