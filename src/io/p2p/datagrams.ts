// Carries datagrams between members beside the control frames: a stream of its own on the control connection of the two,
// for each direction, with the same frames (length, then bytes). app/paths carries WireGuard's datagrams by it where UDP is
// blocked. TCP delivers all that was written, so the sender drops early instead of queueing.
// Invariants
//   1. Datagrams are taken only from a peer that is an authenticated neighbour, on the connection of that neighbour.
//   2. At most QUEUE_BYTES_MAX bytes wait here for one peer; what does not fit is dropped, and the caller is told.
//   3. All datagrams of one turn of the event loop leave in one write: a write costs as much as some fifty datagrams. So they wait
//      for the end of the turn, since each UDP datagram is an event of its own.
//   4. A stream is opened at most every REOPEN_MS, so a peer that refuses it costs one small exchange in that time.
import type { Origin } from '../../core/model/values.ts'
import { FrameStream, type Connection, type Stream } from './frame-stream.ts'
import type { TransportLimits } from './limits.ts'
import type { Turns } from './turns.ts'

export const DATAGRAM_PROTOCOL = '/rhizome/datagram/1'

/**
 * `sent`: it left, or will in this turn of the event loop. `full`: dropped, since more than QUEUE_BYTES_MAX bytes wait.
 * `closed`: dropped, since there is no stream yet. `unsupported`: dropped, since the peer carries no datagrams.
 */
export type DatagramOutcome = 'sent' | 'full' | 'closed' | 'unsupported'

/** 170 full packets: a burst of a sender, and 0.2 s of a line with 10 Mbit/s. */
const QUEUE_BYTES_MAX = 256 * 1024
const REOPEN_MS = 1_000
/** A peer whose version carries no datagrams may be upgraded; it has a new connection then, or answers after this time. */
const UNSUPPORTED_MS = 60_000

interface DatagramsOptions {
  readonly limits: TransportLimits
  /** Bytes of the longest datagram. */
  readonly bytesMax: number
  readonly turns: Turns
  /** Returns the connection of an authenticated neighbour. */
  readonly connection: (peer: Origin) => Connection | undefined
  readonly receive: (peer: Origin, datagram: Uint8Array) => void
  readonly log: (event: string, fields: object) => void
}

/** The stream to one peer. */
interface Outbound {
  readonly connection: Connection
  /** Monotonic time at which the stream was asked for. */
  readonly openedMs: number
  frames: FrameStream | undefined
  /** Datagrams of this turn of the event loop (invariant 3). */
  pending: Uint8Array[]
  pendingBytes: number
  state: 'opening' | 'open' | 'ended' | 'unsupported'
}

/** All streams of datagrams of one transport. Bounded by the neighbours. */
export class Datagrams {
  readonly #options: DatagramsOptions
  readonly #outbound = new Map<Origin, Outbound>()
  readonly #inbound = new Map<Origin, Set<FrameStream>>()

  constructor(options: DatagramsOptions) {
    this.#options = options
  }

  /** Takes a stream that a peer has opened (invariant 1). */
  accept(peer: Origin | undefined, connection: Connection, stream: Stream): void {
    const { connection: of, receive } = this.#options
    if (peer === undefined || of(peer) !== connection)
      return stream.abort(new Error('datagrams are taken from authenticated neighbours only'))
    // The connection may be replaced while the stream lives, and the neighbour may fall.
    const frames = this.#open(stream, (datagram) => {
      if (of(peer) === connection) receive(peer, datagram)
    })
    const streams = this.#inbound.get(peer) ?? new Set<FrameStream>()
    this.#inbound.set(peer, streams.add(frames))
    void frames.settled.then(() => streams.delete(frames))
  }

  /** Sends one datagram, and opens the stream if there is none. The bytes must not change afterwards. */
  send(peer: Origin, datagram: Uint8Array): DatagramOutcome {
    const out = this.#to(peer)
    if (out?.state === 'unsupported') return 'unsupported'
    if (out?.state !== 'open' || out.frames === undefined) return 'closed'
    if (out.frames.queuedBytes + out.pendingBytes + datagram.byteLength > QUEUE_BYTES_MAX) return 'full'
    if (out.pending.push(datagram) === 1) setImmediate(() => flush(out))
    out.pendingBytes += datagram.byteLength
    return 'sent'
  }

  /** Forgets a neighbour that has ended. */
  ended(peer: Origin): void {
    const reason = 'the neighbour has ended'
    this.#outbound.get(peer)?.frames?.abort(reason)
    for (const frames of this.#inbound.get(peer) ?? []) frames.abort(reason)
    this.#outbound.delete(peer)
    this.#inbound.delete(peer)
  }

  /** The stream to a peer, opened anew where it has ended; undefined: the peer is no neighbour. */
  #to(peer: Origin): Outbound | undefined {
    const connection = this.#options.connection(peer)
    if (connection === undefined) return undefined
    const known = this.#outbound.get(peer)
    if (known?.connection === connection) {
      const ageMs = performance.now() - known.openedMs
      const waitMs =
        known.state === 'ended' ? REOPEN_MS : known.state === 'unsupported' ? UNSUPPORTED_MS : Infinity
      if (ageMs < waitMs) return known
    } else known?.frames?.abort('the connection was replaced')
    const out: Outbound = {
      connection,
      openedMs: performance.now(),
      frames: undefined,
      pending: [],
      pendingBytes: 0,
      state: 'opening'
    }
    this.#outbound.set(peer, out)
    void this.#begin(peer, out)
    return out
  }

  async #begin(peer: Origin, out: Outbound): Promise<void> {
    const { limits, log } = this.#options
    try {
      const signal = AbortSignal.timeout(limits.authenticationMs)
      const stream = await out.connection.newStream(DATAGRAM_PROTOCOL, { signal })
      const frames = this.#open(stream, () => {
        throw new Error('datagrams come on the stream that the peer has opened')
      })
      out.frames = frames
      out.state = 'open'
      void frames.settled.then(() => (out.state = 'ended'))
    } catch (error) {
      // libp2p has this name for the answer of a peer that does not know the protocol.
      out.state =
        error instanceof Error && error.name === 'UnsupportedProtocolError' ? 'unsupported' : 'ended'
      log('no stream of datagrams', { peer, error })
    }
  }

  #open(stream: Stream, frame: (datagram: Uint8Array) => void): FrameStream {
    const { limits, bytesMax, turns, log } = this.#options
    const frames = new FrameStream({
      stream,
      limits: { ...limits, unauthenticatedFrameBytesMax: bytesMax },
      turns,
      frame,
      ended: (reason) => log('stream of datagrams ended', { reason })
    })
    frames.open()
    return frames
  }
}

/** Hands the datagrams of a turn to the stream, which writes them together. */
function flush(out: Outbound): void {
  const { pending, frames } = out
  out.pending = []
  out.pendingBytes = 0
  for (const datagram of pending) frames?.send(datagram)
}
