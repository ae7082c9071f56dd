// Admission of origins: no state of an origin is taken before its certificate chain is admitted (S2 of protocol.ts).
import { equalBytes } from '../model/bytes.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { CHAIN_BYTES_MAX } from '../wire/limits.ts'
import type { DeltaMessage } from '../wire/messages.ts'

interface Entry {
  /** `chain missing`: a first part came without a chain, which the answer to a pull brings. `denied`: the chain was refused. */
  readonly kind: 'admitted' | 'chain missing' | 'denied' | 'ignored'
  /** Why the chain was refused; an origin that was admitted before stays so. */
  readonly refusal?: string
}

export class Gate {
  readonly #admission: Admission
  readonly #originsMax: number
  /** Origins whose chain was refused, and until when they are not pulled. */
  readonly #deniedUntilMs = new Map<Origin, number>()

  constructor({ admission, originsMax }: { readonly admission: Admission; readonly originsMax: number }) {
    this.#admission = admission
    this.#originsMax = originsMax
  }

  /** A chain of this origin was refused less than DENIED_MS ago. */
  isDenied(origin: Origin, nowMs: number): boolean {
    return (this.#deniedUntilMs.get(origin) ?? -Infinity) > nowMs
  }

  /** Judges the chain that a delta brings. */
  enter(origin: Origin, { chain, part }: Pick<DeltaMessage, 'chain' | 'part'>, nowMs: number): Entry {
    const isAdmitted = this.#admission.isAdmitted(origin)
    if (chain.length === 0) {
      if (isAdmitted) return { kind: 'admitted' }
      return { kind: part === 0 ? 'chain missing' : 'ignored' }
    }
    if (chain.length > CHAIN_BYTES_MAX)
      return { kind: isAdmitted ? 'admitted' : 'ignored', refusal: 'chain too long' }
    const known = this.#admission.chainOf(origin)
    if (isAdmitted && known && equalBytes(known, chain)) return { kind: 'admitted' }
    const verdict = this.#admission.admit(origin, new Uint8Array(chain))
    if (verdict.kind === 'admitted') {
      this.#deniedUntilMs.delete(origin)
      return { kind: 'admitted' }
    }
    if (isAdmitted) return { kind: 'admitted', refusal: verdict.reason }
    this.#deny(origin, nowMs)
    return { kind: 'denied', refusal: verdict.reason }
  }

  #deny(origin: Origin, nowMs: number): void {
    if (this.#deniedUntilMs.size >= this.#originsMax) this.#deniedUntilMs.clear()
    this.#deniedUntilMs.set(origin, nowMs + DENIED_MS)
  }
}

// Long enough that a refused certificate is not requested each second, short enough that a renewed one is seen soon.
const DENIED_MS = 30_000
