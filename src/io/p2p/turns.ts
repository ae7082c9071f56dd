// Serves the frames of all neighbours in turn, so that no neighbour keeps the event loop, however many of its frames lie
// in memory and however long each of them takes. frame-stream.ts announces its frames here.
// Invariants
//   1. In one turn of the event loop, frames are delivered for at most SLICE_MS and one frame more. Then everything else
//      of this process has its turn: answers of the admin API, timers, sockets.
//   2. Neighbours with frames are served one after the other, each for at most SHARE_MS and one frame more.
//   3. A frame that arrives while the loop is idle is delivered at once.

/** One stream of frames. */
export interface FrameSource {
  /** Delivers one frame. Returns false when no frame is left, or none may be delivered now. */
  deliver(): boolean
}

interface TurnsOptions {
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** Calls back in the next turn of the event loop, after its timers and sockets: setImmediate. */
  readonly later: (callback: () => void) => void
}

/** The turns of one transport. */
export class Turns {
  readonly #options: TurnsOptions
  /** Streams with frames, in the order in which they are served. */
  readonly #waiting = new Set<FrameSource>()
  #isRunning = false
  #isScheduled = false
  /** Streams that were announced since the present one began to be served; the present one may be among them. */
  readonly #announced = new Set<FrameSource>()
  /** Time spent in the present turn of the event loop. */
  #spentMs = 0

  constructor(options: TurnsOptions) {
    this.#options = options
  }

  /** Takes note that a stream has frames. Delivers them before it returns when this turn of the loop has time left. */
  ready(source: FrameSource): void {
    this.#waiting.add(source)
    if (this.#isRunning) this.#announced.add(source)
    else this.#run()
  }

  /** True while a stream that was announced has not been served to its end. */
  isWaiting(source: FrameSource): boolean {
    return this.#waiting.has(source)
  }

  #run(): void {
    this.#isRunning = true
    const startMs = this.#options.now()
    const sliceEndMs = startMs + SLICE_MS - this.#spentMs
    let nowMs = startMs
    while (this.#waiting.size > 0 && nowMs < sliceEndMs) {
      const [source] = this.#waiting
      if (!source) break
      const endMs = Math.min(nowMs + SHARE_MS, sliceEndMs)
      let isMore = true
      while (isMore && nowMs < endMs) {
        this.#announced.clear()
        isMore = source.deliver() || this.#announced.has(source)
        nowMs = this.#options.now()
      }
      this.#waiting.delete(source)
      if (isMore) this.#waiting.add(source) // behind all others
    }
    this.#spentMs += nowMs - startMs
    this.#isRunning = false
    if (this.#isScheduled) return
    this.#isScheduled = true
    this.#options.later(() => {
      this.#isScheduled = false
      this.#spentMs = 0
      if (this.#waiting.size > 0) this.#run()
    })
  }
}

// Short beside the answers of the admin API and the pings of the mesh; long beside the turn of an idle event loop, so
// that a flood costs little throughput.
const SLICE_MS = 5
const SHARE_MS = 1
