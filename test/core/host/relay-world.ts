// Two ends of a tunnel and some relays, as the pure rules play them: each step is one look of both ends, a second after the
// one before. WireGuard is played, too: it answers to where the last packet came from.
import {
  NO_RELAYS,
  relayHeard,
  relaysToAsk,
  withChosen,
  type RelayState
} from '../../../src/core/host/relay-choice.ts'
import { RelayTable } from '../../../src/core/host/relay-table.ts'
import {
  isTryDue,
  nextPath,
  relaySilentMs,
  startPath,
  tried,
  wantsRelay,
  type PathFacts,
  type PathState
} from '../../../src/core/host/tunnel-path.ts'
import type { ClusterName, Origin } from '../../../src/core/model/values.ts'

export const RELAYS = ['relay-1', 'relay-2', 'relay-3', 'relay-4', 'relay-5', 'relay-6'] as Origin[]
const ENDS = ['west-gw', 'east-gw'] as [Origin, Origin]

/** What carries packets at one second. */
export interface Network {
  readonly udp: boolean
  readonly tcp: boolean
  /** Of each relay: whether it offers to, whether each end is connected to it, and whether it drops all datagrams. */
  readonly relays: readonly {
    readonly offers: boolean
    readonly links: readonly [boolean, boolean]
    readonly drops?: boolean
  }[]
}

type Way = 'direct' | 'tcp' | Origin

interface End {
  path: PathState
  relays: RelayState
  asked: readonly Origin[]
  sendsTo: 'peer' | 'carrier'
  lastAnswerMs: number | undefined
  unanswered: number
  tcpHeardMs: number | undefined
}

const newEnd = (): End => ({
  path: startPath(0),
  relays: NO_RELAYS,
  asked: [],
  sendsTo: 'peer',
  lastAnswerMs: undefined,
  unanswered: 0,
  tcpHeardMs: undefined
})

/** See the head of this file. */
export class RelayWorld {
  nowMs = 0
  readonly ends: readonly [End, End] = [newEnd(), newEnd()]
  /** Round trips over each relay, which the table of the relay tells both ends. */
  readonly costs: readonly number[]
  readonly tables = RELAYS.map(() => new RelayTable())
  /** Each way that an end took for a packet: what a property looks at. */
  readonly used = new Set<Way>()
  asks = 0
  changes = 0

  constructor(costs: readonly number[]) {
    this.costs = costs
  }

  run(network: Network, seconds: number): this {
    for (let second = 0; second < seconds; second++) this.#step(network)
    return this
  }

  /** The way by which an end sends now. */
  way(end: 0 | 1): Way | 'none' {
    const { sendsTo, path, relays } = this.ends[end]
    if (sendsTo === 'peer') return 'direct'
    return path.carrier === 'tcp' ? 'tcp' : (relays.chosen ?? 'none')
  }

  /** The way of both ends; undefined: they differ. */
  get agreed(): Way | 'none' | undefined {
    return this.way(0) === this.way(1) ? this.way(0) : undefined
  }

  /** Whether both ends got an answer within the last seconds. */
  isAnswered(seconds: number): boolean {
    return this.ends.every(({ lastAnswerMs = -Infinity }) => this.nowMs - lastAnswerMs < seconds * 1000)
  }

  #step(network: Network): void {
    this.nowMs += 1000
    for (const end of [0, 1] as const) this.#probe(end, network)
    for (const end of [0, 1] as const) this.#look(end, network)
    for (const table of this.tables) table.tick(this.nowMs)
  }

  /** One packet there, and its answer back, as WireGuard sends them. */
  #probe(end: 0 | 1, network: Network): void {
    const other = end === 0 ? 1 : 0
    const isAnswered = this.#passes(end, network) && this.#passes(other, network)
    const { lastAnswerMs, unanswered } = this.ends[end]
    this.ends[end].lastAnswerMs = isAnswered ? this.nowMs : lastAnswerMs
    this.ends[end].unanswered = isAnswered ? 0 : unanswered + 1
  }

  #passes(from: 0 | 1, network: Network): boolean {
    const to = from === 0 ? 1 : 0
    const way = this.way(from)
    if (way === 'none') return false
    this.used.add(way)
    const isDirect = way === 'direct'
    const arrives = isDirect ? network.udp : way === 'tcp' ? network.tcp : this.#relays(way, network)
    if (arrives) this.ends[to].sendsTo = isDirect ? 'peer' : 'carrier'
    return arrives
  }

  #relays(relay: Origin, { relays }: Network): boolean {
    const index = RELAYS.indexOf(relay)
    const { links, drops = false } = relays[index] ?? { links: [false, false] }
    return links[0] && links[1] && !drops && this.tables[index]?.pair(...ENDS, this.nowMs) !== undefined
  }

  #look(index: 0 | 1, network: Network): void {
    const end = this.ends[index]
    const { nowMs } = this
    if (network.tcp) end.tcpHeardMs = nowMs
    const { chosen, heard } = end.relays
    const facts: PathFacts = {
      nowMs,
      hasAddress: true,
      hasCarrier: network.tcp,
      carrierHeardMs: end.tcpHeardMs,
      relay: chosen === undefined ? undefined : heard.get(chosen),
      sendsTo: end.sendsTo,
      lastAnswerMs: end.lastAnswerMs,
      unanswered: end.unanswered,
      isProbed: true,
      keepaliveSeconds: 25
    }
    this.#become(end, nextPath(end.path, facts))
    if (isTryDue(end.path, facts)) this.#become(end, tried(end.path, { nowMs, isAnswered: network.udp }))
    // Each end names itself first.
    const ends = index === 0 ? ENDS : ([ENDS[1], ENDS[0]] as const)
    const offering = RELAYS.filter((_, relay) => network.relays[relay]?.offers)
    const isConnected = (relay: Origin) => network.relays[RELAYS.indexOf(relay)]?.links[index] === true
    end.asked = wantsRelay(end.path, facts) ? relaysToAsk(ends, offering, isConnected) : []
    const silentMs = relaySilentMs(end.path, facts)
    end.relays = withChosen(end.relays, { ends, asked: end.asked, silentMs, nowMs })
    for (const relay of end.asked) this.#ask(index, relay, network)
  }

  #ask(index: 0 | 1, relay: Origin, { relays }: Network): void {
    this.asks++
    const at = RELAYS.indexOf(relay)
    const [from, to] = index === 0 ? ENDS : ENDS.toReversed()
    if (from === undefined || to === undefined) return
    const { nowMs } = this
    const cluster = from as string as ClusterName
    const costMs = this.costs[at] ?? 0
    const verdict = this.tables[at]?.ask({ from, cluster, to, nowMs, costMs })
    const other = index === 0 ? 1 : 0
    if (verdict?.kind !== 'pair' || relays[at]?.links[other] !== true) return
    const told = verdict.isNew ? [this.ends[index], this.ends[other]] : [this.ends[index]]
    for (const end of told)
      end.relays = relayHeard(end.relays, { relay, costMs: verdict.pair.costMs, nowMs }, end.asked)
  }

  #become(end: End, path: PathState): void {
    if (path.isCarried !== end.path.isCarried) {
      this.changes++
      end.sendsTo = path.isCarried ? 'carrier' : 'peer'
    }
    end.path = path
  }
}
