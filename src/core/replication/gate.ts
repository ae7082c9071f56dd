// The gate for deltas: no state of an origin is taken before its credential is admitted (S2 of protocol.ts). The
// credential comes with the first part of a delta. delta-intake.ts asks the gate for each delta, and puller.ts whether an
// origin may be pulled.
import { equalBytes } from '../model/bytes.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { CREDENTIAL_BYTES_MAX } from '../wire/limits.ts'
import type { DeltaMessage } from '../wire/messages.ts'

/** The gate's answer to one delta. */
export interface Entry {
  /**
   * `credential missing`: the first part has no credential; the answer to a pull will have it. `denied`: the credential was refused.
   * `ignored`: a later part of an origin that is not admitted, or its credential is too long.
   */
  readonly kind: 'admitted' | 'credential missing' | 'denied' | 'ignored'
  /** The reason why the credential was refused. With `admitted`, the origin stays admitted by the credential that is held. */
  readonly refusal?: string
  /** True when a signature of the refused credential is bad. */
  readonly isForged?: true
  /** True when the origin had another credential here, in whose place this one has come. */
  readonly isNew?: true
}

/** The gate of one protocol instance. */
export class Gate {
  readonly #admission: Admission
  readonly #originsMax: number
  /**
   * Origins whose credential was refused, and the time until which they are not pulled. At most `originsMax`; then it is
   * cleared.
   */
  readonly #deniedUntilMs = new Map<Origin, number>()
  /** Origins that were removed for want of room, and the time until which their states are not taken. */
  readonly #shutUntilMs = new Map<Origin, number>()

  constructor({ admission, originsMax }: { readonly admission: Admission; readonly originsMax: number }) {
    this.#admission = admission
    this.#originsMax = originsMax
  }

  /** Takes no state of this origin for `ms`, because its cluster takes too much room. */
  shut(origin: Origin, nowMs: number, ms: number): void {
    if (this.#shutUntilMs.size >= this.#originsMax) this.#shutUntilMs.clear()
    this.#shutUntilMs.set(origin, nowMs + ms)
  }

  /** True when a credential of this origin was refused less than DENIED_MS (EARLY_MS) ago, or while it is shut out. */
  isDenied(origin: Origin, nowMs: number): boolean {
    return (this.#deniedUntilMs.get(origin) ?? -Infinity) > nowMs || this.#isShut(origin, nowMs)
  }

  /** Judges the credential of a delta. The same credential as the held one is not verified again. */
  enter(
    origin: Origin,
    { credential, part }: Pick<DeltaMessage, 'credential' | 'part'>,
    nowMs: number
  ): Entry {
    if (this.#isShut(origin, nowMs)) return { kind: 'denied', refusal: 'no room for this cluster' }
    const isAdmitted = this.#admission.isAdmitted(origin)
    if (credential.length === 0) {
      if (isAdmitted) return { kind: 'admitted' }
      return { kind: part === 0 ? 'credential missing' : 'ignored' }
    }
    if (credential.length > CREDENTIAL_BYTES_MAX)
      return { kind: isAdmitted ? 'admitted' : 'ignored', refusal: 'credential too long' }
    const known = this.#admission.credentialOf(origin)
    if (isAdmitted && known && equalBytes(known, credential)) return { kind: 'admitted' }
    const verdict = this.#admission.admit(origin, new Uint8Array(credential))
    if (verdict.kind === 'admitted') {
      this.#deniedUntilMs.delete(origin)
      // An older credential of an origin that stands is admitted, too, and changes nothing.
      const isNew = known !== undefined && this.#admission.credentialOf(origin) !== known
      return { kind: 'admitted', ...(isNew && { isNew: true as const }) }
    }
    const why = { refusal: verdict.reason, ...(verdict.isForged ? { isForged: true as const } : {}) }
    if (isAdmitted) return { kind: 'admitted', ...why }
    this.#deny(origin, nowMs + (verdict.isEarly ? EARLY_MS : DENIED_MS))
    return { kind: 'denied', ...why }
  }

  #isShut(origin: Origin, nowMs: number): boolean {
    const untilMs = this.#shutUntilMs.get(origin)
    if (untilMs === undefined) return false
    if (untilMs > nowMs) return true
    this.#shutUntilMs.delete(origin)
    return false
  }

  #deny(origin: Origin, untilMs: number): void {
    if (this.#deniedUntilMs.size >= this.#originsMax) this.#deniedUntilMs.clear()
    this.#deniedUntilMs.set(origin, untilMs)
  }
}

// Long enough that a refused certificate is not requested each second, short enough that a renewed one is seen soon.
const DENIED_MS = 30_000
// A credential that came before the statements that its cluster stands on. They are on their way as a rule, and each attempt
// is paid from the neighbour's budgets for pulls and signatures.
const EARLY_MS = 2000
