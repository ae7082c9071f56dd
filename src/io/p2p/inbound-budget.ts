// Bounds the inbound connections that are not authenticated yet, in number and in time, so that hosts outside the mesh
// cannot use up sockets and memory, nor keep members out. A connection counts from the accepted socket on. gater.ts asks
// for each accepted socket, and tells when noise has proved its PeerId.
// Invariants
//   1. A socket is a stranger until noise has proved that it is of a known member. The places of known members are their
//      own: strangers cannot take them, and a member that returns waits for no stranger.
//   2. A new socket takes the place of the oldest stranger when the places of its host, or all places, are taken. A
//      silent stranger goes before one that has proved a PeerId. So a newcomer always gets in, and keeps its place while
//      fewer new sockets arrive than there are places.
//   3. A stranger that is silent ends after `silentMs`, every other one after `authenticationMs`.
//   4. A host is an IPv4 address or a /64 of IPv6. A host whose connections were refused because of a ban is slowed, and
//      not refused, because honest agents may be behind the same address.
import type { TransportLimits } from './limits.ts'

/** The part of a socket that the budget needs. */
interface InboundSocket {
  /** Address and port of the remote end, which name the socket uniquely (`socketKey`). */
  readonly key: string
  /** IPv4 address or /64 of the remote end (`hostOf`). */
  readonly host: string
  abort(error: Error): void
  onClose(listener: () => void): void
}

/** `silent`: noise has proved no PeerId yet. `proved`: it is of no known member. `member`: it is of a known one. */
type Stage = 'silent' | 'proved' | 'member'

interface Entry {
  readonly socket: InboundSocket
  readonly atMs: number
  stage: Stage
  deadline: NodeJS.Timeout
}

/** The inbound connections of one transport that are not authenticated. */
export class InboundBudget {
  readonly #limits: TransportLimits
  /** By the key of the socket, the oldest first. */
  readonly #entries = new Map<string, Entry>()
  /** Until when the connections of a host are slowed, in monotonic milliseconds. */
  readonly #slowUntilMs = new Map<string, number>()

  constructor(limits: TransportLimits) {
    this.#limits = limits
  }

  /** The number of inbound connections that are not authenticated and of no known member. */
  get strangers(): number {
    return this.#strangers().length
  }

  /**
   * Takes a new socket. It counts until it closes, is authenticated (`release`), or is aborted by its deadline or for a
   * newer one.
   */
  admit(socket: InboundSocket): void {
    const { unauthenticatedMax, unauthenticatedPerAddressMax, silentMs } = this.#limits
    const strangers = this.#strangers()
    const ofHost = strangers.filter((entry) => entry.socket.host === socket.host)
    if (ofHost.length >= unauthenticatedPerAddressMax) this.#evictOneOf(ofHost)
    else if (strangers.length >= unauthenticatedMax) this.#evictOneOf(strangers)
    this.#entries.set(socket.key, {
      socket,
      atMs: performance.now(),
      stage: 'silent',
      deadline: setTimeout(() => this.#end(socket.key, 'silent for too long'), silentMs)
    })
    socket.onClose(() => this.release(socket.key))
  }

  /** Noise has proved the PeerId of this socket. Returns false when too many members arrive at one time. */
  proved(key: string, isMember: boolean): boolean {
    const entry = this.#entries.get(key)
    if (entry === undefined) return true
    if (isMember && this.#count('member') >= this.#limits.arrivingMembersMax) return false
    clearTimeout(entry.deadline)
    entry.stage = isMember ? 'member' : 'proved'
    const leftMs = this.#limits.authenticationMs - (performance.now() - entry.atMs)
    entry.deadline = setTimeout(() => this.#end(key, 'not authenticated in time'), Math.max(0, leftMs))
    return true
  }

  /**
   * Ends the deadline, and the socket still counts. Called when its stream is open: the stream has the same deadline
   * (neighbours.ts), which ends it with a more exact reason.
   */
  handOver(key: string): void {
    clearTimeout(this.#entries.get(key)?.deadline)
  }

  /**
   * The socket counts no more: it has closed, or its peer is authenticated. Further calls for the same key do nothing.
   */
  release(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    clearTimeout(entry.deadline)
    this.#entries.delete(key)
  }

  /** Slows the next connections of a host for SLOW_MS. */
  slow(host: string): void {
    const nowMs = performance.now()
    for (const [each, untilMs] of this.#slowUntilMs) if (untilMs <= nowMs) this.#slowUntilMs.delete(each)
    if (this.#slowUntilMs.size < SLOWED_HOSTS_MAX) this.#slowUntilMs.set(host, nowMs + SLOW_MS)
  }

  /** The milliseconds that a new connection of this host waits. */
  delayMs(host: string): number {
    return (this.#slowUntilMs.get(host) ?? 0) > performance.now() ? SLOW_DELAY_MS : 0
  }

  #strangers(): readonly Entry[] {
    return [...this.#entries.values()].filter(({ stage }) => stage !== 'member')
  }

  #count(stage: Stage): number {
    return [...this.#entries.values()].filter((entry) => entry.stage === stage).length
  }

  /** Ends the oldest silent one, or the oldest when none is silent. */
  #evictOneOf(entries: readonly Entry[]): void {
    const oldest = entries.find(({ stage }) => stage === 'silent') ?? entries[0]
    if (oldest) this.#end(oldest.socket.key, 'its place was needed for a newer connection')
  }

  #end(key: string, reason: string): void {
    const entry = this.#entries.get(key)
    this.release(key)
    entry?.socket.abort(new Error(reason))
  }
}

// A host from which a banned agent dials may also be that of a newcomer, which must still come in within its 3 s.
const SLOW_DELAY_MS = 500
const SLOW_MS = 60_000
const SLOWED_HOSTS_MAX = 1024
