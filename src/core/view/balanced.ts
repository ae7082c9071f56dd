// The services that are balanced over clusters, with the address of each: the name in a merged zone has that one
// address, and the load balancer of the asking host divides its traffic. In `cluster.all` these are the services with a
// policy (docs/balancing.md, docs/decisions/0070), in `clusterset.local` all that are exported and not headless
// (docs/mcs.md, docs/decisions/0072). Load balancer, DNS and feed read this one list.
// Invariants
//   1. The list is a pure function of view, prefix and order, so all agents of a cluster have the same addresses.
//   2. An address depends on the name of its service alone, except when two names draw the same one.
//   3. About a service that the own cluster has, the own cluster alone decides: no member draws its traffic away.
//   4. A cluster decides about at most POLICIES_PER_CLUSTER_MAX services, so it cannot use up the addresses of others.
//   5. The addresses of `cluster.all` are drawn first, so no ServiceExport moves one of them.
import { bytesToIp, cidrToPrefix, familyOf } from '../model/cidr.ts'
import { parseBalance, type BalanceFault, type BalancePolicy } from '../model/balance-policy.ts'
import { hashText, mixBits } from '../model/hash.ts'
import type { Cidr, ClusterName, Ip, ServicePort, ServiceValue } from '../model/values.ts'
import { clustersetKey } from '../model/zones.ts'
import { clustersetServices, type ClustersetService } from './clusterset.ts'
import type { ClusterView, MeshView, ServiceView } from './view.ts'

/** One cluster's part of a balanced service. */
export interface BalancedHolder {
  readonly cluster: ClusterName
  readonly view: ServiceView
}

/** A policy that a cluster wrote and that is not in force. */
export interface Overruled {
  readonly cluster: ClusterName
  readonly text: string
  /** Why the text is no policy; undefined: the policy of another cluster comes first. */
  readonly fault?: BalanceFault
}

/** A service whose name in a merged zone is one address of the load balancer. */
export interface BalancedService {
  /** "<namespace>/<name>"; for a service of `clusterset.local` that of clustersetKey (model/zones.ts). */
  readonly key: string
  readonly address: Ip
  /** The service without an address, where its exports have settled it; absent: mergedService makes it of the holders. */
  readonly agreed?: ServiceValue
  /** The policy in force, its text, and the cluster that wrote it. */
  readonly policy: BalancePolicy
  readonly text: string
  readonly from: ClusterName
  /** Policies of other clusters that differ from it or are no policies, in the order of clusters. */
  readonly overruled: readonly Overruled[]
  /** The clusters that have the service with an address, in the order of names. */
  readonly holders: readonly [BalancedHolder, ...BalancedHolder[]]
}

/** A service that has policies, none of which is in force. */
export interface UnbalancedService {
  /** "<namespace>/<name>" */
  readonly key: string
  /**
   * `own`: the own cluster has the service, so its annotation alone counts. `limit`: each cluster decides about the first
   * POLICIES_PER_CLUSTER_MAX services only. `full`: the prefix has no address left. undefined: no text is a policy.
   */
  readonly cause: 'own' | 'limit' | 'full' | undefined
  /** In the order of clusters. */
  readonly policies: readonly Overruled[]
}

/** The services by their keys. */
export type BalancedServices = ReadonlyMap<string, BalancedService>

interface BalancedOptions {
  /** The prefix of the addresses. Each cluster has its own choice, because only its own hosts see them. */
  readonly prefix: Cidr
  /**
   * Compares two clusters: that which became a member first comes first. Of several policies for a service that the own
   * cluster does not have, that of the first cluster is in force. The default is the order of names.
   */
  readonly order?: (left: ClusterName, right: ClusterName) => number
}

/** Most services about which one cluster decides, the first by name. */
export const POLICIES_PER_CLUSTER_MAX = 4096
/** Most addresses that are tried for one service. */
const PROBES_MAX = 64

/** Returns the balanced services of a view, in the order of their names. */
export function balancedServices(
  view: MeshView,
  { prefix, order = byName }: BalancedOptions
): BalancedServices {
  const keys = new Set<string>()
  for (const { services } of view.clusters.values()) for (const key of policyKeys(services)) keys.add(key)
  const found = new Map<string, BalancedService>()
  const taken = new Set<number>()
  for (const key of [...keys].sort()) {
    const decided = decide(view, key, order)
    const address = decided && addressFor(key, prefix, taken)
    if (decided !== undefined && address !== undefined) found.set(key, { key, address, ...decided })
  }
  for (const exported of clustersetServices(view)) {
    if (exported.service.headless) continue
    const key = clustersetKey(exported.key)
    const address = addressFor(key, prefix, taken)
    if (address !== undefined)
      found.set(key, { key, address, agreed: exported.service, ...decideExport(view, exported) })
  }
  return found
}

/** Returns the service that a balanced name stands for, with its address. */
export function serviceOf({ agreed, holders, address }: BalancedService): ServiceValue {
  return agreed === undefined ? mergedService(holders, address) : { ...agreed, clusterIps: [address] }
}

/**
 * Returns the policy of an exported service: that of the own cluster, else that of the oldest export that has one. Without
 * any, trafficDistribution decides whether the own cluster's endpoints come first.
 */
function decideExport(view: MeshView, { exporters, exported }: ClustersetService): Decided {
  const age = new Map(exporters.map(({ cluster }, index) => [cluster, index]))
  const [first, ...others] = exporters
  const holders: Decided['holders'] = [first, ...others]
  const order = (left: ClusterName, right: ClusterName): number =>
    (age.get(left) ?? 0) - (age.get(right) ?? 0)
  const decided = decideAmong(holders, { view, order, decides: () => true })
  if (decided !== undefined) return decided
  const { trafficDistribution } = exported
  const isClose = CLOSE.has(trafficDistribution)
  return {
    policy: isClose ? LOCAL_FIRST : SPREAD,
    text: isClose ? `local-first (trafficDistribution: ${trafficDistribution})` : 'spread',
    from: first.cluster,
    overruled: [],
    holders
  }
}

/** Values of spec.trafficDistribution that ask for near endpoints (KEP-4444, KEP-3015). */
const CLOSE: ReadonlySet<string> = new Set(['PreferClose', 'PreferSameZone', 'PreferSameNode'])
const SPREAD: BalancePolicy = { only: [], preference: { kind: 'spread' } }
const LOCAL_FIRST: BalancePolicy = { only: [], preference: { kind: 'local-first', ready: 1 } }

/**
 * Returns the services with policies that `balanced`, the services of the same view, leaves out, in the order of their names:
 * their names in `cluster.all` have the addresses of all clusters. For people: the work grows with the number of policies.
 */
export function unbalancedServices(view: MeshView, balanced: BalancedServices): readonly UnbalancedService[] {
  const keys = new Set<string>()
  for (const { services } of view.clusters.values())
    for (const [key, held] of services)
      if (held.service.balance !== undefined && hasAddress(held) && !balanced.has(key)) keys.add(key)
  return [...keys].sort().map((key) => {
    const isOwn = isHeld(view.clusters.get(view.self), key)
    const written = writtenBy(holdersOf(view, key))
    const valid = written.filter(({ parsed }) => parsed.kind === 'policy')
    const mine = valid.filter(({ cluster }) => !isOwn || cluster === view.self)
    const deciding = mine.some(({ cluster }) => decides(view.clusters.get(cluster), key))
    const cause = valid.length === 0 ? undefined : mine.length === 0 ? 'own' : deciding ? 'full' : 'limit'
    return { key, cause, policies: written.map(overruledOf) }
  })
}

/**
 * The Service of the merged address: the ports of all holders. Where two holders differ in a port, the first one counts.
 */
export function mergedService(
  holders: readonly [BalancedHolder, ...BalancedHolder[]],
  address: Ip
): ServiceValue {
  const ports = new Map<string, ServicePort>()
  const numbers = new Set<string>()
  for (const { view } of holders)
    for (const port of view.service.ports) {
      const number = `${port.protocol} ${port.port}`
      const name = `${port.protocol} ${port.name}`
      if (ports.has(name) || numbers.has(number)) continue
      ports.set(name, port)
      numbers.add(number)
    }
  const [{ view: first }] = holders
  return {
    kind: 'service',
    namespace: first.service.namespace,
    name: first.service.name,
    clusterIps: [address],
    ports: [...ports.values()],
    headless: false,
    externalName: '',
    affinitySeconds: Math.max(...holders.map(({ view }) => view.service.affinitySeconds)),
    publishNotReady: holders.every(({ view }) => view.service.publishNotReady)
  }
}

// The services with a policy, by the identity of the map. A view keeps the map of a cluster that did not change.
const policies = new WeakMap<ReadonlyMap<string, ServiceView>, readonly string[]>()

function policyKeys(services: ReadonlyMap<string, ServiceView>): readonly string[] {
  let keys = policies.get(services)
  if (keys === undefined) {
    const all: string[] = []
    for (const [key, view] of services)
      if (view.service.balance !== undefined && hasAddress(view)) all.push(key)
    keys = all.sort().slice(0, POLICIES_PER_CLUSTER_MAX)
    policies.set(services, keys)
  }
  return keys
}

type Decided = Omit<BalancedService, 'key' | 'address'>

/** Returns the policy in force for a service; undefined when no cluster has one that is understood. */
function decide(
  view: MeshView,
  key: string,
  order: (left: ClusterName, right: ClusterName) => number
): Decided | undefined {
  return decideAmong(holdersOf(view, key), {
    view,
    order,
    decides: (cluster) => decides(view.clusters.get(cluster), key)
  })
}

interface DecideOptions {
  readonly view: Pick<MeshView, 'self'>
  readonly order: (left: ClusterName, right: ClusterName) => number
  /** Whether the policy of a cluster counts. */
  readonly decides: (cluster: ClusterName) => boolean
}

function decideAmong(
  holders: readonly BalancedHolder[],
  { view, order, decides: mayDecide }: DecideOptions
): Decided | undefined {
  const written = writtenBy(holders)
    .filter(({ cluster }) => mayDecide(cluster))
    .sort(
      (left, right) =>
        Number(right.cluster === view.self) - Number(left.cluster === view.self) ||
        order(left.cluster, right.cluster)
    )
  const isOwn = holders.some(({ cluster }) => cluster === view.self)
  const winner = written.find(
    ({ cluster, parsed }) => parsed.kind === 'policy' && (!isOwn || cluster === view.self)
  )
  const [first, ...others] = holders
  if (winner?.parsed.kind !== 'policy' || first === undefined) return undefined
  const overruled = written.filter(({ text }) => text !== winner.text).map(overruledOf)
  return {
    policy: winner.parsed.policy,
    text: winner.text,
    from: winner.cluster,
    overruled,
    holders: [first, ...others]
  }
}

/** The policy that a cluster wrote. */
interface Written {
  readonly cluster: ClusterName
  readonly text: string
  readonly parsed: ReturnType<typeof parseBalance>
}

/** The policies that the holders of a service wrote. */
function writtenBy(holders: readonly BalancedHolder[]): Written[] {
  return holders.flatMap(({ cluster, view }) => {
    const text = view.service.balance
    return text === undefined ? [] : [{ cluster, text, parsed: parseBalance(text) }]
  })
}

/** The clusters whose service of this key has an address. */
function holdersOf(view: MeshView, key: string): BalancedHolder[] {
  return [...view.clusters.values()].flatMap(({ name: cluster, services }) => {
    const held = services.get(key)
    return held !== undefined && hasAddress(held) ? [{ cluster, view: held }] : []
  })
}

function overruledOf({ cluster, text, parsed }: Written): Overruled {
  return parsed.kind === 'fault' ? { cluster, text, fault: parsed.fault } : { cluster, text }
}

function isHeld(cluster: ClusterView | undefined, key: string): boolean {
  const held = cluster?.services.get(key)
  return held !== undefined && hasAddress(held)
}

function decides(cluster: ClusterView | undefined, key: string): boolean {
  return cluster !== undefined && policyKeys(cluster.services).includes(key)
}

/** Headless services and aliases have no address that a load balancer could stand for. */
function hasAddress({ service }: ServiceView): boolean {
  return !service.headless && service.externalName === '' && service.clusterIps.length > 0
}

/**
 * Draws an address by the name of the service. The first address of the prefix, which names the network, and the last,
 * which may be its broadcast address, are not drawn.
 */
function addressFor(key: string, prefix: Cidr, taken: Set<number>): Ip | undefined {
  const { address, length } = cidrToPrefix(prefix)
  const hostBits = (familyOf(prefix) === 4 ? 32 : 128) - length
  const size = 2 ** Math.min(hostBits, HOST_BITS_MAX) - 2
  if (size < 1) return undefined
  const drawn = mixBits(hashText(key))
  for (let probe = 0; probe < Math.min(PROBES_MAX, size); probe++) {
    const offset = 1 + ((drawn + probe) % size)
    if (taken.has(offset)) continue
    taken.add(offset)
    const bytes = Uint8Array.from(address)
    for (let index = bytes.length - 1, rest = offset; rest > 0; index--, rest = Math.floor(rest / 256))
      bytes[index] = (bytes[index] ?? 0) + (rest % 256)
    return bytesToIp(bytes)
  }
  return undefined
}

/** A prefix may be larger; more than 16 million services have no use. */
const HOST_BITS_MAX = 24

function byName(left: ClusterName, right: ClusterName): number {
  return left < right ? -1 : left > right ? 1 : 0
}
