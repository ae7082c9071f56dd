// Which clusters answer a balanced service, and in which proportion: a policy, the endpoints of each cluster and the
// round trips in; a share for each cluster out, with the reason for each that gets none.
// Invariants
//   1. While an allowed cluster that can be reached has a ready endpoint, some cluster has a share. `only` and a tunnel
//      that is down are the only limits; every preference gives way.
//   2. Endpoints that terminate but still serve are used only while no allowed cluster has a ready one (KEP-1669 for
//      kube-proxy, over all clusters).
//   3. The result is a pure function of the input, and does not depend on the order of the clusters.
//   4. The weights of all endpoints together are at most `weightSumMax` and one for each endpoint, so that the tables of
//      the load balancer stay small.
//   5. Clusters with unequal shares have at most HASHED_REAL_SERVERS_MAX endpoints in use, each cluster in proportion to
//      its share: a cluster with many endpoints does not take the places of the others.
//   6. Zones divide the part of a cluster among its endpoints, and never move a part to another cluster.
import { HASHED_REAL_SERVERS_MAX } from './host-limits.ts'
import type { BalancePolicy, Preference } from '../model/balance-policy.ts'
import type { ClusterName } from '../model/values.ts'

/** What one cluster has for a service. */
export interface Candidate {
  readonly cluster: ClusterName
  readonly ready: number
  /** How many of the ready ones this host uses (zone-choice.ts), and where they are; left out: all of them. */
  readonly near?: { readonly ready: number; readonly where: string }
  /** Endpoints that terminate but still serve. */
  readonly leaving: number
  readonly isLocal: boolean
  /** True while every tunnel to the cluster is down. */
  readonly isWithdrawn: boolean
  /** Milliseconds; undefined: not measured, so the cluster counts as the farthest. */
  readonly rttMs: number | undefined
}

/** The part of the traffic that one cluster gets. */
export interface ClusterShare {
  readonly cluster: ClusterName
  /** The number of endpoints that get traffic. */
  readonly endpoints: number
  /** How many could: above `endpoints`, the rest has no place in the table of the load balancer (invariant 5). */
  readonly of: number
  /** Whether the endpoints that get traffic are ready, or terminate and still serve. */
  readonly use: 'ready' | 'leaving'
  /** The weight of each of them; 0: the cluster gets no traffic. */
  readonly weight: number
  /** A clause for people: why the cluster has this share, or none. */
  readonly reason: string
}

/**
 * Returns the sum that weights are scaled to when their exact proportion needs more: 32 for each endpoint, so that the
 * weight of an endpoint is rounded by a few percent, within the largest table of the load balancer (slots.ts).
 */
function weightSumMax(endpoints: number): number {
  return Math.min(16_384, Math.max(512, 32 * endpoints))
}

/** Chooses. One share for each candidate, in the order of the clusters' names. */
export function chooseClusters(
  { only, preference }: BalancePolicy,
  candidates: readonly Candidate[]
): readonly ClusterShare[] {
  const sorted = candidates.toSorted((a, b) => (a.cluster < b.cluster ? -1 : 1))
  const out = new Map<ClusterName, string>()
  const allowed = sorted.filter((each) => {
    const reason = refusalOf(each, only)
    if (reason !== undefined) out.set(each.cluster, reason)
    return reason === undefined
  })
  const isReady = allowed.some(({ ready }) => ready > 0)
  const usable = allowed.filter((each) => {
    if (countOf(each, isReady) > 0) return true
    out.set(
      each.cluster,
      isReady && each.leaving > 0 ? 'its endpoints terminate, and others are ready' : 'no endpoint is ready'
    )
    return false
  })
  const chosen = prefer(preference, usable, isReady)
  const parts = withPlaces(
    usable.map((each) => ({ part: chosen.get(each.cluster)?.part ?? 0, endpoints: usedOf(each, isReady) })),
    preference.kind === 'weights' || usable.some((each) => usedOf(each, isReady) < countOf(each, isReady))
  )
  const weights = endpointWeights(parts)
  return sorted.map((each) => {
    const at = usable.indexOf(each)
    const weight = at < 0 ? 0 : (weights[at] ?? 0)
    const { cluster } = each
    const of = weight > 0 ? usedOf(each, isReady) : 0
    const endpoints = weight > 0 ? (parts[at]?.endpoints ?? 0) : 0
    const reason = out.get(cluster) ?? chosen.get(cluster)?.reason ?? ''
    const fallback = weight > 0 && !isReady ? ', with endpoints that terminate because none is ready' : ''
    const zone = weight > 0 && isReady ? nearText(each) : ''
    const cut = endpoints < of ? `; ${endpoints} of its ${of} endpoints have a place` : ''
    const use = isReady ? 'ready' : 'leaving'
    return { cluster, endpoints, of, use, weight, reason: `${reason}${fallback}${zone}${cut}` }
  })
}

function refusalOf({ cluster, isWithdrawn }: Candidate, only: readonly ClusterName[]): string | undefined {
  if (only.length > 0 && !only.includes(cluster)) return `only=${only.join()} leaves it out`
  return isWithdrawn ? 'no tunnel to it is up' : undefined
}

function countOf({ ready, leaving }: Candidate, isReady: boolean): number {
  return isReady ? ready : leaving
}

/** The number of endpoints among which the part of a cluster is divided. */
function usedOf(each: Candidate, isReady: boolean): number {
  return isReady ? (each.near?.ready ?? each.ready) : each.leaving
}

function nearText({ ready, near }: Candidate): string {
  if (near === undefined) return ''
  return near.ready < ready
    ? `; its part goes to ${near.ready} of ${ready} ready endpoints, those ${near.where}`
    : `; all its ready endpoints count: ${near.where}`
}

/** The part of the traffic of a cluster. Parts are compared with each other; 0: none. */
interface Part {
  readonly part: number
  readonly reason: string
}

/** Returns the parts of the usable clusters. At least one is above 0 when there is a usable cluster. */
function prefer(
  preference: Preference,
  usable: readonly Candidate[],
  isReady: boolean
): ReadonlyMap<ClusterName, Part> {
  const evenly = (reason: string) =>
    new Map(
      usable.map((each): [ClusterName, Part] => [each.cluster, { part: countOf(each, isReady), reason }])
    )
  const alone = (chosen: Candidate | undefined, reason: string, other: string) =>
    new Map(
      usable.map((each): [ClusterName, Part] => [
        each.cluster,
        each === chosen ? { part: 1, reason } : { part: 0, reason: other }
      ])
    )
  switch (preference.kind) {
    case 'spread':
      return evenly('every ready endpoint gets the same')
    case 'local-first': {
      const local = usable.find(({ isLocal }) => isLocal)
      const count = local === undefined ? 0 : countOf(local, isReady)
      if (count >= preference.ready)
        return alone(
          local,
          `it is the own cluster, with ${count} endpoints (at least ${preference.ready})`,
          'the own cluster has enough endpoints'
        )
      return evenly(
        `the own cluster has ${count} of at least ${preference.ready} endpoints, so every endpoint gets the same`
      )
    }
    case 'nearest': {
      const [nearest] = usable.toSorted((a, b) => distanceOf(a) - distanceOf(b))
      return alone(nearest, `it is the nearest (${distanceText(nearest)})`, `${nearest?.cluster} is nearer`)
    }
    case 'failover': {
      const chosen = preference.clusters
        .map((name) => usable.find(({ cluster }) => cluster === name))
        .find((each) => each !== undefined)
      if (chosen !== undefined)
        return alone(
          chosen,
          'it is the first in failover with an endpoint',
          `${chosen.cluster} comes first in failover`
        )
      return evenly('no cluster in failover has an endpoint, so the others answer')
    }
    case 'weights':
      return byWeights(preference.weights, usable, evenly)
    default:
      return preference satisfies never
  }
}

function byWeights(
  weights: ReadonlyMap<ClusterName, number>,
  usable: readonly Candidate[],
  evenly: (reason: string) => ReadonlyMap<ClusterName, Part>
): ReadonlyMap<ClusterName, Part> {
  const weightOf = ({ cluster }: Candidate): number => weights.get(cluster) ?? 0
  const sum = usable.reduce((total, each) => total + weightOf(each), 0)
  if (sum === 0) return evenly('no cluster with a weight has an endpoint, so the others answer')
  return new Map(
    usable.map((each): [ClusterName, Part] => {
      const part = weightOf(each)
      if (part > 0) return [each.cluster, { part, reason: `its weight is ${part} of ${sum}` }]
      const reason = weights.has(each.cluster) ? 'its weight is 0' : 'it is not in weights'
      return [each.cluster, { part, reason }]
    })
  )
}

function distanceOf({ isLocal, rttMs }: Candidate): number {
  return isLocal ? -1 : (rttMs ?? Number.MAX_VALUE)
}

function distanceText(candidate: Candidate | undefined): string {
  if (candidate?.isLocal === true) return 'the own cluster'
  return candidate?.rttMs === undefined
    ? 'no round trip is measured'
    : `round trip ${candidate.rttMs.toFixed(1)} ms`
}

interface ClusterPart {
  readonly part: number
  readonly endpoints: number
}

/**
 * Returns the parts with the endpoints that have a place (invariant 5). Places are given in proportion to the parts, so
 * that the endpoints in use bear alike; what a cluster with few endpoints leaves goes to the others.
 */
function withPlaces(clusters: readonly ClusterPart[], isUneven: boolean): readonly ClusterPart[] {
  const active = clusters.filter(({ part }) => part > 0)
  const total = active.reduce((sum, { endpoints }) => sum + endpoints, 0)
  if (!isUneven || active.length < 2 || total <= HASHED_REAL_SERVERS_MAX) return clusters
  // Each cluster has at least one place.
  let places = HASHED_REAL_SERVERS_MAX - active.length
  let open = active
  for (;;) {
    const parts = open.reduce((sum, { part }) => sum + part, 0)
    const [has, rest] = [places, open]
    const small = rest.filter(({ part, endpoints }) => endpoints <= (has * part) / parts)
    if (small.length === 0) break
    places -= small.reduce((sum, { endpoints }) => sum + endpoints, 0)
    open = rest.filter((each) => !small.includes(each))
  }
  const parts = open.reduce((sum, { part }) => sum + part, 0)
  return clusters.map((each) =>
    open.includes(each) ? { ...each, endpoints: Math.max(1, Math.floor((places * each.part) / parts)) } : each
  )
}

/**
 * Divides the part of each cluster evenly among its endpoints. The weights are whole numbers, exact where their sum is
 * at most `weightSumMax`.
 */
function endpointWeights(clusters: readonly ClusterPart[]): readonly number[] {
  const parts = clusters.reduce((sum, { part }) => sum + part, 0)
  if (parts === 0) return clusters.map(() => 0)
  const active = clusters.filter(({ part }) => part > 0)
  const total = active.reduce((sum, { endpoints }) => sum + endpoints, 0)
  const sumMax = weightSumMax(total)
  const exact = exactWeights(clusters, Math.max(sumMax, total))
  if (exact !== undefined) return exact
  return clusters.map(({ part, endpoints }) =>
    part === 0 ? 0 : Math.max(1, Math.round(((part / parts) * sumMax) / endpoints))
  )
}

function exactWeights(clusters: readonly ClusterPart[], sumMax: number): readonly number[] | undefined {
  const active = clusters.filter(({ part }) => part > 0)
  const multiple = active.reduce((least, { endpoints }) => (least / divisor(least, endpoints)) * endpoints, 1)
  // Past this bound the products below would lose digits, and their sum is too large anyway.
  if (multiple > 1e6) return undefined
  const whole = clusters.map(({ part, endpoints }) => (part === 0 ? 0 : part * (multiple / endpoints)))
  const common = whole.reduce(divisor)
  const weights = whole.map((weight) => weight / common)
  const sum = weights.reduce((total, weight, index) => total + weight * (clusters[index]?.endpoints ?? 0), 0)
  return sum <= sumMax ? weights : undefined
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b)
}
