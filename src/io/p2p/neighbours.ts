// The table of neighbours: one live stream for each peer, and the same stream on both sides. When two peers dial each
// other at the same time there are two streams; one of them is elected without a connection that goes up and down.
//
// Election. The side with the smaller PeerId chooses. It sends an empty frame on the stream that it takes, and only
// that stream is used. The other side waits for the empty frame. A further stream of a connected peer is parked: when
// the first stream is alive on the peer's side too, the peer closes the second one. When it has not done so after
// `duplicateGraceMs`, the first stream is dead on the peer's side (it crashed without a FIN), and the parked one
// replaces it.
// Invariants
//   1. neighbourUp and neighbourDown alternate for each peer.
//   2. Frames are delivered only between neighbourUp and neighbourDown.
//   3. A connection on which no stream is in use or parked is closed.
//   4. A stream whose peer is not authenticated within `authenticationMs` is dropped.
import type { Origin } from '../../core/model/values.ts'
import { FrameStream } from './frame-stream.ts'
import type { Connection, Stream } from './frame-stream.ts'
import type { TransportLimits } from './limits.ts'
import { originOf } from './origin.ts'
import { Turns } from './turns.ts'

/** The callbacks of the owner of the transport. An exception of a callback ends that neighbour and no other. */
export interface NeighbourEvents {
  /** The stream is elected, and frames may be sent. The peer has proved its PeerId, but not yet that it is a member. */
  neighbourUp(peer: Origin, info: { inbound: boolean; address: string }): void
  /** One frame, never empty. The bytes belong to the receiver. */
  frame(peer: Origin, frame: Uint8Array): void
  /** The stream has ended; `reason` is text for people. */
  neighbourDown(peer: Origin, reason: string): void
}

/** One neighbour, for status and for the transport. */
export interface NeighbourInfo {
  readonly origin: Origin
  /** True when the peer dialled. */
  readonly inbound: boolean
  /** Multiaddr of the remote end. */
  readonly address: string
  /** True once `setAuthenticated` was called. */
  readonly authenticated: boolean
  readonly queuedBytes: number
  /** Milliseconds since neighbourUp. */
  readonly upForMs: number
}

interface NeighboursOptions {
  readonly self: Origin
  readonly limits: TransportLimits
  readonly events: NeighbourEvents
  /** Called when a neighbour has ended, with the milliseconds since neighbourUp, for the redial loop. */
  readonly ended: (peer: Origin, livedMs: number) => void
  /** Called once when the peer of this connection is authenticated, for the budget of strangers. */
  readonly authenticated: (connection: Connection) => void
  readonly log: (event: string, fields: object) => void
}

/**
 * The result of a new stream. `up` means that the peer is a neighbour, possibly over another stream that won the
 * election.
 */
type LinkOutcome = { readonly kind: 'up' } | { readonly kind: 'ended'; readonly reason: string }

/** One stream to a peer: in use (#current) or parked. */
interface Link {
  readonly peer: Origin
  readonly connection: Connection
  readonly frames: FrameStream
  readonly outcome: PromiseWithResolvers<LinkOutcome>
  /** Drops the link when its peer is not authenticated in time (invariant 4). */
  readonly deadline: NodeJS.Timeout
  /** On the choosing side, for a parked link: accepts it after `duplicateGraceMs`. */
  takeover: NodeJS.Timeout | undefined
  /** Time of neighbourUp on the monotonic clock; 0 before. */
  upAtMs: number
  authenticated: boolean
}

const EMPTY = new Uint8Array(0)

/** Parked streams of one peer. Two at a time are legitimate, when both sides dial; more are refused. */
const PARKED_MAX = 2

/** All neighbours of one transport. */
export class Neighbours {
  readonly #options: NeighboursOptions
  readonly #current = new Map<Origin, Link>()
  readonly #parked = new Map<Origin, Set<Link>>()
  /** Streams and connections that are being closed; `closeAll` waits for them. */
  readonly #closing = new Set<Promise<void>>()
  /** The turns of all streams of this transport. */
  readonly turns = new Turns({ now: () => performance.now(), later: setImmediate })

  constructor(options: NeighboursOptions) {
    this.#options = options
  }

  has(peer: Origin): boolean {
    return this.#current.has(peer)
  }

  /** Returns the connection of an authenticated neighbour; undefined: the peer is none. */
  connectionOf(peer: Origin): Connection | undefined {
    const link = this.#current.get(peer)
    return link?.authenticated === true ? link.connection : undefined
  }

  /**
   * Takes a new stream that either side has opened. The outcome settles within `authenticationMs` and never rejects.
   */
  add(connection: Connection, stream: Stream): Promise<LinkOutcome> {
    const peer = originOf(connection.remotePeer)
    if (peer === undefined) {
      connection.abort(new Error('not an Ed25519 peer'))
      return Promise.resolve({ kind: 'ended', reason: 'not an Ed25519 peer' })
    }
    // An own dial that found its peer connected meanwhile is not needed; an inbound stream may mean that the first one
    // is dead.
    if (this.#current.has(peer) && stream.direction === 'outbound') {
      stream.abort(new Error('already connected'))
      return Promise.resolve({ kind: 'up' })
    }
    const parked = this.#parked.get(peer) ?? new Set<Link>()
    if (parked.size >= PARKED_MAX) {
      stream.abort(new Error('too many streams of one peer'))
      return Promise.resolve({ kind: 'ended', reason: 'too many streams of one peer' })
    }
    const link: Link = {
      peer,
      connection,
      frames: new FrameStream({
        stream,
        limits: this.#options.limits,
        turns: this.turns,
        frame: (frame) => this.#frame(link, frame),
        ended: (reason) => this.#ended(link, reason)
      }),
      outcome: Promise.withResolvers(),
      deadline: setTimeout(
        () => this.#drop(link, 'not authenticated in time'),
        this.#options.limits.authenticationMs
      ),
      takeover: undefined,
      upAtMs: 0,
      authenticated: false
    }
    parked.add(link)
    this.#parked.set(peer, parked)
    link.frames.open()
    if (parked.has(link) && this.#chooses(peer)) this.#choose(link)
    return link.outcome.promise
  }

  /** Described at `Transport.send`. */
  send(peer: Origin, frame: Uint8Array): boolean {
    if (frame.byteLength === 0) throw new RangeError('an empty frame is reserved for the election')
    if (frame.byteLength > this.#options.limits.frameBytesMax)
      throw new RangeError('frame over frameBytesMax')
    return this.#current.get(peer)?.frames.send(frame) ?? false
  }

  /**
   * Ends the deadline of the peer's stream and raises its limit of frames. Does nothing for a peer that is no
   * neighbour.
   */
  setAuthenticated(peer: Origin): void {
    const link = this.#current.get(peer)
    if (link === undefined || link.authenticated) return
    link.authenticated = true
    clearTimeout(link.deadline)
    link.frames.trust()
    this.#options.authenticated(link.connection)
  }

  whenSent(peer: Origin, listener: () => void): void {
    this.#current.get(peer)?.frames.whenShort(listener)
  }

  pause(peer: Origin): void {
    this.#current.get(peer)?.frames.pause()
  }

  resume(peer: Origin): void {
    this.#current.get(peer)?.frames.resume()
  }

  /**
   * Closes a neighbour. Queued frames are still sent, for at most `closeMs`; neighbourDown has been called when this
   * returns.
   */
  disconnect(peer: Origin, reason: string): void {
    const link = this.#current.get(peer)
    if (link !== undefined) this.#track(link.frames.close(reason))
  }

  /** Resets a neighbour whose connection is known to be dead. neighbourDown has been called when this returns. */
  reset(peer: Origin, reason: string): void {
    const link = this.#current.get(peer)
    if (link !== undefined) this.#drop(link, reason)
  }

  list(): readonly NeighbourInfo[] {
    const now = performance.now()
    return Array.from(this.#current.values(), (link) => ({
      origin: link.peer,
      inbound: link.connection.direction === 'inbound',
      address: link.connection.remoteAddr.toString(),
      authenticated: link.authenticated,
      queuedBytes: link.frames.queuedBytes,
      upForMs: now - link.upAtMs
    }))
  }

  /**
   * Closes all neighbours and parked streams. Resolves when their connections are closed, within about 2 × `closeMs`.
   */
  async closeAll(reason: string): Promise<void> {
    for (const link of this.#links()) {
      if (this.#current.get(link.peer) === link) this.disconnect(link.peer, reason)
      else this.#drop(link, reason)
    }
    await Promise.all(this.#closing)
  }

  /** Returns all links as a copy, because callers end links while they iterate. */
  #links(): Link[] {
    const links = [...this.#current.values()]
    for (const parked of this.#parked.values()) links.push(...parked)
    return links
  }

  /** True when this side elects the stream. */
  #chooses(peer: Origin): boolean {
    return this.#options.self < peer
  }

  /** On the choosing side: takes the stream, or parks it when the peer is connected already. */
  #choose(link: Link): void {
    if (this.#current.has(link.peer)) {
      const waitMs = this.#options.limits.duplicateGraceMs
      link.takeover = setTimeout(() => this.#accept(link), waitMs)
      return
    }
    this.#accept(link)
  }

  #accept(link: Link): void {
    if (link.frames.send(EMPTY)) this.#up(link)
  }

  /** Takes a frame of any link. An exception aborts its stream. */
  #frame(link: Link, frame: Uint8Array): void {
    if (this.#current.get(link.peer) === link) {
      if (frame.byteLength === 0) throw new Error('empty frame')
      this.#options.events.frame(link.peer, frame)
      return
    }
    // Before the stream is in use, only the empty frame of the choosing side is allowed.
    if (this.#chooses(link.peer) || frame.byteLength > 0)
      throw new Error('frame before the stream was accepted')
    this.#up(link)
  }

  /** Makes a link the one in use; a link that was in use before ends first (invariant 1). */
  #up(link: Link): void {
    const { peer } = link
    const before = this.#current.get(peer)
    if (before !== undefined) this.#drop(before, 'replaced by a newer connection')
    this.#unpark(link)
    link.upAtMs = performance.now()
    this.#current.set(peer, link)
    const address = link.connection.remoteAddr.toString()
    try {
      this.#options.events.neighbourUp(peer, { inbound: link.connection.direction === 'inbound', address })
    } catch (error) {
      this.#drop(link, `handler failed: ${error instanceof Error ? error.message : String(error)}`)
    }
    link.outcome.resolve({ kind: 'up' })
    // The other side closes the streams that were not chosen; the choosing side keeps them parked until then.
    if (this.#chooses(peer)) return
    for (const other of Array.from(this.#parked.get(peer) ?? [])) {
      this.#drop(other, 'another stream of this peer is in use')
    }
  }

  /** Called once for each link by its stream, no matter which side ended it. */
  #ended(link: Link, reason: string): void {
    clearTimeout(link.deadline)
    this.#unpark(link)
    const wasCurrent = this.#current.get(link.peer) === link
    if (wasCurrent) this.#current.delete(link.peer)
    link.outcome.resolve(this.#current.has(link.peer) ? { kind: 'up' } : { kind: 'ended', reason })
    if (wasCurrent) {
      this.#options.log('neighbour ended', { peer: link.peer, reason })
      this.#options.ended(link.peer, performance.now() - link.upAtMs)
      try {
        this.#options.events.neighbourDown(link.peer, reason)
      } catch (error) {
        this.#options.log('neighbourDown handler failed', { peer: link.peer, error })
      }
    }
    this.#track(this.#closeConnection(link))
  }

  #unpark(link: Link): void {
    clearTimeout(link.takeover)
    const parked = this.#parked.get(link.peer)
    parked?.delete(link)
    if (parked?.size === 0) this.#parked.delete(link.peer)
  }

  #drop(link: Link, reason: string): void {
    link.frames.abort(reason)
  }

  /**
   * Closes the connection of an ended link, after its stream has sent its queue, unless another link uses it (invariant
   * 3).
   */
  async #closeConnection({ connection, frames }: Link): Promise<void> {
    await frames.settled
    if (this.#inUse(connection)) return
    try {
      await connection.close({ signal: AbortSignal.timeout(this.#options.limits.closeMs) })
    } catch (error) {
      connection.abort(error instanceof Error ? error : new Error('not closed in time'))
    }
  }

  #inUse(connection: Connection): boolean {
    return this.#links().some((link) => link.connection === connection)
  }

  /** Remembers work for `closeAll`; it must not reject. */
  #track(closing: Promise<void>): void {
    this.#closing.add(closing)
    void closing.finally(() => this.#closing.delete(closing))
  }
}
