// Bounds the frames of yamux, the stream multiplexer of libp2p. yamux 8.x collects a whole frame in memory before it
// checks that the stream's window allows it (`Decoder.readFrame`), and a header may announce 4 GiB, so any stranger
// could fill this agent's memory. Here the headers are examined before yamux receives the bytes, and a connection that
// announces a longer frame than `frameBytesMax` is aborted (docs/decisions/0016). Frame format: the yamux specification
// of HashiCorp.
import { yamux } from '@libp2p/yamux'
import type { Libp2pOptions } from 'libp2p'

interface BoundedYamuxOptions {
  /** The options of yamux itself. */
  readonly init: NonNullable<Parameters<typeof yamux>[0]>
  /** The most bytes of data that one frame may announce. */
  readonly frameBytesMax: number
}

type MuxerFactory = NonNullable<Libp2pOptions['streamMuxers']>[number]

/** Returns the muxer for the options of libp2p: yamux whose input passes a FrameGuard, one for each connection. */
export function boundedYamux({ init, frameBytesMax }: BoundedYamuxOptions): MuxerFactory {
  const create = yamux(init)
  return () => {
    const factory = create()
    const createStreamMuxer = factory.createStreamMuxer.bind(factory)
    factory.createStreamMuxer = (connection) => {
      const muxer = createStreamMuxer(connection)
      const guard = new FrameGuard(frameBytesMax)
      const onData = muxer.onData.bind(muxer)
      muxer.onData = (bytes) => {
        const chunks = bytes instanceof Uint8Array ? [bytes] : bytes
        for (const chunk of chunks)
          if (!guard.takes(chunk)) return connection.abort(new Error('a yamux frame is too large'))
        onData(bytes)
      }
      return muxer
    }
    return factory
  }
}

/**
 * Follows the frames of one connection: a header of 12 bytes and, for type DATA, as many bytes as its length field
 * says.
 */
export class FrameGuard {
  readonly #frameBytesMax: number
  readonly #header = new Uint8Array(HEADER_BYTES)
  /** Bytes of the present header that have arrived. */
  #headerBytes = 0
  /** Bytes of the present frame's data that have not arrived yet. */
  #bodyBytes = 0

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax
  }

  /**
   * Examines the next bytes, in chunks of any size. Returns false when a frame is longer than the limit; call no more
   * then.
   */
  takes(chunk: Uint8Array): boolean {
    for (let at = 0; at < chunk.length;) {
      if (this.#bodyBytes > 0) {
        const bytes = Math.min(this.#bodyBytes, chunk.length - at)
        this.#bodyBytes -= bytes
        at += bytes
        continue
      }
      this.#header[this.#headerBytes++] = chunk[at++] ?? 0
      if (this.#headerBytes < HEADER_BYTES) continue
      this.#headerBytes = 0
      if (this.#header[1] !== DATA) continue
      this.#bodyBytes = new DataView(this.#header.buffer).getUint32(8)
      if (this.#bodyBytes > this.#frameBytesMax) return false
    }
    return true
  }
}

// version 1 | type 1 | flags 2 | stream 4 | length 4. In frames of other types, the length field is no length.
const HEADER_BYTES = 12
const DATA = 0
