// Which entries of a trust set are beyond its bounds, and which lose their footing with them: statements of a seat that
// was cut, bars of a cluster that was cut, admissions whose sponsor was cut. A function of the content only.
import {
  type Bounds,
  cutAdmissions,
  cutStatements,
  firstIds,
  type Hold,
  holdBy,
  isSmall,
  sponsorsOfOthers
} from './bounds.ts'
import {
  type AdmissionEntry,
  type CommandEntry,
  comparePlaces,
  type Entry,
  type SeatEntry,
  type TrustContent
} from './entry.ts'
import type { FormRules } from './form-rules.ts'
import type { KeyId, StatementId } from './ids.ts'
import type { Invite } from './statement.ts'

/** One bound that an entry counts towards: a name for the counter, and the bound. */
interface Account {
  readonly name: string
  readonly max: number
}

/** The bounds that an entry counts towards. While none of them is exceeded, nothing is to be cut. O(1). */
export function accountsOf(
  entry: Entry,
  seats: ReadonlyMap<StatementId, SeatEntry>,
  bounds: Bounds
): readonly Account[] {
  if (entry.kind === 'founding') return [{ name: 'founding', max: bounds.foundingClusters }]
  if (entry.kind === 'admission') {
    const { id } = entry.invite.statement
    return [
      { name: `invite ${id}`, max: bounds.claimantsOfInvite },
      ...accountsOfInvite(entry.invite.statement, seats, bounds)
    ]
  }
  if (entry.kind === 'command' && entry.cluster !== undefined)
    return [{ name: `bars ${entry.cluster}`, max: bounds.barsOfCluster }]
  const root = rootOfStatement(entry, seats)
  if (entry.kind === 'seat')
    return entry.statement.under === undefined
      ? [{ name: 'root seats', max: bounds.rootSeats }]
      : [{ name: `children ${root}`, max: bounds.childSeats }]
  if (root === undefined) return [{ name: 'root voids', max: bounds.rootVoids }]
  return isSmall(entry)
    ? [{ name: `small ${root}`, max: bounds.smallStatements }]
    : [{ name: `large ${root}`, max: bounds.largeStatements }]
}

/** The bounds that an admission by this invite counts towards, but for that of the invite itself. */
export function accountsOfInvite(
  { under }: Invite,
  seats: ReadonlyMap<StatementId, SeatEntry>,
  bounds: Bounds
): readonly Account[] {
  const seat = seats.get(under)
  const root = seat && seats.get(seat.root)
  return [
    { name: `seat ${under}`, max: seat?.statement.clustersMax ?? 0 },
    { name: `clusters ${root?.statement.id}`, max: root?.statement.clustersMax ?? 0 },
    { name: 'clusters', max: bounds.clusters }
  ]
}

/** What is to be taken out. `waiting` are admissions that may need a held sponsor. O(n log n) of all entries. */
export function overflow(
  content: TrustContent,
  options: {
    readonly bounds: Bounds
    readonly rules: Pick<FormRules, 'F5'>
    readonly waiting: Iterable<AdmissionEntry>
  }
): ReadonlySet<StatementId> {
  const { bounds, rules } = options
  const { founding, admissions } = content
  const { seats, commands } = keptStatements(content, bounds)
  // Seats are cut first. All statements under a cut seat are cut with it, also those within their own bounds.
  const rootOf = ({ invite }: AdmissionEntry) => seats.get(invite.statement.under)?.root
  const sponsors = sponsorsOfOthers([...admissions.values(), ...options.waiting], rootOf)
  const hold = holdBy({ commands: commands.values(), seats, sponsors })
  const certificates = firstIds(founding.keys(), bounds.foundingClusters)
  const counted = cutAdmissions([...admissions.values()], { bounds, hold, seats })
  // The place of each cluster key by which its admissions of others are judged: its earliest one.
  const places = new Map<KeyId, number>(
    [...founding.values()]
      .filter(({ statement }) => certificates.has(statement.id))
      .map(({ statement }) => [statement.clusterKey, 0])
  )
  // F5 again, since a sponsor may have been cut. A sponsor has a lower `seen`, so one pass in that order is enough.
  const founded = new Set<StatementId>()
  const inOrder = [...admissions.values()].sort((a, b) => comparePlaces(a.statement, b.statement))
  for (const { statement } of inOrder) {
    const seen = places.get(statement.sponsorKey)
    if (!counted.has(statement.id) || seen === undefined || rules.F5(statement, seen) !== undefined) continue
    founded.add(statement.id)
    if (!places.has(statement.clusterKey)) places.set(statement.clusterKey, statement.seen)
  }
  // A bar that a cluster signed goes with its cluster.
  const kept = (id: StatementId) => {
    const command = commands.get(id)
    if (command?.cluster !== undefined) return places.has(command.cluster)
    return command !== undefined || seats.has(id) || certificates.has(id) || founded.has(id)
  }
  const all = [content.seats, content.commands, founding, admissions].flatMap((map) => [...map.keys()])
  return new Set(all.filter((id) => !kept(id)))
}

/** Seats and commands within their bounds; bars of clusters are still without a look at their clusters. */
function keptStatements(
  content: TrustContent,
  bounds: Bounds
): {
  readonly seats: ReadonlyMap<StatementId, SeatEntry>
  readonly commands: ReadonlyMap<StatementId, CommandEntry>
} {
  const all = [...content.seats.values(), ...content.commands.values()]
  const roots = firstIds(
    [...content.seats.values()].filter(({ statement }) => statement.under === undefined).map(idOf),
    bounds.rootSeats
  )
  const hold = holdBy({ commands: content.commands.values(), seats: content.seats, sponsors: new Set() })
  const kept = new Set<StatementId>(roots)
  const ofClusters = all.filter((entry) => entry.kind === 'command' && entry.cluster !== undefined)
  for (const list of Map.groupBy(ofClusters, (entry) => entry.kind === 'command' && entry.cluster).values())
    for (const id of firstIds(list.map(idOf), bounds.barsOfCluster)) kept.add(id)
  const others = all.filter((entry) => entry.kind === 'seat' || entry.cluster === undefined)
  for (const [root, list] of Map.groupBy(others, (entry) => rootOfStatement(entry, content.seats))) {
    if (root === undefined) for (const id of firstIds(list.map(idOf), bounds.rootVoids)) kept.add(id)
    else if (roots.has(root)) for (const id of cutBelow(list, root, { bounds, hold })) kept.add(id)
  }
  return {
    seats: new Map([...content.seats].filter(([id]) => kept.has(id))),
    commands: new Map([...content.commands].filter(([id]) => kept.has(id)))
  }
}

/** The entries of one subtree that count, without its root seat, which has a bound of its own. */
function cutBelow(
  list: readonly (SeatEntry | CommandEntry)[],
  root: StatementId,
  options: { readonly bounds: Bounds; readonly hold: Hold }
): ReadonlySet<StatementId> {
  return cutStatements(
    list.filter(({ statement }) => statement.id !== root),
    options
  )
}

/** The id of an entry's statement. */
function idOf({ statement }: SeatEntry | CommandEntry): StatementId {
  return statement.id
}

/** The root seat of a statement's subtree; undefined for what the roots sign about others. */
function rootOfStatement(
  entry: SeatEntry | CommandEntry,
  seats: ReadonlyMap<StatementId, SeatEntry>
): StatementId | undefined {
  if (entry.kind === 'seat') return entry.root
  return entry.seat === undefined ? undefined : seats.get(entry.seat)?.root
}
