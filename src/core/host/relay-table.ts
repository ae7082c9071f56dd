// What an agent that relays knows: who asks for a tunnel with whom. Two agents that ask for each other are a pair, and
// datagrams are passed on within pairs only. Pure: frames with times in, verdicts out; app/paths/relay-server.ts acts on it.
// Invariants
//   1. An agent gets nothing from here that it did not ask for, and nothing in the name of an agent whose connection did not
//      bring it. So a member cannot use a relay to reach a third party, nor to speak for another.
//   2. The asks of one cluster are bounded, and all of them. Beyond the bounds a new ask is refused; those that are kept stay.
//   3. The round trip of a pair is fixed while it lasts, so that both ends compare relays by the same numbers.
import type { ClusterName, Origin } from '../model/values.ts'

/** Agents ask once a second. A frame may be late, and the event loop of the other end busy. */
const ASK_READY_MS = 3_000
/** So long datagrams are still passed on after the last ask: a pause of the asks alone ends no flow. */
export const ASK_LIVES_MS = 10_000
/** A cluster that one agent relays for has a few gateways, each with tunnels to the clusters that it cannot reach. */
const ASKS_PER_CLUSTER_MAX = 256
export const ASKS_MAX = 4_096

/** One ask. */
interface Ask {
  readonly cluster: ClusterName
  atMs: number
}

/** Two agents that ask for each other. */
export interface Pair {
  readonly ends: readonly [Origin, Origin]
  readonly clusters: readonly [ClusterName, ClusterName]
  readonly sinceMs: number
  readonly costMs: number
}

interface NewAsk {
  readonly from: Origin
  readonly cluster: ClusterName
  readonly to: Origin
  readonly nowMs: number
  /** The round trip over this agent in ms, as it is measured now. */
  readonly costMs: number
}

/** `waits`: the other end does not ask yet. `isNew`: the pair has just begun, so the other end does not know it. */
type AskVerdict =
  | { readonly kind: 'refused' }
  | { readonly kind: 'waits' }
  | { readonly kind: 'pair'; readonly pair: Pair; readonly isNew: boolean }

/** The asks of all agents. Bounded by ASKS_MAX. */
export class RelayTable {
  readonly #asks = new Map<Origin, Map<Origin, Ask>>()
  readonly #counts = new Map<ClusterName, number>()
  readonly #pairs = new Map<string, Pair>()
  #count = 0

  ask({ from, cluster, to, nowMs, costMs }: NewAsk): AskVerdict {
    if (from === to || !this.#note(from, to, { cluster, atMs: nowMs })) return { kind: 'refused' }
    const back = this.#asks.get(to)?.get(from)
    if (back === undefined || nowMs - back.atMs > ASK_READY_MS) return { kind: 'waits' }
    const name = nameOf(from, to)
    const known = this.#pairs.get(name)
    if (known !== undefined) return { kind: 'pair', pair: known, isNew: false }
    const pair: Pair = { ends: [from, to], clusters: [cluster, back.cluster], sinceMs: nowMs, costMs }
    this.#pairs.set(name, pair)
    return { kind: 'pair', pair, isNew: true }
  }

  /** The pair of two agents, in which datagrams are passed on; undefined: they are none now. */
  pair(from: Origin, to: Origin, nowMs: number): Pair | undefined {
    const isLive = (ask: Ask | undefined) => ask !== undefined && nowMs - ask.atMs <= ASK_LIVES_MS
    if (!isLive(this.#asks.get(from)?.get(to)) || !isLive(this.#asks.get(to)?.get(from))) return undefined
    return this.#pairs.get(nameOf(from, to))
  }

  /** All pairs. */
  pairs(): readonly Pair[] {
    return [...this.#pairs.values()]
  }

  /** Forgets the asks that have ended, and returns the pairs that have ended with them. */
  tick(nowMs: number): readonly Pair[] {
    for (const [from, asks] of this.#asks)
      for (const [to, { atMs }] of asks) if (nowMs - atMs > ASK_LIVES_MS) this.#forget(from, to)
    const ended = this.pairs().filter(
      ({ ends: [left, right] }) => this.pair(left, right, nowMs) === undefined
    )
    for (const { ends } of ended) this.#pairs.delete(nameOf(...ends))
    return ended
  }

  /** Notes an ask; false when it is one too many. */
  #note(from: Origin, to: Origin, ask: Ask): boolean {
    const asks = this.#asks.get(from)
    const known = asks?.get(to)
    if (known !== undefined) {
      known.atMs = ask.atMs
      return true
    }
    const count = this.#counts.get(ask.cluster) ?? 0
    if (count >= ASKS_PER_CLUSTER_MAX || this.#count >= ASKS_MAX) return false
    this.#counts.set(ask.cluster, count + 1)
    this.#count++
    this.#asks.set(from, (asks ?? new Map<Origin, Ask>()).set(to, ask))
    return true
  }

  #forget(from: Origin, to: Origin): void {
    const asks = this.#asks.get(from)
    const ask = asks?.get(to)
    if (asks === undefined || ask === undefined) return
    asks.delete(to)
    if (asks.size === 0) this.#asks.delete(from)
    this.#count--
    const left = (this.#counts.get(ask.cluster) ?? 1) - 1
    if (left > 0) this.#counts.set(ask.cluster, left)
    else this.#counts.delete(ask.cluster)
  }
}

/** The same for both orders. */
function nameOf(left: Origin, right: Origin): string {
  return left < right ? `${left} ${right}` : `${right} ${left}`
}
