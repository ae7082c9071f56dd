// yamux puts a frame together before it looks whether its window allows it (8.x: `Decoder.readFrame`), and a header may announce
// 4 GiB: any stranger could fill our memory. So the headers are read ahead of it, and who announces more than we ever send is cut off.
import { yamux } from '@libp2p/yamux'
import type { Libp2pOptions } from 'libp2p'

interface BoundedYamuxOptions {
  readonly init: NonNullable<Parameters<typeof yamux>[0]>
  /** Of the data of one frame. */
  readonly frameBytesMax: number
}

type MuxerFactory = NonNullable<Libp2pOptions['streamMuxers']>[number]

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

/** Follows the frames of one connection: a header of 12 bytes, and for data as many as it says. */
export class FrameGuard {
  readonly #frameBytesMax: number
  readonly #header = new Uint8Array(HEADER_BYTES)
  #headerBytes = 0
  #bodyBytes = 0

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = frameBytesMax
  }

  /** False: a frame is over the limit. */
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

const HEADER_BYTES = 12
const DATA = 0
