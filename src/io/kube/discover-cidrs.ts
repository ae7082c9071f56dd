// Finds the pod and service prefixes of this cluster in what its API tells. Prefixes in the settings win over all other
// sources. `init` takes the prefixes from here, and `join` compares them with those of the token
// (app/enrolment/prefix-check.ts).
// Sources: OpenShift's config.openshift.io/v1 Network "cluster"; Calico's IPPools; the ConfigMaps of kubeadm,
// kube-proxy and Cilium; Node spec.podCIDRs; networking.k8s.io/v1 ServiceCIDR (KEP-1880, stable in 1.33).
import type { Problem } from '../../core/catalog/catalog.ts'
import {
  cidrContains,
  cidrOverlaps,
  compareCidr,
  parseCidr,
  prefixToCidr,
  cidrToPrefix
} from '../../core/model/cidr.ts'
import { listObjects, type KubeCall } from '../../core/kube/kube-api.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import type { Cidr } from '../../core/model/values.ts'
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
  const optional = (path: string): Promise<unknown> =>
    options.client
      .request({ path, ...(options.signal && { signal: options.signal }) })
      .catch((error: unknown) => {
        if (error instanceof KubeError && ['NOT_IN_CLUSTER', 'FORBIDDEN'].includes(error.code))
          return undefined
        throw error
      })
  const [network, serviceCidrs, pools, ...configMaps] = await Promise.all([
    ask('/apis/config.openshift.io/v1/networks/cluster'),
    ask('/apis/networking.k8s.io/v1/servicecidrs'),
    optional('/apis/crd.projectcalico.org/v1/ippools'),
    ...CONFIG_MAPS.map((name) => optional(`/api/v1/namespaces/kube-system/configmaps/${name}`))
  ])
  const pages = { request: ({ path, query }: KubeCall): Promise<unknown> => ask(path, query) }
  const nodes = (await listObjects(pages, { path: '/api/v1/nodes' }, readNode)) ?? []
  return settleCidrs({
    settings: { pods: options.podPrefixes ?? [], services: options.servicePrefixes ?? [] },
    openshift: readNetwork(network),
    cluster: [...readPools(pools), ...configMaps.flatMap(readConfigMap)],
    serviceCidrs: items(serviceCidrs).flatMap((each) => cidrs(fieldsOf(each['spec'])['cidrs'])),
    nodes,
    refusals
  })
}

/** The prefixes and Nodes of each source; [] for a source that has none. */
export interface CidrFindings {
  readonly settings: { readonly pods: readonly Cidr[]; readonly services: readonly Cidr[] }
  readonly openshift: { readonly pods: readonly Cidr[]; readonly services: readonly Cidr[] }
  /** Pod prefixes of the whole cluster, from the configuration of its installer or network plugin. */
  readonly cluster: readonly Cidr[]
  readonly serviceCidrs: readonly Cidr[]
  readonly nodes: readonly NodeFacts[]
  /** One problem for each source that the roles do not allow to read. */
  readonly refusals: readonly Problem[]
}

/** Chooses the first source that is not empty, for pods and for services, and checks the result. A pure function. */
export function settleCidrs(found: CidrFindings): DiscoveredCidrs {
  const pods = firstOf([
    ['settings', found.settings.pods],
    ['openshift', found.openshift.pods],
    ['cluster', ofTheNodes(found)],
    ['nodes', found.nodes.flatMap(({ podCidrs }) => podCidrs)]
  ])
  const services = firstOf([
    ['settings', found.settings.services],
    ['openshift', found.openshift.services],
    ['servicecidrs', found.serviceCidrs]
  ])
  return {
    podPrefixes: pods.cidrs,
    servicePrefixes: services.cidrs,
    from: { pods: pods.source, services: services.source },
    conflicts: [...overlaps(pods.cidrs, services.cidrs), ...nodesInside(services.cidrs, found.nodes)],
    problems: [
      ...missing(pods.source, services.source, found.refusals),
      ...incomplete(pods.source, found.nodes)
    ]
  }
}

/**
 * Returns the configured pod prefixes that the Nodes use. A configuration that does not cover the podCIDRs of all Nodes
 * is left over from another network plugin, so none of it counts. If no Node has podCIDRs, all of it counts.
 */
function ofTheNodes({ cluster, nodes }: CidrFindings): readonly Cidr[] {
  const used = nodes.flatMap(({ podCidrs }) => podCidrs)
  if (used.length === 0) return cluster
  const followed = cluster.filter((prefix) => used.some((cidr) => cidrContains(prefix, cidr)))
  const isWhole = used.every((cidr) => followed.some((prefix) => cidrContains(prefix, cidr)))
  return isWhole ? followed : []
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
function missing(pods: CidrSource, services: CidrSource, refusals: readonly Problem[]): readonly Problem[] {
  const problems: Problem[] = []
  if (pods === 'none') {
    problems.push({
      file: 'kubernetes',
      message: 'the pod prefixes are not known: no Node has spec.podCIDRs, and the cluster is not OpenShift',
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

// ConfigMaps of the namespace kube-system: the configurations of kubeadm, kube-proxy and Cilium.
const CONFIG_MAPS = ['kubeadm-config', 'kube-proxy', 'cilium-config'] as const

/**
 * Reads the pod prefixes of a ConfigMap. kubeadm and kube-proxy keep YAML as text, with a line such as
 * `podSubnet: 10.244.0.0/16` or `clusterCIDR: "10.244.0.0/16,fd00::/56"`. Cilium has a key for each address family.
 */
function readConfigMap(configMap: unknown): readonly Cidr[] {
  const data = fieldsOf(isFields(configMap) ? configMap['data'] : undefined)
  const lines = [data['ClusterConfiguration'], data['config.conf']]
    .filter((text) => typeof text === 'string')
    .flatMap(
      (text) =>
        /^[ \t]*(?:podSubnet|clusterCIDR):[ \t]*["']?([0-9a-fA-F.:/, ]+)["']?[ \t]*$/gm.exec(text)?.[1] ?? []
    )
  const pools = [data['cluster-pool-ipv4-cidr'], data['cluster-pool-ipv6-cidr']].filter(
    (text) => typeof text === 'string'
  )
  return cidrs([...lines, ...pools].flatMap((text) => text.split(/[ ,]+/)))
}

/** Reads Calico's IPPools; disabled ones assign no addresses. */
function readPools(list: unknown): readonly Cidr[] {
  const specs = items(list).map(({ spec }) => fieldsOf(spec))
  return cidrs(specs.filter(({ disabled }) => disabled !== true).map(({ cidr }) => cidr))
}

/** Reads OpenShift's Network. Its status is in force; its spec may be a change that is not applied yet. */
function readNetwork(network: unknown): {
  readonly pods: readonly Cidr[]
  readonly services: readonly Cidr[]
} {
  const object = isFields(network) ? network : {}
  const [status, spec] = [fieldsOf(object['status']), fieldsOf(object['spec'])]
  const pods = (from: Fields): readonly Cidr[] => {
    const list = Array.isArray(from['clusterNetwork']) ? from['clusterNetwork'].filter(isFields) : []
    return cidrs(list.map(({ cidr }) => cidr))
  }
  const services = (from: Fields): readonly Cidr[] => cidrs(from['serviceNetwork'])
  return {
    pods: pods(status).length > 0 ? pods(status) : pods(spec),
    services: services(status).length > 0 ? services(status) : services(spec)
  }
}

/** The valid prefixes of an array; malformed ones are left out. */
function cidrs(value: unknown): readonly Cidr[] {
  const list = Array.isArray(value) ? value : []
  return list
    .filter((text) => typeof text === 'string')
    .map(parseCidr)
    .flatMap((parsed) => (parsed.kind === 'cidr' ? [parsed.cidr] : []))
}

/** The objects of a list; [] for any other value. */
function items(page: unknown): readonly Fields[] {
  return isFields(page) && Array.isArray(page['items']) ? page['items'].filter(isFields) : []
}

function fieldsOf(value: unknown): Fields {
  return isFields(value) ? value : {}
}
