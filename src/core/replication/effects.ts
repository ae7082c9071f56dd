// What the replication protocol is told and what it asks for: its whole surface towards the program around it.
import type { Crypto } from '../model/crypto.ts'
import type { ProtocolLimits } from './limits.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import type { LeftOut } from './own-records.ts'
import type { Operation, StoredRecord } from './record.ts'

/** What an effect asks of the caller, who carries them out one after the other in the order given. */
export type Effect =
  | { readonly kind: 'send'; readonly to: Origin; readonly frame: Uint8Array }
  /** Call `Protocol.sent` as soon as hardly anything waits to be sent to this neighbour. */
  | { readonly kind: 'whenSent'; readonly to: Origin }
  | Persist
  | PersistPart
  /** No part of this origin is needed any more. */
  | { readonly kind: 'dropParts'; readonly origin: Origin }
  /** Records of these origins are not what they were. */
  | { readonly kind: 'changed'; readonly origins: readonly Origin[] }
  /** To be counted by reason; `from` is the neighbour, or ourselves for a change that could not be published. */
  | { readonly kind: 'refused'; readonly from: Origin; readonly reason: string }
  /** Of what should be published: all that is left out, for the others would refuse it. Told when it changes. */
  | { readonly kind: 'leftOut'; readonly leftOut: LeftOut }
  /** Close this connection; `peerDown` is expected. */
  | { readonly kind: 'abort'; readonly peer: Origin; readonly reason: string }
  /** Our store had forgotten what we once published: from now on we write in this epoch. */
  | { readonly kind: 'ownRollback'; readonly epoch: number }
  /** What was stored of this origin is unusable and should be removed; it will be pulled again. */
  | { readonly kind: 'damaged'; readonly origin: Origin; readonly reason: string }

/** Must be durable, as one atomic step, before the effects after it are carried out. */
export interface Persist {
  readonly kind: 'persist'
  readonly origin: Origin
  /** Encoded SignedHead. */
  readonly head: Uint8Array
  readonly epoch: number
  readonly seq: number
  /** Remove every record held of the origin first; parts of a state that is not whole yet stay. */
  readonly replace: boolean
  /**
   * With `replace`: the parts persisted so far, the last one up to this seq, become the records, and the operations come on top.
   * Where these parts are not there, the caller persists `Protocol.whole` instead.
   */
  readonly adopts?: number
  /** A tombstone removes its record; it need not be kept. */
  readonly operations: readonly Operation[]
  /** Encoded Chain, where it is new. */
  readonly chain?: Uint8Array
}

/**
 * A part of a whole state of which more has to come: not yet to be shown to anyone, but to be found by the next life
 * (`StoredParts`). It need not be durable. Of one origin there is one such state at a time.
 */
export interface PersistPart {
  readonly kind: 'persistPart'
  readonly origin: Origin
  /** Encoded SignedHead: that of this part. */
  readonly head: Uint8Array
  readonly atSeq: number
  /** It goes on after this seq; where the parts there end elsewhere, it is of no use. 0: the first part, others go. */
  readonly afterSeq: number
  readonly lastSeq: number
  readonly operations: readonly Operation[]
  /** Encoded Chain; in the first part. */
  readonly chain?: Uint8Array
}

export interface ProtocolOptions {
  readonly self: Origin
  /** Ed25519 seed of `self`, 32 bytes. */
  readonly selfSeed: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly admission: Admission
  readonly limits?: Partial<ProtocolLimits>
  /** What is published is of this epoch at least: for an agent whose store has lost what it once published. Default 1. */
  readonly epochFloor?: number
  /** Unix milliseconds of this start, or anything else that grows from life to life: deaths of earlier lives end with it. Default 0. */
  readonly incarnation?: number
}

/** One origin as it was persisted. */
export interface StoredOrigin {
  readonly origin: Origin
  /** Encoded SignedHead. */
  readonly head: Uint8Array
  readonly chain: Uint8Array | undefined
  readonly records: Iterable<StoredRecord>
}

/** The parts of an unfinished state, as far as they were persisted. */
export interface StoredParts extends StoredOrigin {
  readonly atSeq: number
  readonly lastSeq: number
}
