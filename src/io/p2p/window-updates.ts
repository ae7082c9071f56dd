// Makes yamux send one window update for many data frames. By default it answers every data frame with one, which costs
// both sides as much as a small frame: a mesh with many small changes would then send twice as many messages
// (docs/decisions/0016). How: a paused yamux stream sends no updates but still delivers data, so the stream is paused
// all the time and resumed for a moment whenever `everyBytes` have arrived.
import type { YamuxStream } from '@libp2p/yamux/stream'

/**
 * The part of a yamux stream that is needed. Streams of another muxer do not have it and update their windows
 * themselves.
 */
type Muxed = Pick<YamuxStream, 'sendPause' | 'sendResume'>

/** The window updates of one stream. */
export class WindowUpdates {
  readonly #stream: Muxed | undefined
  readonly #everyBytes: number
  #bytes = 0

  /** `everyBytes` must be well below the window; otherwise the peer uses the window up and waits for the update. */
  constructor(stream: object, everyBytes: number) {
    this.#stream = isMuxed(stream) ? stream : undefined
    this.#everyBytes = everyBytes
  }

  /**
   * Call it for each chunk that has arrived, before any handler of the chunk, because a handler may pause the stream.
   */
  took(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes >= this.#everyBytes) {
      this.#bytes = 0
      this.#stream?.sendResume() // sends an update over all bytes that were taken
    }
    this.#stream?.sendPause() // holds further updates back; data still arrives
  }
}

function isMuxed(stream: object): stream is Muxed {
  return 'sendPause' in stream && 'sendResume' in stream
}
