// Chooses the relay of one tunnel. Both ends know the same facts and follow the same rule, so they choose the same relay
// without a word to each other: a relay tells both ends at once that it is ready, with the same round trip. Pure.
// Invariants
//   1. A relay counts only while it says that it is ready, which it says while both ends ask for it: so it reaches both,
//      and neither end gets anything for which it did not ask.
//   2. Of those that are ready, the one with the shortest way counts, in steps of COST_STEP_MS. Within a step, a hash of
//      the two ends and the relay decides, which spreads the tunnels over the relays.
//   3. A relay by which the tunnel gets no answer for FAILED_MS is left alone, for longer each time. Both ends see that
//      silence, since an answer needs both directions.
import { backoffMs } from '../model/backoff.ts'
import { hashText, mixBits } from '../model/hash.ts'
import type { Origin } from '../model/values.ts'

/** What is known of one relay for one tunnel. Times are monotonic. */
interface Heard {
  /** When it was first ready, without a gap since. */
  readonly sinceMs: number
  readonly heardMs: number
  /** The round trip over the relay as it tells both ends. */
  readonly costMs: number
  readonly failures: number
  /** Until then the relay is left alone. */
  readonly failedUntilMs: number
}

/** The relays that were ready for one tunnel. Bounded by RELAYS_MAX: others are not asked. */
export interface RelayState {
  readonly heard: ReadonlyMap<Origin, Heard>
  readonly chosen: Origin | undefined
  /** When `chosen` became the present one. */
  readonly chosenMs: number
}

export const NO_RELAYS: RelayState = { heard: new Map(), chosen: undefined, chosenMs: 0 }

/** So many relays are asked for one tunnel: all to which an agent is usually connected (push/overlay.ts), as only they count. */
const RELAYS_MAX = 16
/** A relay says once a second that it is ready, and one such frame may be late. */
const READY_GAP_MS = 3_000
/** The same step as that of near neighbours (replication/push/overlay.ts). */
const COST_STEP_MS = 4
/** WireGuard repeats a handshake after 5 s, and the first one may be lost. */
const FAILED_MS = 8_000
const FAILED_WAITS = { minMs: 60_000, maxMs: 600_000 }

/** The two ends of a tunnel, in any order. */
type Ends = readonly [Origin, Origin]

/**
 * Returns the relays to ask for a tunnel, at most RELAYS_MAX. `offering`: the agents that offer to relay, as their records
 * say; `isConnected`: whether this end has a control connection to one. Both ends rank all that offer in the same order.
 */
export function relaysToAsk(
  ends: Ends,
  offering: Iterable<Origin>,
  isConnected: (relay: Origin) => boolean
): readonly Origin[] {
  return rankedRelays(ends, offering).filter(isConnected).slice(0, RELAYS_MAX)
}

/** All agents that offer to relay, without the two ends, in the order that is the same at both ends. */
export function rankedRelays(ends: Ends, offering: Iterable<Origin>): readonly Origin[] {
  return [...offering]
    .filter((relay) => !ends.includes(relay))
    .map((relay) => ({ relay, weight: weigh(ends, relay) }))
    .sort((left, right) => left.weight - right.weight || (left.relay < right.relay ? -1 : 1))
    .map(({ relay }) => relay)
}

/** Notes that a relay is ready. `asked`: the relays that this end asks, so no other one counts. */
export function relayHeard(
  state: RelayState,
  { relay, costMs, nowMs }: { readonly relay: Origin; readonly costMs: number; readonly nowMs: number },
  asked: readonly Origin[]
): RelayState {
  if (!asked.includes(relay)) return state
  const before = state.heard.get(relay)
  const isGap = before === undefined || nowMs - before.heardMs > READY_GAP_MS
  const { failures = 0, failedUntilMs = -Infinity } = before ?? {}
  const heard = { sinceMs: isGap ? nowMs : before.sinceMs, heardMs: nowMs, costMs, failures, failedUntilMs }
  const kept = [...state.heard].filter(([other]) => asked.includes(other))
  return { ...state, heard: new Map([...kept, [relay, heard]]) }
}

/**
 * Returns the state with the relay that counts now. `silentMs`: milliseconds without an answer while the tunnel goes over
 * the present relay; 0 while it does not.
 */
export function withChosen(state: RelayState, { ends, asked, silentMs, nowMs }: RelayFacts): RelayState {
  const heard = new Map(state.heard)
  const present = state.chosen === undefined ? undefined : heard.get(state.chosen)
  if (state.chosen !== undefined && present !== undefined) {
    const triedMs = nowMs - state.chosenMs
    if (Math.min(silentMs, triedMs) > FAILED_MS) {
      const failures = present.failures + 1
      const failedUntilMs = nowMs + backoffMs(failures, FAILED_WAITS)
      heard.set(state.chosen, { ...present, failures, failedUntilMs })
    } else if (silentMs === 0 && triedMs > FAILED_WAITS.minMs)
      heard.set(state.chosen, { ...present, failures: 0 })
  }
  const ready = asked.filter((relay) => isReady(heard.get(relay), nowMs))
  const [chosen] = ready.sort((left, right) => compare(left, right, { ends, heard }))
  const chosenMs = chosen === state.chosen ? state.chosenMs : nowMs
  return { heard, chosen, chosenMs }
}

/** What decides on the relay of a tunnel now. */
interface RelayFacts {
  readonly ends: Ends
  readonly asked: readonly Origin[]
  readonly silentMs: number
  readonly nowMs: number
}

function isReady(heard: Heard | undefined, nowMs: number): boolean {
  return heard !== undefined && nowMs - heard.heardMs <= READY_GAP_MS && nowMs >= heard.failedUntilMs
}

function compare(
  left: Origin,
  right: Origin,
  { ends, heard }: { readonly ends: Ends; readonly heard: ReadonlyMap<Origin, Heard> }
): number {
  const step = (relay: Origin): number => Math.floor((heard.get(relay)?.costMs ?? Infinity) / COST_STEP_MS)
  return (
    step(left) - step(right) ||
    weigh(ends, left) - weigh(ends, right) ||
    (left < right ? -1 : left > right ? 1 : 0)
  )
}

/** The same at both ends, and another one for each pair of ends. */
function weigh(ends: Ends, relay: Origin): number {
  return mixBits(hashText(`${ends.toSorted().join(' ')}\0${relay}`))
}
