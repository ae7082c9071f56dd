// Restores the states that were read from the store at the start. Each state is checked like one from a neighbour
// (head, credential, signature and hash), because the disk may be damaged, or come from another mesh or an older backup.
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { decodeSignedHead } from '../wire/messages.ts'
import type { StoredOrigin, StoredParts } from './effects.ts'
import { readHead, type Head } from './head.ts'
import type { Replicas } from './replicas.ts'

/** The identity of this agent, and where restored states go. */
export interface RestoreContext {
  readonly self: Origin
  readonly meshId: Uint8Array
  readonly admission: Admission
  readonly replicas: Replicas
}

/** Restores the state of one origin. Returns the reason when it is unusable; undefined when it was restored. */
export function restoreOrigin(state: StoredOrigin, context: RestoreContext): string | undefined {
  const head = readStored(state, context)
  if (typeof head === 'string') return head
  return context.replicas.obtain(state.origin)?.restore(head, state.records)
}

/**
 * Restores the parts of an unfinished snapshot. Returns the reason when they are unusable; undefined when they were
 * restored.
 */
export function restoreParts(parts: StoredParts, context: RestoreContext): string | undefined {
  const head = readStored(parts, context)
  if (typeof head === 'string') return head
  if (parts.origin === context.self) return 'of our own'
  const { atSeq, lastSeq, records } = parts
  return context.replicas.obtain(parts.origin)?.restoreParts({ head, atSeq, lastSeq, records })
}

/**
 * Decodes the head of a stored state and, if its origin is not admitted yet, admits it by the stored credential (S2 of
 * protocol.ts). Returns the head, or the reason why the state is unusable.
 */
function readStored(
  { origin, head: encoded, credential }: StoredOrigin,
  { admission, meshId, self }: RestoreContext
): Head | string {
  const head = readHead(decodeSignedHead(encoded) ?? null, meshId)
  if (typeof head === 'string') return `${head} head`
  if (head.origin !== origin) return 'head of another origin'
  if (origin === self || admission.isAdmitted(origin)) return head
  const verdict = credential
    ? admission.admit(origin, credential)
    : { kind: 'refused' as const, reason: 'no credential' }
  return verdict.kind === 'refused' ? `not admitted: ${verdict.reason}` : head
}
