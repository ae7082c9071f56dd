// The rules of standing, S1 to S8 and E1, as a table of functions over single statements. standing.ts, claims.ts,
// ownership.ts and agents.ts ask them in order. As with the rules of form, the tests replace one row and expect that at
// least one test fails (P10).
// Invariant: no rule reads a clock, and none depends on the order in which statements arrived (E2).
// Source: "Standing" of docs/trust-set.md.
import type { AdmissionEntry } from './entry.ts'
import { compareText, shortOf, type KeyId, type StatementId } from './ids.ts'
import { isInside, type PrefixRange } from './prefix-range.ts'
import { coversName } from './rights.ts'
import type { AgentCert, Bar, Decide, Rights, Seat, Void } from './statement.ts'

/** The seat that signed a statement, with its ancestors; undefined: the roots, or a cluster. */
type Signer = Seat | undefined

/** A statement that a Void may name: the seat that it stands under, and the cluster names that it is about. */
interface VoidTarget {
  readonly seat: Seat | undefined
  readonly names: Iterable<string>
}

/** The place of a claimant: that of the cluster whose place it took, and its own. */
export interface Place {
  readonly seen: number
  readonly id: StatementId
}

/** One function for each rule, or each part of it. */
export interface StandingRules {
  /** Whether a Void that names this seat may fell it: of the roots, its parent, or itself. */
  S1(taken: Void, seat: Seat): boolean
  /** Whether a statement survives the fall of its seat by this Void. */
  S2keeps(taken: Void, ids: readonly StatementId[]): boolean
  /** Whether a Void that names this statement counts: of the same seat, an ancestor, or one that covers a name. */
  S2voids(taken: Void, signer: Signer, target: VoidTarget): boolean
  /** Whether a Bar of the sponsor takes this admission out. `covered`: the signer may decide on the newcomer's name. */
  S3limits(bar: Bar, admission: AdmissionEntry, covered: boolean): boolean
  /** Whether a Decide adopts this admission, so that it stands also where S3 does not let it. */
  S4(decide: Decide, admission: AdmissionEntry): boolean
  /** Whether a Bar may end the cluster that has these names. */
  S5bars(bar: Bar, signer: Signer, names: Iterable<string>): boolean
  /** Whether an admission takes the place of an earlier one of another key. `seat` is that of the later invite. */
  S5replaces(later: AdmissionEntry, earlier: Place & { readonly name: string }, seat: Rights): boolean
  /** The order of claimants. */
  S6order(left: Place, right: Place): number
  /** Whether a Decide is for this claimant: its key, or one whose place it took. */
  S6decides(decide: Decide, line: readonly KeyId[]): boolean
  /** Whether a dropped prefix takes this one away. */
  S7drops(drop: PrefixRange, prefix: PrefixRange): boolean
  /** Whether a certificate is recent enough, by the highest generation of its cluster. */
  S8(cert: AgentCert, highest: number): boolean
  /** Whether a claimant keeps what it had in force. `owner` is the key that the table `owners` names. */
  E1(owner: KeyId | undefined, line: readonly KeyId[]): boolean
}

/** The rules as they hold. */
export const STANDING_RULES: StandingRules = {
  S1: (taken, seat) => taken.under === undefined || taken.under === seat.id || taken.under === seat.under,
  S2keeps: (taken, ids) => ids.some((id) => taken.keep.has(shortOf(id))),
  S2voids(taken, signer, { seat, names }) {
    if (taken.under === undefined) return true
    if (taken.under === seat?.id || taken.under === seat?.under) return true
    return signer !== undefined && Array.from(names).some((name) => coversName(signer, name))
  },
  S3limits: (bar, { statement }, covered) =>
    covered && bar.keepOnly !== undefined && !bar.keepOnly.has(shortOf(statement.id)),
  S4: (decide, { cert }) =>
    decide.clusterKey === cert.statement.clusterKey && decide.name === cert.statement.name,
  S5bars(bar, signer, names) {
    if ('cluster' in bar.by) return 'cluster' in bar.target && bar.by.cluster === bar.target.cluster
    return signer !== undefined && Array.from(names).some((name) => coversName(signer, name))
  },
  S5replaces: (later, earlier, seat) => later.statement.seen > earlier.seen && coversName(seat, earlier.name),
  S6order: (left, right) => left.seen - right.seen || compareText(left.id, right.id),
  S6decides: (decide, line) => line.includes(decide.clusterKey),
  S7drops: (drop, prefix) => isInside(prefix, drop),
  S8: (cert, highest) => cert.generation >= highest - 1,
  E1: (owner, line) => owner !== undefined && line.includes(owner)
}
