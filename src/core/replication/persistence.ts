// Makes the effects `persist`, `persistPart` and `dropParts`, by which the caller stores the state of each origin. A
// credential has up to 8 KiB and changes rarely, so it is part of the effect only when it has changed since it was last
// stored.
import { equalBytes } from '../model/bytes.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { encodeMessage, wire } from '../wire/messages.ts'
import type { Persist } from './effects.ts'
import { toSignedHead, type Head } from './head.ts'
import type { Outbox } from './outbox.ts'
import type { StagingStep } from './partial-state.ts'
import type { Operation } from './record.ts'
import type { Replica } from './replica.ts'

/** The step that led to the state of a replica; the fields are those of the effect `persist`. */
interface StateStep {
  readonly replaced: boolean
  readonly operations: readonly Operation[]
  readonly adopts?: number
}

/** The persistence of one protocol instance. */
export class Persistence {
  readonly #admission: Admission
  readonly #outbox: Outbox
  /** The credential of each origin as the store has it. */
  readonly #storedCredentials = new Map<Origin, Uint8Array>()

  constructor({ admission, outbox }: { readonly admission: Admission; readonly outbox: Outbox }) {
    this.#admission = admission
    this.#outbox = outbox
  }

  /** Tells that the store holds this credential already; called when the store is read. */
  setStoredCredential(origin: Origin, credential: Uint8Array): void {
    this.#storedCredentials.set(origin, credential)
  }

  /** Asks the caller to store the step by which a replica came to its present head. */
  persist({ origin, head }: Replica, { replaced, operations, adopts }: StateStep): void {
    if (!head) return
    const credential = this.#newCredential(origin)
    this.#outbox.add({
      ...persistOf(head, { replace: replaced, operations }),
      ...(adopts === undefined ? {} : { adopts }),
      ...(credential ? { credential } : {})
    })
  }

  /**
   * Asks the caller to store the credential of an origin when it is new. With an old one, the stored records would not be
   * admitted after a restart.
   */
  persistCredential({ head }: Pick<Replica, 'head'> = { head: undefined }): void {
    const credential = head && this.#newCredential(head.origin)
    if (credential) this.#outbox.add({ ...persistOf(head, { replace: false, operations: [] }), credential })
  }

  /** The credential that the store does not have yet, which the caller is about to ask for; undefined: it has it. */
  #newCredential(origin: Origin): Uint8Array | undefined {
    const credential = this.#admission.credentialOf(origin)
    const stored = this.#storedCredentials.get(origin)
    if (!credential || (stored && equalBytes(stored, credential))) return undefined
    this.#storedCredentials.set(origin, credential)
    return credential
  }

  /** Asks the caller to remove the stored state of an origin that is not held any more. */
  remove(origin: Origin, reason: 'evicted' | 'no member'): void {
    this.#storedCredentials.delete(origin)
    this.#outbox.add({ kind: 'removed', origin, reason })
  }

  /** Asks the caller to store a part of an unfinished snapshot, or to remove all parts of the origin. */
  persistPart(origin: Origin, step: StagingStep): void {
    if (step.kind === 'dropped') return this.#outbox.add({ kind: 'dropParts', origin })
    const { head, atSeq, afterSeq, lastSeq, operations } = step
    const credential = afterSeq === 0 ? this.#admission.credentialOf(origin) : undefined
    this.#outbox.add({
      kind: 'persistPart',
      origin,
      head: encodeHead(head),
      atSeq,
      afterSeq,
      lastSeq,
      operations,
      ...(credential ? { credential } : {})
    })
  }

  /** The whole state of a replica as one step. Undefined while the replica has no head. */
  whole({ origin, head, records }: Replica): Persist | undefined {
    if (!head) return undefined
    const credential = this.#admission.credentialOf(origin)
    return {
      ...persistOf(head, { replace: true, operations: [...records.values()] }),
      ...(credential ? { credential } : {})
    }
  }
}

function persistOf(head: Head, step: Pick<Persist, 'replace' | 'operations'>): Persist {
  const { origin, epoch, seq } = head
  return { kind: 'persist', origin, head: encodeHead(head), epoch, seq, ...step }
}

function encodeHead(head: Head): Uint8Array {
  return encodeMessage(wire.SignedHead, toSignedHead(head))
}
