// States from the store. Each is checked as a state from a neighbour is: its head, its chain, its signature and its hash.
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { decodeSignedHead } from '../wire/messages.ts'
import type { StoredOrigin, StoredParts } from './effects.ts'
import { readHead, type Head } from './head.ts'
import type { Replicas } from './replicas.ts'

export interface RestoreContext {
  readonly self: Origin
  readonly meshId: Uint8Array
  readonly admission: Admission
  readonly replicas: Replicas
}

/** Undefined when the state is restored, else the reason why it is unusable. */
export function restoreOrigin(state: StoredOrigin, context: RestoreContext): string | undefined {
  const head = readStored(state, context)
  if (typeof head === 'string') return head
  return context.replicas.obtain(state.origin)?.restore(head, state.records)
}

/** Undefined when the parts are restored, else the reason why they are unusable. */
export function restoreParts(parts: StoredParts, context: RestoreContext): string | undefined {
  const head = readStored(parts, context)
  if (typeof head === 'string') return head
  if (parts.origin === context.self) return 'of our own'
  const { atSeq, lastSeq, records } = parts
  return context.replicas.obtain(parts.origin)?.restoreParts({ head, atSeq, lastSeq, records })
}

/** The head of a stored state, whose origin is admitted by its stored chain where it is not yet (S2 of protocol.ts). */
function readStored(
  { origin, head: encoded, chain }: StoredOrigin,
  { admission, meshId, self }: RestoreContext
): Head | string {
  const head = readHead(decodeSignedHead(encoded) ?? null, meshId)
  if (typeof head === 'string') return `${head} head`
  if (head.origin !== origin) return 'head of another origin'
  if (origin === self || admission.isAdmitted(origin)) return head
  const verdict = chain ? admission.admit(origin, chain) : { kind: 'refused' as const, reason: 'no chain' }
  return verdict.kind === 'refused' ? `not admitted: ${verdict.reason}` : head
}
