// Chooses how the datagrams of one WireGuard peer travel: `direct` by UDP, or carried by this agent over a carrier: the
// control connection to the peer (`tcp`), or those of a relay (relay-choice.ts). WireGuard stays end to end in all; a change
// of the path changes only the address to which it sends, so that no session and no flow ends. A change of the carrier
// does not even change that. Pure: facts with times in, the state out; app/paths acts on it.
// Invariants
//   1. A tunnel is direct as long as direct is answered. It is carried only while there is a carrier.
//   2. Direct that is not answered for SILENCE_MS is given up before the tunnel counts as down (tunnel-state.ts, 5 s).
//   3. While a tunnel is carried, direct is tried again with backoff, by one datagram each time (io/path/direct-try.ts), so a
//      try that fails costs no traffic. While the carrier brings nothing back, it is tried every SILENT_TRY_MS.
//   4. A direct path that fails again within HELD_MS makes the wait longer: a path that flaps changes a bounded number of
//      times.
//   5. Direct is given up only for a carrier that is proved: it went on bringing frames while direct was silent. Where both
//      fell silent together, the other end is stopped or cut off, and no carrier helps. When both are back, direct comes
//      first: the carrier must be back for FIRST_ANSWER_MS, in which WireGuard repeats its handshake.
//   6. Both ends decide alone and follow each other: WireGuard sends to where the last valid packet came from.
//   7. `tcp` comes before a relay. A tunnel goes over a relay only while nothing comes over the control connection to the
//      peer, and back when that has brought frames for TCP_HELD_MS.
//   8. A relay that is ready is a proof as in 5: it is ready only while the other end asks for it, and that asks only when
//      it gets no answer by direct either. The wait of 5 after a silence of both holds here, too.
//
//   direct ── silent for SILENCE_MS, or the other end sends by a carrier ──→ carried
//   carried ── a try is answered, or the other end sends directly ──→ direct
//   carried ── no carrier for UNCARRIED_MS, or silent for CARRIED_SILENCE_MS ──→ direct
//   tcp ── silent for CARRIER_GAP_MS, a relay is ready ──→ relay ── frames for TCP_HELD_MS ──→ tcp
import { backoffMs } from '../model/backoff.ts'
import type { PeerAddress } from '../model/values.ts'

/**
 * The loopback address of the sockets that stand for a carried peer. It is an unusual one, so that an endpoint tells
 * whether the tunnel is carried, also where several agents of one host reach each other at 127.0.0.1.
 */
export const CARRIER_HOST = '127.51.42.1'

/** Returns whether WireGuard sends to a socket of this agent at this endpoint. */
export function isCarrierAddress(address: PeerAddress | undefined): boolean {
  return address?.startsWith(`${CARRIER_HOST}:`) === true
}

/** What is known of one tunnel at one moment. All times are on one monotonic clock. */
export interface PathFacts {
  readonly nowMs: number
  /** Whether an address is known at which direct can be tried. Without one, only the other end can start direct. */
  readonly hasAddress: boolean
  /** Whether a control connection to the other end exists now, which carries. */
  readonly hasCarrier: boolean
  /** Time of the latest frame by the control connection, which brings one a second; undefined: none came. */
  readonly carrierHeardMs: number | undefined
  /** The relay that is ready for this tunnel: since when, and when it last said so; undefined: none is. */
  readonly relay: { readonly sinceMs: number; readonly heardMs: number } | undefined
  /** Where WireGuard sends now; undefined: it has no endpoint for this peer, or it could not be read. */
  readonly sendsTo: 'peer' | 'carrier' | undefined
  /** Time of the latest answer through the tunnel; undefined: there was none. */
  readonly lastAnswerMs: number | undefined
  /** Probes without an answer. Infinity where silence alone decides. */
  readonly unanswered: number
  /** False: the peer answers no probes, so `lastAnswerMs` is the time of its latest bytes or handshake. */
  readonly isProbed: boolean
  /** Interval of WireGuard's keepalives in seconds. With 0, a peer without probes is silent whenever it is idle. */
  readonly keepaliveSeconds: number
}

/** The path of one tunnel. */
export interface PathState {
  readonly isCarried: boolean
  /** What carries the tunnel, or would. */
  readonly carrier: Carrier
  /** Time of the latest change. */
  readonly sinceMs: number
  /** Tries of direct in a row that failed, or that were answered and failed again within HELD_MS. */
  readonly failures: number
  /** While carried: time of the next try. */
  readonly nextTryMs: number
  /** Time of the latest try, or of the change of the path. */
  readonly triedMs: number
  /** While carried: time since when no carrier exists; undefined: one exists. */
  readonly uncarriedMs: number | undefined
  /** Time of the latest frame by the carrier, as of the latest look. */
  readonly carrierHeardMs: number | undefined
  /** Time since when the carrier brings frames without a gap; undefined: it brought none. */
  readonly carrierSinceMs: number | undefined
  /** While carried: time since when WireGuard sends directly, because the other end does; undefined: it does not. */
  readonly heardMs: number | undefined
  /** Why the path is the present one. */
  readonly cause: PathCause
}

type Carrier = 'tcp' | 'relay'

/**
 * `start`: direct comes first. `silent`: direct got no answer. `followed`: the other end has changed the path. `answered`: a
 * try of direct was answered. `uncarried`: there was no carrier. `unanswered`: nothing came back by the carrier.
 */
type PathCause = 'start' | 'silent' | 'followed' | 'answered' | 'uncarried' | 'unanswered'

/** Three probes are lost by then, sent 1 s apart at first and then every 200 ms (io/probe/probe.ts). */
const SILENCE_MS = 3_000
/** The same before the first answer: WireGuard repeats a handshake after 5 s, so the first one may be lost. */
const FIRST_ANSWER_MS = 6_000
const LOST_MIN = 3
/** Keepalives come every 25 s by default; where they are off, an idle peer without probes counts as heard. */
const UNPROBED_SILENCE_MS = 15_000
/** After a change, packets that were on their way may still come by the old path. */
export const SETTLE_MS = 3_000
/** For so long the carrier must have gone on after direct fell silent. Where both are cut at once, it is 1 s at most. */
const PROOF_MS = 2_000
/** Frames come every second, and one of them may be lost and sent again. A longer gap is a silence of the carrier. */
const CARRIER_GAP_MS = 3_000
/** The control connection is back, and stays: it has brought some frames. */
const TCP_HELD_MS = 3_000
/** Relays are asked after this silence, so that one is ready when direct is given up. */
const ASK_MS = 1_000
/** A relay that is ready so soon after direct fell silent shows that the other end was not cut off as a whole. */
const RELAY_SOON_MS = 5_000
/** A control connection that ends is dialled again after 0.25 s, and a handshake takes three round trips. */
const UNCARRIED_MS = 5_000
/** A carrier that exists and brings nothing back: the other end may have lost it, or may carry nothing. */
const CARRIED_SILENCE_MS = 15_000
/** For so long the other end must be heard directly, with an answer, before this end takes direct for working. */
const HEARD_MS = 1_000
/** A direct path that lived this long starts with the shortest wait again. */
const HELD_MS = 60_000
/** A try costs one datagram, and WireGuard itself sends a handshake every 5 s. */
const SILENT_TRY_MS = 2_000
const TRY_WAITS = { minMs: 10_000, maxMs: 300_000 }

/** Returns the path of a tunnel that has just been made: direct comes first. */
export function startPath(nowMs: number): PathState {
  const lasting = {
    failures: 0,
    carrier: 'tcp',
    carrierHeardMs: undefined,
    carrierSinceMs: undefined
  } as const
  return direct(lasting, nowMs, 'start')
}

/** Returns the path as of now. Called about once a second. */
export function nextPath(before: PathState, facts: PathFacts): PathState {
  const heard = withCarrier(before, facts)
  const carrier = carrierOf(heard, facts)
  const state = carrier === heard.carrier ? heard : { ...heard, carrier }
  return state.isCarried ? fromCarried(state, facts) : fromDirect(state, facts)
}

/** Whether relays are to be asked for this tunnel (invariant 8). */
export function wantsRelay(state: PathState, facts: PathFacts): boolean {
  if (state.isCarried && state.carrier === 'relay') return true
  const patienceMs = facts.isProbed ? ASK_MS : silenceMsMax(facts)
  return facts.unanswered > 0 && silentMs(state, facts) > patienceMs
}

/** Milliseconds without an answer while the tunnel goes over a relay; 0 while it does not. */
export function relaySilentMs(state: PathState, facts: PathFacts): number {
  if (!state.isCarried || state.carrier !== 'relay' || facts.unanswered < LOST_MIN) return 0
  return silentMs(state, facts)
}

/** What is to carry the tunnel (invariant 7). */
function carrierOf(state: PathState, { nowMs, hasCarrier, carrierHeardMs, relay }: PathFacts): Carrier {
  if (relay === undefined) return 'tcp'
  const isTcpHeard = hasCarrier && carrierHeardMs !== undefined && nowMs - carrierHeardMs <= CARRIER_GAP_MS
  if (!isTcpHeard) return 'relay'
  const heldMs = nowMs - Math.max(state.carrierSinceMs ?? nowMs, state.sinceMs)
  return state.carrier === 'tcp' || heldMs >= TCP_HELD_MS ? 'tcp' : 'relay'
}

/** Whether anything carries datagrams to the other end. */
function isCarriable({ hasCarrier, relay }: PathFacts): boolean {
  return hasCarrier || relay !== undefined
}

/** Notes what the carrier brought. An agent that was stopped itself has heard nothing meanwhile, which is a gap, too. */
function withCarrier(state: PathState, { carrierHeardMs }: PathFacts): PathState {
  if (carrierHeardMs === undefined) return { ...state, carrierHeardMs, carrierSinceMs: undefined }
  const gapMs = carrierHeardMs - (state.carrierHeardMs ?? -Infinity)
  const carrierSinceMs = gapMs > CARRIER_GAP_MS ? carrierHeardMs : state.carrierSinceMs
  return { ...state, carrierHeardMs, carrierSinceMs }
}

/** Whether direct is to be tried now (invariant 3). */
export function isTryDue(state: PathState, facts: PathFacts): boolean {
  if (!state.isCarried || !facts.hasAddress) return false
  const { nowMs } = facts
  const isSilent = silentMs(state, facts) > SILENCE_MS && facts.unanswered >= LOST_MIN
  return nowMs >= state.nextTryMs || (isSilent && nowMs >= state.triedMs + SILENT_TRY_MS)
}

/** Milliseconds without an answer by the present path. */
function silentMs({ sinceMs }: PathState, { nowMs, lastAnswerMs }: PathFacts): number {
  return nowMs - Math.max(sinceMs, lastAnswerMs ?? -Infinity)
}

/** The carrier that works although direct is silent (invariants 5 and 8); undefined: none is known to. */
function provedCarrier(state: PathState, facts: PathFacts): Carrier | undefined {
  if (facts.hasCarrier && isProved(state, facts)) return 'tcp'
  return isRelayProved(state, facts) ? 'relay' : undefined
}

function isRelayProved(state: PathState, facts: PathFacts): boolean {
  const { nowMs, relay } = facts
  if (relay === undefined) return false
  const directMs = nowMs - silentMs(state, facts)
  const isSoon = relay.sinceMs - directMs <= RELAY_SOON_MS
  return isSoon
    ? relay.heardMs > directMs
    : nowMs - relay.sinceMs > Math.max(FIRST_ANSWER_MS, silenceMsMax(facts))
}

function isProved(state: PathState, facts: PathFacts): boolean {
  const { carrierHeardMs, carrierSinceMs } = state
  if (carrierHeardMs === undefined || carrierSinceMs === undefined) return false
  const { nowMs } = facts
  if (nowMs - carrierHeardMs > CARRIER_GAP_MS) return false
  const directMs = nowMs - silentMs(state, facts)
  return carrierSinceMs > directMs
    ? nowMs - carrierSinceMs > Math.max(FIRST_ANSWER_MS, silenceMsMax(facts))
    : carrierHeardMs - directMs > PROOF_MS
}

/** Returns the path after a try of direct has ended. */
export function tried(
  state: PathState,
  { nowMs, isAnswered }: { nowMs: number; isAnswered: boolean }
): PathState {
  if (!state.isCarried) return state
  if (isAnswered) return direct(state, nowMs, 'answered')
  const failures = state.failures + 1
  return { ...state, failures, triedMs: nowMs, nextTryMs: nowMs + backoffMs(failures, TRY_WAITS) }
}

function fromDirect(state: PathState, facts: PathFacts): PathState {
  const { nowMs, sendsTo, unanswered } = facts
  if (!isCarriable(facts)) return state
  if (silentMs(state, facts) > silenceMsMax(facts) && unanswered >= LOST_MIN) {
    const carrier = provedCarrier(state, facts)
    if (carrier !== undefined) return carried({ ...state, carrier }, nowMs, 'silent')
  }
  return sendsTo === 'carrier' && nowMs - state.sinceMs > SETTLE_MS
    ? carried(state, nowMs, 'followed')
    : state
}

/** How long a direct path may be silent. */
function silenceMsMax({ isProbed, lastAnswerMs, keepaliveSeconds }: PathFacts): number {
  if (lastAnswerMs === undefined) return isProbed ? FIRST_ANSWER_MS : UNPROBED_SILENCE_MS
  if (isProbed) return SILENCE_MS
  return keepaliveSeconds === 0 ? Infinity : keepaliveSeconds * 1000 + UNPROBED_SILENCE_MS
}

function fromCarried(state: PathState, facts: PathFacts): PathState {
  const { nowMs, sendsTo, lastAnswerMs, unanswered } = facts
  const uncarriedMs = isCarriable(facts) ? undefined : (state.uncarriedMs ?? nowMs)
  const heardMs = sendsTo === 'peer' ? (state.heardMs ?? nowMs) : undefined
  if (uncarriedMs !== undefined && nowMs - uncarriedMs >= UNCARRIED_MS)
    return direct(state, nowMs, 'uncarried')
  const isHeard = heardMs !== undefined && nowMs - heardMs >= HEARD_MS
  if (isHeard && lastAnswerMs !== undefined && lastAnswerMs > heardMs) return direct(state, nowMs, 'followed')
  if (facts.hasAddress && silentMs(state, facts) > CARRIED_SILENCE_MS && unanswered >= LOST_MIN)
    return direct({ ...state, failures: state.failures + 1 }, nowMs, 'unanswered')
  return uncarriedMs === state.uncarriedMs && heardMs === state.heardMs
    ? state
    : { ...state, uncarriedMs, heardMs }
}

/** What goes on through a change of the path. */
type Lasting = Pick<PathState, 'failures' | 'carrier' | 'carrierHeardMs' | 'carrierSinceMs'>

function direct(state: Lasting, nowMs: number, cause: PathCause): PathState {
  return changed(state, nowMs, { isCarried: false, nextTryMs: nowMs, cause })
}

function carried(state: PathState, nowMs: number, cause: PathCause): PathState {
  const hasHeld = nowMs - state.sinceMs >= HELD_MS
  const failures = hasHeld ? 0 : state.cause === 'start' ? state.failures : state.failures + 1
  const nextTryMs = nowMs + backoffMs(failures, TRY_WAITS)
  return changed({ ...state, failures }, nowMs, { isCarried: true, nextTryMs, cause })
}

function changed(
  { failures, carrier, carrierHeardMs, carrierSinceMs }: Lasting,
  nowMs: number,
  next: Pick<PathState, 'isCarried' | 'nextTryMs' | 'cause'>
): PathState {
  const lasting = { failures, carrier, carrierHeardMs, carrierSinceMs }
  return { ...next, ...lasting, sinceMs: nowMs, triedMs: nowMs, uncarriedMs: undefined, heardMs: undefined }
}
