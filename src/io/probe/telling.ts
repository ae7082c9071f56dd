// When a target is told from where its packets come (packet.ts, kind 2): at once where that is new, and again every
// TELL_MS, because nothing answers and a packet may be lost.
import type { PeerAddress } from '../../core/model/values.ts'
import { seenPacket } from './packet.ts'

/** One packet of 80 bytes every 5 s for each tunnel. */
const TELL_MS = 5_000

/** What one target was told. */
export class Telling {
  #address: PeerAddress | undefined
  #dueMs = 0

  /** Returns the packet to send now; undefined: none. `seen`: where WireGuard sees the target; undefined: not known. */
  due(seen: PeerAddress | undefined, nowMs: number): Buffer | undefined {
    if (seen === undefined || (seen === this.#address && nowMs < this.#dueMs)) return undefined
    this.#address = seen
    this.#dueMs = nowMs + TELL_MS
    return seenPacket(seen)
  }
}
