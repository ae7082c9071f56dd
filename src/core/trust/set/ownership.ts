// Which claimant an agent follows for each name and prefix (E1): the one that it had in force, else the first in order.
// Members that heard of two claimants in a different order follow different ones until a Decide comes; so a second
// claimant never changes what works.
// Invariants
//   1. No two clusters have overlapping prefixes in force.
//   2. With the `owners` of the result as input, the result is the same again, and further claimants change nothing
//      that is in force (P5).
import type { Cidr, ClusterName } from '../../model/values.ts'
import type { Claims } from './claims.ts'
import type { KeyId } from './ids.ts'
import { compareRanges, isInside, overlap, type PrefixRange } from './prefix-range.ts'
import type { ClusterStanding } from './clusters.ts'
import { STANDING_RULES, type StandingRules } from './standing-rules.ts'

/** What an agent had in force: "name east" or a prefix such as "10.1.0.0/16", to the key of the cluster. Persisted. */
export type Owners = ReadonlyMap<string, KeyId>

/** A claim that another claimant's holds back. */
interface Contested {
  readonly what: 'name' | 'pods' | 'services'
  /** A cluster name, or a prefix. */
  readonly value: string
  readonly winner: KeyId
  readonly loser: KeyId
}

/** What is in force at one agent. */
export interface Ownership {
  /** The cluster key that has each name. */
  readonly names: ReadonlyMap<ClusterName, KeyId>
  /** Of each claimant, also of one whose name another has. */
  readonly prefixes: ReadonlyMap<
    KeyId,
    { readonly pods: readonly Cidr[]; readonly services: readonly Cidr[] }
  >
  /** Claims that are not in force, for status and events. */
  readonly contested: readonly Contested[]
  /** The next `owners` table. */
  readonly owners: Owners
}

/** Computes what is in force. O(n log n) of the prefixes. */
export function ownershipOf(
  claims: Claims,
  owners: Owners,
  rules: StandingRules = STANDING_RULES
): Ownership {
  const names = new Map<ClusterName, KeyId>()
  const next = new Map<string, KeyId>()
  const contested: Contested[] = []
  for (const [name, { claimants }] of claims.names) {
    const value = `name ${name}`
    const winner = claimants.find(({ line }) => rules.E1(owners.get(value), line)) ?? claimants[0]
    if (winner === undefined) continue
    names.set(name, winner.key)
    next.set(value, winner.key)
    for (const { key } of claimants)
      if (key !== winner.key) contested.push({ what: 'name', value: name, winner: winner.key, loser: key })
  }
  const prefixes = new Map<KeyId, { pods: Cidr[]; services: Cidr[] }>()
  for (const key of claims.prefixes.keys()) prefixes.set(key, { pods: [], services: [] })
  for (const group of overlapping(prefixClaims(claims))) {
    const [claim] = group
    if (claim !== undefined && group.length === 1) {
      prefixes.get(claim.cluster.key)?.[claim.what].push(claim.range.cidr)
      next.set(claim.range.cidr, claim.cluster.key)
      continue
    }
    const { inForce, lost } = settle(group, owners, rules)
    for (const { cluster, range } of inForce) next.set(range.cidr, cluster.key)
    for (const { cluster, what, range } of outermost(inForce))
      prefixes.get(cluster.key)?.[what].push(range.cidr)
    contested.push(...lost)
  }
  return { names, prefixes, contested, owners: next }
}

/** Without the claims that lie inside one of the same cluster. The claims in force are sorted. */
function outermost(inForce: readonly PrefixClaim[]): readonly PrefixClaim[] {
  const last = new Map<ClusterStanding, PrefixRange>()
  return inForce.filter(({ cluster, range }) => {
    const outer = last.get(cluster)
    if (outer !== undefined && isInside(range, outer)) return false
    last.set(cluster, range)
    return true
  })
}

/** One prefix of one cluster. */
interface PrefixClaim {
  readonly cluster: ClusterStanding
  readonly what: 'pods' | 'services'
  readonly range: PrefixRange
}

/** All prefix claims, sorted by `compareRanges`. */
function prefixClaims({ names, prefixes }: Claims): readonly PrefixClaim[] {
  return [...names.values()]
    .flatMap(({ claimants }) => claimants)
    .flatMap((cluster) =>
      (['pods', 'services'] as const).flatMap((what) =>
        (prefixes.get(cluster.key)?.[what] ?? []).map((range) => ({ cluster, what, range }))
      )
    )
    .sort((a, b) => compareRanges(a.range, b.range))
}

/** Sorted claims in groups that overlap. Two prefixes nest or are disjoint, so a group lies in its first one. */
function* overlapping(sorted: readonly PrefixClaim[]): Generator<readonly PrefixClaim[]> {
  let group: PrefixClaim[] = []
  for (const claim of sorted) {
    const [outermost] = group
    if (outermost === undefined || isInside(claim.range, outermost.range)) group.push(claim)
    else {
      yield group
      group = [claim]
    }
  }
  if (group.length > 0) yield group
}

/** E1 for one group: claims in force first, then by place; each takes what no other cluster has taken. */
function settle(
  group: readonly PrefixClaim[],
  owners: Owners,
  rules: StandingRules
): { readonly inForce: readonly PrefixClaim[]; readonly lost: readonly Contested[] } {
  const [first] = group
  if (group.every(({ cluster }) => cluster === first?.cluster)) return { inForce: group, lost: [] }
  const held = ({ cluster, range }: PrefixClaim) => (rules.E1(owners.get(range.cidr), cluster.line) ? 0 : 1)
  const ordered = group.toSorted(
    (a, b) => held(a) - held(b) || rules.S6order(a.cluster.place, b.cluster.place)
  )
  const inForce: PrefixClaim[] = []
  const lost: Contested[] = []
  for (const claim of ordered) {
    const winner = inForce.find(
      (other) => other.cluster !== claim.cluster && overlap(claim.range, other.range)
    )
    if (winner === undefined) inForce.push(claim)
    else
      lost.push({
        what: claim.what,
        value: claim.range.cidr,
        winner: winner.cluster.key,
        loser: claim.cluster.key
      })
  }
  return { inForce: inForce.sort((a, b) => compareRanges(a.range, b.range)), lost }
}
