// Cuts the byte stream of a neighbour into frames: a length of 4 bytes, big-endian, then that many bytes.
// frame-stream.ts feeds it. The bytes may be hostile, so no memory is reserved for an announced length, and the reader
// holds little more than the largest allowed frame and the latest chunk, in chunks of any size.

/**
 * `more`: no complete frame is here. `tooLarge`: a frame announces more than the limit; the stream cannot be read any
 * further.
 */
type ReadResult =
  | { readonly kind: 'frame'; readonly frame: Uint8Array }
  | { readonly kind: 'more' }
  | { readonly kind: 'tooLarge'; readonly bytes: number }

const HEADER_BYTES = 4

/**
 * Chunks that are held before they are merged. An object for each one-byte chunk would take a hundred times the byte's
 * memory.
 */
const CHUNKS_MAX = 64

/** The reader of one stream. */
export class FrameReader {
  /** The largest frame in bytes. It may be raised between two calls of `next`. */
  frameBytesMax: number
  #chunks: Uint8Array[] = []
  /** Bytes in #chunks. */
  #bytes = 0
  /** The length of the frame whose header was read; undefined before a header. */
  #wanted: number | undefined

  constructor(frameBytesMax: number) {
    this.frameBytesMax = frameBytesMax
  }

  /** Adds bytes; the chunk is kept without a copy until its frames are taken. */
  push(chunk: Uint8Array): void {
    if (chunk.byteLength === 0) return
    this.#chunks.push(chunk)
    this.#bytes += chunk.byteLength
    if (this.#chunks.length > CHUNKS_MAX) this.#chunks = [join(this.#chunks, this.#bytes)]
  }

  /**
   * Takes the next frame; call it until it returns `more`. A frame is a copy, so that it keeps no buffer of the socket
   * alive.
   */
  next(): ReadResult {
    if (this.#wanted === undefined) {
      if (this.#bytes < HEADER_BYTES) return { kind: 'more' }
      const header = this.#take(HEADER_BYTES)
      this.#wanted = new DataView(header.buffer).getUint32(0)
    }
    if (this.#wanted > this.frameBytesMax) return { kind: 'tooLarge', bytes: this.#wanted }
    if (this.#bytes < this.#wanted) return { kind: 'more' }
    const frame = this.#take(this.#wanted)
    this.#wanted = undefined
    return { kind: 'frame', frame }
  }

  /** Removes this many bytes, which must be here, and returns them as one copy. */
  #take(bytes: number): Uint8Array<ArrayBuffer> {
    const taken = new Uint8Array(bytes)
    let filled = 0
    let spent = 0
    for (const chunk of this.#chunks) {
      if (filled === bytes) break
      const part = chunk.subarray(0, bytes - filled)
      taken.set(part, filled)
      filled += part.byteLength
      if (part.byteLength < chunk.byteLength) this.#chunks[spent] = chunk.subarray(part.byteLength)
      else spent += 1
    }
    this.#chunks.splice(0, spent)
    this.#bytes -= bytes
    return taken
  }
}

/** Returns the header of a frame of this many bytes. */
export function frameHeader(bytes: number): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES)
  new DataView(header.buffer).setUint32(0, bytes)
  return header
}

/** Returns the parts as one copy; `bytes` is their total length. */
export function join(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes)
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.byteLength
  }
  return whole
}
