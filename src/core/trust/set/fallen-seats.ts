// S1: which seats fell, and by which Voids. The Voids matter below, because each of them keeps other statements: what a
// fallen seat signed stands only while every one of them keeps it (S2).
import type { TrustContent } from './entry.ts'
import type { StatementId } from './ids.ts'
import type { StandingRules } from './standing-rules.ts'
import type { Seat, Void } from './statement.ts'
import { falls, stands, type Verdict } from './verdict.ts'

/**
 * S1: the Voids that fell each seat; a child falls with its parent unless it is kept. Seats that stand are left out.
 */
export function fallenSeats(
  { seats }: TrustContent,
  voids: ReadonlyMap<StatementId, readonly Void[]>,
  rules: StandingRules
): ReadonlyMap<StatementId, readonly Void[]> {
  const fallen = new Map<StatementId, readonly Void[]>()
  const inDepth = [...seats.values()].sort((a, b) => depthOf(a.statement) - depthOf(b.statement))
  for (const { statement: seat } of inDepth) {
    const parents = (seat.under && fallen.get(seat.under)) ?? []
    const own = (voids.get(seat.id) ?? []).filter((taken) => rules.S1(taken, seat))
    const byParent = own.filter(
      (taken) => taken.under === seat.under && parents.every((felling) => rules.S2keeps(felling, [taken.id]))
    )
    const byRoots = own.filter(({ under }) => under === undefined)
    const inherited = parents.filter((felling) => !rules.S2keeps(felling, [seat.id]))
    const above = [...new Set([...byRoots, ...byParent, ...inherited])]
    // A seat that others have felled can resign no more: its Void would take away what theirs keep (P3).
    const byItself = own.filter(
      (taken) =>
        !above.includes(taken) &&
        taken.under !== seat.under &&
        above.every((felling) => rules.S2keeps(felling, [taken.id]))
    )
    const causes = [...above, ...byItself.filter(({ under }) => under !== undefined)]
    if (causes.length > 0) fallen.set(seat.id, causes)
  }
  return fallen
}

/** Root seats come before their children: a child's standing reads that of its parent. */
function depthOf(seat: Seat): number {
  return seat.under === undefined ? 0 : 1
}

/** The verdict on a seat that these Voids fell; none of them, and it stands. */
export function seatVerdict(felling: readonly Void[]): Verdict {
  if (felling.length === 0) return stands('S1', 'no void names the seat or its parent')
  return falls('S1', 'the seat or its parent was voided', felling)
}
