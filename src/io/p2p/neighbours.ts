// The table of neighbours: exactly one live stream per peer, the same one on both sides, without a flap when both dial.
//
// Election. The side with the smaller PeerId chooses: it sends an empty frame on the stream it takes, and only that stream
// is ever used. The other side waits for the empty frame. A further stream of a connected peer is parked: if the peer sees
// the first stream too, it closes the second by itself; if it has not done so after `duplicateGraceMs`, the first stream is
// dead on its side (a crash without a FIN), and the parked one takes over.
// Invariants: (1) neighbourUp and neighbourDown alternate per peer; (2) frames are delivered between them only;
// (3) a connection without a link is closed; (4) a link that is not authenticated in time is dropped.
import type { Origin } from '../../core/model/values.ts'
import { FrameStream } from './frame-stream.ts'
import type { Connection, Stream } from './frame-stream.ts'
import type { TransportLimits } from './limits.ts'
import { originOf } from './origin.ts'

export interface NeighbourEvents {
  neighbourUp(peer: Origin, info: { inbound: boolean; address: string }): void
  frame(peer: Origin, frame: Uint8Array): void
  neighbourDown(peer: Origin, reason: string): void
}

export interface NeighbourInfo {
  readonly origin: Origin
  readonly inbound: boolean
  readonly address: string
  readonly authenticated: boolean
  readonly queuedBytes: number
  readonly upForMs: number
}

interface NeighboursOptions {
  readonly self: Origin
  readonly limits: TransportLimits
  readonly events: NeighbourEvents
  /** A neighbour ended after this long; for the redial loop. */
  readonly ended: (peer: Origin, livedMs: number) => void
  readonly authenticated: (connection: Connection) => void
  readonly log: (event: string, fields: object) => void
}

/** How an attempt to become a neighbour went: 'up' also where another stream of the same peer won. */
type LinkOutcome = { readonly kind: 'up' } | { readonly kind: 'ended'; readonly reason: string }

interface Link {
  readonly peer: Origin
  readonly connection: Connection
  readonly frames: FrameStream
  readonly outcome: PromiseWithResolvers<LinkOutcome>
  readonly deadline: NodeJS.Timeout
  takeover: NodeJS.Timeout | undefined
  upAtMs: number
  authenticated: boolean
}

const EMPTY = new Uint8Array(0)

/** A peer has reason for two streams at once (both dialled); more is abuse. */
const PARKED_MAX = 2

export class Neighbours {
  readonly #options: NeighboursOptions
  readonly #current = new Map<Origin, Link>()
  readonly #parked = new Map<Origin, Set<Link>>()
  readonly #closing = new Set<Promise<void>>()

  constructor(options: NeighboursOptions) {
    this.#options = options
  }

  has(peer: Origin): boolean {
    return this.#current.has(peer)
  }

  /** Offers a stream that either side opened. The outcome settles within authenticationMs. */
  add(connection: Connection, stream: Stream): Promise<LinkOutcome> {
    const peer = originOf(connection.remotePeer)
    if (peer === undefined) {
      connection.abort(new Error('not an Ed25519 peer'))
      return Promise.resolve({ kind: 'ended', reason: 'not an Ed25519 peer' })
    }
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

  send(peer: Origin, frame: Uint8Array): boolean {
    if (frame.byteLength === 0) throw new RangeError('an empty frame is reserved for the election')
    if (frame.byteLength > this.#options.limits.frameBytesMax)
      throw new RangeError('frame over frameBytesMax')
    return this.#current.get(peer)?.frames.send(frame) ?? false
  }

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

  /** What is queued is still sent; neighbourDown has been called when this returns. */
  disconnect(peer: Origin, reason: string): void {
    const link = this.#current.get(peer)
    if (link !== undefined) this.#track(link.frames.close(reason))
  }

  /** At once: its connection is dead. neighbourDown has been called when this returns. */
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

  async closeAll(reason: string): Promise<void> {
    for (const link of this.#links()) {
      if (this.#current.get(link.peer) === link) this.disconnect(link.peer, reason)
      else this.#drop(link, reason)
    }
    await Promise.all(this.#closing)
  }

  /** A copy: callers end links while they go through it. */
  #links(): Link[] {
    const links = [...this.#current.values()]
    for (const parked of this.#parked.values()) links.push(...parked)
    return links
  }

  #chooses(peer: Origin): boolean {
    return this.#options.self < peer
  }

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

  #frame(link: Link, frame: Uint8Array): void {
    if (this.#current.get(link.peer) === link) {
      if (frame.byteLength === 0) throw new Error('empty frame')
      this.#options.events.frame(link.peer, frame)
      return
    }
    // Only the chooser's empty frame may come before the stream is in use.
    if (this.#chooses(link.peer) || frame.byteLength > 0)
      throw new Error('frame before the stream was accepted')
    this.#up(link)
  }

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
    // Ours to close: the chooser parks what it does not take and waits for exactly this.
    if (this.#chooses(peer)) return
    for (const other of Array.from(this.#parked.get(peer) ?? [])) {
      this.#drop(other, 'another stream of this peer is in use')
    }
  }

  /** Called once per link, by its stream, whoever ended it. */
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

  /** After its stream had its time to send what was queued. */
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

  #track(closing: Promise<void>): void {
    this.#closing.add(closing)
    void closing.finally(() => this.#closing.delete(closing))
  }
}
