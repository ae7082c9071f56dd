// The latest changes of the feed, so that a watch can continue from a resource version. There is one log for all
// collections, so its size does not depend on the number of clusters.
import type { Facets, ResourceName } from './objects.ts'

/** The event types of a Kubernetes watch. */
export type EventType = 'ADDED' | 'MODIFIED' | 'DELETED'

/** One change of one object. */
export interface FeedEvent {
  readonly resourceVersion: number
  /** The path of the feed: the name of a cluster, or "all". */
  readonly collection: string
  readonly resource: ResourceName
  readonly type: EventType
  readonly namespace: string
  readonly name: string
  readonly facets: Facets
  /** The facets before a MODIFIED, because a selector may have matched then and no longer matches now. */
  readonly facetsBefore: Facets | undefined
  /** The object as JSON; for DELETED, as it was last. */
  readonly text: string
}

/** When a limit is exceeded, the oldest events are dropped. */
export interface EventLogLimits {
  /** The number of events. A reader that missed more must list again. */
  readonly eventsMax: number
  /** The sum of the lengths of their texts, in UTF-16 units. */
  readonly textMax: number
}

/** Enough for three changes of each of 10,000 services; about 20 MB of memory. */
export const EVENT_LOG_LIMITS: EventLogLimits = { eventsMax: 32_768, textMax: 16 * 1024 * 1024 }

/** Events in the order of their resource versions. */
export class EventLog {
  /**
   * Events from the index #first on. A ring buffer would avoid the copy when the front is cut off; an array costs the
   * same on average and is indexed directly.
   */
  #events: FeedEvent[] = []
  #first = 0
  #text = 0
  #floor: number
  readonly #limits: EventLogLimits

  /** `floor`: the resource version before which nothing is known. */
  constructor(floor: number, limits: EventLogLimits) {
    this.#floor = floor
    this.#limits = limits
  }

  /** Watches cannot resume from a version below this one, because events right after that version were dropped. */
  get floor(): number {
    return this.#floor
  }

  /** Adds an event, whose resource version must be above all others. */
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

  /**
   * The first event after `version`, of any collection; undefined at the end. Only for versions that are not below
   * the floor.
   */
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
