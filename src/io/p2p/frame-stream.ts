// Sends and receives frames on one libp2p stream. Frames that are queued together leave in one write, and the queue and
// the unread bytes are bounded. neighbours.ts makes one of these for each stream and receives its frames.
// Invariants
//   1. No exception leaves an event listener: libp2p would turn it into an uncaughtException, and a peer could end the
//      process.
//   2. `ended` is called exactly once.
//   3. No frame is delivered after `ended`, nor while the stream is paused.
//   4. Frames are delivered in the turns of all neighbours (turns.ts). While frames wait for their turn, no further bytes
//      are taken from the peer, so its window bounds them.
import type { Libp2p } from 'libp2p'
import { FrameReader, frameHeader, join } from './frame-reader.ts'
import type { TransportLimits } from './limits.ts'
import type { Turns } from './turns.ts'
import { WindowUpdates } from './window-updates.ts'

export type Connection = ReturnType<Libp2p['getConnections']>[number]
export type Stream = Connection['streams'][number]

export interface FrameStreamOptions {
  readonly stream: Stream
  readonly limits: TransportLimits
  readonly turns: Turns
  /** Called with each frame. When it throws, the stream is aborted with the error's message as the reason. */
  readonly frame: (frame: Uint8Array) => void
  /** Called once, with the reason, when no further frame will be delivered. */
  readonly ended: (reason: string) => void
}

/** The reason with which a stream ends whose peer has announced a frame above the limit. */
export const TOO_LONG = /^a frame has \d+ bytes, above the limit/

/** One stream to one peer. Before `trust`, frames are limited to `unauthenticatedFrameBytesMax`. */
export class FrameStream {
  readonly #stream: Stream
  readonly #limits: TransportLimits
  readonly #reader: FrameReader
  readonly #options: FrameStreamOptions
  /** Headers and frames that have not been handed to libp2p yet. */
  readonly #queue: Uint8Array[] = []
  #queuedBytes = 0
  #flushScheduled = false
  /** Bytes that `send` has queued since the start; those that the peer had taken at `#takenMs`, and that time. */
  #givenBytes = 0
  #takenBytes = 0
  /** undefined while the queue is short. */
  #takenMs: number | undefined
  /** True until `ended` is called. */
  #open = true
  #closing = false
  #paused = false
  /** Why the peer has closed the stream, while frames that arrived before wait for their turn. */
  #endReason: string | undefined
  /** Called when the queue is empty; `close` waits for it. */
  #drained: (() => void) | undefined
  #whenShort: (() => void) | undefined
  readonly #settled = Promise.withResolvers<void>()

  constructor(options: FrameStreamOptions) {
    this.#options = options
    this.#stream = options.stream
    this.#limits = options.limits
    this.#reader = new FrameReader(options.limits.unauthenticatedFrameBytesMax)
  }

  /** Starts reading. It is a method of its own, so that the owner holds the object before the first frame arrives. */
  open(): void {
    const stream = this.#stream
    // libp2p's write buffer stays small although this bound is large: #flush() stops as soon as libp2p asks for a
    // pause.
    stream.maxWriteBufferLength = this.#limits.queueBytesMax
    // Bytes that may arrive while the stream is paused.
    stream.maxReadBufferLength = 2 * this.#limits.windowBytesMax
    stream.addEventListener('close', (event) => this.#closed(event.error?.message))
    stream.addEventListener('remoteCloseWrite', () => this.#closed())
    // The event is used and not onDrain(), because in @libp2p/utils 7.4.1 that promise stays resolved after the first
    // drain.
    stream.addEventListener('drain', () => this.#flush())
    const updates = new WindowUpdates(stream, this.#limits.windowUpdateBytes)
    stream.addEventListener('message', (event) => {
      const data = event.data
      updates.took(data.byteLength)
      this.#read(data instanceof Uint8Array ? data : data.subarray())
    })
    if (stream.status !== 'open') this.#end(`stream is ${stream.status}`)
  }

  /**
   * Resolves when no more bytes will be sent: after `ended` and, with `close`, after the queue has been sent. Never
   * rejects.
   */
  get settled(): Promise<void> {
    return this.#settled.promise
  }

  /** Bytes that were given to `send` and have not left yet, in the queue and in libp2p's write buffer. */
  get queuedBytes(): number {
    return this.#queuedBytes + this.#stream.writeBufferLength
  }

  /** Raises the limit of frames to `frameBytesMax`; called when the neighbour is authenticated. */
  trust(): void {
    this.#reader.frameBytesMax = this.#limits.frameBytesMax
  }

  /** Delivers no frame until `resume`. The peer can send as many bytes as its window has left, and no more. */
  pause(): void {
    if (this.#paused || !this.#open) return
    this.#paused = true
    this.#stopReading()
  }

  /** Delivers the frames that arrived meanwhile, in their turn. A handler among them may pause the stream again. */
  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#options.turns.ready(this)
  }

  /** Delivers one frame; called by turns.ts. Returns false when none is left, or none may be delivered now. */
  deliver(): boolean {
    if (!this.#open || this.#paused) return false
    const result = this.#reader.next()
    if (result.kind === 'more') {
      if (this.#endReason !== undefined) this.#end(this.#endReason)
      else if (this.#stream.readStatus === 'paused') this.#stream.resume()
      return false
    }
    if (result.kind === 'tooLarge') {
      this.abort(`a frame has ${result.bytes} bytes, above the limit of ${this.#reader.frameBytesMax}`)
      return false
    }
    try {
      this.#options.frame(result.frame)
    } catch (error) {
      this.abort(`handler failed: ${error instanceof Error ? error.message : String(error)}`)
    }
    return this.#mayDeliver()
  }

  /**
   * Queues a frame. It leaves in the next microtask, together with all frames that are queued by then. The bytes are
   * copied only when they leave, so the caller must not change them. Returns false when the stream is closed, or is
   * reset now because more than `queueBytesMax` bytes would be queued, or none was taken for `stalledMs`.
   */
  send(frame: Uint8Array): boolean {
    if (!this.#open || this.#closing) return false
    if (this.queuedBytes + frame.byteLength > this.#limits.queueBytesMax) {
      this.abort(`the peer reads too slowly: more than ${this.#limits.queueBytesMax} bytes are queued`)
      return false
    }
    if (this.#isStalled()) {
      this.abort(`the peer has taken no byte for ${this.#limits.stalledMs} ms`)
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

  /**
   * Calls back once, after this call has returned, when at most `corkBytesMax` bytes are queued; not after the end. A
   * later call replaces the listener of an earlier one.
   */
  whenShort(listener: () => void): void {
    this.#whenShort = listener
    this.#tellShort()
  }

  /**
   * Ends the reading side at once and calls `ended`. Queued frames are still sent, for at most `closeMs`. Never
   * rejects.
   */
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

  /** Resets the stream at once; queued frames are dropped, and `ended` is called before this returns. */
  abort(reason: string): void {
    this.#end(reason)
    this.#stream.abort(new Error(reason))
  }

  /** True when more than one write is queued and no byte has left for `stalledMs`. A shorter queue costs nothing. */
  #isStalled(): boolean {
    const { queuedBytes } = this
    if (queuedBytes <= this.#limits.corkBytesMax) {
      this.#takenMs = undefined
      return false
    }
    const nowMs = performance.now()
    const takenBytes = this.#givenBytes - queuedBytes
    if (this.#takenMs === undefined || takenBytes > this.#takenBytes) this.#takenMs = nowMs
    this.#takenBytes = takenBytes
    return nowMs - this.#takenMs > this.#limits.stalledMs
  }

  #enqueue(bytes: Uint8Array): void {
    this.#givenBytes += bytes.byteLength
    this.#queue.push(bytes)
    this.#queuedBytes += bytes.byteLength
  }

  /** Hands the queue to libp2p, one write after the other, until it is empty or libp2p's buffer is full. */
  #flush(): void {
    try {
      while (this.#queue.length > 0 && this.#stream.writeStatus === 'writable') {
        // The flag is examined, not the event: it is right even when a drain event was missed, and every send examines
        // it.
        if (this.#stream.writableNeedsDrain) return
        this.#stream.send(this.#nextWrite())
      }
      if (this.#queue.length === 0) this.#drained?.()
      this.#tellShort()
    } catch (error) {
      this.abort(`write failed: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  /**
   * Calls the listener of `whenShort` in a later turn of the event loop, so that it may call `send` without recursion.
   */
  #tellShort(): void {
    const listener = this.#whenShort
    if (listener === undefined || !this.#open || this.queuedBytes > this.#limits.corkBytesMax) return
    this.#whenShort = undefined
    setImmediate(() => {
      if (this.#open) listener()
    })
  }

  /**
   * Takes at most `corkBytesMax` bytes off the queue and cuts a frame where that is needed. Large writes are cheaper:
   * each write is one message of yamux and one of noise. The result is a copy, because one frame may be in the queues
   * of many neighbours.
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
    this.#options.turns.ready(this)
    if (this.#options.turns.isWaiting(this)) this.#stopReading() // invariant 4
  }

  #stopReading(): void {
    if (this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  /** The peer has closed the stream. Frames that it sent before are delivered first, unless the stream is paused. */
  #closed(error?: string): void {
    const reason = error ?? 'closed by the peer'
    if (error === undefined && this.#mayDeliver() && this.#options.turns.isWaiting(this))
      this.#endReason ??= reason
    else this.#end(reason)
  }

  /** A method, because the compiler would take the fields for unchanged although a handler may have changed them. */
  #mayDeliver(): boolean {
    return this.#open && !this.#paused
  }

  #untilDrained(signal: AbortSignal): Promise<void> {
    if (this.#queue.length === 0) return Promise.resolve()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#drained = resolve
    signal.addEventListener('abort', () => reject(new Error('not drained in time')), { once: true })
    this.#flush()
    return promise
  }

  /** Calls `ended` once. Without `keepQueue`, queued frames are dropped. */
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
