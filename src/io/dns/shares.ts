// Places that many clients share, for example the questions under way at the upstreams. One client may take all places that are
// free. When none is free, a newcomer takes a place from the client with the most places, so that all come to equal shares (max-min
// fairness).
// Invariants:
//  1. size ≤ placesMax.
//  2. A busy item loses its place only to a client that then still has fewer places than the loser had; an idle one also to a client that
//     then has as many.
import { isIPv6 } from 'node:net'

export class Shares<T> {
  readonly #placesMax: number
  readonly #isIdle: (item: T) => boolean
  readonly #onEvicted: (item: T) => void
  /** Items of a client in the order in which they came. */
  readonly #byClient = new Map<string, Set<T>>()
  #size = 0

  constructor(options: {
    readonly placesMax: number
    readonly onEvicted: (item: T) => void
    /** Idle items are evicted before busy ones. */
    readonly isIdle?: (item: T) => boolean
  }) {
    this.#placesMax = options.placesMax
    this.#onEvicted = options.onEvicted
    this.#isIdle = options.isIdle ?? (() => false)
  }

  get size(): number {
    return this.#size
  }

  /** False: every place is taken, and this client has its share. */
  take(client: string, item: T): boolean {
    if (this.#size >= this.#placesMax && !this.#evictFor(client)) return false
    const items = this.#byClient.get(client) ?? new Set()
    items.add(item)
    this.#byClient.set(client, items)
    this.#size++
    return true
  }

  /** Does nothing when the item has no place. */
  release(client: string, item: T): void {
    const items = this.#byClient.get(client)
    if (items === undefined || !items.delete(item)) return
    this.#size--
    if (items.size === 0) this.#byClient.delete(client)
  }

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

/** Whose share an address counts to: itself; of IPv6 its /64, as one host has a whole one (RFC 4291, 2.5.1). */
export function shareOf(address: string): string {
  if (!isIPv6(address)) return address
  const [head = '', tail] = address.replace(/%.*$/, '').split('::')
  const groups = head === '' ? [] : head.split(':')
  const rest = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - rest.length)
  const all = [...groups, ...Array.from({ length: zeros }, () => '0'), ...rest]
  return `${all
    .slice(0, 4)
    .map((group) => (parseInt(group, 16) || 0).toString(16))
    .join(':')}::/64`
}
