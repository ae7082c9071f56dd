// The gate for deltas: no state of an origin is taken before its certificate chain is admitted (S2 of protocol.ts). The
// chain comes with the first part of a delta. delta-intake.ts asks the gate for each delta, and puller.ts whether an
// origin may be pulled.
import { equalBytes } from '../model/bytes.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { CHAIN_BYTES_MAX } from '../wire/limits.ts'
import type { DeltaMessage } from '../wire/messages.ts'

/** The gate's answer to one delta. */
interface Entry {
  /**
   * `chain missing`: the first part has no chain; the answer to a pull will have it. `denied`: the chain was refused.
   * `ignored`: a later part of an origin that is not admitted, or its chain is too long.
   */
  readonly kind: 'admitted' | 'chain missing' | 'denied' | 'ignored'
  /** The reason why the chain was refused. With `admitted`, the origin stays admitted by the chain that is held. */
  readonly refusal?: string
}

/** The gate of one protocol instance. */
export class Gate {
  readonly #admission: Admission
  readonly #originsMax: number
  /**
   * Origins whose chain was refused, and the time until which they are not pulled. At most `originsMax`; then it is
   * cleared.
   */
  readonly #deniedUntilMs = new Map<Origin, number>()

  constructor({ admission, originsMax }: { readonly admission: Admission; readonly originsMax: number }) {
    this.#admission = admission
    this.#originsMax = originsMax
  }

  /** True when a chain of this origin was refused less than DENIED_MS ago. */
  isDenied(origin: Origin, nowMs: number): boolean {
    return (this.#deniedUntilMs.get(origin) ?? -Infinity) > nowMs
  }

  /** Judges the chain of a delta. The same chain as the held one is not verified again. */
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
