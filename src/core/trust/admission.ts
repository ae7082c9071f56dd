// The interface through which replication asks the trust store whether an origin may be replicated. It exists so that
// replication depends on five functions and not on the whole trust store (trust-store.ts), which implements it; tests
// implement it with a map.
import type { Origin } from '../model/values.ts'

/** Admission of origins: verifies their certificate chains and keeps them. */
export interface Admission {
  /** True when a verified chain of this origin is held. */
  isAdmitted(origin: Origin): boolean
  /**
   * Verifies an encoded Chain and keeps it. An invalid chain is refused with a reason; the method never throws on it.
   * `isForged`: a signature of the chain is bad, so no honest agent has relayed it.
   */
  admit(
    origin: Origin,
    chain: Uint8Array
  ): { kind: 'admitted' } | { kind: 'refused'; reason: string; isForged?: true }
  /** The encoded Chain of an admitted origin. */
  chainOf(origin: Origin): Uint8Array | undefined
  /** The cluster of an admitted origin, under which its records count (replication/room-budget.ts); undefined: none. */
  clusterOf(origin: Origin): string | undefined
  /** The raw Ed25519 public key (32 bytes) inside the PeerId; undefined when the text is no PeerId. */
  publicKeyOf(origin: Origin): Uint8Array | undefined
}
