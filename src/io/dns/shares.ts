// Shares a limited number of places among clients fairly, for example the questions under way at the upstreams
// (forwarder.ts) or the TCP connections (listeners.ts). One client may take all places that are free. When none is
// free, a newcomer takes a place from the client with the most places, so that in the end all have equal shares
// (max-min fairness).
// Invariants:
//  1. size ≤ placesMax.
//  2. A busy item loses its place only to a client that has at least two places fewer than the loser: then the newcomer
//     still has fewer than the loser had. An idle item also loses its place to a client with one place fewer, or to a
//     newer item of its own client.
/** `T` is an item that holds a place, such as a connection; items are compared by identity. */
export class Shares<T> {
  readonly #placesMax: number
  readonly #isIdle: (item: T) => boolean
  readonly #onEvicted: (item: T) => void
  /** The items of each client in the order in which they took their places. A client without items has no entry. */
  readonly #byClient = new Map<string, Set<T>>()
  #size = 0

  constructor(options: {
    readonly placesMax: number
    /** Called after an item has lost its place to another client. The callee ends the work; `release` is not needed. */
    readonly onEvicted: (item: T) => void
    /** Idle items are evicted before busy ones. Default: no item is idle. */
    readonly isIdle?: (item: T) => boolean
  }) {
    this.#placesMax = options.placesMax
    this.#onEvicted = options.onEvicted
    this.#isIdle = options.isIdle ?? (() => false)
  }

  /** The number of places that are taken. */
  get size(): number {
    return this.#size
  }

  /**
   * Takes a place, perhaps from another client. Returns false if all places are taken and this client has its share.
   */
  take(client: string, item: T): boolean {
    if (this.#size >= this.#placesMax && !this.#evictFor(client)) return false
    const items = this.#byClient.get(client) ?? new Set()
    items.add(item)
    this.#byClient.set(client, items)
    this.#size++
    return true
  }

  /** Frees the item's place. Does nothing when the item has none, because it was evicted or released before. */
  release(client: string, item: T): void {
    const items = this.#byClient.get(client)
    if (items === undefined || !items.delete(item)) return
    this.#size--
    if (items.size === 0) this.#byClient.delete(client)
  }

  /** Makes room for one item of this client. Returns false if no other item must give way. */
  #evictFor(client: string): boolean {
    const own = this.#byClient.get(client)?.size ?? 0
    let loser = client
    let most = own
    for (const [name, items] of this.#byClient) if (items.size > most) [loser, most] = [name, items.size]
    const items = [...(this.#byClient.get(loser) ?? [])]
    const victim = items.find(this.#isIdle) ?? (most > own + 1 ? items[0] : undefined)
    if (victim === undefined) return false
    this.release(loser, victim)
    this.#onEvicted(victim)
    return true
  }
}
