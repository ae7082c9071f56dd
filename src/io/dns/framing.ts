// DNS over TCP puts a length of two bytes before each message (RFC 1035, 4.2.2), so a message has at most 65,535 bytes.
// Used for clients' connections (tcp-connection.ts) and for queries to upstreams (ask.ts).

/** Returns the message with its length of two bytes in front. The message must have at most 65,535 bytes. */
export function frame(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(message.length + 2)
  framed[0] = message.length >> 8
  framed[1] = message.length & 0xff
  framed.set(message, 2)
  return framed
}

/** Cuts a stream into messages. The reader pulls them, so that it decides how many messages are processed at once. */
export class Framer {
  /** The received bytes that are not part of a returned message; `bytes` is the sum of their lengths. */
  private chunks: Uint8Array[] = []
  private bytes = 0

  push(chunk: Uint8Array): void {
    this.chunks.push(chunk)
    this.bytes += chunk.length
  }

  /** Returns the next whole message without its length, or undefined until more bytes have come. It may be empty. */
  next(): Uint8Array | undefined {
    if (this.bytes < 2) return undefined
    const first = this.chunks[0]
    // Chunks are joined only when a message is whole, so a client that sends single bytes costs no more than another.
    const length = first !== undefined && first.length >= 2 ? first : this.join()
    const end = 2 + (((length[0] ?? 0) << 8) | (length[1] ?? 0))
    if (this.bytes < end) return undefined
    const all = this.join()
    this.chunks = all.length > end ? [all.subarray(end)] : []
    this.bytes -= end
    return all.subarray(2, end)
  }

  /** Makes one chunk of all chunks and returns it. */
  private join(): Uint8Array {
    const [only] = this.chunks
    if (only !== undefined && this.chunks.length === 1) return only
    const all = new Uint8Array(this.bytes)
    let offset = 0
    for (const chunk of this.chunks) {
      all.set(chunk, offset)
      offset += chunk.length
    }
    this.chunks = [all]
    return all
  }
}
