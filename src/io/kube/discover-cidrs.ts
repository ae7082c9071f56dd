// Finds the pod and service prefixes of this cluster in what its API tells. Prefixes in the settings win over all other
// sources. `init` takes the prefixes from here, and `join` compares them with those of the token
// (app/enrolment/prefix-check.ts).
// Sources: what the installer and the network plugin have configured (cidr-sources.ts); Node spec.podCIDRs;
// networking.k8s.io/v1 ServiceCIDR (KEP-1880, stable in 1.33).
// Invariant: a configuration counts only where it covers the addresses that pods have or, where none are known, the
// podCIDRs of all Nodes. One that another plugin has left over does not.
import type { Problem } from '../../core/catalog/catalog.ts'
import { cidrContains, cidrOverlaps, compareCidr, prefixToCidr, cidrToPrefix } from '../../core/model/cidr.ts'
import type { Fields } from '../../core/model/field-check.ts'
import { listObjects, type KubeCall } from '../../core/kube/kube-api.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'
import {
  CONFIG_MAPS,
  ofFamily,
  readConfigMap,
  readNetwork,
  readNodeArgs,
  readPodIps,
  readPools,
  readServiceCidrs,
  type FoundCidrs
} from './cidr-sources.ts'
import type { KubeClient } from './client.ts'
import { KubeError } from './errors.ts'
import { readNode, type NodeFacts } from './node-facts.ts'

/**
 * Where prefixes come from. 'cluster': the configuration of the installer or network plugin, which covers Nodes that
 * are added later. 'nodes': the present Nodes only.
 */
type CidrSource = 'settings' | 'openshift' | 'cluster' | 'nodes' | 'servicecidrs' | 'none'

interface DiscoveredCidrs {
  /** Sorted and without overlaps: the fewest prefixes that cover exactly the addresses that were found. */
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  /** The source that was used for each of the two. */
  readonly from: { readonly pods: CidrSource; readonly services: CidrSource }
  /** Contradictions between the prefixes and the Nodes. With one of them, the prefixes must not be used. */
  readonly conflicts: readonly Problem[]
  /** Prefixes that are not known, or not for all Nodes. */
  readonly problems: readonly Problem[]
}

interface DiscoverOptions {
  readonly client: KubeClient
  /** Prefixes that the caller knows; absent or []: discover them. */
  readonly podPrefixes?: readonly Cidr[]
  readonly servicePrefixes?: readonly Cidr[]
  readonly signal?: AbortSignal
}

/**
 * Reads all sources and chooses. A source that the cluster does not have, or that the
 * roles of this agent do not allow it to read, counts as empty. Errors: KubeError for any other failure of a request.
 */
export async function discoverCidrs(options: DiscoverOptions): Promise<DiscoveredCidrs> {
  const refusals: Problem[] = []
  // A missing role is shown as a problem if prefixes are missing in the end.
  const ask = async (path: string, query: Readonly<Record<string, string>> = {}): Promise<unknown> => {
    try {
      return await options.client.request({ path, query, ...(options.signal && { signal: options.signal }) })
    } catch (error) {
      if (!(error instanceof KubeError)) throw error
      // The cluster does not have this API: it is an older Kubernetes, or no OpenShift.
      if (error.code === 'NOT_IN_CLUSTER') return undefined
      if (error.code !== 'FORBIDDEN') throw error
      refusals.push({ file: options.client.server, message: error.message, fix: error.fix, level: 'warning' })
      return undefined
    }
  }
  // Older charts give no role for these sources, and most clusters have only some of them, so a refusal is no problem.
  const optional = (path: string, query: Readonly<Record<string, string>> = {}): Promise<unknown> =>
    options.client
      .request({ path, query, ...(options.signal && { signal: options.signal }) })
      .catch((error: unknown) => {
        if (error instanceof KubeError && ['NOT_IN_CLUSTER', 'FORBIDDEN'].includes(error.code))
          return undefined
        throw error
      })
  const [network, serviceCidrs, slices, pools, ...configMaps] = await Promise.all([
    ask('/apis/config.openshift.io/v1/networks/cluster'),
    ask('/apis/networking.k8s.io/v1/servicecidrs'),
    optional('/apis/discovery.k8s.io/v1/endpointslices', { limit: String(SLICES_MAX) }),
    optional('/apis/crd.projectcalico.org/v1/ippools'),
    ...CONFIG_MAPS.map(([namespace, name]) => optional(`/api/v1/namespaces/${namespace}/configmaps/${name}`))
  ])
  const pages = { request: ({ path, query }: KubeCall): Promise<unknown> => ask(path, query) }
  const read = (node: Fields) => ({ facts: readNode(node), args: readNodeArgs(node) })
  const all = (await listObjects(pages, { path: '/api/v1/nodes' }, read)) ?? []
  const nodes = all.map(({ facts }) => facts)
  return settleCidrs({
    settings: { pods: options.podPrefixes ?? [], services: options.servicePrefixes ?? [] },
    openshift: readNetwork(network),
    cluster: [readPools(pools), ...configMaps.map(readConfigMap), ...all.map(({ args }) => args)],
    serviceCidrs: readServiceCidrs(serviceCidrs),
    nodes,
    podIps: readPodIps(slices, new Set(nodes.flatMap(({ internalIps }) => internalIps))),
    refusals
  })
}

// Some pods show which prefixes are in use. The slices of a page of this length have a few MiB at most.
const SLICES_MAX = 100

/** The prefixes and Nodes of each source; [] for a source that has none. */
export interface CidrFindings {
  readonly settings: { readonly pods: readonly Cidr[]; readonly services: readonly Cidr[] }
  readonly openshift: FoundCidrs
  /** The configurations of network plugins and installers. The first one that fits counts. */
  readonly cluster: readonly FoundCidrs[]
  readonly serviceCidrs: readonly Cidr[]
  readonly nodes: readonly NodeFacts[]
  /** Addresses of some pods; [] where none are known. */
  readonly podIps: readonly Ip[]
  /** One problem for each source that the roles do not allow to read. */
  readonly refusals: readonly Problem[]
}

/** Chooses the first source that is not empty, for pods and for services, and checks the result. A pure function. */
export function settleCidrs(found: CidrFindings): DiscoveredCidrs {
  const pods = firstOf([
    ['settings', found.settings.pods],
    ['openshift', found.openshift.pods],
    ['cluster', configuredPods(found)],
    ['nodes', podsOfNodes(found)]
  ])
  const services = firstOf([
    ['settings', found.settings.services],
    ['openshift', found.openshift.services],
    ['servicecidrs', found.serviceCidrs],
    ['cluster', found.cluster.find(({ services }) => services.length > 0)?.services ?? []]
  ])
  return {
    podPrefixes: pods.cidrs,
    servicePrefixes: services.cidrs,
    from: { pods: pods.source, services: services.source },
    conflicts: [...overlaps(pods.cidrs, services.cidrs), ...nodesInside(services.cidrs, found.nodes)],
    problems: [...missing(pods.source, services.source, found), ...incomplete(pods.source, found.nodes)]
  }
}

/**
 * The configured pod prefixes that are in use, for each address family. [] where the configuration of a family that is in
 * use is not known: half of what is needed is not taken for the whole.
 */
function configuredPods(found: CidrFindings): readonly Cidr[] {
  const chosen: Cidr[] = []
  for (const family of [4, 6] as const) {
    const ips = ofFamily(family, found.podIps)
    const used = ips.length > 0 ? ips : ofFamily(family, podCidrsOf(found.nodes))
    const fitting = found.cluster
      .map(({ pods }) => ofFamily(family, pods))
      .find(
        (pods) => pods.length > 0 && used.every((each) => pods.some((prefix) => cidrContains(prefix, each)))
      )
    if (fitting === undefined && used.length > 0) return []
    // Prefixes of a family that no pod and no Node has count only where nothing is known of pods and Nodes.
    if (used.length > 0 || isUnused(found)) chosen.push(...(fitting ?? []))
  }
  return chosen
}

function isUnused({ nodes, podIps }: CidrFindings): boolean {
  return podIps.length === 0 && podCidrsOf(nodes).length === 0
}

/** The podCIDRs of the Nodes, unless the pods have other addresses: then the network plugin does not follow them. */
function podsOfNodes({ nodes, podIps }: CidrFindings): readonly Cidr[] {
  const podCidrs = podCidrsOf(nodes)
  const isFollowed = podIps.some((ip) => podCidrs.some((cidr) => cidrContains(cidr, ip)))
  return podIps.length === 0 || isFollowed ? podCidrs : []
}

function podCidrsOf(nodes: readonly NodeFacts[]): readonly Cidr[] {
  return nodes.flatMap(({ podCidrs }) => podCidrs)
}

/** The first candidate with prefixes, merged; 'none' and [] if all are empty. */
function firstOf(candidates: readonly (readonly [CidrSource, readonly Cidr[]])[]): {
  readonly source: CidrSource
  readonly cidrs: readonly Cidr[]
} {
  const [source, cidrs] = candidates.find(([, cidrs]) => cidrs.length > 0) ?? ['none' as const, []]
  return { source, cidrs: mergeCidrs(cidrs) }
}

/** Returns the fewest prefixes with exactly the same addresses: the /24s of 256 nodes are often one /16. */
export function mergeCidrs(cidrs: readonly Cidr[]): readonly Cidr[] {
  const merged: Cidr[] = []
  for (const cidr of [...cidrs].sort(compareCidr)) {
    let last = merged.at(-1)
    if (last !== undefined && cidrContains(last, cidr)) continue
    merged.push(cidr)
    // In sorted order, the other half of a prefix comes directly before it; a joined prefix may be a half again.
    for (;;) {
      last = merged.at(-1)
      const before = merged.at(-2)
      const joined = last !== undefined && before !== undefined ? joinHalves(before, last) : undefined
      if (joined === undefined) break
      merged.splice(-2, 2, joined)
    }
  }
  return merged
}

/** Returns the prefix of which these are the two halves, in this order; undefined if they are not. */
function joinHalves(left: Cidr, right: Cidr): Cidr | undefined {
  const { address, length } = cidrToPrefix(left)
  if (length !== cidrToPrefix(right).length || length === 0) return undefined
  const parent = prefixToCidr({ address, length: length - 1 })
  return parent !== undefined && cidrContains(parent, right) ? parent : undefined
}

/** Errors for prefixes that no source told, with the refusals, which may be the reason. */
function missing(
  pods: CidrSource,
  services: CidrSource,
  { nodes, podIps, refusals }: CidrFindings
): readonly Problem[] {
  const problems: Problem[] = []
  if (pods === 'none') {
    problems.push({
      file: 'kubernetes',
      message:
        podCidrsOf(nodes).length > 0
          ? `the pod prefixes are not known: pods have addresses outside the spec.podCIDRs of the Nodes, such as ${podIps[0]}`
          : 'the pod prefixes are not known: no Node has spec.podCIDRs, and the cluster is not OpenShift',
      fix: 'read them in the configuration of the network plugin, and pass them as --pod-cidr, for example --pod-cidr 10.244.0.0/16',
      level: 'error'
    })
  }
  if (services === 'none') {
    problems.push({
      file: 'kubernetes',
      message:
        'the service prefixes are not known: this Kubernetes has no ServiceCIDR objects (it is older than 1.33), and the cluster is not OpenShift',
      fix: 'read the flag --service-cluster-ip-range of the API server, and pass it as --service-cidr, for example --service-cidr 10.96.0.0/12',
      level: 'error'
    })
  }
  return problems.length > 0 ? [...problems, ...refusals] : []
}

/** A warning if the pod prefixes come from Nodes of which some have none. */
function incomplete(source: CidrSource, nodes: readonly NodeFacts[]): readonly Problem[] {
  const without = nodes.filter(({ podCidrs }) => podCidrs.length === 0)
  if (source !== 'nodes' || without.length === 0) return []
  return [
    {
      file: 'kubernetes',
      message: `${without.length} of ${nodes.length} nodes have no spec.podCIDRs, such as ${without[0]?.name}: their pods cannot be reached`,
      fix: 'pass the pod prefixes of the whole cluster as --pod-cidr, for example --pod-cidr 10.244.0.0/16',
      level: 'warning'
    }
  ]
}

/** Errors for addresses that would be both of pods and of services. */
function overlaps(pods: readonly Cidr[], services: readonly Cidr[]): readonly Problem[] {
  return pods.flatMap((pod) =>
    services
      .filter((service) => cidrOverlaps(pod, service))
      .map((service) => ({
        file: 'kubernetes',
        message: `the pod prefix ${pod} and the service prefix ${service} overlap`,
        fix: 'correct --pod-cidr or --service-cidr: an address belongs either to a pod or to a service',
        level: 'error' as const
      }))
  )
}

/** Errors for Nodes whose own address lies in a service prefix: a route to the services would hide the Node. */
function nodesInside(services: readonly Cidr[], nodes: readonly NodeFacts[]): readonly Problem[] {
  return nodes.flatMap(({ name, internalIps }) =>
    internalIps
      .filter((ip) => services.some((service) => cidrContains(service, ip)))
      .map((ip) => ({
        file: 'kubernetes',
        message: `the address ${ip} of node ${name} lies in a service prefix`,
        fix: 'correct --service-cidr: the route to this prefix would cut off the node',
        level: 'error' as const
      }))
  )
}
