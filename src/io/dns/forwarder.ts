// Forwards names outside the mesh to the upstreams, over one socket for each query (ask.ts). The responder
// (upstream-watch.ts) has one forwarder for all clients; `lookup` of meshctl makes one for a single question.
// Invariants:
//  1. At most inFlightMax questions wait here, shared fairly among clients. Equal questions are sent upstream only once
//     at a time.
//  2. NOERROR and NXDOMAIN are final answers. After any other rcode, a timeout or an error the next upstream is asked;
//     the client gets the last of these replies only when every upstream has failed.
//  3. An upstream that forwards our questions back to us is not asked for LOOP_MS (loop-guard.ts).
import { randomInt } from 'node:crypto'
import { setMaxListeners } from 'node:events'

import { shareOf } from '../../core/model/client-share.ts'
import { ask } from './ask.ts'
import { LoopGuard } from './loop-guard.ts'
import { RCODE } from './query.ts'
import { Shares } from './shares.ts'
import {
  hasQuestion,
  isReplyTo,
  keyOf,
  rcodeOf,
  upstreamMessage,
  type UpstreamQuestion
} from './upstream-message.ts'
import { nameQuestion } from './names-on-wire.ts'
import { sameAddress, type SocketAddress } from './upstreams.ts'

interface ForwarderOptions {
  readonly upstreams: readonly SocketAddress[]
  /** Milliseconds to wait for one reply of one upstream, default 2,000. */
  readonly timeoutMs?: number
  /** The most questions that wait at one time, default 900. */
  readonly inFlightMax?: number
  /** Called with the upstreams that currently lead back here, whenever this list changes. */
  readonly onLoops?: (upstreams: readonly SocketAddress[]) => void
}

/** `message` has an id that this agent chose; `from` is the upstream that replied. */
interface UpstreamReply {
  readonly message: Uint8Array
  readonly from: SocketAddress
}

export interface Forwarder {
  /**
   * Asks the upstreams. Resolves with undefined when none replied in time, or when this client already uses its share
   * of the places. `client` is the client's address.
   */
  exchange(question: UpstreamQuestion, client: string): Promise<UpstreamReply | undefined>
  /** Returns true if this name is a loop probe that an upstream has sent back. */
  isProbe(name: string): boolean
  /**
   * Replaces the upstreams, in the order in which they are asked. What is known of an upstream that stays (failures,
   * loops) is kept; a question that waits at a removed upstream goes on.
   */
  setUpstreams(upstreams: readonly SocketAddress[]): void
  readonly upstreams: readonly SocketAddress[]
  /** The number of questions that wait for an answer. */
  readonly inFlight: number
  /** Ends all questions without a reply. Later questions get no reply either. */
  stop(): void
}

interface Upstream {
  readonly at: SocketAddress
  /** The upstream is asked last until then, because it failed. All times here are of performance.now(). */
  avoidedUntilMs: number
  /** The upstream is not asked until then, because it leads back here. */
  loopUntilMs: number
  /** Aborts the questions that wait for this upstream. */
  abandon: AbortController
}

/** One question under way at the upstreams, with all clients that asked it. */
interface Exchange {
  readonly key: string
  readonly waiting: Set<Waiting>
  /** Ends the question at the upstreams: it is aborted when no client waits any longer, and by `stop`. */
  readonly abandon: AbortController
  /** The upstream that is being asked now. If the same question comes again, loop-guard.ts checks this upstream. */
  current: Upstream | undefined
}

/** One client's wait for a reply; it takes one place. */
interface Waiting {
  /** The share that the place counts to (`shareOf`). */
  readonly client: string
  readonly exchange: Exchange
  readonly finish: (reply: UpstreamReply | undefined) => void
}

/** Returns a forwarder, which opens no socket before the first question. Never throws. */
export function createForwarder(options: ForwarderOptions): Forwarder {
  const { timeoutMs = UPSTREAM_TIMEOUT_MS, inFlightMax = IN_FLIGHT_MAX, onLoops = () => undefined } = options
  let upstreams: readonly Upstream[] = options.upstreams.map(newUpstream)
  let isStopped = false
  const exchanges = new Map<string, Exchange>()
  const places = new Shares<Waiting>({ placesMax: inFlightMax, onEvicted: (waiting) => leave(waiting) })
  const loops = new LoopGuard<Upstream>({
    nowMs: () => performance.now(),
    probe: (upstream, name) => {
      const probe = { question: nameQuestion(name), flags: RECURSION_DESIRED, edns: undefined }
      void askOne(upstream, { ...probe, transport: 'udp' }, [])
    },
    onLoop: (upstream) => {
      upstream.loopUntilMs = performance.now() + LOOP_MS
      upstream.abandon.abort()
      upstream.abandon = controller()
      tellLoops()
    }
  })

  return {
    get upstreams() {
      return upstreams.map(({ at }) => at)
    },
    get inFlight() {
      return places.size
    },
    isProbe: (name) => loops.isProbe(name),

    setUpstreams(next) {
      const before = upstreams
      upstreams = next.map((at) => before.find((known) => sameAddress(known.at, at)) ?? newUpstream(at))
      for (const upstream of before) if (!upstreams.includes(upstream)) loops.forget(upstream)
      tellLoops()
    },

    stop() {
      isStopped = true
      for (const exchange of exchanges.values()) exchange.abandon.abort()
    },

    exchange(question, client) {
      if (isStopped || upstreams.length === 0) return Promise.resolve(undefined)
      return new Promise((resolve) => {
        const key = keyOf(question)
        const known = exchanges.get(key)
        const exchange = known ?? { key, waiting: new Set(), abandon: controller(), current: undefined }
        const waiting: Waiting = { client: shareOf(client), exchange, finish: resolve }
        if (!places.take(waiting.client, waiting)) return resolve(undefined)
        exchange.waiting.add(waiting)
        if (known === undefined) {
          exchanges.set(key, exchange)
          void run(exchange, question)
        } else if (known.current !== undefined) loops.suspect(known.current)
      })
    }
  }

  /** Ends one wait without an answer, because another client has taken the place. */
  function leave(waiting: Waiting): void {
    const { exchange } = waiting
    exchange.waiting.delete(waiting)
    if (exchange.waiting.size === 0) {
      exchanges.delete(exchange.key)
      exchange.abandon.abort()
    }
    waiting.finish(undefined)
  }

  /** Gives the reply to all clients that wait for it. */
  async function run(exchange: Exchange, question: UpstreamQuestion): Promise<void> {
    const reply = await askAll(exchange, question)
    // `leave` may have removed this exchange, and a new one may have taken its key.
    if (exchanges.get(exchange.key) === exchange) exchanges.delete(exchange.key)
    for (const waiting of exchange.waiting) {
      places.release(waiting.client, waiting)
      waiting.finish(reply)
    }
    exchange.waiting.clear()
  }

  /** Asks one upstream after the other until one gives a final answer (invariant 2). */
  async function askAll(exchange: Exchange, question: UpstreamQuestion): Promise<UpstreamReply | undefined> {
    let last: UpstreamReply | undefined
    for (const upstream of inOrder()) {
      if (upstream.loopUntilMs > performance.now()) continue
      exchange.current = upstream
      const abandoned = upstream.abandon.signal
      const message = await askOne(upstream, question, [exchange.abandon.signal, abandoned])
      exchange.current = undefined
      if (exchange.abandon.signal.aborted) return undefined
      if (message !== undefined) {
        upstream.avoidedUntilMs = 0
        last = { message, from: upstream.at }
        if (isAnswer(message)) return last
      } else if (!abandoned.aborted) upstream.avoidedUntilMs = performance.now() + AVOID_MS
    }
    return last
  }

  /** Asks one upstream. If it does not know EDNS, the question is sent again without EDNS (RFC 6891, 7). */
  async function askOne(
    upstream: Upstream,
    question: UpstreamQuestion,
    signals: readonly AbortSignal[]
  ): Promise<Uint8Array | undefined> {
    const once = (plain: boolean): Promise<Uint8Array | undefined> => {
      const id = randomInt(0x10000)
      return ask({
        upstream: upstream.at,
        message: upstreamMessage(question, id, { plain }),
        transport: question.transport,
        isReply: (reply) => isReplyTo(reply, { id, question: question.question }),
        timeoutMs,
        signals
      })
    }
    const reply = await once(false)
    if (reply === undefined || question.edns === undefined || !EDNS_UNKNOWN.has(rcodeOf(reply))) return reply
    return (await once(true)) ?? reply
  }

  /** Returns the upstreams in the configured order, with those that failed recently at the end. */
  function inOrder(): readonly Upstream[] {
    const nowMs = performance.now()
    const isAvoided = ({ avoidedUntilMs }: Upstream): boolean => avoidedUntilMs > nowMs
    return [...upstreams.filter((u) => !isAvoided(u)), ...upstreams.filter(isAvoided)]
  }

  function tellLoops(): void {
    const nowMs = performance.now()
    onLoops(upstreams.filter(({ loopUntilMs }) => loopUntilMs > nowMs).map(({ at }) => at))
  }
}

/** Says whether a reply is final: NOERROR or NXDOMAIN, with the question repeated (invariant 2). */
function isAnswer(message: Uint8Array): boolean {
  const rcode = rcodeOf(message)
  return hasQuestion(message) && (rcode === RCODE.NOERROR || rcode === RCODE.NXDOMAIN)
}

function newUpstream(at: SocketAddress): Upstream {
  return { at, avoidedUntilMs: 0, loopUntilMs: 0, abandon: controller() }
}

/** Each waiting question adds one listener, which may be more than the number at which Node warns. */
function controller(): AbortController {
  const abandon = new AbortController()
  setMaxListeners(0, abandon.signal)
  return abandon
}

const RECURSION_DESIRED = 0x0100
/** The rcodes with which servers without EDNS refuse a query that has an OPT record (RFC 6891, 7). */
const EDNS_UNKNOWN: ReadonlySet<number> = new Set([RCODE.FORMERR, RCODE.NOTIMP])
/**
 * Below the 5 s after which resolvers ask again (resolv.conf(5), `timeout`), so that a second upstream can still
 * answer.
 */
const UPSTREAM_TIMEOUT_MS = 2000
/**
 * Each question holds a socket and a timer. 900 allow about 450 queries/s to upstreams that never answer, and stay
 * below ulimit 1024.
 */
const IN_FLIGHT_MAX = 900
/**
 * Milliseconds for which an upstream that failed is asked last. So a first upstream that does not answer delays one
 * client in 10 s by its timeout of 2 s, and not every client.
 */
const AVOID_MS = 10_000
/** After this time the upstream is asked again; a loop that still exists is detected within one round trip. */
const LOOP_MS = 30_000
