// How long a change takes on this host to each stop of the pipeline, as a histogram. Changes come in bursts, and one view
// or one pass serves all changes before it. So the time is that of the oldest change that the stop had not served: the
// longest wait of the burst.
//
//   changed ──── changed ───── begin ───────── done
//      └───────────── observed ─────────────────┘
//
// A change between `begin` and `done` may not be in the result, so it waits for the next one.
import type { Histogram } from 'prom-client'
import { monotonicMs } from './clock.ts'

/** The stops behind the record, in the order of the pipeline. */
const STOPS = ['view', 'plan', 'kernel'] as const

type Stop = (typeof STOPS)[number]

/** The changes that are under way; it keeps two times for each stop. */
export class Propagation {
  readonly #seconds: Pick<Histogram<'stop'>, 'observe'>
  readonly #now: () => number
  /** When the oldest change came that no work has begun for, by stop. */
  readonly #waiting = new Map<Stop, number>()
  /** The same for the work that has begun and is not done. Work that ended without `done` goes on in the next one. */
  readonly #working = new Map<Stop, number>()

  constructor(seconds: Pick<Histogram<'stop'>, 'observe'>, now: () => number = monotonicMs) {
    this.#seconds = seconds
    this.#now = now
  }

  /** A record of this or of another agent has changed. */
  changed(): void {
    for (const stop of STOPS) if (!this.#waiting.has(stop)) this.#waiting.set(stop, this.#now())
  }

  /** The work of a stop begins: it will serve all changes until now. */
  begin(stop: Stop): void {
    const sinceMs = this.#waiting.get(stop)
    if (sinceMs === undefined) return
    this.#waiting.delete(stop)
    if (!this.#working.has(stop)) this.#working.set(stop, sinceMs)
  }

  /** The work of a stop is done. Without a change since the last time, nothing is counted. */
  done(stop: Stop): void {
    const sinceMs = this.#working.get(stop)
    if (sinceMs === undefined) return
    this.#working.delete(stop)
    this.#seconds.observe({ stop }, (this.#now() - sinceMs) / 1000)
  }

  /** A change of the source is a signed record on disk `ms` milliseconds later. */
  recorded(ms: number): void {
    this.#seconds.observe({ stop: 'record' }, ms / 1000)
  }
}
