// Tells a statement of a later version from one that is malformed: it has a field with a number that this version does not
// know. Both are refused (F1), since a field that this version would ignore may limit what the statement says, and members
// of two versions would then disagree. But only the malformed one is an offence of its sender.
import { fieldsOf } from '../../wire/fields.ts'
import type { StatementKind } from './statement.ts'

/** The highest number of a field of each kind in proto/mesh.proto, which uses all numbers below it. */
export const HIGHEST_FIELD: Readonly<Record<StatementKind, number>> = {
  seat: 8,
  invite: 9,
  grant: 5,
  bar: 5,
  decide: 3,
  void: 3,
  clusterCert: 5,
  admission: 5,
  agentCert: 5
}
/** The numbers of StatementBody: its kinds, and the nonce. */
const [HIGHEST_KIND, NONCE] = [9, 15]

/** Whether a body of this kind has a field that this version does not know. Never throws on any bytes; O(n). */
export function hasLaterField(body: Uint8Array, kind: StatementKind): boolean {
  return fieldsOf(body).some(({ number, content }) => {
    if (number > HIGHEST_KIND) return number !== NONCE
    return content !== undefined && fieldsOf(content).some((inner) => inner.number > HIGHEST_FIELD[kind])
  })
}
