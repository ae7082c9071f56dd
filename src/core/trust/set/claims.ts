// Who claims which name and which prefixes (S6, S7): a function of the standing. A claim is what the statements give;
// which of several claimants an agent follows is decided by ownership.ts.
import type { ClusterName } from '../../model/values.ts'
import { compareText, type KeyId, type StatementId } from './ids.ts'
import { compareRanges, overlap, type PrefixRange } from './prefix-range.ts'
import type { ClusterStanding } from './clusters.ts'
import type { Standing } from './standing.ts'
import { STANDING_RULES, type StandingRules } from './standing-rules.ts'
import type { Decide, Grant, PodsAndServices } from './statement.ts'

/** The claimants of one name. */
interface NameClaim {
  /** Standing clusters that bear the name, the first in order first; after a decision one, or its successors. */
  readonly claimants: readonly ClusterStanding[]
  /** The Decide that counts; of several that fit, the one with the lowest id. */
  readonly decidedBy: StatementId | undefined
  /** Decides for other claimants, which do not count. */
  readonly overruled: readonly StatementId[]
  /** Standing clusters that the decision left out. They stay connected and claim nothing. */
  readonly passedOver: readonly ClusterStanding[]
}

/** All claims of a set. */
export interface Claims {
  readonly names: ReadonlyMap<ClusterName, NameClaim>
  /**
   * Prefixes of each claimant, sorted. Pods and services of one cluster do not overlap; prefixes of one kind may nest.
   */
  readonly prefixes: ReadonlyMap<KeyId, PodsAndServices>
}

/** Computes the claims. O(n log n) of clusters, Decides and Grants. */
export function claimsOf(standing: Standing, rules: StandingRules = STANDING_RULES): Claims {
  const clusters = [...standing.clusters.values()].filter(({ verdict }) => verdict.stands)
  const decides = Map.groupBy(standing.decides, ({ name }) => name)
  const names = new Map<ClusterName, NameClaim>()
  for (const [name, bearers] of Map.groupBy(clusters, ({ name }) => name)) {
    bearers.sort((a, b) => rules.S6order(a.place, b.place) || compareText(a.key, b.key))
    names.set(name, nameClaim(bearers, decides.get(name) ?? [], rules))
  }
  const grants = Map.groupBy(
    standing.grants.filter((grant) => standing.mayDecideOn(grant, grant.clusterKey)),
    ({ clusterKey }) => clusterKey
  )
  const claimants = [...names.values()].flatMap((claim) => claim.claimants)
  return {
    names,
    prefixes: new Map(claimants.map((cluster) => [cluster.key, prefixesOf(cluster, grants, rules)]))
  }
}

/**
 * S6: a Decide counts while one of the claimants is its own, so that a decision for a barred cluster leaves the rest.
 */
function nameClaim(
  bearers: readonly ClusterStanding[],
  decides: readonly Decide[],
  rules: StandingRules
): NameClaim {
  const fitting = decides
    .filter((decide) => bearers.some(({ line }) => rules.S6decides(decide, line)))
    .sort((a, b) => compareText(a.id, b.id))
  const [first, ...others] = fitting
  if (first === undefined) return { claimants: bearers, decidedBy: undefined, overruled: [], passedOver: [] }
  const chosen = ({ line }: ClusterStanding) => rules.S6decides(first, line)
  return {
    claimants: bearers.filter(chosen),
    decidedBy: first.id,
    overruled: others.filter(({ clusterKey }) => clusterKey !== first.clusterKey).map(({ id }) => id),
    passedOver: bearers.filter((cluster) => !chosen(cluster))
  }
}

/**
 * S7: the invite's prefixes and those added, without those dropped. A service prefix that overlaps pods is left out.
 * Grants of a replaced key are its successor's.
 */
function prefixesOf(
  cluster: ClusterStanding,
  grants: ReadonlyMap<KeyId, readonly Grant[]>,
  rules: StandingRules
): PodsAndServices {
  const own = cluster.line.flatMap((key) => grants.get(key) ?? [])
  if (own.length === 0) return { pods: cluster.pods, services: cluster.services }
  const drops = own.flatMap(({ drop }) => drop)
  const stays = (prefix: PrefixRange) => !drops.some((drop) => rules.S7drops(drop, prefix))
  const pods = distinct([...cluster.pods, ...own.flatMap(({ add }) => add.pods)].filter(stays))
  const services = distinct([...cluster.services, ...own.flatMap(({ add }) => add.services)].filter(stays))
  return { pods, services: services.filter((service) => !pods.some((pod) => overlap(pod, service))) }
}

/**
 * Sorted, and each prefix once. One inside another stays: when the wider one is contested, the narrower one may have
 * been in force before.
 */
function distinct(prefixes: readonly PrefixRange[]): readonly PrefixRange[] {
  const sorted = prefixes.toSorted(compareRanges)
  return sorted.filter(({ cidr }, at) => cidr !== sorted[at - 1]?.cidr)
}
