import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  isCarrierAddress,
  isTryDue,
  nextPath,
  startPath,
  tried,
  type PathFacts,
  type PathState
} from '../../../src/core/host/tunnel-path.ts'
import type { PeerAddress } from '../../../src/core/model/values.ts'

/** What carries packets at one second. */
interface Weather {
  readonly udp: boolean
  readonly tcp: boolean
  /** A control connection that is dead, and nobody knows it yet. */
  readonly isDead?: boolean
  /** This agent itself does not run. */
  readonly isStopped?: boolean
}

/** One tunnel whose other end answers by whatever carries packets; each step is one look, a second after the one before. */
class OneTunnel {
  state: PathState = startPath(0)
  nowMs = 0
  lastAnswerMs: number | undefined
  carrierHeardMs: number | undefined
  changes = 0
  tries = 0
  readonly hasAddress: boolean

  constructor({ hasAddress = true } = {}) {
    this.hasAddress = hasAddress
  }

  look({ udp, tcp, isDead = false, isStopped = false }: Weather): void {
    this.nowMs += 1000
    if (isStopped) return
    if (tcp) this.carrierHeardMs = this.nowMs
    else if (!isDead) this.carrierHeardMs = undefined
    const isWorking = this.state.isCarried ? tcp : udp
    if (isWorking) this.lastAnswerMs = this.nowMs
    const facts: PathFacts = {
      nowMs: this.nowMs,
      hasAddress: this.hasAddress,
      hasCarrier: tcp || isDead,
      carrierHeardMs: this.carrierHeardMs,
      relay: undefined,
      sendsTo: this.state.isCarried ? 'carrier' : 'peer',
      lastAnswerMs: this.lastAnswerMs,
      unanswered: isWorking ? 0 : 9,
      isProbed: true,
      keepaliveSeconds: 25
    }
    this.#become(nextPath(this.state, facts))
    if (!isTryDue(this.state, facts)) return
    this.tries++
    this.#become(tried(this.state, { nowMs: this.nowMs, isAnswered: udp }))
  }

  #become(state: PathState): void {
    if (state.isCarried !== this.state.isCarried) this.changes++
    this.state = state
  }
}

const weather = fc.record({ udp: fc.boolean(), tcp: fc.boolean(), isDead: fc.boolean() })
/** Stretches of weather, in seconds. */
const past = fc.array(fc.tuple(weather, fc.integer({ min: 1, max: 400 })), { maxLength: 12 })

function lived(stretches: readonly (readonly [Weather, number])[]): OneTunnel {
  const tunnel = new OneTunnel()
  for (const [each, seconds] of stretches) for (let look = 0; look < seconds; look++) tunnel.look(each)
  return tunnel
}

describe('the path of a tunnel', () => {
  it('is direct as long as direct answers, whatever else works', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 500 }), (tcp) => {
        const tunnel = new OneTunnel()
        for (const each of tcp) tunnel.look({ udp: true, tcp: each })
        assert.equal(tunnel.changes, 0)
      })
    )
  })

  it('stays direct where the other end is stopped or cut off, or this agent is stopped, and when UDP is back up to 5 s after TCP', () => {
    const both = { udp: true, tcp: true }
    const gone = fc.constantFrom<Weather>(
      { udp: false, tcp: false },
      { udp: false, tcp: false, isDead: true }, // a cut link, or a loss of power: the connection ends minutes later
      { udp: true, tcp: false, isDead: true }, // a stopped agent: its kernel refuses probes
      { ...both, isStopped: true }
    )
    const back = fc.constantFrom<readonly [Weather, number]>(
      [{ udp: true, tcp: false }, 5],
      [both, 0],
      ...[1, 2, 3, 4, 5].map((seconds) => [{ udp: false, tcp: true }, seconds] as const)
    )
    const event = fc.tuple(gone, fc.integer({ min: 5, max: 200 }), back, fc.integer({ min: 1, max: 100 }))
    fc.assert(
      fc.property(fc.array(event, { minLength: 1, maxLength: 8 }), (events) => {
        const tunnel = lived([
          [both, 10],
          ...events.flatMap(([weather, seconds, returning, more]) => [
            // The last frame comes up to 1 s after the last answer.
            [{ ...weather, tcp: true }, weather.isStopped === true ? 0 : 1] as const,
            [weather, seconds] as const,
            // When TCP comes back first, the connection was cut, too: a stopped agent still has UDP.
            weather.udp ? ([both, 1] as const) : returning,
            [both, more] as const
          ])
        ])
        assert.equal(tunnel.changes, 0, JSON.stringify(tunnel.state))
      })
    )
  })

  it('is carried less than 5 s after direct fell silent, and 8 s after a start without an answer', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 500 }), (seconds) => {
        const tunnel = lived([[{ udp: true, tcp: true }, seconds]])
        for (let look = 0; look < (seconds === 0 ? 8 : 4); look++) tunnel.look({ udp: false, tcp: true })
        assert.equal(tunnel.state.isCarried, true)
      })
    )
  })

  it('carries packets soon, whatever was before, once something carries packets and goes on to', () => {
    fc.assert(
      fc.property(
        past,
        weather.filter(({ udp, tcp }) => udp || tcp),
        (stretches, now) => {
          const tunnel = lived(stretches)
          for (let look = 0; look < 12; look++) tunnel.look(now)
          assert.ok(tunnel.nowMs - (tunnel.lastAnswerMs ?? -Infinity) < 1000, JSON.stringify(tunnel.state))
        }
      )
    )
  })

  it('is direct again at most 300 s after UDP works again, and stays so', () => {
    fc.assert(
      fc.property(past, (stretches) => {
        const tunnel = lived(stretches)
        for (let look = 0; look < 302; look++) tunnel.look({ udp: true, tcp: true })
        const { changes } = tunnel
        for (let look = 0; look < 302; look++) tunnel.look({ udp: true, tcp: true })
        assert.deepEqual([tunnel.state.isCarried, tunnel.changes], [false, changes])
      })
    )
  })

  it('tries direct ever less often while UDP stays blocked', () => {
    const tunnel = new OneTunnel()
    const hour = 3600
    for (let look = 0; look < hour; look++) tunnel.look({ udp: false, tcp: true })
    assert.deepEqual([tunnel.changes, tunnel.tries], [1, 15])
  })

  it('changes a bounded number of times while UDP comes and goes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 50 }), fc.integer({ min: 4, max: 50 }), (good, bad) => {
        const tunnel = new OneTunnel()
        for (let look = 0; look < 3600; look++) tunnel.look({ udp: look % (good + bad) < good, tcp: true })
        assert.ok(tunnel.changes <= 40, String(tunnel.changes))
      })
    )
  })

  it('never tries direct without an address, and follows the other end to direct and back', () => {
    const tunnel = new OneTunnel({ hasAddress: false })
    for (let look = 0; look < 1000; look++) tunnel.look({ udp: false, tcp: true })
    assert.deepEqual([tunnel.state.isCarried, tunnel.tries], [true, 0])
    const facts: PathFacts = {
      nowMs: tunnel.nowMs,
      hasAddress: false,
      hasCarrier: true,
      carrierHeardMs: tunnel.nowMs,
      relay: undefined,
      sendsTo: 'peer',
      lastAnswerMs: tunnel.nowMs,
      unanswered: 0,
      isProbed: true,
      keepaliveSeconds: 25
    }
    const seen = nextPath(tunnel.state, facts)
    assert.equal(seen.isCarried, true, 'one look proves nothing')
    const later = { ...facts, nowMs: facts.nowMs + 1000, lastAnswerMs: facts.nowMs + 1000 }
    const followed = nextPath(seen, later)
    assert.deepEqual([followed.isCarried, followed.cause], [false, 'followed'])
    const sendsTo = 'carrier' as const
    assert.equal(nextPath(followed, { ...later, sendsTo }).isCarried, false, 'a late datagram proves nothing')
    const back = nextPath(followed, {
      ...later,
      sendsTo,
      nowMs: later.nowMs + 3001,
      lastAnswerMs: later.nowMs + 3000
    })
    assert.deepEqual([back.isCarried, back.cause], [true, 'followed'])
  })

  it('leaves a peer without probes alone while it is idle without keepalives', () => {
    const heard: PathState = { ...startPath(0), carrierHeardMs: 3_599_000, carrierSinceMs: 0 }
    const facts: PathFacts = {
      nowMs: 3_600_000,
      hasAddress: true,
      hasCarrier: true,
      carrierHeardMs: 3_600_000,
      relay: undefined,
      sendsTo: 'peer',
      lastAnswerMs: 1000,
      unanswered: Infinity,
      isProbed: false,
      keepaliveSeconds: 0
    }
    assert.equal(nextPath(heard, facts).isCarried, false)
    assert.equal(nextPath(heard, { ...facts, keepaliveSeconds: 25 }).isCarried, true)
    assert.equal(nextPath(heard, { ...facts, lastAnswerMs: undefined }).isCarried, true)
  })

  it('tells its own sockets from the addresses of agents on this host', () => {
    assert.equal(isCarrierAddress('127.51.42.1:40000' as PeerAddress), true)
    for (const other of ['127.0.0.1:40000', '127.51.42.10:1', undefined])
      assert.equal(isCarrierAddress(other as PeerAddress | undefined), false)
  })
})
