// What the view reads of the trust set: the cluster that has each name here, with the prefixes that are in force. It
// depends on no certificate and on no clock.
// Invariants
//   1. The prefixes of two clusters do not overlap; those of one cluster are sorted by `compareCidr` and do not overlap.
//   2. A cluster that did not change is the same object as before, so that the view builds only what changed.
import type { Cidr, ClusterName } from '../../model/values.ts'
import { type KeyId } from '../set/ids.ts'
import type { Ownership } from '../set/ownership.ts'
import type { Standing } from '../set/standing.ts'
import { type Place, STANDING_RULES } from '../set/standing-rules.ts'

/** A claim that is not in force, because another cluster's is (E1). */
export interface Conflict {
  readonly what: 'name' | 'podPrefix' | 'servicePrefix'
  /** A cluster name, or a prefix. */
  readonly value: string
  readonly winner: ClusterName
}

/** The cluster that has a name. */
export interface SettledCluster {
  readonly cluster: ClusterName
  readonly clusterKey: KeyId
  /** Its place among claimants: `seen` of its admission and an id. */
  readonly place: Place
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  /** Namespaces that it may export, sorted; empty: all of them. */
  readonly namespaces: readonly string[]
  /** Its claims that are not in force; and its name, when another cluster claims it, too. */
  readonly conflicts: readonly Conflict[]
}

/** The cluster of each name. */
export type Settlement = ReadonlyMap<ClusterName, SettledCluster>

/** A comparison function for sort(): the order in which clusters became members. */
export function compareClusters(
  left: Pick<SettledCluster, 'place'>,
  right: Pick<SettledCluster, 'place'>
): number {
  return STANDING_RULES.S6order(left.place, right.place)
}

/** Makes the settlement of an ownership; unchanged clusters of `last` are taken over. O(n) of the prefixes. */
export function settlementOf(standing: Standing, ownership: Ownership, last: Settlement): Settlement {
  const conflicts = conflictsByKey(standing, ownership)
  const settled = new Map<ClusterName, SettledCluster>()
  for (const [cluster, clusterKey] of ownership.names) {
    const of = standing.clusters.get(clusterKey)
    const prefixes = ownership.prefixes.get(clusterKey)
    if (of === undefined || prefixes === undefined) continue
    const now: SettledCluster = {
      cluster,
      clusterKey,
      place: of.place,
      podPrefixes: prefixes.pods,
      servicePrefixes: prefixes.services,
      namespaces: of.namespaces,
      conflicts: conflicts.get(clusterKey) ?? []
    }
    const before = last.get(cluster)
    settled.set(cluster, before !== undefined && isSame(before, now) ? before : now)
  }
  return settled
}

/**
 * The conflicts that each cluster shows: a prefix at the cluster that lacks it, a name at the cluster that has it, since
 * the other claimant has no place in the settlement. Sorted, and each once.
 */
function conflictsByKey(
  standing: Standing,
  { contested }: Ownership
): ReadonlyMap<KeyId, readonly Conflict[]> {
  const found = new Map<KeyId, Map<string, Conflict>>()
  for (const { what, value, winner, loser } of contested) {
    const name = standing.clusters.get(winner)?.name
    if (name === undefined) continue
    const shownAt = what === 'name' ? winner : loser
    const list = found.get(shownAt) ?? new Map<string, Conflict>()
    list.set(`${what} ${value} ${name}`, { what: CONFLICT_OF[what], value, winner: name })
    found.set(shownAt, list)
  }
  return new Map(
    Array.from(found, ([key, list]) => [key, [...list.keys()].sort().flatMap((at) => list.get(at) ?? [])])
  )
}

const CONFLICT_OF = { name: 'name', pods: 'podPrefix', services: 'servicePrefix' } as const

/** Whether two values of one cluster say the same. */
function isSame(left: SettledCluster, right: SettledCluster): boolean {
  return (
    left.clusterKey === right.clusterKey &&
    left.place.seen === right.place.seen &&
    left.place.id === right.place.id &&
    sameList(left.podPrefixes, right.podPrefixes) &&
    sameList(left.servicePrefixes, right.servicePrefixes) &&
    sameList(left.namespaces, right.namespaces) &&
    left.conflicts.length === right.conflicts.length &&
    left.conflicts.every(({ what, value, winner }, at) => {
      const other = right.conflicts[at]
      return other?.what === what && other.value === value && other.winner === winner
    })
  )
}

/** Whether two lists have the same texts in the same order. */
function sameList(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((text, at) => text === right[at])
}
