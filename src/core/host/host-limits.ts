// This file has the one table of what a host balances at most, with reasons, and the fixed order in which the excess
// is refused.
// An object of a few KiB can ask for millions of table entries on every gateway of the mesh (addresses × ports ×
// endpoints). So each service is cut while it is expanded, never after. Each namespace and each cluster has a bound
// of its own, and no cluster can take the share of another.
// Invariants
//   1. No count exceeds its limit, for any set of services.
//   2. A cluster that asks for no more than its share (the host's limit divided by the number of clusters) gets all
//      it asks for, within the bounds of its services and namespaces.
//   3. What is refused depends on the objects only, not on their order of arrival. A service loses its last ports,
//      then the last endpoints of every port alike. A namespace and a cluster lose their largest services.
//   4. Every refusal is in the result.

/** Counts of what a service, namespace, cluster or host has in the load balancer. */
export interface Amount {
  readonly virtualServers: number
  readonly realServers: number
  /** Entries of the kernel's tables: the highest count among our load balancers. */
  readonly entries: number
}

/** The limits of each scope. A pass makes about 50,000 entries a second on a small busy machine, and may take 60 s. */
export const HOST_LIMITS: Readonly<Record<'service' | 'namespace' | 'cluster' | 'host', Amount>> = {
  // The limit allows two addresses with 512 ports each, also with affinity (128 entries each). A service of one port
  // may have 4,096 endpoints, one of ten ports 1,000.
  service: { virtualServers: 1024, realServers: 10_000, entries: 140_000 },
  // The limit allows 10,000 services of 10 endpoints, dual-stack, or a few services of the largest kind.
  namespace: { virtualServers: 50_000, realServers: 200_000, entries: 400_000 },
  // The limit allows the largest cluster that Kubernetes is tested with: 10,000 services and 150,000 pods, doubled by
  // dual-stack.
  cluster: { virtualServers: 100_000, realServers: 300_000, entries: 600_000 },
  // The limit allows three of the largest clusters, or 1,000 clusters of 150 services: 1.5 million entries take 200
  // MB of kernel memory.
  host: { virtualServers: 200_000, realServers: 750_000, entries: 1_500_000 }
}

/** Most real servers of one virtual server: each gets four of 16,384 slots, so that shares stay about even. */
export const REAL_SERVERS_PER_VIRTUAL_SERVER_MAX = 4096
/**
 * The most real servers of a virtual server with affinity. Each of its 8,192 slots is filled by a comparison of all
 * real servers: 512 × 8,192 comparisons take 50 ms.
 */
export const HASHED_REAL_SERVERS_MAX = 512

/**
 * Most endpoints of this host for its own cluster's services: a host has few pods in its own network, each with a few
 * ports.
 */
export const HOST_ENDPOINTS_MAX = 1000

/**
 * Most endpoints that other clusters may reach with `reach: services`. Each change of one loads the set anew, which takes
 * about 0.5 s for this many.
 */
export const REACHABLE_MAX = 20_000

/** The amount of no service. */
export const NOTHING: Amount = { virtualServers: 0, realServers: 0, entries: 0 }

/** Adds two amounts, field by field. */
export function sumOf(a: Amount, b: Amount): Amount {
  return {
    virtualServers: a.virtualServers + b.virtualServers,
    realServers: a.realServers + b.realServers,
    entries: a.entries + b.entries
  }
}

/** Returns whether no field of `amount` exceeds that of `limit`. */
export function fits(amount: Amount, limit: Amount): boolean {
  return (
    amount.virtualServers <= limit.virtualServers &&
    amount.realServers <= limit.realServers &&
    amount.entries <= limit.entries
  )
}

/** What a service, or all services of a scope together, asked for and what they got. */
export interface LimitRefusal {
  readonly scope: 'service' | 'namespace' | 'cluster' | 'host'
  readonly cluster: string
  /** "shop/web" for a service, "shop" for a namespace, '' for a cluster and for a host. */
  readonly name: string
  readonly asked: Amount
  readonly used: Amount
  /** Number of services that are not balanced at all; 0 for a service that is cut. */
  readonly services: number
}

/** Returns the refusal as text for operators: subject, message and fix. */
export function refusalText(refusal: LimitRefusal): {
  readonly subject: string
  readonly message: string
  readonly fix: string
} {
  const { scope, cluster, name, asked, used, services } = refusal
  if (scope === 'service') {
    const isCutInPorts = used.virtualServers < asked.virtualServers
    const counts = isCutInPorts
      ? `${count(asked.virtualServers)} virtual servers (addresses × ports); ${count(used.virtualServers)} are used`
      : `${count(asked.realServers)} real servers (addresses × ports × endpoints); ${count(used.realServers)} are used`
    return {
      subject: `${cluster} ${name}`,
      message: `service ${name} of cluster ${cluster} has ${counts}`,
      fix: `split the service, or reduce its ${isCutInPorts ? 'ports' : 'ports or endpoints'}`
    }
  }
  const what = {
    namespace: `namespace ${name} of cluster ${cluster}`,
    cluster: `cluster ${cluster}`,
    host: `cluster ${cluster}`
  }[scope]
  const limit = HOST_LIMITS[scope]
  return {
    subject: scope === 'namespace' ? `${cluster} ${name}` : cluster,
    message:
      `${what} has more services than are balanced (${count(asked.virtualServers)} virtual servers, ` +
      `${count(asked.realServers)} real servers): its ${count(services)} largest are refused`,
    fix:
      `export fewer services or endpoints: a ${scope} has at most ${count(limit.virtualServers)} virtual servers, ` +
      `${count(limit.realServers)} real servers and ${count(limit.entries)} table entries`
  }
}

function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',')
}

/** What one service asks for, before any of its virtual servers is built. */
export interface Claim {
  /** "shop/web" */
  readonly name: string
  readonly namespace: string
  readonly amount: Amount
}

interface Admission<T extends Claim> {
  readonly admitted: readonly T[]
  readonly refusals: readonly LimitRefusal[]
}

interface ClusterClaims<T extends Claim> {
  readonly cluster: string
  readonly claims: readonly T[]
}

/**
 * Divides the limits of the host (servers and table entries) among the clusters. The result has one entry for each of
 * `clusters`, in their order, with the admitted claims in the order given.
 */
export function admit<T extends Claim>(
  clusters: readonly ClusterClaims<T>[],
  limits = HOST_LIMITS
): readonly Admission<T>[] {
  const asked = clusters.map((entry) => ({ ...entry, ...admitCluster(entry, limits) }))
  const total = asked.reduce((sum, { amount }) => sumOf(sum, amount), NOTHING)
  if (fits(total, limits.host)) return asked
  // The smallest cluster comes first and each gets at most an even share of what is left, so a small cluster loses
  // nothing to a large one.
  const order = asked.toSorted(
    (a, b) => a.amount.entries - b.amount.entries || (a.cluster < b.cluster ? -1 : 1)
  )
  const result = new Map<string, Admission<T>>()
  let used = NOTHING
  for (const [index, entry] of order.entries()) {
    const share = shareOf(limits.host, used, order.length - index)
    const kept = smallestFirst(entry.admitted, share)
    used = sumOf(used, kept.amount)
    const refusals = [...entry.refusals, ...refusalOf({ ...entry, scope: 'host', name: '' }, kept)]
    result.set(entry.cluster, { admitted: kept.admitted, refusals })
  }
  return clusters.map(({ cluster }) => result.get(cluster) ?? { admitted: [], refusals: [] })
}

/** Returns an even share of what is left of the limit, for each of `among` clusters. */
function shareOf(limit: Amount, used: Amount, among: number): Amount {
  return {
    virtualServers: Math.floor((limit.virtualServers - used.virtualServers) / among),
    realServers: Math.floor((limit.realServers - used.realServers) / among),
    entries: Math.floor((limit.entries - used.entries) / among)
  }
}

interface Kept<T extends Claim> {
  readonly admitted: readonly T[]
  readonly amount: Amount
}

/** Applies the limits of the namespaces and then that of the cluster. */
function admitCluster<T extends Claim>(
  { cluster, claims }: ClusterClaims<T>,
  limits: typeof HOST_LIMITS
): Admission<T> & { readonly amount: Amount } {
  const refusals: LimitRefusal[] = []
  const whole = amountOf(claims)
  // When the whole cluster is within the bound of a namespace, so is each of its namespaces.
  let kept: Kept<T> = { admitted: claims, amount: whole }
  if (!fits(whole, limits.namespace)) {
    const refused = new Set<T>()
    for (const [name, own] of Map.groupBy(claims, ({ namespace }) => namespace)) {
      const asked = amountOf(own)
      if (fits(asked, limits.namespace)) continue
      const part = smallestFirst(own, limits.namespace)
      const still = new Set(part.admitted)
      for (const claim of own) if (!still.has(claim)) refused.add(claim)
      refusals.push(...refusalOf({ scope: 'namespace', cluster, name, admitted: own, amount: asked }, part))
    }
    const admitted = claims.filter((claim) => !refused.has(claim))
    const before = { admitted, amount: amountOf(admitted) }
    kept = smallestFirst(admitted, limits.cluster)
    refusals.push(...refusalOf({ scope: 'cluster', cluster, name: '', ...before }, kept))
  }
  return { ...kept, refusals }
}

/** Admits claims from the smallest to the largest while they fit together. Returns them in the order given. */
function smallestFirst<T extends Claim>(claims: readonly T[], limit: Amount): Kept<T> {
  const whole = amountOf(claims)
  if (fits(whole, limit)) return { admitted: claims, amount: whole }
  const order = claims.toSorted(
    (a, b) => a.amount.entries - b.amount.entries || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
  )
  const taken = new Set<T>()
  let amount = NOTHING
  for (const claim of order) {
    const next = sumOf(amount, claim.amount)
    if (!fits(next, limit)) continue
    taken.add(claim)
    amount = next
  }
  return { admitted: claims.filter((claim) => taken.has(claim)), amount }
}

function amountOf(claims: readonly Claim[]): Amount {
  let [virtualServers, realServers, entries] = [0, 0, 0]
  for (const { amount } of claims) {
    virtualServers += amount.virtualServers
    realServers += amount.realServers
    entries += amount.entries
  }
  return { virtualServers, realServers, entries }
}

function refusalOf<T extends Claim>(
  asked: Pick<LimitRefusal, 'scope' | 'cluster' | 'name'> & Kept<T>,
  kept: Kept<T>
): readonly LimitRefusal[] {
  const services = asked.admitted.length - kept.admitted.length
  if (services === 0) return []
  const { scope, cluster, name } = asked
  return [{ scope, cluster, name, asked: asked.amount, used: kept.amount, services }]
}
