import assert from 'node:assert/strict'
import {
  isPunched,
  nextCandidate,
  NO_CANDIDATES,
  type CandidateFacts,
  type Candidates
} from '../../../src/core/host/path-candidates.ts'
import type { PeerAddress } from '../../../src/core/model/values.ts'

const [OUTER, INNER, OTHER] = ['198.51.100.1:51820', '192.168.1.2:51820', '10.9.0.1:51820'] as PeerAddress[]
const FACTS: CandidateFacts = {
  nowMs: 0,
  isCarried: false,
  isRelayed: false,
  sinceMs: 0,
  lastAnswerMs: undefined,
  unanswered: 9,
  addresses: [OUTER, INNER, OTHER] as PeerAddress[],
  own: [],
  endpoint: OUTER
}

/** Looks once a second, and returns what was sent to: the candidate or the punch of each second. */
function watch(seconds: number, more: Partial<CandidateFacts>, from: Candidates = NO_CANDIDATES) {
  let state = from
  let endpoint = more.endpoint ?? FACTS.endpoint
  const sentTo: (PeerAddress | undefined)[] = []
  for (let second = 0; second < seconds; second++) {
    state = nextCandidate(state, { ...FACTS, ...more, endpoint, nowMs: second * 1000 })
    if (!(more.isCarried ?? false)) endpoint = state.address ?? endpoint
    sentTo.push((more.isCarried ?? false) ? state.punch?.address : endpoint)
  }
  return { state, sentTo }
}

describe('the address at which a tunnel is tried', () => {
  it('is the next of the list when nothing is answered for as long as two handshakes take, round and round', () => {
    const { sentTo } = watch(24, {})
    assert.deepEqual([...new Set(sentTo)], [OUTER, INNER, OTHER])
    assert.equal(sentTo[5], OUTER)
    assert.equal(sentTo[6], INNER)
    assert.equal(sentTo[18], OUTER)
  })

  it('stays while it is answered, and for longer where it was answered before', () => {
    assert.deepEqual([...new Set(watch(60, { unanswered: 0 }).sentTo)], [OUTER])
    assert.deepEqual([...new Set(watch(15, { lastAnswerMs: 0 }).sentTo)], [OUTER])
    assert.equal(watch(16, { lastAnswerMs: 0 }).sentTo[15], INNER)
  })

  it('is the first again when the other end publishes others', () => {
    const { state } = watch(10, {})
    assert.equal(state.address, INNER)
    const next = nextCandidate(state, { ...FACTS, nowMs: 10_000, addresses: [OTHER] as PeerAddress[] })
    assert.equal(next.address, undefined)
  })

  it('over a relay is now and then the observed one, five times while both ends keep their addresses', () => {
    const relayed = { isCarried: true, isRelayed: true }
    const { state, sentTo } = watch(400, relayed)
    assert.deepEqual(
      sentTo.flatMap((address, second) => (address === undefined ? [] : [second])),
      [5, 20, 60, 120, 240].flatMap((start) => [start, start + 1, start + 2])
    )
    assert.deepEqual(
      watch(400, { ...relayed, own: [INNER] as PeerAddress[] }, state).sentTo.includes(OUTER),
      true
    )
    assert.deepEqual([...new Set(watch(400, { isCarried: true }).sentTo)], [undefined], 'over tcp')
    assert.deepEqual(
      [...new Set(watch(400, { ...relayed, addresses: [INNER] as PeerAddress[] }).sentTo)],
      [undefined]
    )
  })

  it('counts as answered when WireGuard still sends there after an answer', () => {
    const { state } = watch(6, { isCarried: true, isRelayed: true })
    const facts = { ...FACTS, isCarried: true, isRelayed: true, nowMs: 6000 }
    assert.equal(isPunched(state, { ...facts, lastAnswerMs: 5500 }), true)
    assert.equal(isPunched(state, { ...facts, lastAnswerMs: 4900 }), false)
    assert.equal(
      isPunched(state, { ...facts, lastAnswerMs: 5500, endpoint: '127.51.42.1:9' as PeerAddress }),
      false
    )
  })
})
