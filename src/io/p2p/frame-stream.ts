// One libp2p stream as a pipe of frames: corked writes, bounded queue, bounded reads, exactly one end.
// Invariants: (1) no exception leaves an event listener: libp2p would turn it into an uncaughtException, a remote kill;
// (2) `ended` is called exactly once; (3) no frame is delivered after it.
import type { Libp2p } from 'libp2p'
import { FrameReader, frameHeader, join } from './frame-reader.ts'
import type { TransportLimits } from './limits.ts'

export type Connection = ReturnType<Libp2p['getConnections']>[number]
export type Stream = Connection['streams'][number]

export interface FrameStreamOptions {
  readonly stream: Stream
  readonly limits: TransportLimits
  /** May throw: the stream is aborted then. */
  readonly frame: (frame: Uint8Array) => void
  readonly ended: (reason: string) => void
}

export class FrameStream {
  readonly #stream: Stream
  readonly #limits: TransportLimits
  readonly #reader: FrameReader
  readonly #options: FrameStreamOptions
  readonly #queue: Uint8Array[] = []
  #queuedBytes = 0
  #flushScheduled = false
  #open = true
  #closing = false
  #drained: (() => void) | undefined
  readonly #settled = Promise.withResolvers<void>()

  constructor(options: FrameStreamOptions) {
    this.#options = options
    this.#stream = options.stream
    this.#limits = options.limits
    this.#reader = new FrameReader(options.limits.unauthenticatedFrameBytesMax)
  }

  /** Starts reading. Apart from the constructor, so that the owner holds the object before the first frame arrives. */
  open(): void {
    const stream = this.#stream
    // libp2p's own buffer beneath ours stays small: we stop handing over bytes as soon as it asks us to.
    stream.maxWriteBufferLength = this.#limits.queueBytesMax
    stream.addEventListener('close', (event) => this.#end(event.error?.message ?? 'closed by the peer'))
    stream.addEventListener('remoteCloseWrite', () => this.#end('closed by the peer'))
    // The event, not onDrain(): in utils 7.4.1 that promise stays resolved after the first drain.
    stream.addEventListener('drain', () => this.#flush())
    stream.addEventListener('message', (event) => {
      const data = event.data
      this.#read(data instanceof Uint8Array ? data : data.subarray())
    })
    if (stream.status !== 'open') this.#end(`stream is ${stream.status}`)
  }

  /** Resolves when nothing more will be sent: after `ended` and, for close(), after the queue went out. Never rejects. */
  get settled(): Promise<void> {
    return this.#settled.promise
  }

  get queuedBytes(): number {
    return this.#queuedBytes + this.#stream.writeBufferLength
  }

  /** Lifts the limit of frames to that of authenticated neighbours. */
  trust(): void {
    this.#reader.frameBytesMax = this.#limits.frameBytesMax
  }

  /**
   * Queues a frame; it leaves in the next microtask together with all others queued by then. The bytes are not copied until
   * then: do not change them. False: the stream is closed, or was reset because its queue is over the bound.
   */
  send(frame: Uint8Array): boolean {
    if (!this.#open || this.#closing) return false
    if (this.queuedBytes + frame.byteLength > this.#limits.queueBytesMax) {
      this.abort(`slow reader: more than ${this.#limits.queueBytesMax} bytes queued`)
      return false
    }
    this.#enqueue(frameHeader(frame.byteLength))
    if (frame.byteLength > 0) this.#enqueue(frame)
    if (!this.#flushScheduled) {
      this.#flushScheduled = true
      queueMicrotask(() => {
        this.#flushScheduled = false
        this.#flush()
      })
    }
    return true
  }

  /** Ends for us at once (no more frames, `ended` called); what is queued is still sent, within the deadline. */
  async close(reason: string): Promise<void> {
    if (!this.#open || this.#closing) return
    this.#closing = true
    this.#end(reason, { keepQueue: true })
    const signal = AbortSignal.timeout(this.#limits.closeMs)
    try {
      await this.#untilDrained(signal)
      await this.#stream.close({ signal })
    } catch (error) {
      this.#stream.abort(error instanceof Error ? error : new Error(reason))
    } finally {
      this.#settled.resolve()
    }
  }

  abort(reason: string): void {
    this.#end(reason)
    this.#stream.abort(new Error(reason))
  }

  #enqueue(bytes: Uint8Array): void {
    this.#queue.push(bytes)
    this.#queuedBytes += bytes.byteLength
  }

  #flush(): void {
    try {
      while (this.#queue.length > 0 && this.#stream.writeStatus === 'writable') {
        // Also where a drain event was missed: the flag says the truth, and every send comes past here.
        if (this.#stream.writableNeedsDrain) return
        this.#stream.send(this.#nextWrite())
      }
      if (this.#queue.length === 0) this.#drained?.()
    } catch (error) {
      this.abort(`write failed: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  /** Takes up to corkBytesMax off the queue, always as a copy: one frame is shared by many neighbours' queues. */
  #nextWrite(): Uint8Array {
    let bytes = 0
    let taken = 0
    for (const part of this.#queue) {
      if (bytes > 0 && bytes + part.byteLength > this.#limits.corkBytesMax) break
      bytes += part.byteLength
      taken += 1
    }
    this.#queuedBytes -= bytes
    return join(this.#queue.splice(0, taken), bytes)
  }

  #read(chunk: Uint8Array): void {
    if (!this.#open) return
    this.#reader.push(chunk)
    while (this.#open) {
      const result = this.#reader.next()
      if (result.kind === 'more') return
      if (result.kind === 'tooLarge') {
        this.abort(`frame of ${result.bytes} bytes is over the limit of ${this.#reader.frameBytesMax}`)
        return
      }
      try {
        this.#options.frame(result.frame)
      } catch (error) {
        this.abort(`handler failed: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
  }

  #untilDrained(signal: AbortSignal): Promise<void> {
    if (this.#queue.length === 0) return Promise.resolve()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#drained = resolve
    signal.addEventListener('abort', () => reject(new Error('not drained in time')), { once: true })
    this.#flush()
    return promise
  }

  #end(reason: string, options: { keepQueue: boolean } = { keepQueue: false }): void {
    if (!options.keepQueue) {
      this.#queue.length = 0
      this.#queuedBytes = 0
      this.#settled.resolve()
    }
    if (!this.#open) return
    this.#open = false
    this.#options.ended(reason)
  }
}
