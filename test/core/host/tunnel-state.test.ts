import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  isDown,
  isSilent,
  silence,
  tunnelState,
  type TunnelFacts
} from '../../../src/core/host/tunnel-state.ts'

const start = 1_000_000
const at = (seconds: number) => start + seconds * 1000
const facts = (more: Partial<TunnelFacts>): TunnelFacts => ({
  nowMs: start,
  firstSeenMs: start,
  isProbed: true,
  lastReplyMs: undefined,
  lastRefusalMs: undefined,
  unanswered: 20,
  lastHandshakeMs: undefined,
  lastReceivedMs: undefined,
  keepaliveSeconds: 25,
  ...more
})

interface Row {
  /** Seconds since the tunnel was first seen. */
  readonly now: number
  readonly reply?: number
  readonly refusal?: number
  readonly unanswered?: number
  readonly handshake?: number
  readonly received?: number
  readonly is: 'up' | 'connecting' | 'down'
}

function check(rows: Readonly<Record<string, Row>>, base: Partial<TunnelFacts> = {}): void {
  for (const [title, row] of Object.entries(rows)) {
    it(`${title}: ${row.is}`, () => {
      const time = (seconds: number | undefined) => (seconds === undefined ? undefined : at(seconds))
      const result = tunnelState(
        facts({
          ...base,
          nowMs: at(row.now),
          lastReplyMs: time(row.reply),
          lastRefusalMs: time(row.refusal),
          unanswered: row.unanswered ?? 20,
          lastHandshakeMs: time(row.handshake),
          lastReceivedMs: time(row.received)
        })
      )
      assert.equal(result.state, row.is)
      if (row.is !== 'up') assert.ok(result.reason)
    })
  }
}

describe('a tunnel whose peer answers probes', () => {
  check({
    'nothing yet': { now: 0, is: 'connecting' },
    'nothing in the time to connect': { now: 15, is: 'connecting' },
    'nothing after the time to connect': { now: 16, is: 'down' },
    'a handshake alone, and no answer yet': { now: 10, handshake: 9, received: 9, is: 'connecting' },
    'a fresh handshake of before, and bytes that grow, but never an answer': {
      now: 60,
      handshake: 50,
      received: 59,
      is: 'connecting'
    },
    'one direction dropped: bytes grow, and no handshake comes to an end': {
      now: 60,
      received: 59,
      is: 'down'
    },
    'one direction dropped: bytes grow, and the handshake of before is old': {
      now: 300,
      handshake: 0,
      received: 299,
      is: 'down'
    },
    'a handshake of before, and nothing comes in': { now: 60, handshake: 50, is: 'down' },
    'answered just now': { now: 20, reply: 20, unanswered: 0, is: 'up' },
    'answered 5 s ago, many lost since': { now: 25, reply: 20, is: 'up' },
    'answered 6 s ago, many lost since': { now: 26, reply: 20, is: 'down' },
    'answered long ago, bytes that grow, a fresh handshake': {
      now: 60,
      reply: 20,
      received: 60,
      handshake: 59,
      is: 'down'
    },
    'answered a minute ago, and this agent has not run since': {
      now: 80,
      reply: 20,
      unanswered: 1,
      is: 'up'
    },
    'no agent there, its kernel refuses': { now: 60, reply: 20, refusal: 59, unanswered: 0, is: 'up' },
    'never an agent there, its kernel refuses': { now: 60, refusal: 59, unanswered: 0, is: 'up' },
    'its kernel refuses no more': { now: 66, reply: 20, refusal: 59, is: 'down' }
  })

  it('says so where the agent at the other end does not answer', () => {
    const dead = facts({ nowMs: at(60), lastReplyMs: at(20), lastRefusalMs: at(59), unanswered: 0 })
    assert.match(tunnelState(dead).reason ?? '', /but its agent does not/)
    assert.equal(tunnelState({ ...dead, lastReplyMs: at(60) }).reason, undefined)
  })
})

describe('a tunnel whose peer answers no probes', () => {
  check(
    {
      'nothing yet': { now: 15, is: 'connecting' },
      'nothing after the time to connect': { now: 16, is: 'down' },
      'a handshake': { now: 16, handshake: 15, is: 'up' },
      'a handshake within the life of a session and a keepalive': { now: 205, handshake: 0, is: 'up' },
      'a handshake older than that': { now: 206, handshake: 0, received: 206, is: 'down' }
    },
    { isProbed: false }
  )
  check(
    { 'without keepalives an idle one is not called down': { now: 1000, handshake: 1, is: 'connecting' } },
    {
      isProbed: false,
      keepaliveSeconds: 0
    }
  )

  it('says by what it is judged', () => {
    const state = tunnelState(facts({ isProbed: false, lastHandshakeMs: start }))
    assert.match(state.reason ?? '', /answers no probes/)
  })
})

describe('the judgement of a tunnel', () => {
  const time = fc.option(fc.integer({ min: 0, max: 400 }), { nil: undefined })
  type World = typeof any extends fc.Arbitrary<infer T> ? T : never
  const any = fc.record({
    now: fc.integer({ min: 0, max: 400 }),
    isProbed: fc.boolean(),
    reply: time,
    refusal: time,
    handshake: time,
    received: time,
    unanswered: fc.nat(30)
  })
  const factsOf = ({ now, reply, refusal, handshake, received, ...rest }: World): TunnelFacts => {
    const past = (seconds: number | undefined) =>
      seconds === undefined || seconds > now ? undefined : at(seconds)
    return facts({
      ...rest,
      nowMs: at(now),
      lastReplyMs: past(reply),
      lastRefusalMs: past(refusal),
      lastHandshakeMs: past(handshake),
      lastReceivedMs: past(received)
    })
  }

  it('is never up on received bytes or a handshake alone, where probes are answered', () => {
    fc.assert(
      fc.property(any, (world) => {
        const never = factsOf({ ...world, isProbed: true })
        const state = tunnelState({ ...never, lastReplyMs: undefined, lastRefusalMs: undefined })
        assert.notEqual(state.state, 'up')
      })
    )
  })

  it('is up as soon as an answer comes, whatever was before', () => {
    fc.assert(
      fc.property(any, (world) => {
        const before = factsOf({ ...world, isProbed: true })
        assert.equal(tunnelState({ ...before, lastReplyMs: before.nowMs, unanswered: 0 }).state, 'up')
      })
    )
  })

  it('once down stays down until something comes in', () => {
    fc.assert(
      fc.property(any, fc.nat(100_000), (world, laterMs) => {
        const before = factsOf(world)
        if (tunnelState(before).state !== 'down') return
        assert.equal(tunnelState({ ...before, nowMs: before.nowMs + laterMs }).state, 'down')
      }),
      { numRuns: 1000 }
    )
  })

  it('gives a reason for each state but a plain up', () => {
    fc.assert(
      fc.property(any, (world) => {
        const { state, reason } = tunnelState(factsOf(world))
        assert.ok(state === 'up' || (reason !== undefined && reason !== ''))
      })
    )
  })
})

describe('a cluster', () => {
  for (const [states, down] of [
    [['down'], true],
    [['down', 'down'], true],
    [['down', 'up'], false],
    [['down', 'connecting'], false],
    [['connecting'], false],
    [['up'], false],
    [[], false]
  ] as const) {
    it(`with tunnels ${states.join(', ') || 'to no gateway'} is ${down ? 'down' : 'in use'}`, () =>
      assert.equal(isDown(states), down))
  }
})

describe('a gateway that falls silent', () => {
  const quiet = (more: Partial<TunnelFacts>): boolean =>
    silence(facts({ unanswered: 4, ...more }), undefined) !== undefined

  it('is silent after lost probes, long before its tunnel is down', () => {
    const silent = facts({ nowMs: at(20.8), lastReplyMs: at(20), unanswered: 4 })
    assert.equal(tunnelState(silent).state, 'up')
    assert.equal(silence(silent, undefined), silent.nowMs)
    assert.ok(!quiet({ nowMs: at(20.6), lastReplyMs: at(20) }), 'a late answer')
    assert.ok(!quiet({ nowMs: at(60), lastReplyMs: at(20), unanswered: 3 }), 'this agent did not run')
    assert.ok(!quiet({ nowMs: at(60), lastReplyMs: at(20), isProbed: false }), 'it is not probed')
    assert.ok(!quiet({ nowMs: at(60) }), 'it is connecting')
  })

  it('is not silent while the kernel of its host refuses probes', () => {
    assert.ok(!quiet({ nowMs: at(60), lastReplyMs: at(20), lastRefusalMs: at(58) }))
    assert.ok(quiet({ nowMs: at(61), lastReplyMs: at(20), lastRefusalMs: at(58) }))
    assert.ok(
      quiet({ nowMs: at(20.8), lastReplyMs: at(20), lastRefusalMs: at(19) }),
      'its agent had not started'
    )
  })

  it('still counts as silent for 3 s after it answers again', () => {
    const answers = facts({ nowMs: at(22), lastReplyMs: at(22), unanswered: 0 })
    assert.equal(silence(answers, at(21)), at(21))
    assert.deepEqual([isSilent(at(23.9), at(21)), isSilent(at(24), at(21))], [true, false])
    assert.equal(isSilent(at(60), undefined), false)
  })
})
