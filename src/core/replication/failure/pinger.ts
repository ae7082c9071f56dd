// Pings the neighbours and asks the caller to abort the connection to one that is silent for `silenceMs`. A ping
// carries the digest of all heads, by which two neighbours find out that one of them has missed a head.
import type { Origin } from '../../model/values.ts'
import { encodeFrame } from '../../wire/messages.ts'
import type { ProtocolLimits } from '../limits.ts'
import type { Neighbour } from '../neighbour.ts'
import type { Outbox } from '../outbox.ts'

interface PingerOptions {
  readonly limits: Pick<ProtocolLimits, 'headsIntervalMs' | 'silenceMs'>
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
  readonly outbox: Outbox
}

/** Sends the pings of one protocol instance, and gives the effect `abort` for neighbours that are silent. */
export class Pinger {
  readonly #options: PingerOptions

  constructor(options: PingerOptions) {
    this.#options = options
  }

  /** Pings each neighbour at its own time within the interval, so that many neighbours are no burst. */
  tick(digest: number, nowMs: number): void {
    const { limits, neighbours, outbox } = this.#options
    const { headsIntervalMs, silenceMs } = limits
    for (const neighbour of neighbours.values()) {
      if (neighbour.pingDueMs > nowMs) continue
      neighbour.pingDueMs = Math.max(neighbour.pingDueMs + headsIntervalMs, nowMs)
      const { pingedMs, pingSentMs } = neighbour
      const state = {
        neighbours: neighbours.size,
        sincePingedMs: nowMs - pingedMs,
        sincePingMs: nowMs - pingSentMs
      }
      if (!isPingSpared(state, headsIntervalMs)) {
        const ping = { id: neighbour.ping(nowMs), digest }
        outbox.send(neighbour.origin, encodeFrame({ ping }))
      }
      if (neighbour.givenUp || neighbour.silentMs(nowMs) < silenceMs) continue
      neighbour.givenUp = true
      outbox.add({ kind: 'abort', peer: neighbour.origin, reason: `silent for ${silenceMs} ms` })
    }
  }
}

/** What decides whether a ping is sent. */
interface PingState {
  /** The number of all neighbours. */
  readonly neighbours: number
  /** Milliseconds since the neighbour last pinged this agent. */
  readonly sincePingedMs: number
  /** Milliseconds since this agent last pinged the neighbour. */
  readonly sincePingMs: number
}

/**
 * With very many neighbours, one that pings this agent shows that it is alive: a ping to it would only bring the digest
 * sooner.
 */
export function isPingSpared(state: PingState, headsIntervalMs: number): boolean {
  return (
    state.neighbours > PINGED_ALWAYS_MAX &&
    state.sincePingedMs < 1.5 * headsIntervalMs &&
    state.sincePingMs < SPARED_INTERVALS * headsIntervalMs
  )
}

// More than the overlay chooses: only an agent that many others dial has more neighbours.
const PINGED_ALWAYS_MAX = 32
// A neighbour goes without this agent's digest for at most this many intervals.
const SPARED_INTERVALS = 4
