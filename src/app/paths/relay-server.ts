// This agent as a relay: it passes the datagrams of a tunnel from the control connection of one end to that of the other.
// What it passes on is WireGuard's, so it can read nothing. core/host/relay-table.ts has the rules.
// Invariants
//   1. Both ends are neighbours that stand in the trust set, and both ask for the tunnel.
//   2. What is passed on is bounded by the setting relay-rate, which clusters share equally (core/model/fair-rate.ts), and
//      by the queue of the receiver (io/p2p/datagrams.ts). What is too much is dropped, and counted.
//   3. A datagram counts as at least COUNTED_BYTES_MIN, so the rate bounds the processor time, too. Frames are delivered in
//      the turns of all neighbours (io/p2p/turns.ts), so those of replication do not wait for them.
import {
  COST_MS_MAX,
  deliverFrame,
  keyTextOf,
  originOfKeyText,
  readyFrame,
  type KeyText
} from '../../core/host/relay-frame.ts'
import { ASKS_MAX, RelayTable, type Pair } from '../../core/host/relay-table.ts'
import { FairRate } from '../../core/model/fair-rate.ts'
import { TokenBucket } from '../../core/model/token-bucket.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import type { DatagramOutcome } from '../../io/p2p/datagrams.ts'
import type { Carried } from './carried.ts'
import { countedBytes } from './member-path.ts'

interface RelayServerOptions {
  /** Bytes a second that are passed on in all; 0: this agent relays nothing. */
  readonly bytesPerSecond: number
  /** The round trip to a neighbour, ms, where it was measured; undefined: the agent is no neighbour. */
  readonly neighbour: (origin: Origin) => { readonly rttMs: number | undefined } | undefined
  /** The cluster of an agent that stands in the trust set; undefined: it does not. */
  readonly clusterOf: (origin: Origin) => ClusterName | undefined
  readonly send: (to: Origin, frame: Uint8Array) => DatagramOutcome
  readonly count: Carried['count']
  /** A frame of this neighbour was refused, and why: a clause for people. */
  readonly onRefused: (peer: Origin, reason: string) => void
  readonly onPair: (pair: Pair, change: 'begins' | 'ends') => void
}

/** One neighbour that asks. */
interface Asker {
  readonly key: KeyText
  readonly cluster: ClusterName
  /** The agents that it has asked for. Bounded by the asks of its cluster. */
  readonly others: Map<KeyText, Origin>
  readonly asks: TokenBucket
}

/** An agent asks once a second for each tunnel that needs it, and a cluster for as many as the table keeps. */
const ASKS = { burst: 512, perSecond: 256 }
/** More keys than the table keeps asks of a cluster: those of earlier asks are forgotten. */
const OTHERS_MAX = 512

/** See the head of this file. */
export class RelayServer {
  readonly #options: RelayServerOptions
  readonly #table = new RelayTable()
  readonly #rate: FairRate<ClusterName>
  readonly #askers = new Map<Origin, Asker>()

  constructor(options: RelayServerOptions) {
    this.#options = options
    this.#rate = new FairRate(options.bytesPerSecond)
  }

  /** The tunnels that are relayed now. */
  pairs(): readonly Pair[] {
    return this.#table.pairs()
  }

  /** Takes the ask of a neighbour for its tunnel with another agent. */
  ask(from: Origin, other: KeyText, nowMs: number): void {
    const { bytesPerSecond, clusterOf, count, send, onPair } = this.#options
    const asker = this.#asker(from)
    if (bytesPerSecond === 0 || asker === undefined)
      return this.#refuse(from, 'it asks an agent that relays nothing, or does not stand')
    if (!asker.asks.take(nowMs)) return count('in', 'rate')
    const to = originOfKeyText(other)
    if (clusterOf(to) === undefined) return this.#refuse(from, 'it asks for an agent that is no member')
    const { cluster } = asker
    const verdict = this.#table.ask({ from, cluster, to, nowMs, costMs: this.#costMs(from, to) })
    if (verdict.kind === 'refused')
      return this.#refuse(from, 'its cluster asks for too many tunnels, or for one with itself')
    if (asker.others.size >= OTHERS_MAX) asker.others.clear()
    asker.others.set(other, to)
    if (verdict.kind === 'waits' || this.#options.neighbour(to) === undefined) return
    send(from, readyFrame(other, verdict.pair.costMs))
    if (!verdict.isNew) return
    send(to, readyFrame(asker.key, verdict.pair.costMs))
    onPair(verdict.pair, 'begins')
  }

  /** Passes a datagram of a neighbour on to the other end of the tunnel. */
  pass(from: Origin, other: KeyText, datagram: Uint8Array, nowMs: number): void {
    const { count, send, neighbour } = this.#options
    const asker = this.#askers.get(from)
    const to = asker?.others.get(other)
    const isPair =
      to !== undefined && this.#table.pair(from, to, nowMs) !== undefined && neighbour(from) !== undefined
    if (asker === undefined || !isPair)
      return this.#refuse(from, 'it sends datagrams for an agent that does not ask for them')
    if (!this.#rate.take(asker.cluster, countedBytes(datagram), nowMs)) return count('out', 'rate')
    const outcome = neighbour(to) === undefined ? 'closed' : send(to, deliverFrame(asker.key, datagram))
    count('out', outcome === 'sent' ? 'carried' : outcome)
  }

  /** Ends the pairs that no end asks for any more. Called about once a second. */
  tick(nowMs: number): void {
    for (const pair of this.#table.tick(nowMs)) this.#options.onPair(pair, 'ends')
    for (const peer of this.#askers.keys())
      if (this.#options.neighbour(peer) === undefined) this.#askers.delete(peer)
  }

  /** A neighbour that stands; undefined: it does not. Bounded by the neighbours. */
  #asker(from: Origin): Asker | undefined {
    const { neighbour, clusterOf } = this.#options
    const cluster = neighbour(from) === undefined ? undefined : clusterOf(from)
    const known = this.#askers.get(from)
    if (known?.cluster === cluster) return known
    const key = keyTextOf(from)
    if (cluster === undefined || key === undefined || this.#askers.size >= ASKS_MAX) return undefined
    const asker: Asker = { key, cluster, others: new Map(), asks: new TokenBucket(ASKS) }
    this.#askers.set(from, asker)
    return asker
  }

  #costMs(from: Origin, to: Origin): number {
    const { neighbour } = this.#options
    const [one, other] = [neighbour(from)?.rttMs, neighbour(to)?.rttMs]
    return one === undefined || other === undefined ? COST_MS_MAX : one + other
  }

  #refuse(from: Origin, reason: string): void {
    this.#options.count('in', 'refused')
    this.#options.onRefused(from, reason)
  }
}
