// The interface through which replication asks who is a member. It exists so that replication depends on five functions
// and not on the whole of trust (members/members.ts), which implements it; tests implement it with a map.
import type { Origin } from '../model/values.ts'

/** Admission of origins: judges their credentials and keeps them. */
export interface Admission {
  /** True when a credential of this origin is held, and its agent stands. */
  isAdmitted(origin: Origin): boolean
  /**
   * Judges an encoded credential and keeps it. One that does not stand is refused with a reason; the method never throws
   * on any bytes. `isForged`: its form or a signature is bad, so no honest agent has relayed it. `isEarly`: the trust set
   * does not know its cluster yet, so the same credential may be admitted as soon as the statements have come.
   */
  admit(
    origin: Origin,
    credential: Uint8Array
  ): { kind: 'admitted' } | { kind: 'refused'; reason: string; isForged?: true; isEarly?: true }
  /** The encoded credential of an origin. */
  credentialOf(origin: Origin): Uint8Array | undefined
  /** The cluster of an admitted origin, under which its records count (replication/room-budget.ts); undefined: none. */
  clusterOf(origin: Origin): string | undefined
  /** The raw Ed25519 public key (32 bytes) inside the PeerId; undefined when the text is no PeerId. */
  publicKeyOf(origin: Origin): Uint8Array | undefined
}
