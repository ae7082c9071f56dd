// The epoch in which an agent starts to publish after a restart, when its disk may have lost what it published before.
import type { Origin } from '../../core/model/values.ts'
import type { LoadedReplica } from '../../io/store/store.ts'

/**
 * Returns the lowest epoch in which this agent may publish. If the disk has lost the own replica, it is one above every
 * epoch that the disk still knows; the neighbours tell of higher ones (core/replication/protocol.ts, S5).
 */
export function epochFloor(self: Origin, stored: LoadedReplica, keptEpoch: number | undefined): number {
  const isLost = stored.lost || stored.dropped.some(({ origin }) => origin === self)
  const known = Math.max(keptEpoch ?? 0, stored.seen.get(self)?.epoch ?? 0)
  return isLost ? known + 1 : Math.max(1, known)
}
