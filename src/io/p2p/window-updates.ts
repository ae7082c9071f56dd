// yamux answers every data frame with a window update, which costs both sides as much as a small frame itself: a mesh that tells
// of changes sends twice the messages. Here one update does for many frames.
import type { YamuxStream } from '@libp2p/yamux/stream'

/** The part of a yamux stream that is needed; streams of another muxer look after their windows themselves. */
type Muxed = Pick<YamuxStream, 'sendPause' | 'sendResume'>

export class WindowUpdates {
  readonly #stream: Muxed | undefined
  readonly #everyBytes: number
  #bytes = 0

  /** `everyBytes`: well below the window, or the peer waits. */
  constructor(stream: object, everyBytes: number) {
    this.#stream = isMuxed(stream) ? stream : undefined
    this.#everyBytes = everyBytes
  }

  /** To be called for each chunk as it comes, before the stream may be paused for it. */
  took(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes >= this.#everyBytes) {
      this.#bytes = 0
      this.#stream?.sendResume() // tells of all that was taken
    }
    this.#stream?.sendPause() // holds updates back; data still comes
  }
}

function isMuxed(stream: object): stream is Muxed {
  return 'sendPause' in stream && 'sendResume' in stream
}
