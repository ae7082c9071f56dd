// Carries datagrams between members beside the control frames: a stream of its own on the control connection of the two,
// for each direction, with the same frames (length, then bytes). app/paths carries WireGuard's datagrams by it where UDP is
// blocked, and the frames of relays by another one. TCP delivers all that was written, so the sender drops early instead of
// queueing.
// Invariants
//   1. Datagrams are taken only from a peer that is an authenticated neighbour, on the connection of that neighbour.
//   2. At most QUEUE_BYTES_MAX bytes wait here for one peer; what does not fit is dropped, and the caller is told. While the
//      stream is opened, at most `waitBytesMax` of them wait.
//   3. All datagrams of one turn of the event loop leave in one write: a write costs as much as some fifty datagrams. So they wait
//      for the end of the turn, since each UDP datagram is an event of its own.
//   4. A stream is opened at most every REOPEN_MS, so a peer that refuses it costs one small exchange in that time.
import type { Libp2p } from 'libp2p'
import type { Origin } from '../../core/model/values.ts'
import {
  FrameStream,
  TOO_LONG,
  type Connection,
  type FrameStreamOptions,
  type Stream
} from './frame-stream.ts'
import type { TransportLimits } from './limits.ts'
import { originOf } from './origin.ts'
import type { Turns } from './turns.ts'

export const DATAGRAM_PROTOCOL = '/rhizome/datagram/1'
export const RELAY_PROTOCOL = '/rhizome/relay/1'

/** What an agent does with datagrams of one protocol. */
export interface DatagramIntake {
  /** Bytes of the longest datagram. */
  readonly bytesMax: number
  readonly receive: (peer: Origin, datagram: Uint8Array) => void
  /** Called when a datagram was announced that is too long: the stream of the peer has ended. */
  readonly tooLong?: (peer: Origin) => void
}

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
  readonly protocol: typeof DATAGRAM_PROTOCOL | typeof RELAY_PROTOCOL
  /** undefined: this agent sends and takes none. */
  readonly intake: DatagramIntake | undefined
  /** Bytes that wait for one peer while the stream to it is opened. */
  readonly waitBytesMax: number
  readonly limits: TransportLimits
  readonly turns: Turns
  /** Returns the connection of an authenticated neighbour. */
  readonly connection: (peer: Origin) => Connection | undefined
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

  /** Takes the streams of peers. Without an intake, peers are told that this agent does not know the protocol. */
  async listen(libp2p: Pick<Libp2p, 'handle'>): Promise<void> {
    const { intake, protocol } = this.#options
    if (intake === undefined) return
    await libp2p.handle(
      protocol,
      (stream, connection) => this.#accept(originOf(connection.remotePeer), connection, stream),
      // A peer opens one stream; a second one may arrive before the first one has ended here.
      { maxInboundStreams: 2, maxOutboundStreams: 2 }
    )
  }

  /** Takes a stream that a peer has opened (invariant 1). */
  #accept(peer: Origin | undefined, connection: Connection, stream: Stream): void {
    const { connection: of, intake } = this.#options
    if (peer === undefined || of(peer) !== connection)
      return stream.abort(new Error('datagrams are taken from authenticated neighbours only'))
    const frames = this.#open(stream, {
      // The connection may be replaced while the stream lives, and the neighbour may fall.
      frame: (datagram) => {
        if (of(peer) === connection) intake?.receive(peer, datagram)
      },
      ended: (reason) => {
        if (TOO_LONG.test(reason)) intake?.tooLong?.(peer)
      }
    })
    const streams = this.#inbound.get(peer) ?? new Set<FrameStream>()
    this.#inbound.set(peer, streams.add(frames))
    void frames.settled.then(() => streams.delete(frames))
  }

  /** Sends one datagram, and opens the stream if there is none. The bytes must not change afterwards. */
  send(peer: Origin, datagram: Uint8Array): DatagramOutcome {
    const { intake, waitBytesMax } = this.#options
    const out = intake && this.#to(peer)
    if (intake === undefined || out?.state === 'unsupported') return 'unsupported'
    if (out === undefined || out.state === 'ended') return 'closed'
    const isOpen = out.state === 'open' && out.frames !== undefined
    const queuedBytes = (out.frames?.queuedBytes ?? 0) + out.pendingBytes + datagram.byteLength
    if (queuedBytes > (isOpen ? QUEUE_BYTES_MAX : waitBytesMax)) return isOpen ? 'full' : 'closed'
    if (out.pending.push(datagram) === 1 && isOpen) setImmediate(() => flush(out))
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
    const { limits, log, protocol } = this.#options
    try {
      const signal = AbortSignal.timeout(limits.authenticationMs)
      const stream = await out.connection.newStream(protocol, { signal })
      const frames = this.#open(stream, {
        frame: () => {
          throw new Error('datagrams come on the stream that the peer has opened')
        },
        ended: () => undefined
      })
      out.frames = frames
      out.state = 'open'
      flush(out)
      void frames.settled.then(() => (out.state = 'ended'))
    } catch (error) {
      // libp2p has this name for the answer of a peer that does not know the protocol.
      out.state =
        error instanceof Error && error.name === 'UnsupportedProtocolError' ? 'unsupported' : 'ended'
      log('no stream of datagrams', { peer, error })
    }
  }

  #open(stream: Stream, on: Pick<FrameStreamOptions, 'frame' | 'ended'>): FrameStream {
    const { limits, intake, turns, log } = this.#options
    const frames = new FrameStream({
      stream,
      limits: { ...limits, unauthenticatedFrameBytesMax: intake?.bytesMax ?? 0 },
      turns,
      frame: on.frame,
      ended: (reason) => {
        log('stream of datagrams ended', { reason })
        on.ended(reason)
      }
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
