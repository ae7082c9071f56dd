// A stream of bytes as JSON values, one a line: the framing of a Kubernetes watch.
import { KubeError } from './errors.ts'

// An object in etcd has at most 1.5 MiB; as JSON with its escapes it stays far below this.
const LINE_BYTES_MAX = 8 * 1024 * 1024
const NEWLINE = 10

export class LineReader {
  readonly #onValue: (value: unknown) => void
  #parts: Buffer[] = []
  #bytes = 0

  constructor(onValue: (value: unknown) => void) {
    this.#onValue = onValue
  }

  /** Errors: KubeError BAD_RESPONSE, TOO_LARGE. */
  push(chunk: Buffer): void {
    let start = 0
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start)
      if (end < 0) break
      this.#parts.push(chunk.subarray(start, end))
      this.#flush()
      start = end + 1
    }
    if (start === chunk.length) return
    this.#parts.push(chunk.subarray(start))
    this.#bytes += chunk.length - start
    if (this.#bytes > LINE_BYTES_MAX) {
      throw new KubeError({ code: 'TOO_LARGE', message: `a watch event exceeds ${LINE_BYTES_MAX} bytes` })
    }
  }

  /** Errors: KubeError BAD_RESPONSE when the stream ended within a line. */
  end(): void {
    this.#flush()
  }

  #flush(): void {
    const text =
      (this.#parts.length === 1 ? this.#parts[0] : Buffer.concat(this.#parts))?.toString('utf8') ?? ''
    this.#parts = []
    this.#bytes = 0
    if (text.trim() !== '') this.#onValue(parseJson(text, 'a watch event'))
  }
}

/** Errors: KubeError BAD_RESPONSE, without the text: it may be anything. */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new KubeError({ code: 'BAD_RESPONSE', message: `${what} is not whole JSON`, cause })
  }
}
