// Decides when a neighbour is suspected. Silence counts only while this agent itself was running (Lifeguard: Dadgar,
// Phillips, Currey, 2018): after a stall all neighbours are excused, and when the event loop lags the timeout grows in
// proportion.
import type { Origin } from '../../model/values.ts'
import type { Neighbour } from '../neighbour.ts'
import { Suspicions, type Said, type SuspicionsOptions } from './suspicions.ts'
import type { FrameMessage } from '../../wire/messages.ts'

/**
 * The state of an agent as the mesh sees it. `suspected`: at least one agent has voted, and the suspect may still
 * refute it.
 */
export type Liveness = 'alive' | 'suspected' | 'dead'

interface FailureDetectorOptions extends SuspicionsOptions {
  /** Silence in milliseconds after which a neighbour is suspected. */
  readonly suspectMs: number
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
}

/** A frame for all neighbours but one. */
export interface Flood {
  readonly frame: Uint8Array
  readonly except: Origin | undefined
}

/**
 * The failure detector of one protocol instance. It decides on neighbours; suspicions.ts counts the votes of the mesh.
 */
export class FailureDetector {
  readonly #options: FailureDetectorOptions
  readonly #suspicions: Suspicions
  /** Neighbours whose connection ended, until they are suspected, and when they were last heard. */
  readonly #departed = new Map<Origin, number>()
  #tickMs: number | undefined
  /** Smoothed gap between ticks, in ticks. */
  #lag = 1

  constructor(options: FailureDetectorOptions) {
    this.#options = options
    this.#suspicions = new Suspicions(options)
  }

  /** Frames for a new neighbour: the votes against it, which it will refute, and this agent's latest beacon. */
  up(peer: Origin): readonly Uint8Array[] {
    const votes = this.#suspicions.votesOn(peer) // our own, too: others have heard it
    this.heard(peer)
    return [...votes, ...this.#suspicions.lastWord()]
  }

  /** A frame of this neighbour has arrived. */
  heard(peer: Origin): void {
    this.#departed.delete(peer)
    this.#suspicions.heard(peer)
  }

  /**
   * The connection to this neighbour has ended. It is suspected `suspectMs` after it was last heard, unless it is heard
   * again.
   */
  down({ origin, heardMs }: Neighbour): void {
    this.#departed.set(origin, heardMs)
    for (const oldest of this.#departed.keys()) {
      if (this.#departed.size <= this.#options.originsMax) break
      this.#departed.delete(oldest)
    }
  }

  /** This agent's votes on neighbours that have been silent for longer than `suspectMs`, as frames to flood. */
  tick(nowMs: number): readonly Flood[] {
    this.#heedLag(nowMs)
    const { neighbours } = this.#options
    const suspectMs = this.#options.suspectMs * Math.max(1, this.#lag)
    const silent = [...neighbours.values()].filter((neighbour) => neighbour.silentMs(nowMs) >= suspectMs)
    const gone = [...this.#departed].filter(([, heardMs]) => nowMs - heardMs >= suspectMs)
    // Each vote is sent to all neighbours. An agent that misses many neighbours at once has most likely lost its own
    // network, so the further votes wait for the next ticks.
    const votesMax = Math.max(1, Math.floor(VOTE_FRAMES_MAX / Math.max(1, neighbours.size)))
    const votes: Flood[] = []
    for (const origin of [...silent.map((each) => each.origin), ...gone.map(([each]) => each)]) {
      if (votes.length >= votesMax) break
      this.#departed.delete(origin)
      const frame = this.#suspicions.suspect(origin, nowMs)
      if (frame) votes.push({ frame, except: origin })
    }
    return votes
  }

  /** Takes a suspicion or a beacon. Returns the reason of a refusal, a frame to forward, or replies for the sender. */
  take(
    from: Origin,
    { suspicion, beacon }: FrameMessage,
    nowMs: number
  ): Flood | 'known' | { refused: string } | { replies: readonly Uint8Array[] } {
    const said: Said = suspicion
      ? this.#suspicions.takeVote(suspicion, nowMs)
      : beacon
        ? this.#suspicions.takeBeacon(beacon)
        : { kind: 'known' }
    switch (said.kind) {
      case 'known':
        return 'known'
      case 'refused':
        return { refused: said.reason }
      case 'outdated':
        return { replies: said.votes }
      case 'refute':
        return { frame: this.#suspicions.refutation(), except: undefined }
      case 'forward':
        if (said.alive !== undefined) this.#excuse(said.alive, nowMs)
        return { frame: said.frame, except: from }
      default:
        return said satisfies never
    }
  }

  /**
   * The state of an agent; `members` is the number of origins in the mesh. A neighbour that is heard here is alive for
   * this agent.
   */
  liveness(origin: Origin, members: number): Liveness {
    const nowMs = this.#tickMs ?? 0
    const neighbour = this.#options.neighbours.get(origin)
    if (neighbour && neighbour.silentMs(nowMs) < this.#options.suspectMs) return 'alive'
    if (this.#suspicions.isDead(origin, nowMs, members)) return 'dead'
    return this.#suspicions.isSuspected(origin) ? 'suspected' : 'alive'
  }

  /**
   * Measures the lag of this agent's event loop. After a stall, the silence of all neighbours until now is not
   * counted.
   */
  #heedLag(nowMs: number): void {
    const gapMs = nowMs - (this.#tickMs ?? nowMs)
    this.#tickMs = nowMs
    this.#lag += (gapMs / TICK_MS - this.#lag) / 8
    if (gapMs <= STALL_MS) return
    for (const origin of [...this.#options.neighbours.keys(), ...this.#departed.keys()])
      this.#excuse(origin, nowMs)
  }

  /** Does not count the silence of an agent until now: its beacon came another way, or this agent was stalled. */
  #excuse(origin: Origin, nowMs: number): void {
    this.#options.neighbours.get(origin)?.excuse(nowMs)
    if (this.#departed.has(origin)) this.#departed.set(origin, nowMs)
  }
}

// Frames that the votes of one tick may take, because every vote is sent to every neighbour.
const VOTE_FRAMES_MAX = 512
// The interval in which the caller ticks (app/control).
const TICK_MS = 200
// A gap of five ticks is a stall of this agent: it read no frames in that time.
const STALL_MS = 1000
