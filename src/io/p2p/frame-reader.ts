// Cuts a byte stream into frames: a 4-byte big-endian length, then that many bytes. A peer's bytes are hostile: memory held
// is bounded by the largest frame, whatever the chunks look like.

type ReadResult =
  | { readonly kind: 'frame'; readonly frame: Uint8Array }
  | { readonly kind: 'more' }
  | { readonly kind: 'tooLarge'; readonly bytes: number }

const HEADER_BYTES = 4

/** Chunks of one byte each would cost a hundred times their size in objects: merge them beyond this many. */
const CHUNKS_MAX = 64

export class FrameReader {
  /** May be raised while reading, at a frame boundary. */
  frameBytesMax: number
  #chunks: Uint8Array[] = []
  #bytes = 0
  #wanted: number | undefined

  constructor(frameBytesMax: number) {
    this.frameBytesMax = frameBytesMax
  }

  push(chunk: Uint8Array): void {
    if (chunk.byteLength === 0) return
    this.#chunks.push(chunk)
    this.#bytes += chunk.byteLength
    if (this.#chunks.length > CHUNKS_MAX) this.#chunks = [join(this.#chunks, this.#bytes)]
  }

  /** Call until it says 'more'. A frame is a copy of its own: it never pins the socket's buffers. */
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

/** The header of a frame of this many bytes. */
export function frameHeader(bytes: number): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES)
  new DataView(header.buffer).setUint32(0, bytes)
  return header
}

export function join(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes)
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.byteLength
  }
  return whole
}
