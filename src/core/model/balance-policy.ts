// The policy that the annotation rhizome.io/balance gives a service: which clusters answer its name in `cluster.all`,
// and in which proportion. The value is a list of terms, separated by semicolons:
//
//   only=east,west; weights=east:90,west:10      only=east,west; failover=east,west      local-first=2      nearest; same-zone
//
// `only` is the one hard limit. Each of the other terms is a preference: where no cluster that it prefers has an
// endpoint, the other allowed clusters answer. `same-zone` says that a zone of one name is one zone in all clusters: of
// each cluster that is chosen, the endpoints in the zone of the balancing host come first (host/zone-choice.ts).
// Invariants
//   1. parseBalance never throws, and its work is bounded by BALANCE_CHARACTERS_MAX, for any text: a text may come from
//      another cluster.
//   2. A text that is not understood is no policy: its fault names the annotation and the fix.
import { parseClusterName } from './identity.ts'
import type { ClusterName } from './values.ts'

/** On a Service. */
export const BALANCE_ANNOTATION = 'rhizome.io/balance'

/** Most characters of a policy: 20 clusters with long names. A record carries the text. */
export const BALANCE_CHARACTERS_MAX = 1024
/** The texts that a record can carry. Not each is a policy: a newer version may know terms that this one does not. */
export const BALANCE_TEXT = new RegExp(`^[ -~]{0,${BALANCE_CHARACTERS_MAX}}$`)
/** Most clusters in one term. */
const CLUSTERS_MAX = 64
/** The highest weight of a cluster. A share below one in a thousand is hardly ever drawn. */
const WEIGHT_MAX = 1000
/** The highest threshold of `local-first`: Kubernetes' limit of endpoints in one slice. */
const THRESHOLD_MAX = 1000

/** How traffic is divided among the clusters that `only` allows. */
export type Preference =
  /** Every ready endpoint of every cluster gets the same. */
  | { readonly kind: 'spread' }
  /** The own cluster alone, while it has at least `ready` ready endpoints; else as `spread`. */
  | { readonly kind: 'local-first'; readonly ready: number }
  /** The cluster with the least round trip. The own cluster is the nearest. */
  | { readonly kind: 'nearest' }
  /** Each cluster in proportion to its weight, however many endpoints it has. */
  | { readonly kind: 'weights'; readonly weights: ReadonlyMap<ClusterName, number> }
  /** The first of these clusters that has an endpoint. */
  | { readonly kind: 'failover'; readonly clusters: readonly ClusterName[] }

/** A policy that was understood. */
export interface BalancePolicy {
  /** The clusters that may answer; empty: all. */
  readonly only: readonly ClusterName[]
  readonly preference: Preference
  /** Endpoints in the zone of the balancing host come first in each cluster; absent: only where a Service asks for it. */
  readonly sameZone?: true
}

/** The clusters that a policy names, each once, in the order of the terms. */
export function namedClusters({ only, preference }: BalancePolicy): readonly ClusterName[] {
  const preferred =
    preference.kind === 'failover'
      ? preference.clusters
      : preference.kind === 'weights'
        ? preference.weights.keys()
        : []
  return [...new Set([...only, ...preferred])]
}

/** Why a text is no policy, and what to write. */
export interface BalanceFault {
  readonly message: string
  readonly fix: string
}

type ParsedBalance =
  | { readonly kind: 'policy'; readonly policy: BalancePolicy }
  | { readonly kind: 'fault'; readonly fault: BalanceFault }

/** Parses the value of the annotation. */
export function parseBalance(text: string): ParsedBalance {
  try {
    return { kind: 'policy', policy: policyOf(text) }
  } catch (error) {
    if (error instanceof BadTerm) return { kind: 'fault', fault: { message: error.message, fix: error.fix } }
    throw error
  }
}

class BadTerm extends Error {
  readonly fix: string

  constructor(what: string, fix: string) {
    super(`${BALANCE_ANNOTATION} ${what}`)
    this.fix = fix
  }
}

const SAME_ZONE = 'same-zone'
const EXAMPLES = 'use local-first, nearest, spread, weights=east:90,west:10 or failover=east,west'

function policyOf(text: string): BalancePolicy {
  if (text.length > BALANCE_CHARACTERS_MAX)
    throw new BadTerm(
      `has ${text.length} characters`,
      `write at most ${BALANCE_CHARACTERS_MAX}: name fewer clusters`
    )
  let only: readonly ClusterName[] | undefined
  let preference: Preference | undefined
  let sameZone = false
  for (const term of text.split(';').map((each) => each.trim())) {
    if (term === '') continue
    const at = term.indexOf('=')
    const name = (at < 0 ? term : term.slice(0, at)).trim()
    const value = at < 0 ? undefined : term.slice(at + 1).trim()
    if (name === 'only') {
      if (only !== undefined) throw new BadTerm('has the term only twice', 'write one list: only=east,west')
      only = clustersOf('only', value)
    } else if (name === SAME_ZONE) {
      if (value !== undefined) throw new BadTerm(`gives ${name} a value`, `write ${name} alone`)
      if (sameZone) throw new BadTerm(`has the term ${name} twice`, 'write it once')
      sameZone = true
    } else {
      const read = preferenceOf(name, value)
      if (preference !== undefined)
        throw new BadTerm(
          `has two preferences, ${preference.kind} and ${read.kind}`,
          'keep one of them; only=… and same-zone may stand beside it'
        )
      preference = read
    }
  }
  if (only === undefined && preference === undefined && !sameZone) throw new BadTerm('is empty', EXAMPLES)
  return {
    only: only ?? [],
    preference: preference ?? { kind: 'spread' },
    ...(sameZone && { sameZone: true })
  }
}

function preferenceOf(name: string, value: string | undefined): Preference {
  switch (name) {
    case 'spread':
    case 'nearest':
      if (value !== undefined) throw new BadTerm(`gives ${name} a value`, `write ${name} alone`)
      return { kind: name }
    case 'local-first':
      return {
        kind: name,
        ready: value === undefined ? 1 : numberOf(name, value, { min: 1, max: THRESHOLD_MAX })
      }
    case 'failover':
      return { kind: name, clusters: clustersOf(name, value) }
    case 'weights':
      return { kind: name, weights: weightsOf(value) }
    default:
      throw new BadTerm(`has the unknown term ${JSON.stringify(name.slice(0, 64))}`, EXAMPLES)
  }
}

function clustersOf(term: string, value: string | undefined): readonly ClusterName[] {
  return itemsOf(term, value)
    .map((item) => clusterOf(term, item))
    .filter(isFirstOf(term))
}

function weightsOf(value: string | undefined): ReadonlyMap<ClusterName, number> {
  const weights = new Map<ClusterName, number>()
  for (const item of itemsOf('weights', value)) {
    const at = item.lastIndexOf(':')
    if (at < 0)
      throw new BadTerm(
        `has no weight for ${JSON.stringify(item.slice(0, 64))}`,
        'write cluster:weight, as in east:90'
      )
    const cluster = clusterOf('weights', item.slice(0, at).trim())
    if (weights.has(cluster))
      throw new BadTerm(`names the cluster ${cluster} twice in weights`, 'give each cluster one weight')
    weights.set(cluster, numberOf('weights', item.slice(at + 1).trim(), { min: 0, max: WEIGHT_MAX }))
  }
  if ([...weights.values()].every((weight) => weight === 0))
    throw new BadTerm('gives every cluster the weight 0', 'give at least one cluster a weight of 1 or more')
  return weights
}

function itemsOf(term: string, value: string | undefined): readonly string[] {
  const items = (value ?? '')
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
  if (items.length === 0)
    throw new BadTerm(
      `has the term ${term} without clusters`,
      term === 'weights' ? 'write weights=east:90,west:10' : `write ${term}=east,west`
    )
  if (items.length > CLUSTERS_MAX)
    throw new BadTerm(`names ${items.length} clusters in ${term}`, `name at most ${CLUSTERS_MAX}`)
  return items
}

function clusterOf(term: string, text: string): ClusterName {
  const parsed = parseClusterName(text)
  if (parsed.kind === 'clusterName') return parsed.clusterName
  throw new BadTerm(
    `has in ${term} ${JSON.stringify(text.slice(0, 64))}, which is no name of a cluster`,
    'use names of clusters as `meshctl peers` shows them'
  )
}

function isFirstOf(
  term: string
): (cluster: ClusterName, index: number, all: readonly ClusterName[]) => boolean {
  return (cluster, index, all) => {
    if (all.indexOf(cluster) === index) return true
    throw new BadTerm(`names the cluster ${cluster} twice in ${term}`, 'name each cluster once')
  }
}

function numberOf(
  term: string,
  text: string,
  { min, max }: { readonly min: number; readonly max: number }
): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : NaN
  if (value >= min && value <= max) return value
  throw new BadTerm(
    `has in ${term} the number ${JSON.stringify(text.slice(0, 64))}`,
    `use a whole number from ${min} to ${max}`
  )
}
