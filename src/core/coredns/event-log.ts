// The latest changes, so that a watch can go on from a resource version. One log for all collections: its size does not
// depend on how many clusters there are.
import type { Facets, ResourceName } from './objects.ts'

export type EventType = 'ADDED' | 'MODIFIED' | 'DELETED'

export interface FeedEvent {
  readonly resourceVersion: number
  readonly collection: string
  readonly resource: ResourceName
  readonly type: EventType
  readonly namespace: string
  readonly name: string
  readonly facets: Facets
  /** Before a MODIFIED: a selector may have matched then. */
  readonly facetsBefore: Facets | undefined
  /** JSON of the object; of a DELETED, as it was last. */
  readonly text: string
}

export interface EventLogLimits {
  /** Events: a reader that is away for longer lists again. */
  readonly eventsMax: number
  /** UTF-16 units of their texts together. */
  readonly textMax: number
}

/** 10,000 services that change thrice; some 20 MB. */
export const EVENT_LOG_LIMITS: EventLogLimits = { eventsMax: 32_768, textMax: 16 * 1024 * 1024 }

export class EventLog {
  /** A ring would save the copy in `trim`; this is the same amortised and indexes plainly. */
  #events: FeedEvent[] = []
  #first = 0
  #text = 0
  #floor: number
  readonly #limits: EventLogLimits

  /** `floor`: nothing before this resource version is known. */
  constructor(floor: number, limits: EventLogLimits) {
    this.#floor = floor
    this.#limits = limits
  }

  /** Versions below cannot be resumed from: the events right after them are gone. */
  get floor(): number {
    return this.#floor
  }

  append(event: FeedEvent): void {
    this.#events.push(event)
    this.#text += event.text.length
    while (
      this.#events.length - this.#first > this.#limits.eventsMax ||
      (this.#text > this.#limits.textMax && this.#events.length - this.#first > 1)
    ) {
      const dropped = this.#events[this.#first++]
      if (dropped === undefined) throw new Error('the log is shorter than its count')
      this.#text -= dropped.text.length
      this.#floor = dropped.resourceVersion
    }
    if (this.#first > 1024 && this.#first * 2 > this.#events.length) {
      this.#events = this.#events.slice(this.#first)
      this.#first = 0
    }
  }

  /** The first event after `version`, of any collection; undefined at the end. Not for versions below the floor. */
  after(version: number): FeedEvent | undefined {
    let low = this.#first
    let high = this.#events.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#events[middle]?.resourceVersion ?? Infinity) <= version) low = middle + 1
      else high = middle
    }
    return this.#events[low]
  }
}
