// One libp2p stream as a pipe of frames: corked writes, bounded queue, bounded reads, exactly one end.
// Invariants: (1) no exception leaves an event listener: libp2p would turn it into an uncaughtException, a remote kill;
// (2) `ended` is called exactly once; (3) no frame is delivered after it, nor while it is paused.
import type { Libp2p } from 'libp2p'
import { FrameReader, frameHeader, join } from './frame-reader.ts'
import type { TransportLimits } from './limits.ts'
import { WindowUpdates } from './window-updates.ts'

export type Connection = ReturnType<Libp2p['getConnections']>[number]
export type Stream = Connection['streams'][number]

interface FrameStreamOptions {
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
  #paused = false
  #drained: (() => void) | undefined
  #whenShort: (() => void) | undefined
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
    // What may come while we are paused.
    stream.maxReadBufferLength = 2 * this.#limits.windowBytesMax
    stream.addEventListener('close', (event) => this.#end(event.error?.message ?? 'closed by the peer'))
    stream.addEventListener('remoteCloseWrite', () => this.#end('closed by the peer'))
    // The event, not onDrain(): in utils 7.4.1 that promise stays resolved after the first drain.
    stream.addEventListener('drain', () => this.#flush())
    const updates = new WindowUpdates(stream, this.#limits.windowUpdateBytes)
    stream.addEventListener('message', (event) => {
      const data = event.data
      updates.took(data.byteLength)
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

  /** No frame is delivered until `resume`; the peer can send what its window has left, and no more. */
  pause(): void {
    if (this.#paused || !this.#open) return
    this.#paused = true
    if (this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#deliver()
    if (!this.#isPaused() && this.#stream.readStatus === 'paused') this.#stream.resume()
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

  /** Calls back, later and once, as soon as less than a write is queued; never after the end. Of several calls, the last counts. */
  whenShort(listener: () => void): void {
    this.#whenShort = listener
    this.#tellShort()
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
      this.#tellShort()
    } catch (error) {
      this.abort(`write failed: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  #tellShort(): void {
    const listener = this.#whenShort
    if (listener === undefined || !this.#open || this.queuedBytes > this.#limits.corkBytesMax) return
    this.#whenShort = undefined
    setImmediate(() => {
      if (this.#open) listener()
    })
  }

  /**
   * Takes corkBytesMax off the queue, or what there is, cutting frames where it must: a write is one message of the layers below
   * each, and one window update of the peer. Always a copy: one frame is shared by many neighbours' queues.
   */
  #nextWrite(): Uint8Array {
    const parts: Uint8Array[] = []
    let left = this.#limits.corkBytesMax
    let taken = 0
    for (const part of this.#queue) {
      if (left === 0) break
      const head = part.subarray(0, left)
      parts.push(head)
      left -= head.byteLength
      if (head.byteLength < part.byteLength) this.#queue[taken] = part.subarray(head.byteLength)
      else taken += 1
    }
    this.#queue.splice(0, taken)
    const bytes = this.#limits.corkBytesMax - left
    this.#queuedBytes -= bytes
    return join(parts, bytes)
  }

  #read(chunk: Uint8Array): void {
    if (!this.#open) return
    this.#reader.push(chunk)
    this.#deliver()
  }

  #deliver(): void {
    while (this.#open && !this.#isPaused()) {
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

  /** A handler may have paused it meanwhile. */
  #isPaused(): boolean {
    return this.#paused
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
