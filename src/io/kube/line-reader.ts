// Cuts a stream of bytes into lines and parses each as JSON: the framing of a Kubernetes watch. client.ts has one for
// each watch.
import { KubeError } from './errors.ts'

// etcd limits an object to 1.5 MiB by default. As JSON with escapes it stays below this limit.
const LINE_BYTES_MAX = 8 * 1024 * 1024
const NEWLINE = 10

/** Calls `onValue` synchronously for each line that is not empty. Keeps the bytes of at most one line. */
export class LineReader {
  readonly #onValue: (value: unknown) => void
  /** The parts of a line whose end has not come yet; `#bytes` is the sum of their lengths. */
  #parts: Buffer[] = []
  #bytes = 0

  constructor(onValue: (value: unknown) => void) {
    this.#onValue = onValue
  }

  /**
   * Takes the next bytes. Throws KubeError BAD_RESPONSE for a line that is no JSON, TOO_LARGE above 8 MiB without an
   * end.
   */
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

  /** Call at the end of the stream. Throws KubeError BAD_RESPONSE for a last line that is not whole. */
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

/** Parses JSON. Throws KubeError BAD_RESPONSE, whose message has `what` but not the text, which may be secret. */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new KubeError({ code: 'BAD_RESPONSE', message: `${what} is not complete JSON`, cause })
  }
}
