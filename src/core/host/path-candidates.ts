// The address at which a direct tunnel is tried, where the other end publishes several, and how a relayed tunnel finds a direct
// way between two NATs. Pure: member-path.ts acts on it.
//
// WireGuard sends to one address at a time. While nothing is answered there, the next one of the list is tried.
//
// A NAT lets in packets from an address only after one has left to it. So two ends that no one can dial meet when each sends
// to the address at which members see the other one (observed-addresses.ts). From `direct` WireGuard does that by itself, with
// its handshakes. A tunnel that goes over a relay sends nothing else, and a try from another socket (io/path/direct-try.ts) has
// another port, which opens nothing. So WireGuard itself sends to the observed address for PUNCH_MS: a punch.
// Invariants
//   1. A punch loses at most what is sent within PUNCH_MS, and a tunnel makes at most five of them while both ends keep
//      their addresses: an address may be known late, and both ends must send within the 30 s of a NAT.
//   2. Only a tunnel over a relay punches: over `tcp` one end can dial the other, so a try decides.
import { parseIp } from '../model/cidr.ts'
import { hostOfPeerAddress } from '../model/outer-address.ts'
import type { PeerAddress } from '../model/values.ts'
import { isPrivate } from './own-addresses.ts'

/** Twice a handshake of WireGuard, which repeats it after 5 s. */
const CANDIDATE_MS = 6_000
/** A tunnel that was answered before: most likely the other end is away, and comes back at the same address. */
const KNOWN_CANDIDATE_MS = 15_000
const LOST_MIN = 3
/** As many as a try of direct takes (io/path/direct-try.ts). */
const CANDIDATES_MAX = 4
/** Both ends begin within some seconds, and a NAT keeps an entry for 30 s or longer. */
const PUNCH_AFTER_MS = [5_000, 20_000, 60_000, 120_000, 240_000]
const PUNCH_MS = 3_000

/** What is known of a tunnel at one moment. */
export interface CandidateFacts {
  readonly nowMs: number
  readonly isCarried: boolean
  readonly isRelayed: boolean
  /** Time of the latest change of the path. */
  readonly sinceMs: number
  readonly lastAnswerMs: number | undefined
  readonly unanswered: number
  /** The addresses that the other end publishes, best first. */
  readonly addresses: readonly PeerAddress[]
  /** The addresses that this agent publishes. */
  readonly own: readonly PeerAddress[]
  /** Where WireGuard sends now; undefined: not known. */
  readonly endpoint: PeerAddress | undefined
}

/** Which address is tried. */
export interface Candidates {
  /** The published addresses of both ends, joined: another text begins anew, since what failed may work now. */
  readonly list: string
  /** undefined: the first one. */
  readonly address: PeerAddress | undefined
  readonly sinceMs: number
  readonly punches: number
  /** The punch that runs; undefined: none. */
  readonly punch: { readonly address: PeerAddress; readonly startMs: number } | undefined
  /** Time since when the tunnel goes over a relay; undefined: it does not. */
  readonly relayedMs: number | undefined
}

export const NO_CANDIDATES: Candidates = {
  list: '',
  address: undefined,
  sinceMs: -Infinity,
  punches: 0,
  punch: undefined,
  relayedMs: undefined
}

/** Returns what is tried now. Called about once a second. */
export function nextCandidate(before: Candidates, facts: CandidateFacts): Candidates {
  const list = `${facts.addresses.join(' ')} / ${facts.own.join(' ')}`
  const state = list === before.list ? before : { ...NO_CANDIDATES, list, sinceMs: facts.nowMs }
  return facts.isCarried ? fromCarried(state, facts) : fromDirect(state, facts)
}

/** Whether the punch that runs was answered: WireGuard sends to where the latest answer came from. */
export function isPunched({ punch }: Candidates, { lastAnswerMs, endpoint }: CandidateFacts): boolean {
  return (
    punch !== undefined &&
    endpoint === punch.address &&
    lastAnswerMs !== undefined &&
    lastAnswerMs > punch.startMs
  )
}

function fromDirect(state: Candidates, facts: CandidateFacts): Candidates {
  const { nowMs, sinceMs, lastAnswerMs, unanswered, addresses, endpoint } = facts
  const idle = { ...state, punch: undefined, relayedMs: undefined }
  const triedMs = nowMs - Math.max(sinceMs, state.sinceMs, lastAnswerMs ?? -Infinity)
  const patienceMs = lastAnswerMs === undefined ? CANDIDATE_MS : KNOWN_CANDIDATE_MS
  if (unanswered < LOST_MIN || triedMs < patienceMs) return idle
  const tried = addresses.slice(0, CANDIDATES_MAX)
  const at = endpoint === undefined ? -1 : tried.indexOf(endpoint)
  return { ...idle, address: tried[(at + 1) % tried.length], sinceMs: nowMs }
}

function fromCarried(state: Candidates, { nowMs, isRelayed, addresses }: CandidateFacts): Candidates {
  if (state.punch !== undefined)
    return nowMs - state.punch.startMs < PUNCH_MS ? state : { ...state, punch: undefined }
  if (!isRelayed) return { ...state, relayedMs: undefined }
  const relayedMs = state.relayedMs ?? nowMs
  const afterMs = PUNCH_AFTER_MS[state.punches]
  const [address] = addresses
  const ip = address && parseIp(hostOfPeerAddress(address))
  if (address === undefined || ip === undefined || isPrivate(ip) || afterMs === undefined)
    return { ...state, relayedMs }
  if (nowMs - relayedMs < afterMs) return { ...state, relayedMs }
  return { ...state, relayedMs, punches: state.punches + 1, punch: { address, startMs: nowMs } }
}
