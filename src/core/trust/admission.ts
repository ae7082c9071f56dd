// What replication asks of trust before it takes anything of an origin.
import type { Origin } from '../model/values.ts'

/** The gate of trust, and where the chains are kept. */
export interface Admission {
  isAdmitted(origin: Origin): boolean
  admit(origin: Origin, chain: Uint8Array): { kind: 'admitted' } | { kind: 'refused'; reason: string }
  chainOf(origin: Origin): Uint8Array | undefined
  /** The raw Ed25519 key inside the PeerId; undefined when the text is none. */
  publicKeyOf(origin: Origin): Uint8Array | undefined
}
