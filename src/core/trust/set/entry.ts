// What the trust set holds: one entry for each statement that has an effect of its own. Invites and cluster
// certificates lie inside the entry of their admission, since an invite without an admission has no effect.
import type { Signed } from './signatures.ts'
import { compareText, type KeyId, type StatementId } from './ids.ts'
import type { Admission, Bar, ClusterCert, Decide, Grant, Invite, Seat, Void } from './statement.ts'

/** A seat. `root` is the root seat of its subtree: itself, or its parent. */
export interface SeatEntry extends Signed<Seat> {
  readonly kind: 'seat'
  readonly root: StatementId
}

/** A statement of a seat, of the roots (`seat` undefined), or of a cluster (`cluster` set). */
export interface CommandEntry<
  S extends Grant | Bar | Decide | Void = Grant | Bar | Decide | Void
> extends Signed<S> {
  readonly kind: 'command'
  readonly seat: StatementId | undefined
  readonly cluster: KeyId | undefined
}

/** A founding cluster. */
export interface FoundingEntry extends Signed<ClusterCert> {
  readonly kind: 'founding'
}

/** An admitted cluster, with the invite and the certificate that its admission names. */
export interface AdmissionEntry extends Signed<Admission> {
  readonly kind: 'admission'
  readonly invite: Signed<Invite>
  readonly cert: Signed<ClusterCert>
}

/** Everything that the set holds, for those who evaluate it. */
export interface TrustContent {
  readonly seats: ReadonlyMap<StatementId, SeatEntry>
  readonly commands: ReadonlyMap<StatementId, CommandEntry>
  readonly founding: ReadonlyMap<StatementId, FoundingEntry>
  readonly admissions: ReadonlyMap<StatementId, AdmissionEntry>
}

/** Any of them. */
export type Entry = SeatEntry | CommandEntry | FoundingEntry | AdmissionEntry

/** A comparison function for sort(): admissions by the logical clock, then by id. */
export function comparePlaces(left: Admission, right: Admission): number {
  return left.seen - right.seen || compareText(left.id, right.id)
}
