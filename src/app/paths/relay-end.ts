// The relays of this agent's own tunnels (core/host/relay-choice.ts): asks them, learns which are ready, and sends and takes
// the datagrams of a tunnel over the chosen one.
// Invariants
//   1. Only agents are asked that offer to relay in their records, and to which a control connection is open.
//   2. A frame counts only from a relay that was asked for this tunnel within ASK_LIVES_MS. All others are refused, counted
//      and told in the events.
//   3. A relay that has delivered the datagrams of another tunnel is blocked for this one (tunnel-paths.ts).
import {
  NO_RELAYS,
  rankedRelays,
  relayHeard,
  relaysToAsk,
  withChosen,
  type RelayState
} from '../../core/host/relay-choice.ts'
import { askFrame, keyTextOf, sendFrame, type KeyText } from '../../core/host/relay-frame.ts'
import { ASK_LIVES_MS } from '../../core/host/relay-table.ts'
import type { PathFacts } from '../../core/host/tunnel-path.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import type { DatagramOutcome } from '../../io/p2p/datagrams.ts'

/** An agent that offers to relay, as its record says. */
export interface Relay {
  readonly origin: Origin
  readonly cluster: ClusterName
  readonly node: string
}

interface RelayEndOptions {
  readonly self: Origin
  /** Whether a control connection to this member is open. */
  readonly isConnected: (relay: Origin) => boolean
  readonly send: (relay: Origin, frame: Uint8Array) => DatagramOutcome
}

/** One tunnel, as its relays know it. */
interface Relayed {
  readonly origin: Origin
  readonly key: KeyText
  state: RelayState
  /** The relays that are asked now; empty while the tunnel needs none. */
  asked: readonly Origin[]
  askedMs: number
  /** When each relay was last asked. Bounded by the agents that offer to relay. */
  readonly lastAsked: Map<Origin, number>
  /** Until when nothing is taken from a relay. */
  readonly blocked: Map<Origin, number>
}

/** What a tunnel needs now, for `judge`. */
interface Need {
  readonly nowMs: number
  readonly wantsRelay: boolean
  /** Milliseconds without an answer over the relay. */
  readonly silentMs: number
}

/** The other end asks once a second, too; a look may come earlier. */
const ASK_INTERVAL_MS = 800
/** Two: one of them may be away. */
const RELAYS_DIALLED = 2

/** See the head of this file. Bounded by the tunnels of this agent. */
export class RelayEnd {
  readonly #options: RelayEndOptions
  readonly #tunnels = new Map<Origin, Relayed>()
  readonly #byKey = new Map<KeyText, Relayed>()
  #relays: ReadonlyMap<Origin, Relay> = new Map()

  constructor(options: RelayEndOptions) {
    this.#options = options
  }

  /** The relay that counts for the tunnel to this agent; undefined: none is ready. */
  relay(origin: Origin): Relay | undefined {
    const chosen = this.#tunnels.get(origin)?.state.chosen
    return chosen === undefined ? undefined : this.#relays.get(chosen)
  }

  /** The relays of the tunnel to this agent that both ends rank first, whether they are connected or not. */
  first(origin: Origin): readonly Origin[] {
    return rankedRelays([this.#options.self, origin], this.#relays.keys()).slice(0, RELAYS_DIALLED)
  }

  /** The same for the choice of the path. */
  facts(origin: Origin): PathFacts['relay'] {
    const state = this.#tunnels.get(origin)?.state
    return state?.chosen === undefined ? undefined : state.heard.get(state.chosen)
  }

  /** The round trip over the relay, as it says; undefined: none is ready. */
  rttMs(origin: Origin): number | undefined {
    const state = this.#tunnels.get(origin)?.state
    return state?.chosen === undefined ? undefined : state.heard.get(state.chosen)?.costMs
  }

  /** Takes the agents that offer to relay now, and the agents to which there are tunnels. */
  update(relays: readonly Relay[], tunnels: readonly Origin[]): void {
    this.#relays = new Map(relays.map((relay) => [relay.origin, relay]))
    const present = new Set(tunnels)
    for (const [origin, { key }] of this.#tunnels)
      if (!present.has(origin)) {
        this.#tunnels.delete(origin)
        this.#byKey.delete(key)
      }
  }

  /** Asks the relays of a tunnel, where it needs one, and chooses among those that are ready. Called about once a second. */
  judge(origin: Origin, { nowMs, wantsRelay, silentMs }: Need): void {
    const tunnel = this.#tunnel(origin)
    if (tunnel === undefined) return
    const ends = [this.#options.self, origin] as const
    tunnel.asked = wantsRelay
      ? relaysToAsk(ends, this.#relays.keys(), this.#options.isConnected).filter(
          (relay) => nowMs >= (tunnel.blocked.get(relay) ?? -Infinity)
        )
      : []
    tunnel.state = withChosen(tunnel.state, { ends, asked: tunnel.asked, silentMs, nowMs })
    if (nowMs - tunnel.askedMs < ASK_INTERVAL_MS) return
    tunnel.askedMs = nowMs
    for (const relay of tunnel.lastAsked.keys()) if (!this.#relays.has(relay)) tunnel.lastAsked.delete(relay)
    for (const [relay, untilMs] of tunnel.blocked) if (nowMs >= untilMs) tunnel.blocked.delete(relay)
    for (const relay of tunnel.asked) {
      tunnel.lastAsked.set(relay, nowMs)
      this.#options.send(relay, askFrame(tunnel.key))
    }
  }

  /** Takes the word of a relay that it is ready. Returns false when it was not asked (invariant 2). */
  ready(relay: Origin, key: KeyText, { costMs, nowMs }: { costMs: number; nowMs: number }): boolean {
    const tunnel = this.#byKey.get(key)
    if (tunnel === undefined || !wasAsked(tunnel, relay, nowMs)) return false
    tunnel.state = relayHeard(tunnel.state, { relay, costMs, nowMs }, tunnel.asked)
    return true
  }

  /** The agent whose datagrams a relay may deliver under this key; undefined: the relay was not asked (invariant 2). */
  sender(relay: Origin, key: KeyText, nowMs: number): Origin | undefined {
    const tunnel = this.#byKey.get(key)
    return tunnel !== undefined && wasAsked(tunnel, relay, nowMs) ? tunnel.origin : undefined
  }

  /** Sends a datagram of the tunnel to this agent over its relay. */
  send(origin: Origin, datagram: Uint8Array): DatagramOutcome {
    const tunnel = this.#tunnels.get(origin)
    const relay = tunnel?.state.chosen
    if (tunnel === undefined || relay === undefined) return 'closed'
    return this.#options.send(relay, sendFrame(tunnel.key, datagram))
  }

  /** Uses a relay for the tunnel with this agent no more, until that time (invariant 3). */
  block(origin: Origin, relay: Origin, untilMs: number): void {
    this.#tunnels.get(origin)?.blocked.set(relay, untilMs)
  }

  #tunnel(origin: Origin): Relayed | undefined {
    const known = this.#tunnels.get(origin)
    if (known !== undefined) return known
    const key = keyTextOf(origin)
    if (key === undefined) return undefined
    const tunnel: Relayed = {
      origin,
      key,
      state: NO_RELAYS,
      asked: [],
      askedMs: -Infinity,
      lastAsked: new Map(),
      blocked: new Map()
    }
    this.#tunnels.set(origin, tunnel)
    this.#byKey.set(key, tunnel)
    return tunnel
  }
}

function wasAsked({ lastAsked, blocked }: Relayed, relay: Origin, nowMs: number): boolean {
  const askedMs = lastAsked.get(relay) ?? -Infinity
  return nowMs - askedMs <= ASK_LIVES_MS && nowMs >= (blocked.get(relay) ?? -Infinity)
}
