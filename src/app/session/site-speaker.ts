// Decides which gateway of a site without Kubernetes speaks for its cluster, that is, whose manifests count. There is no
// Lease: each gateway decides by what it knows of the others. The speaker publishes with a term, and the catalogue with the
// highest term counts for all members, of two with one term that of the lower PeerId (core/view/build-view.ts 3).
// Invariants
//   1. A gateway that speaks goes on until it learns of a living one whose catalogue counts before its own. So nothing moves
//      when a gateway joins or comes back.
//   2. A gateway takes over when the speaker has been gone for TAKEOVER_MS, as long as a Lease lasts. Of several, the
//      lowest PeerId that lives does. Its term is above all terms that it knows.
//   3. Gateways that cannot reach each other may both speak. Each member follows the catalogue that counts of those that it
//      has heard of, and the other speaker steps back when it hears of it (1).
import type { Origin } from '../../core/model/values.ts'
import type { Leadership } from '../../io/kube/lease.ts'
import type { Control } from '../control/control.ts'
import { ownGateways } from './members.ts'
import { SPEAKER_TERM_MIN, STANDBY_TERM } from './speaker.ts'

/** Milliseconds for which the speaker has to be gone: the duration of a Lease (core/kube/election.ts). */
const TAKEOVER_MS = 15_000
/**
 * Milliseconds for which a gateway that was never heard since the start counts as there, and for which a new gateway waits
 * for the first word of the others.
 */
const UNHEARD_MS = 60_000

/** What this agent knows of one gateway of its cluster. */
interface SiteGateway {
  readonly origin: Origin
  /** The term of the catalogue that it has published; undefined: none. */
  readonly term: number | undefined
  readonly isConnected: boolean
  /** A member has voted that it is dead, and it has not refuted that. */
  readonly isSuspected: boolean
}

/** The gateways of the cluster at one moment. */
export interface SiteFacts {
  readonly self: Origin
  /** All that are known, this one among them once it has published. */
  readonly gateways: readonly SiteGateway[]
  /** True when this agent has joined a cluster that had a gateway, so there is another one, known or not. */
  readonly isFurther: boolean
}

/** Reads the facts off the control plane. */
export function siteFacts(
  control: Pick<Control, 'origin' | 'view' | 'neighbour' | 'liveness'>,
  isFurther: boolean
): SiteFacts {
  const gateways = ownGateways(control.view()).map(({ origin, term }) => ({
    origin,
    term,
    isConnected: control.neighbour(origin) !== undefined,
    isSuspected: control.liveness(origin) !== 'alive'
  }))
  return { self: control.origin, gateways, isFurther }
}

/** Decides again and again; one for each membership. Times are in milliseconds on one monotonic clock. */
export class SiteSpeaker {
  readonly #startedMs: number
  /** When each gateway was last heard. */
  readonly #heardMs = new Map<Origin, number>()
  #leadership: Leadership = { leader: false }

  constructor(nowMs: number) {
    this.#startedMs = nowMs
  }

  /** Returns the leadership from now on. Called once a second. */
  decide({ self, gateways, isFurther }: SiteFacts, nowMs: number): Leadership {
    this.#hear(gateways, nowMs)
    const others = gateways.filter(({ origin }) => origin !== self)
    if (others.length === 0 && isFurther && nowMs - this.#startedMs < UNHEARD_MS) return this.#leadership
    const published = gateways.find(({ origin }) => origin === self)?.term ?? 0
    const mine = this.#leadership.leader ? this.#leadership.term : published
    const live = others.filter(({ origin }) => this.#lives(origin, nowMs))
    const before = others.filter(
      ({ origin, term = 0 }) => term > STANDBY_TERM && (term > mine || (term === mine && origin < self))
    )
    if (before.some((other) => live.includes(other))) this.#leadership = { leader: false }
    else if (before.length === 0 && mine > STANDBY_TERM) this.#leadership = { leader: true, term: mine }
    else if (this.#leadership.leader || live.every(({ origin }) => self < origin)) {
      const highest = Math.max(mine, ...others.map(({ term = 0 }) => term))
      this.#leadership = { leader: true, term: Math.max(SPEAKER_TERM_MIN, highest + 1) }
    }
    return this.#leadership
  }

  /** A gateway that is not connected, in a mesh where not all are, is heard of by the silence of all others. */
  #hear(gateways: readonly SiteGateway[], nowMs: number): void {
    for (const { origin, isConnected, isSuspected } of gateways)
      if (isConnected || (!isSuspected && this.#heardMs.has(origin))) this.#heardMs.set(origin, nowMs)
  }

  #lives(origin: Origin, nowMs: number): boolean {
    const heardMs = this.#heardMs.get(origin)
    return heardMs === undefined ? nowMs - this.#startedMs < UNHEARD_MS : nowMs - heardMs < TAKEOVER_MS
  }
}
