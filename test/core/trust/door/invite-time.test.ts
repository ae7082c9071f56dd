import assert from 'node:assert/strict'
import fc from 'fast-check'
import { judgeInviteTime } from '../../../../src/core/trust/door/invite-time.ts'
import { keyId, type KeyId } from '../../../../src/core/trust/set/ids.ts'
import { clusterName, DAY, HOUR, NOW } from '../fixtures.ts'

const invite = { cluster: clusterName('north'), notBefore: NOW, notAfter: NOW + DAY }
const YEAR = 365 * DAY

/** One list of skews for each neighbour cluster. */
function clusters(...skews: readonly (readonly number[])[]): ReadonlyMap<KeyId, readonly number[]> {
  return new Map(skews.map((list, at) => [keyId(Uint8Array.of(at)), list]))
}

function judge(ownNow: number, skews = clusters(), peerSeconds = ownNow) {
  const verdict = judgeInviteTime(invite, { ownNow, neighbourSkews: skews, peerSeconds })
  return verdict.kind === 'valid' ? verdict.kind : verdict.code
}

describe('the date of an invite', () => {
  const right = clusters([0], [1], [-1])
  const table: readonly (readonly [string, string, number, ReturnType<typeof clusters>])[] = [
    ['within its dates', 'valid', NOW + HOUR, right],
    ['in the second of its issue', 'valid', NOW, right],
    ['by a clock that is five minutes behind', 'valid', NOW - 300, right],
    ['five minutes and a second too early', 'notYet', NOW - 301, right],
    ['five minutes after its end', 'valid', NOW + DAY + 300, right],
    ['later than that', 'expired', NOW + DAY + 301, right],
    ['by a clock that three clusters disagree with', 'clock', NOW + HOUR, clusters([YEAR], [YEAR], [YEAR])],
    ['by a clock that is an hour from the median', 'valid', NOW + HOUR, clusters([3600], [3600], [3600])],
    ['by a clock that is a second more from it', 'clock', NOW + HOUR, clusters([-3601], [-3601], [-3601])],
    ['by a clock that two clusters disagree with', 'valid', NOW + HOUR, clusters([YEAR], [YEAR])],
    ['by a clock that one of three clusters disagrees with', 'valid', NOW + HOUR, clusters([YEAR], [0], [2])],
    ['where two of four disagree, and in doubt', 'clock', NOW + HOUR, clusters([YEAR], [YEAR], [0], [2])],
    ['where many agents of one cluster disagree', 'valid', NOW, clusters(Array(50).fill(YEAR), [0], [2])],
    [
      'where one agent of each of three clusters lies',
      'valid',
      NOW,
      clusters([0, YEAR, 1], [YEAR, 0, 0], [2, 2, YEAR])
    ],
    ['where a cluster has no agent', 'valid', NOW, clusters([], [YEAR], [YEAR])],
    ['long over, by its own clock alone', 'expired', NOW + YEAR, clusters()],
    [
      'long over, where the clock cannot be relied on',
      'clock',
      NOW + YEAR,
      clusters([-YEAR], [-YEAR], [-YEAR])
    ]
  ]
  for (const [what, expected, ownNow, skews] of table)
    it(`is ${expected}: ${what}`, () => assert.equal(judge(ownNow, skews), expected))

  it('is judged without the clock of the newcomer, which the text names when it is wrong', () => {
    for (const peerSeconds of [0, NOW, NOW + YEAR, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER])
      assert.equal(judge(NOW, right, peerSeconds), 'valid')
    const text = (peerSeconds: number) => {
      const verdict = judgeInviteTime(invite, { ownNow: NOW + 2 * DAY, neighbourSkews: right, peerSeconds })
      return verdict.kind === 'reject' ? verdict.detail : ''
    }
    assert.match(
      text(NOW),
      /^the invite of north expired 24 hours ago, at 2026-11-24T00:00:00Z; the sponsor's clock says 2026-11-25T00:00:00Z, and the newcomer's is 2 days behind; ask for a new token$/
    )
    assert.doesNotMatch(text(NOW + 2 * DAY + 10), /newcomer/)
  })

  it('names how far the sponsor is off, and what to do', () => {
    const verdict = judgeInviteTime(invite, {
      ownNow: NOW,
      neighbourSkews: clusters([YEAR], [YEAR], [YEAR]),
      peerSeconds: NOW
    })
    assert.match(
      verdict.kind === 'reject' ? verdict.detail : '',
      /^the sponsor's clock \(2026-11-23T00:00:00Z\) is 365 days behind those of 3 neighbour clusters; set the clock of the sponsor/
    )
  })

  it('never throws, and never lets an expired invite in, whatever neighbours and newcomer say', () => {
    const any = fc.oneof(fc.integer({ min: -YEAR, max: YEAR }), fc.maxSafeInteger(), fc.constant(NaN))
    fc.assert(
      fc.property(
        fc.array(fc.array(any, { maxLength: 5 }), { maxLength: 8 }),
        any,
        any,
        (skews, own, peer) => {
          const found = judge(own, clusters(...skews), peer)
          if (found === 'valid' && !Number.isNaN(own))
            assert.ok(own <= invite.notAfter + 300 && own >= invite.notBefore - 300)
        }
      )
    )
  })

  it('with an honest majority of clusters never admits by a clock that is more than an hour off', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.maxSafeInteger(), { maxLength: 4 }),
        fc.integer({ min: -YEAR, max: YEAR }),
        (more, lies, off) => {
          // The sponsor's clock is `off` seconds ahead of the true time, so honest neighbours are that much behind it.
          const honest = Array.from({ length: lies.length + more }, (_, at) => [-off + (at % 3)])
          if (honest.length < 3) return
          const found = judge(NOW + HOUR + off, clusters(...honest, ...lies.map((lie) => [lie])))
          if (Math.abs(off) > 3602) assert.equal(found, 'clock')
        }
      )
    )
  })
})
