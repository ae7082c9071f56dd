// S5: which clusters stand, and which of them took the place of another.
// Invariant: an admission replaces only what has a lower `seen`, so replacements form no circle, even when one key is
// admitted again after it was replaced.
import type { ClusterName } from '../../model/values.ts'
import { type AdmissionEntry, comparePlaces, type FoundingEntry, type TrustContent } from './entry.ts'
import type { KeyId, StatementId } from './ids.ts'
import type { Place, StandingRules } from './standing-rules.ts'
import type { Bar, PodsAndServices, Seat } from './statement.ts'
import { falls, stands, type Verdict } from './verdict.ts'

/** A cluster key with what made it a cluster. */
export interface ClusterStanding extends PodsAndServices {
  readonly key: KeyId
  readonly name: ClusterName
  readonly verdict: Verdict
  /** The founding certificate, or the admission that counts: the earliest one that stands, else the earliest. */
  readonly entry: FoundingEntry | AdmissionEntry
  /** Its place among claimants, which it may have taken over. */
  readonly place: Place
  /** Its own key, and the keys whose place it took, the latest first. */
  readonly line: readonly KeyId[]
  /** Namespaces that it may export; empty: all. */
  readonly namespaces: readonly string[]
}

/** An admission or founding certificate that has a replacement, with the admission that replaces it. */
type Replaced = ReadonlyMap<StatementId, AdmissionEntry>

/** S5: standing admissions that take the place of an earlier one, whose cluster their seat may decide on. */
export function replacements(
  content: TrustContent,
  {
    seatOf,
    rules,
    admitted
  }: {
    readonly seatOf: (id: StatementId) => Seat | undefined
    readonly rules: StandingRules
    /** Whether an admission stands by S3 and S4. A barred cluster still replaces: the old key is out for good. */
    readonly admitted: (id: StatementId) => boolean
  }
): Replaced {
  const earlier = Map.groupBy([...content.founding.values(), ...content.admissions.values()], keyOfEntry)
  const replaced = new Map<StatementId, AdmissionEntry>()
  const later = [...content.admissions.values()]
    .filter(({ invite, statement }) => invite.statement.replaces !== undefined && admitted(statement.id))
    .sort((a, b) => comparePlaces(a.statement, b.statement))
  for (const entry of later) {
    const { replaces, under } = entry.invite.statement
    const seat = seatOf(under)
    for (const old of (replaces && earlier.get(replaces)) ?? []) {
      const place = { ...placeOf(old), name: nameOf(old) }
      if (seat === undefined || replaced.has(old.statement.id) || !rules.S5replaces(entry, place, seat))
        continue
      replaced.set(old.statement.id, entry)
    }
  }
  return replaced
}

/** S5 for every cluster key. */
export function clustersOf(
  content: TrustContent,
  by: {
    readonly admissions: ReadonlyMap<StatementId, Verdict>
    readonly replaced: Replaced
    readonly rules: StandingRules
    readonly barsOf: ReadonlyMap<KeyId | undefined, readonly Bar[]>
  }
): ReadonlyMap<KeyId, ClusterStanding> {
  const { replaced, rules } = by
  const standsAlone = (entry: FoundingEntry | AdmissionEntry) =>
    entry.kind === 'founding' || by.admissions.get(entry.statement.id)?.stands === true
  const entries = [...content.founding.values(), ...content.admissions.values()]
  const byKey = Map.groupBy(entries, keyOfEntry)
  for (const list of byKey.values()) list.sort((a, b) => rules.S6order(placeOf(a), placeOf(b)))
  const clusters = new Map<KeyId, ClusterStanding>()
  for (const [key, list] of byKey) {
    const entry =
      list.find((one) => standsAlone(one) && !replaced.has(one.statement.id)) ??
      list.find(standsAlone) ??
      list[0]
    if (entry === undefined) continue
    const { place, line } = succession(entry)
    clusters.set(key, {
      key,
      name: nameOf(entry),
      verdict: clusterVerdict(key, entry),
      entry,
      place,
      line,
      ...prefixesOf(entry),
      namespaces: entry.kind === 'founding' ? [] : entry.invite.statement.namespaces
    })
  }
  return clusters

  /** Bar before replacement before admission. */
  function clusterVerdict(key: KeyId, entry: FoundingEntry | AdmissionEntry): Verdict {
    const bars = by.barsOf.get(key) ?? []
    if (bars.length > 0) return falls('S5', 'a bar names its key', bars)
    const later = replaced.get(entry.statement.id)
    if (later !== undefined) return falls('S5', 'another cluster has its place', [later.statement])
    if (entry.kind === 'founding') return stands('S5', 'it is a founding cluster')
    return by.admissions.get(entry.statement.id) ?? stands('S5', 'it was admitted')
  }

  /** The place of an entry: its own, or that of the standing one that it replaced, and so on. */
  function succession(entry: FoundingEntry | AdmissionEntry): Pick<ClusterStanding, 'place' | 'line'> {
    const line = [keyOfEntry(entry)]
    let first = entry
    for (;;) {
      const { replaces } = first.kind === 'admission' ? first.invite.statement : { replaces: undefined }
      const now = first
      const before =
        replaces &&
        byKey.get(replaces)?.find((old) => standsAlone(old) && replaced.get(old.statement.id) === now)
      if (before === undefined) return { place: placeOf(first), line }
      line.push(keyOfEntry(before))
      first = before
    }
  }
}

/** The prefixes that made it a cluster; grants come later (claims.ts). */
function prefixesOf(entry: FoundingEntry | AdmissionEntry): PodsAndServices {
  const { pods, services } = entry.kind === 'founding' ? entry.statement : entry.invite.statement
  return { pods, services }
}

/** The cluster key that an entry is about. */
function keyOfEntry(entry: FoundingEntry | AdmissionEntry): KeyId {
  return entry.statement.clusterKey
}

/** The name that a certificate gives. */
function nameOf(entry: FoundingEntry | AdmissionEntry): ClusterName {
  return entry.kind === 'founding' ? entry.statement.name : entry.cert.statement.name
}

/** Founding clusters come first. */
function placeOf({ kind, statement }: FoundingEntry | AdmissionEntry): Place {
  return { seen: kind === 'admission' && 'seen' in statement ? statement.seen : 0, id: statement.id }
}
