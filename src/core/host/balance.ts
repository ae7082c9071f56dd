// The Balancer builds the list of all virtual servers that a host should have: those of each cluster's services,
// within the limits of host-limits.ts. A Balancer keeps its latest result, so that the cost of the next view depends
// on the number of changed services.
// Invariants
//   1. The result of `follow` depends on its input alone: a Balancer that has followed other inputs returns the
//      same as a new one.
//   2. A virtual server that did not change is the same object as before.
// The list is edited in place of a rebuild only while all services fit and no two of them claim one address and port.
// In every other case the list is built again from the whole view.
import { cidrContains } from '../model/cidr.ts'
import type { Scheduler, VirtualServer } from './host-state.ts'
import { admit, fits, HOST_LIMITS, NOTHING, sumOf, type Amount, type LimitRefusal } from './host-limits.ts'
import { HostEndpoints } from './host-endpoints.ts'
import { normalizeVirtualServer, sortedBy, virtualServerKey, virtualServerOrder } from './normalize.ts'
import type { Cidr, ClusterName } from '../model/values.ts'
import { MergedServices } from './merged-services.ts'
import { Reachable } from './reachable.ts'
import { sameVirtualServer } from './plan.ts'
import { editedServers, serverLike, type ServerEdits } from './server-list.ts'
import { changesBetween, SortedMap, type Edit, type KeyChange } from '../model/sorted-map.ts'
import type { ServiceView } from '../view/view.ts'
import type { Place } from '../model/topology.ts'
import { servicesOf, serviceServers, type ServiceServers } from './virtual-servers.ts'
import { nearView } from './zone-choice.ts'

/** The services of one cluster, as input of the Balancer. */
export interface BalancedCluster {
  readonly name: ClusterName
  readonly services: ReadonlyMap<string, ServiceView>
  /**
   * True while every tunnel to the cluster is down: its virtual servers stay without backends, and connections are
   * refused at once.
   */
  readonly isWithdrawn: boolean
  /** Of the host's own cluster: where the host is, for Services that ask for near endpoints. Left out: not known. */
  readonly place?: Place
}

/** Input of `Balancer.follow`. */
export interface BalanceInput {
  /** The first cluster wins when two services claim one address and port. */
  readonly clusters: readonly BalancedCluster[]
  readonly scheduler: Scheduler
  /** Prefixes that the host reaches without the mesh: addresses in them are not balanced. */
  readonly kept: readonly Cidr[]
}

/** Result of `Balancer.follow`. */
export interface Balanced {
  /** The list is sorted and normalised, with one virtual server for each address, protocol and port. */
  readonly virtualServers: readonly VirtualServer[]
  readonly refused: readonly LimitRefusal[]
}

type Limits = typeof HOST_LIMITS

/** The Balancer turns the services of all clusters into virtual servers, and keeps its result for the next call. */
export class Balancer {
  readonly hostEndpoints = new HostEndpoints()
  readonly reachable = new Reachable()
  readonly merged = new MergedServices()
  readonly #limits: Limits
  #last:
    { readonly input: BalanceInput; readonly result: Balanced; readonly sums: readonly Sum[] } | undefined
  /** Virtual server keys that two services claim. */
  #contested: ReadonlySet<string> = new Set()

  constructor(limits: Limits = HOST_LIMITS) {
    this.#limits = limits
  }

  /**
   * Returns the virtual servers for `input`, and what the limits refuse. The cost is that of the changed services
   * where possible.
   */
  follow(input: BalanceInput): Balanced {
    return this.#edited(input) ?? this.#made(input)
  }

  /** Builds the list from the whole view, and keeps it for edits unless a limit has refused something. */
  #made(input: BalanceInput): Balanced {
    const claims = input.clusters.map((cluster) => ({
      cluster: cluster.name,
      claims: servicesOf(cluster, input.scheduler)
    }))
    const admissions = admit(claims, this.#limits)
    const contested = new Set<string>()
    const servers = new Map<string, VirtualServer>()
    for (const [index, { admitted }] of admissions.entries()) {
      const cluster = input.clusters[index]
      for (const server of admitted.flatMap((service) => service.servers)) {
        if (cluster === undefined || isKept(server, input)) continue
        const key = virtualServerKey(server)
        if (servers.has(key)) contested.add(key)
        else servers.set(key, shown(server, cluster))
      }
    }
    const cuts = admissions.map(({ admitted }, index) => cutsOf(admitted, input.clusters[index]?.name))
    const result = {
      virtualServers: sortedBy([...servers.values()], virtualServerOrder),
      refused: admissions.flatMap(({ refusals }, index) => [...(cuts[index]?.values() ?? []), ...refusals])
    }
    const isWhole = admissions.every(({ refusals }) => refusals.length === 0)
    this.#contested = contested
    const sums = claims.map((each, index) => sumOfClaims(each.claims, cuts[index] ?? SortedMap.empty()))
    this.#last = isWhole ? { input, result, sums } : undefined
    return result
  }

  /** Edits the latest result. Returns undefined when the list must be built again from the whole view. */
  #edited(input: BalanceInput): Balanced | undefined {
    const last = this.#last
    if (last === undefined || !isSameShape(last.input, input)) return undefined
    const changes = input.clusters.map(({ services }, index) =>
      changesBetween(last.input.clusters[index]?.services ?? NO_SERVICES, services)
    )
    const sums = changes.map((each, index) => this.#summed(last.sums[index] ?? NO_SUM, each, input, index))
    if (!sums.every((sum) => sum !== undefined)) return undefined
    const total = sums.reduce((sum, { amount }) => sumOf(sum, amount), NOTHING)
    if (!fits(total, this.#limits.host)) return undefined
    const edits = this.#edits(last.result.virtualServers, changes, input)
    if (edits === undefined) return undefined
    const isCutAlike = sums.every(({ cuts }, index) => cuts === last.sums[index]?.cuts)
    const result = {
      virtualServers: editedServers(last.result.virtualServers, edits),
      refused: isCutAlike ? last.result.refused : sums.flatMap(({ cuts }) => [...cuts.values()])
    }
    this.#last = { input, result, sums }
    return result
  }

  /** Updates the amounts of one cluster. Returns undefined when a namespace or the cluster exceeds its limit. */
  #summed(
    before: Sum,
    changes: readonly KeyChange<ServiceView>[],
    { scheduler, clusters }: BalanceInput,
    index: number
  ): Sum | undefined {
    if (changes.length === 0) return before
    let { amount } = before
    const namespaces = new Map(before.namespaces)
    const cuts: Edit<LimitRefusal>[] = []
    for (const change of changes) {
      const [old, now] = [change.before, change.after].map(
        (view) => view && serviceServers(placed(view, clusters[index]), scheduler)
      )
      const [less, more] = [old?.amount ?? NOTHING, now?.amount ?? NOTHING]
      const namespace = now?.namespace ?? old?.namespace ?? ''
      const inside = difference(sumOf(namespaces.get(namespace) ?? NOTHING, more), less)
      if (!fits(inside, this.#limits.namespace)) return undefined
      if (inside.virtualServers === 0 && inside.entries === 0) namespaces.delete(namespace)
      else namespaces.set(namespace, inside)
      amount = difference(sumOf(amount, more), less)
      cuts.push([change.key, now && cutOf(now, clusters[index]?.name)])
    }
    return fits(amount, this.#limits.cluster)
      ? { amount, namespaces, cuts: before.cuts.with(cuts) }
      : undefined
  }

  /**
   * Lists the changed virtual servers. Returns undefined when two services claim one address and port, or did so
   * before.
   */
  #edits(
    servers: readonly VirtualServer[],
    changes: readonly (readonly KeyChange<ServiceView>[])[],
    input: BalanceInput
  ): ServerEdits | undefined {
    const edits: ServerEdits = new Map()
    for (const [index, each] of changes.entries()) {
      for (const { before } of each) {
        if (before === undefined) continue
        for (const server of serviceServers(placed(before, input.clusters[index]), input.scheduler).servers) {
          const key = virtualServerKey(server)
          if (this.#contested.has(key)) return undefined
          edits.set(key, { of: server, now: undefined })
        }
      }
    }
    for (const [index, each] of changes.entries()) {
      const cluster = input.clusters[index]
      for (const { after } of each) {
        if (after === undefined || cluster === undefined) continue
        for (const server of serviceServers(placed(after, cluster), input.scheduler).servers) {
          if (isKept(server, input)) continue
          const key = virtualServerKey(server)
          const [edit, there] = [edits.get(key), serverLike(servers, server)]
          const isTaken = edit === undefined ? there !== undefined : edit.now !== undefined
          if (isTaken) return undefined
          const now = shown(server, cluster)
          // When a service changes, often only one of its ports does: an equal virtual server stays the same object.
          if (there !== undefined && sameVirtualServer(now, there)) edits.set(key, { of: there, now: there })
          else edits.set(key, { of: server, now })
        }
      }
    }
    for (const [key, { now }] of edits)
      if (now !== undefined && serverLike(servers, now) === now) edits.delete(key)
    return edits
  }
}

/** The amounts that the services of one cluster ask for together. */
interface Sum {
  readonly amount: Amount
  readonly namespaces: ReadonlyMap<string, Amount>
  /** Services that are cut to the limit of one service, by service name. */
  readonly cuts: SortedMap<LimitRefusal>
}

const NO_SUM: Sum = { amount: NOTHING, namespaces: new Map(), cuts: SortedMap.empty() }
const NO_SERVICES: ReadonlyMap<string, ServiceView> = new Map()

function sumOfClaims(claims: readonly ServiceServers[], cuts: SortedMap<LimitRefusal>): Sum {
  const namespaces = new Map<string, Amount>()
  let total = NOTHING
  for (const { namespace, amount } of claims) {
    namespaces.set(namespace, sumOf(namespaces.get(namespace) ?? NOTHING, amount))
    total = sumOf(total, amount)
  }
  return { amount: total, namespaces, cuts }
}

function difference(from: Amount, less: Amount): Amount {
  return {
    virtualServers: from.virtualServers - less.virtualServers,
    realServers: from.realServers - less.realServers,
    entries: from.entries - less.entries
  }
}

/** Returns whether two inputs differ in their services only, so that the latest list can be edited. */
function isSameShape(last: BalanceInput, now: BalanceInput): boolean {
  return (
    last.scheduler === now.scheduler &&
    last.kept.length === now.kept.length &&
    last.kept.every((prefix, index) => prefix === now.kept[index]) &&
    last.clusters.length === now.clusters.length &&
    last.clusters.every(({ name, isWithdrawn, place }, index) => {
      const other = now.clusters[index]
      const isThere = place?.zone === other?.place?.zone && place?.node === other?.place?.node
      return name === other?.name && isWithdrawn === other.isWithdrawn && isThere
    })
  )
}

/** Returns the service with the endpoints that this host uses. */
function placed(view: ServiceView, cluster: Pick<BalancedCluster, 'place'> | undefined): ServiceView {
  return cluster?.place === undefined ? view : nearView(view, cluster.place)
}

function isKept({ vip }: VirtualServer, { kept }: BalanceInput): boolean {
  return kept.some((prefix) => cidrContains(prefix, vip))
}

// The copy without backends of each virtual server, so that a withdrawn cluster has the same objects in each pass.
const emptied = new WeakMap<VirtualServer, VirtualServer>()

/** Returns the virtual server as the host gets it: without backends while its cluster is withdrawn. */
function shown(server: VirtualServer, { isWithdrawn }: BalancedCluster): VirtualServer {
  if (!isWithdrawn) return server
  const known = emptied.get(server) ?? normalizeVirtualServer({ ...server, realServers: [] })
  emptied.set(server, known)
  return known
}

function cutsOf(
  claims: readonly ServiceServers[],
  cluster: ClusterName | undefined
): SortedMap<LimitRefusal> {
  return SortedMap.from(
    claims.flatMap((claim) => {
      const cut = cutOf(claim, cluster)
      return cut === undefined ? [] : [[claim.name, cut] as const]
    })
  )
}

/**
 * Returns the refusal of a service that is cut to its limit, or undefined when the service gets all that it asks for.
 */
function cutOf({ name, asked, amount }: ServiceServers, cluster = ''): LimitRefusal | undefined {
  const isWhole = asked.virtualServers <= amount.virtualServers && asked.realServers <= amount.realServers
  return isWhole ? undefined : { scope: 'service', cluster, name, asked, used: amount, services: 0 }
}
