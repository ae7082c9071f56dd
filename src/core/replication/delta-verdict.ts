// What a replica answers to a delta that it was given (replica.ts). The reader of deltas acts on it (delta-intake.ts).
import type { Head } from './head.ts'
import type { Operation } from './record.ts'
import type { SetRefusal } from './record-set.ts'
import type { RoomRefusal } from './room-budget.ts'

/** Why a delta is refused; the text is counted as the reason. */
export type DeltaRefusal =
  SetRefusal | 'malformed delta' | 'bad signature' | 'frozen by equivocation' | 'too many unfinished bytes'

/** Why a stored state is not restored. */
export type RestoreRefusal = 'bad signature' | 'damaged records' | RoomRefusal

/** The result of one delta, or of one part. */
export type Verdict =
  | {
      readonly kind: 'applied'
      readonly replaced: boolean
      readonly operations: readonly Operation[]
      /** Set when earlier parts, up to this seq, are on disk; the operations are then those of the last part. */
      readonly adopts?: number
    }
  /** A part was taken, and more parts are due. `bytes`: what it took on the wire, for the credit of its sender. */
  | { readonly kind: 'partial'; readonly bytes: number }
  /** The state is held already, or a newer one is. */
  | { readonly kind: 'stale' }
  /** A later part of a delta whose first part was not taken. */
  | { readonly kind: 'stray' }
  /** The delta starts after the held position, so the state has to be pulled. */
  | { readonly kind: 'gap' }
  | { readonly kind: 'equivocation'; readonly proof: Proof }
  | { readonly kind: 'refused'; readonly reason: DeltaRefusal }

/** Two different heads of one origin for one position. */
export interface Proof {
  readonly first: Head
  readonly second: Head
}
