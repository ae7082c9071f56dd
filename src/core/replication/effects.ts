// The types of the replication protocol's interface: its options, the stored states that it reads, and the effects that
// it returns.
import type { Crypto } from '../model/crypto.ts'
import type { ProtocolLimits } from './limits.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import type { LeftOut } from './own-records.ts'
import type { Operation, StoredRecord } from './record.ts'

/** One action for the caller. The caller carries out the effects one after the other, in the order given. */
export type Effect =
  | { readonly kind: 'send'; readonly to: Origin; readonly frame: Uint8Array }
  /** Call `Protocol.sent` when the peer's send queue has drained. */
  | { readonly kind: 'whenSent'; readonly to: Origin }
  | Persist
  | PersistPart
  /** Remove all persisted parts of this origin. */
  | { readonly kind: 'dropParts'; readonly origin: Origin }
  /** The records of these origins have changed. */
  | { readonly kind: 'changed'; readonly origins: readonly Origin[] }
  | Refused
  /** All own values that are not published, because other agents would refuse them. Sent when the list changes. */
  | { readonly kind: 'leftOut'; readonly leftOut: LeftOut }
  /** Close this connection, then call `peerDown`. */
  | { readonly kind: 'abort'; readonly peer: Origin; readonly reason: string }
  /** The store has lost records that this agent once published; from now on it publishes in this epoch. */
  | { readonly kind: 'ownRollback'; readonly epoch: number }
  /**
   * Remove the stored state of this origin: it was `evicted`, because its cluster takes too much room, or it is no member
   * any more.
   */
  | { readonly kind: 'removed'; readonly origin: Origin; readonly reason: 'evicted' | 'no member' }
  /** The stored state of this origin is unusable. Remove it; it will be pulled again. */
  | { readonly kind: 'damaged'; readonly origin: Origin; readonly reason: string }

/** Count this refusal by reason, and tell of it. */
export interface Refused {
  readonly kind: 'refused'
  /** The neighbour that sent what was refused, or this agent when its own change could not be published. */
  readonly from: Origin
  readonly reason: string
  /**
   * True: an offence of `from` itself, because an honest agent sends no such frame, not even as a relay. Absent: the
   * fault may be that of another agent, or of this one.
   */
  readonly isOffence?: true
}

/** A step of an origin's state. It must be durable, as one atomic step, before the effects after it are carried out. */
export interface Persist {
  readonly kind: 'persist'
  readonly origin: Origin
  /** Encoded SignedHead. */
  readonly head: Uint8Array
  readonly epoch: number
  readonly seq: number
  /** Remove every stored record of the origin first. The parts of an unfinished snapshot stay. */
  readonly replace: boolean
  /**
   * With `replace`: the stored parts, whose last seq is this one, become the records, and then the operations are
   * applied. When these parts are not stored, the caller persists `Protocol.whole` instead.
   */
  readonly adopts?: number
  /** A tombstone (value undefined) removes its record and need not be stored. */
  readonly operations: readonly Operation[]
  /** The encoded credential, when it is new. */
  readonly credential?: Uint8Array
}

/**
 * A part of an unfinished snapshot. Readers must not see it; after a restart it is read back as `StoredParts`. It need
 * not be durable. An origin has at most one such state at a time.
 */
export interface PersistPart {
  readonly kind: 'persistPart'
  readonly origin: Origin
  /** The encoded SignedHead of this part. */
  readonly head: Uint8Array
  /** The seq at which the origin stood when the first part was made. */
  readonly atSeq: number
  /**
   * The part continues after this seq and is useless when the stored parts end elsewhere. 0 is the first part, which
   * replaces all others.
   */
  readonly afterSeq: number
  readonly lastSeq: number
  readonly operations: readonly Operation[]
  /** Encoded Credential; in the first part. */
  readonly credential?: Uint8Array
}

/** The identity, limits and ports of one protocol instance. */
export interface ProtocolOptions {
  readonly self: Origin
  /** Ed25519 seed of `self`, 32 bytes. */
  readonly selfSeed: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly admission: Admission
  readonly limits?: Partial<ProtocolLimits>
  /** The lowest epoch to publish in, for an agent whose store has lost what it once published. Default 1. */
  readonly epochFloor?: number
  /**
   * Unix milliseconds of this start, or another number that grows with each restart; it refutes suspicions of earlier
   * runs. Default 0.
   */
  readonly incarnation?: number
}

/** The persisted state of one origin. */
export interface StoredOrigin {
  readonly origin: Origin
  /** Encoded SignedHead. */
  readonly head: Uint8Array
  readonly credential: Uint8Array | undefined
  readonly records: Iterable<StoredRecord>
}

/** The persisted parts of an unfinished snapshot. */
export interface StoredParts extends StoredOrigin {
  readonly atSeq: number
  readonly lastSeq: number
}
