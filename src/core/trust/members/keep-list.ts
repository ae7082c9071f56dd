// What a Void of a seat keeps: everything below the seat that stands here. An administrator is removed because the key
// is lost or its holder is not trusted any more, and the clusters that were invited until then go on.
// Invariant: a Void with this list changes the standing of nothing that stands here, but for the seat, and for child
// seats where they are not kept.
import type { CommandEntry, SeatEntry, TrustContent } from '../set/entry.ts'
import { KEEP_MAX } from '../set/fields.ts'
import { compareText, type StatementId } from '../set/ids.ts'
import type { Standing } from '../set/standing.ts'
import type { StatementKind } from '../set/statement.ts'

/** One statement that the Void keeps. */
interface KeepEntry {
  readonly id: StatementId
  readonly kind: StatementKind
  /** The seat that signed it, or that invited the admitted cluster. */
  readonly seat: StatementId
}

/** The list of a Void, in the order in which it is filled. */
interface KeepList {
  /** At most KEEP_MAX. */
  readonly entries: readonly KeepEntry[]
  /** How many more stand, which the Void cannot hold and takes down. */
  readonly beyond: number
}

/**
 * Lists what stands below a seat. Clusters come first, then what limits rights, then what gives them. Invites that no
 * member has admitted are not in the set; add the ids of those that shall stay. With `children`, child seats stay and
 * keep what is theirs; without, they fall, and what they signed is listed. O(n log n) of the set.
 */
export function keepListOf(
  content: TrustContent,
  standing: Pick<Standing, 'seats' | 'commands' | 'admissions'>,
  seat: StatementId,
  options: { readonly children: boolean }
): KeepList {
  const children = [...content.seats.values()].filter(({ statement }) => statement.under === seat)
  const kept = options.children
    ? children.filter(({ statement }) => stands(standing.seats, statement.id))
    : []
  // A child that fell before, or falls now, does so by this Void, too; so it must keep what stands below the child.
  const signers = new Set([seat, ...children.filter((one) => !kept.includes(one)).map(idOf)])
  const entries: readonly KeepEntry[] = [
    ...Array.from(content.admissions.values(), ({ statement, invite }) => ({
      id: statement.id,
      kind: statement.kind,
      seat: invite.statement.under,
      stands: stands(standing.admissions, statement.id)
    })).filter((one) => one.stands && signers.has(one.seat)),
    ...[...content.commands.values()].flatMap((entry) => commandEntry(entry, signers, standing)),
    ...kept.map((one) => ({ id: idOf(one), kind: one.statement.kind, seat }))
  ]
    .map(({ id, kind, seat }) => ({ id, kind, seat }))
    .sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || compareText(a.id, b.id))
  return { entries: entries.slice(0, KEEP_MAX), beyond: Math.max(0, entries.length - KEEP_MAX) }
}

/** Which kinds come first where the list is full. */
const ORDER: readonly StatementKind[] = ['admission', 'void', 'bar', 'decide', 'grant', 'seat']

/** A standing statement of one of these seats. */
function commandEntry(
  { statement, seat }: CommandEntry,
  signers: ReadonlySet<StatementId>,
  standing: Pick<Standing, 'commands'>
): readonly KeepEntry[] {
  if (seat === undefined || !signers.has(seat) || !stands(standing.commands, statement.id)) return []
  return [{ id: statement.id, kind: statement.kind, seat }]
}

/** Whether a statement stands. */
function stands(verdicts: ReadonlyMap<StatementId, { readonly stands: boolean }>, id: StatementId): boolean {
  return verdicts.get(id)?.stands === true
}

/** The id of a seat. */
function idOf({ statement }: SeatEntry): StatementId {
  return statement.id
}
