// The bounds of the trust set, and which entries count where a bound is exceeded. The answer must not depend on the
// order in which entries arrived, so each bound is "the first N by a position that further entries can only raise".
// For such a cut, cut(A ∪ B) = cut(cut(A) ∪ cut(B)): an entry within the bound of the union is within the bound of each
// part that has it. Two consequences:
//   - A bound counts entries and never bytes. With a sum of bytes, an entry that was too large would be forgotten, and
//     a later small one would take the room that it was denied. So bytes are bounded by two classes of sizes, each
//     with a count of its own.
//   - A seat shares its subtree's room fairly: entries are taken in turn, one of each seat, each seat's first entries
//     first. So a seat within its share loses nothing to one that floods.
// Three events let an entry in that was cut before: a Void that keeps it, an admission of another administrator's
// cluster that it sponsored, and the cut of a seat beyond its own bound, whose statements free their room. A member that
// had cut the entry takes it in again from any peer that holds it, so members still converge by exchange.
// Source: "Bounds" of docs/trust-set.md.
import { type AdmissionEntry, type CommandEntry, comparePlaces, type SeatEntry } from './entry.ts'
import { compareText, shortOf, type KeyId, type StatementId } from './ids.ts'

/** The numbers, as a value, so that tests can make them small. */
export interface Bounds {
  readonly rootSeats: number
  readonly rootVoids: number
  readonly foundingClusters: number
  /** Of one root seat. */
  readonly childSeats: number
  /** Statements of one root seat and its children, of at most SMALL_BYTES each. */
  readonly smallStatements: number
  /** The same for larger ones: voids and bars that keep many ids, seats and grants with many prefixes. */
  readonly largeStatements: number
  readonly claimantsOfInvite: number
  readonly clusters: number
  /** Bars that one cluster signed, about itself and its agents. */
  readonly barsOfCluster: number
  /** Admissions whose sponsor is not known yet. They do not count as held. */
  readonly waiting: number
  /** Of those, by one invite. The holder of one token can sign any number with sponsors that do not exist. */
  readonly waitingOfInvite: number
}

/** The bounds of every member. All members must have the same ones. */
export const BOUNDS: Bounds = {
  rootSeats: 64,
  rootVoids: 256,
  foundingClusters: 16,
  childSeats: 16,
  smallStatements: 1024,
  largeStatements: 16,
  claimantsOfInvite: 4,
  clusters: 2048,
  barsOfCluster: 64,
  waiting: 256,
  waitingOfInvite: 32
}

/** Bytes of an envelope that counts as small: with 1,024 of them, 512 KiB. */
const SMALL_BYTES = 512

/** Whether a statement counts among the small ones. */
export function isSmall(entry: { readonly envelope: Uint8Array }): boolean {
  return entry.envelope.length <= SMALL_BYTES
}

/** Says how strongly others hold an entry in the set: 0 comes first. */
export type Hold = (entry: SeatEntry | CommandEntry | AdmissionEntry) => number

/** The first `max` of these ids. */
export function firstIds(ids: Iterable<StatementId>, max: number): ReadonlySet<StatementId> {
  return new Set([...ids].sort().slice(0, max))
}

/**
 * The statements of one root seat's subtree that count: its child seats, and the root seat's other statements and those
 * of its children, in turn. O(n log n).
 */
export function cutStatements(
  entries: readonly (SeatEntry | CommandEntry)[],
  options: { readonly bounds: Bounds; readonly hold: Hold }
): ReadonlySet<StatementId> {
  const { bounds, hold } = options
  const children = entries.filter((entry) => entry.kind === 'seat')
  const counted = new Set(take(children, bounds.childSeats, hold).map(({ statement }) => statement.id))
  const isChild = new Set(children.map(({ statement }) => statement.id))
  const commands = entries
    .filter((entry) => entry.kind === 'command')
    .filter(({ seat }) => seat === undefined || !isChild.has(seat) || counted.has(seat))
  const small = commands.filter(isSmall)
  const large = commands.filter((entry) => !isSmall(entry))
  return new Set([
    ...counted,
    ...inTurn(small, bounds.smallStatements, hold),
    ...inTurn(large, bounds.largeStatements, hold)
  ])
}

/**
 * The admissions of the whole set that count: of each invite, each seat, each root seat's subtree and the mesh.
 * `seats` are those that the set holds; admissions under others do not count. O(n log n).
 */
export function cutAdmissions(
  entries: readonly AdmissionEntry[],
  options: {
    readonly bounds: Bounds
    readonly hold: Hold
    readonly seats: ReadonlyMap<StatementId, SeatEntry>
  }
): ReadonlySet<StatementId> {
  const { bounds, hold, seats } = options
  const order = (left: AdmissionEntry, right: AdmissionEntry) =>
    hold(left) - hold(right) || comparePlaces(left.statement, right.statement)
  const sorted = entries.toSorted(order)
  const ofInvite = [...Map.groupBy(sorted, ({ invite }) => invite.statement.id).values()].flatMap((list) =>
    list.slice(0, bounds.claimantsOfInvite)
  )
  const ofSeat = [...Map.groupBy(ofInvite.sort(order), ({ invite }) => invite.statement.under)].flatMap(
    ([seat, list]) => list.slice(0, seats.get(seat)?.statement.clustersMax ?? 0)
  )
  const seatOf = ({ invite }: AdmissionEntry) => invite.statement.under
  const rootOf = (entry: AdmissionEntry) => seats.get(seatOf(entry))?.root ?? seatOf(entry)
  const ofRoot = [...Map.groupBy(ofSeat.sort(order), rootOf)].flatMap(([root, list]) =>
    fairly(list, { max: seats.get(root)?.statement.clustersMax ?? 0, groupOf: seatOf, hold })
  )
  return new Set(
    fairly(ofRoot, { max: bounds.clusters, groupOf: rootOf, hold }).map(({ statement }) => statement.id)
  )
}

/**
 * Admissions that sponsored a cluster of another administrator, and the sponsors above them. They come first in their
 * own subtree: the cut of a flooding seat must not take the sponsor of others' clusters away (F5). O(n log n).
 */
export function sponsorsOfOthers(
  entries: readonly AdmissionEntry[],
  rootOf: (entry: AdmissionEntry) => StatementId | undefined
): ReadonlySet<StatementId> {
  const first = new Map<KeyId, AdmissionEntry>()
  for (const entry of entries.toSorted((a, b) => comparePlaces(a.statement, b.statement)))
    if (!first.has(entry.statement.clusterKey)) first.set(entry.statement.clusterKey, entry)
  const found = new Set<StatementId>()
  for (const entry of entries) {
    let sponsor = first.get(entry.statement.sponsorKey)
    if (sponsor === undefined || rootOf(sponsor) === rootOf(entry)) continue
    // A sponsor has a lower `seen` than whom it let in; the set of found ids ends the walk where F5 does not hold yet.
    while (sponsor !== undefined && !found.has(sponsor.statement.id)) {
      found.add(sponsor.statement.id)
      sponsor = first.get(sponsor.statement.sponsorKey)
    }
  }
  return found
}

/** Kinds in the order in which they count: what limits rights comes before what gives them. */
const KIND_ORDER = { void: 0, bar: 1, decide: 2, grant: 3, seat: 4 } as const

function take<E extends SeatEntry | CommandEntry>(
  entries: readonly E[],
  max: number,
  hold: Hold
): readonly E[] {
  const order = (left: E, right: E) =>
    hold(left) - hold(right) ||
    KIND_ORDER[left.statement.kind] - KIND_ORDER[right.statement.kind] ||
    compareText(left.statement.id, right.statement.id)
  return entries.toSorted(order).slice(0, max)
}

function inTurn(entries: readonly CommandEntry[], max: number, hold: Hold): readonly StatementId[] {
  const sorted = take(entries, entries.length, hold)
  return fairly(sorted, { max, groupOf: ({ seat }) => seat, hold }).map(({ statement }) => statement.id)
}

/** The first `max` of a sorted list when the groups take turns; what others hold comes before. */
function fairly<E extends CommandEntry | AdmissionEntry>(
  sorted: readonly E[],
  options: {
    readonly max: number
    readonly groupOf: (entry: E) => StatementId | undefined
    readonly hold: Hold
  }
): readonly E[] {
  const counts = new Map<StatementId | undefined, number>()
  const placed = sorted.map((entry) => {
    const group = options.groupOf(entry)
    const turn = counts.get(group) ?? 0
    counts.set(group, turn + 1)
    return { entry, hold: options.hold(entry), turn, group: group ?? '' }
  })
  placed.sort((a, b) => a.hold - b.hold || a.turn - b.turn || compareText(a.group, b.group))
  return placed.slice(0, options.max).map(({ entry }) => entry)
}

/**
 * How strongly the voids of seats hold an entry: 0 when a void of the roots keeps it, 1 when one of the parent seat
 * does, 2 when it sponsored clusters of others, 3 otherwise. A void of the seat itself does not count: a seat that
 * floods would put its flood first.
 */
export function holdBy(options: {
  readonly commands: Iterable<CommandEntry>
  readonly seats: ReadonlyMap<StatementId, SeatEntry>
  readonly sponsors: ReadonlySet<StatementId>
}): Hold {
  const { seats, sponsors } = options
  const keeps = new Map<StatementId, { readonly keep: ReadonlySet<string>; readonly hold: 0 | 1 }[]>()
  for (const { statement } of options.commands) {
    if (statement.kind !== 'void' || statement.keep.size === 0) continue
    const target = seats.get(statement.target)?.statement
    if (target === undefined) continue
    const hold = statement.under === undefined ? 0 : statement.under === target.under ? 1 : undefined
    if (hold === undefined) continue
    keeps.set(target.id, [...(keeps.get(target.id) ?? []), { keep: statement.keep, hold }])
  }
  if (keeps.size === 0 && sponsors.size === 0) return () => 3
  const memo = new Map<StatementId, number>()
  return (entry) => {
    const { id } = entry.statement
    const found = memo.get(id) ?? holdOf(entry)
    memo.set(id, found)
    return found
  }

  function holdOf(entry: SeatEntry | CommandEntry | AdmissionEntry): number {
    const { id } = entry.statement
    const ids = [shortOf(id)]
    if (entry.kind === 'admission') ids.push(shortOf(entry.invite.statement.id))
    const signer = signerOf(entry)
    const root = signer === undefined ? undefined : seats.get(signer)?.root
    const holds = [...new Set([signer, root])]
      .flatMap((seat) => (seat === undefined ? [] : (keeps.get(seat) ?? [])))
      .filter(({ keep }) => ids.some((short) => keep.has(short)))
      .map(({ hold }) => hold)
    return Math.min(3, sponsors.has(id) ? 2 : 3, ...holds)
  }
}

function signerOf(entry: SeatEntry | CommandEntry | AdmissionEntry): StatementId | undefined {
  if (entry.kind === 'admission') return entry.invite.statement.under
  return entry.kind === 'seat' ? entry.statement.under : entry.seat
}
