// The path of the tunnel to one member (core/host/tunnel-path.ts): its socket on loopback while datagrams are carried, what
// is carried and dropped, and the tries of direct.
//
//   WireGuard → socket on loopback → carrier → the agent of the other end → its socket on loopback → its WireGuard
//
// The carrier is the control connection to the member, or a relay. One socket stands for the member in both cases, so a
// change from one to the other changes nothing for WireGuard.
// Invariants
//   1. Only datagrams with the form of WireGuard's are carried, at the rate of the setting, and few that begin a handshake.
//   2. After a try of direct was answered, nothing is handed to WireGuard for SETTLE_MS: a late datagram would bring its
//      endpoint back to loopback. The other end sends directly by then.
//   3. The sockets are as many as the members that have been carried.
import {
  isPunched,
  nextCandidate,
  NO_CANDIDATES,
  type CandidateFacts,
  type Candidates
} from '../../core/host/path-candidates.ts'
import {
  isCarrierAddress,
  isTryDue,
  nextPath,
  relaySilentMs,
  SETTLE_MS,
  startPath,
  tried,
  wantsRelay,
  type PathFacts,
  type PathState
} from '../../core/host/tunnel-path.ts'
import { datagramKind, sessionOf } from '../../core/host/wireguard-datagram.ts'
import { TokenBucket } from '../../core/model/token-bucket.ts'
import type { ClusterName, Origin, PeerAddress, WireguardKey } from '../../core/model/values.ts'
import type { DatagramOutcome } from '../../io/p2p/datagrams.ts'
import { CarrierSocket } from '../../io/path/carrier-socket.ts'
import { tryDirect } from '../../io/path/direct-try.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Carried } from './carried.ts'

/** The member at the other end, as its record says. */
export interface PathPeer {
  readonly origin: Origin
  readonly cluster: ClusterName
  readonly node: string
  readonly key: WireguardKey
  /** UDP addresses of its WireGuard; empty: only it can start direct. */
  readonly addresses: readonly PeerAddress[]
}

type Carrier = PathState['carrier']

interface MemberPathOptions {
  readonly peer: PathPeer
  readonly wireguardPort: number
  /** Bytes a second that are carried in each direction. */
  readonly bytesPerSecond: number
  readonly send: Readonly<Record<Carrier, (peer: Origin, datagram: Uint8Array) => DatagramOutcome>>
  /** The round trip of the carrier in milliseconds; undefined: not measured. */
  readonly rttMs: (peer: Origin) => number | undefined
  readonly count: Readonly<Record<Carrier, Carried['count']>>
  /** Called when WireGuard is to send to another address, and when the path has changed. */
  readonly onChange: (before: PathState) => void
  readonly onError: (error: Error) => void
}

// Bytes that may come at once, in seconds of the rate: TCP sends in bursts of a round trip.
const BURST_SECONDS = 0.25
/**
 * The bytes of the rate that a datagram takes at least. A short datagram costs as much processor time as a long one, and
 * 100 Mbit/s of datagrams with 32 bytes each would be 400,000 datagrams a second.
 */
const COUNTED_BYTES_MIN = 1_000
/**
 * WireGuard makes a session every 2 min and repeats a handshake every 5 s. All carried members share the loopback address, by
 * which WireGuard bounds handshakes under load, so one of them must not use it up.
 */
const HANDSHAKES = { burst: 10, perSecond: 1 }
/** A session is renewed every 2 min, and the one before is still used for a while. */
const SESSIONS_MAX = 3
// Milliseconds to wait for the answer of a try. The datagram of the try is late by as much when UDP is blocked.
const TRY_WAIT_MS = { min: 300, max: 1_000 }
/** How long nothing is carried for a member that carried the datagrams of another one. */
const BLOCKED_MS = 60_000
/** How long a member counts as one that carries nothing, after it has refused the stream. */
const UNSUPPORTED_MS = 60_000
/** For so long a valid packet may have been the one that a relay has delivered. */
const RELAYED_MS = 15_000

/** See the head of this file. */
export class MemberPath {
  peer: PathPeer
  readonly #options: MemberPathOptions
  #state: PathState
  #socket: CarrierSocket | undefined
  readonly #rates: { readonly in: TokenBucket; readonly out: TokenBucket }
  readonly #handshakes = new TokenBucket(HANDSHAKES)
  /** Numbers by which our WireGuard knows its sessions with the member, the newest last. */
  #sessions: readonly number[] = []
  /** True: the next datagram of data is used for a try of direct. */
  #wantsTry = false
  /** Ends the try that runs; undefined: none runs. */
  #endTry: (() => void) | undefined
  /** The address at which the latest try was answered. */
  #answered: PeerAddress | undefined
  #settledMs = -Infinity
  #blockedMs = -Infinity
  #unsupportedMs = -Infinity
  /** Which of the published addresses is tried. */
  #candidates: Candidates = NO_CANDIDATES
  #wantsRelay = false
  #relaySilentMs = 0
  /** The relay that delivered the latest datagram, and when. */
  #relayed: { readonly relay: Origin; readonly atMs: number } | undefined

  constructor(options: MemberPathOptions, nowMs: number) {
    const { bytesPerSecond } = options
    const rate = { burst: bytesPerSecond * BURST_SECONDS, perSecond: bytesPerSecond }
    this.peer = options.peer
    this.#options = options
    this.#rates = { in: new TokenBucket(rate), out: new TokenBucket(rate) }
    this.#state = startPath(nowMs)
  }

  get state(): PathState {
    return this.#state
  }

  /** The address to which WireGuard is to send; undefined: the one that the member publishes. */
  get address(): PeerAddress | undefined {
    const { punch, address: candidate } = this.#candidates
    if (this.#state.isCarried) return punch?.address ?? this.#socket?.address
    return this.peer.addresses.find((address) => address === this.#answered) ?? candidate
  }

  /** The loopback address of this member; undefined: nothing was carried for it. */
  get carrierAddress(): PeerAddress | undefined {
    return this.#socket?.address
  }

  /** Whether relays are to be asked, and for how long the present one has brought no answer. */
  get need(): { readonly wantsRelay: boolean; readonly silentMs: number } {
    return { wantsRelay: this.#wantsRelay, silentMs: this.#relaySilentMs }
  }

  /** Whether a control connection to this member, or to a relay, carries the tunnel or is to carry it. */
  get wantsCarrier(): boolean {
    return this.#state.isCarried || this.#wantsRelay
  }

  /** The relay that has delivered datagrams of this member lately; undefined: none has. */
  relayed(nowMs: number): Origin | undefined {
    const { relay, atMs } = this.#relayed ?? { atMs: -Infinity }
    return nowMs - atMs < RELAYED_MS ? relay : undefined
  }

  /** Whether the member takes what is carried, as far as is known. */
  isCarrying(nowMs: number): boolean {
    return nowMs - this.#unsupportedMs > UNSUPPORTED_MS && nowMs > this.#blockedMs
  }

  /** Judges the path. `endpoint`: where WireGuard sends now. `own`: the addresses that this agent publishes. */
  judge(
    peer: PathPeer,
    { endpoint, own }: { readonly endpoint: PeerAddress | undefined; readonly own: readonly PeerAddress[] },
    facts: Omit<PathFacts, 'sendsTo' | 'hasAddress'>
  ): void {
    this.peer = peer
    const sendsTo = endpoint === undefined ? undefined : isCarrierAddress(endpoint) ? 'carrier' : 'peer'
    const all: PathFacts = { ...facts, sendsTo, hasAddress: peer.addresses.length > 0 }
    this.#become(nextPath(this.#state, all))
    this.#choose({ ...facts, addresses: peer.addresses, own, endpoint })
    if (this.#state.isCarried) this.#open()
    this.#wantsTry = isTryDue(this.#state, all)
    this.#wantsRelay = wantsRelay(this.#state, all)
    this.#relaySilentMs = relaySilentMs(this.#state, all)
  }

  /** Chooses the address to try, and ends a punch that was answered (core/host/path-candidates.ts). */
  #choose(known: Omit<CandidateFacts, 'isCarried' | 'sinceMs' | 'isRelayed'>): void {
    const { isCarried, sinceMs, carrier } = this.#state
    const facts = { ...known, isCarried, sinceMs, isRelayed: isCarried && carrier === 'relay' }
    const { address, punch } = this.#candidates
    if (isCarried && isPunched(this.#candidates, facts)) {
      this.#answered = punch?.address
      this.#settledMs = facts.nowMs + SETTLE_MS
      return this.#become(tried(this.#state, { nowMs: facts.nowMs, isAnswered: true }))
    }
    this.#candidates = nextCandidate(this.#candidates, facts)
    const now = this.#candidates
    if (now.address !== address) this.#answered = undefined
    if (now.address !== address || now.punch?.address !== punch?.address) this.#options.onChange(this.#state)
  }

  /** Takes a datagram that has come by a carrier, and hands it to WireGuard. `relay`: the one that delivered it. */
  received(datagram: Uint8Array, relay?: Origin): void {
    const count = this.#options.count[relay === undefined ? 'tcp' : 'relay']
    const nowMs = monotonicMs()
    const kind = datagramKind(datagram)
    if (kind === undefined) return count('in', 'malformed')
    if (nowMs < this.#blockedMs && relay === undefined) return count('in', 'refused')
    const isWithin = kind !== 'initiation' || this.#handshakes.take(nowMs)
    if (!isWithin || !this.#rates.in.take(nowMs, countedBytes(datagram))) return count('in', 'rate')
    if (kind === 'data') this.#learn(sessionOf(datagram))
    if (nowMs < this.#settledMs) return count('in', 'settling')
    count('in', 'carried')
    if (relay !== undefined) this.#relayed = { relay, atMs: nowMs }
    this.#open().deliver(datagram)
  }

  /** Carries nothing for a while: the member has carried the datagrams of another one. */
  block(nowMs: number): void {
    this.#blockedMs = nowMs + BLOCKED_MS
  }

  isBlocked(nowMs: number): boolean {
    return nowMs < this.#blockedMs
  }

  close(): void {
    this.#endTry?.()
    this.#endTry = undefined
    this.#socket?.close()
    this.#socket = undefined
  }

  #open(): CarrierSocket {
    return (this.#socket ??= new CarrierSocket({
      wireguardPort: this.#options.wireguardPort,
      onDatagram: (datagram) => this.#left(datagram),
      onChange: (error) => {
        if (error === undefined) return this.#options.onChange(this.#state)
        this.#socket = undefined // the next look opens another one
        this.#options.onError(error)
      }
    }))
  }

  /** Takes a datagram that WireGuard has sent to the loopback address. */
  #left(datagram: Uint8Array): void {
    if (!this.#wantsTry || this.#endTry !== undefined || datagramKind(datagram) !== 'data')
      return this.#carry(datagram)
    this.#wantsTry = false
    const { rttMs } = this.#options
    const waitMs = 2 * (rttMs(this.peer.origin) ?? 0) + TRY_WAIT_MS.min
    this.#endTry = tryDirect({
      addresses: this.peer.addresses,
      datagram,
      waitMs: Math.min(waitMs, TRY_WAIT_MS.max),
      isAnswer: (answer) => datagramKind(answer) === 'data' && this.#sessions.includes(sessionOf(answer)),
      onEnd: (answer) => {
        this.#endTry = undefined
        const nowMs = monotonicMs()
        if (answer === undefined) this.#carry(datagram)
        else {
          this.#socket?.deliver(answer.datagram)
          this.#answered = answer.address
          this.#settledMs = nowMs + SETTLE_MS
        }
        this.#become(tried(this.#state, { nowMs, isAnswered: answer !== undefined }))
      }
    })
  }

  #carry(datagram: Uint8Array): void {
    const { carrier } = this.#state
    const count = this.#options.count[carrier]
    if (!this.#rates.out.take(monotonicMs(), countedBytes(datagram))) return count('out', 'rate')
    const outcome = this.#options.send[carrier](this.peer.origin, datagram)
    if (outcome === 'unsupported' && carrier === 'tcp') this.#unsupportedMs = monotonicMs()
    count('out', outcome === 'sent' ? 'carried' : outcome)
  }

  #learn(session: number): void {
    if (!this.#sessions.includes(session)) this.#sessions = [...this.#sessions, session].slice(-SESSIONS_MAX)
  }

  #become(state: PathState): void {
    const before = this.#state
    this.#state = state
    if (before.isCarried !== state.isCarried) this.#options.onChange(before)
  }
}

/** What a datagram counts of a rate. */
export function countedBytes({ length }: Uint8Array): number {
  return Math.max(length, COUNTED_BYTES_MIN)
}
