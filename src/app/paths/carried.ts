// Counts the datagrams that this agent carries and drops. Each datagram only adds to a number here; the metric is set once a
// second, since a labelled counter would cost more than the rest of the work for a datagram.
import type { Metrics } from '../observe/metrics.ts'

/**
 * `carried`: handed on. Dropped: `full`, the queue of the carrier is full; `closed`, the carrier has no stream yet;
 * `unsupported`, the member carries nothing; `rate`, more than the setting allows; `malformed`, not of WireGuard's form;
 * `refused`, not from a gateway to which this agent has a tunnel, or by a relay that was not asked; `settling`, late after a
 * change to direct.
 */
type Fate = 'carried' | 'full' | 'closed' | 'unsupported' | 'rate' | 'malformed' | 'refused' | 'settling'

/** The numbers of one path since the start, by direction. */
export class Carried {
  readonly #path: string
  readonly #counts = { in: new Map<Fate, number>(), out: new Map<Fate, number>() }
  readonly #told = new Map<string, number>()

  constructor(path: string) {
    this.#path = path
  }

  readonly count = (direction: 'in' | 'out', fate: Fate): void => {
    const counts = this.#counts[direction]
    counts.set(fate, (counts.get(fate) ?? 0) + 1)
  }

  /** Adds what was counted since the last call to the metric. */
  tell({ pathDatagrams }: Pick<Metrics, 'pathDatagrams'>): void {
    for (const direction of ['in', 'out'] as const)
      for (const [result, count] of this.#counts[direction]) {
        const key = `${direction} ${result}`
        const more = count - (this.#told.get(key) ?? 0)
        this.#told.set(key, count)
        if (more > 0) pathDatagrams.inc({ path: this.#path, direction, result }, more)
      }
  }
}
