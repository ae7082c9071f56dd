// Which addresses are this cluster's: pod and service prefixes, from what the API says of itself. Flags win over all of it.
// Sources: OpenShift's config.openshift.io/v1 Network "cluster"; Calico's IPPools; the ConfigMaps of kubeadm, kube-proxy and Cilium; Node
// spec.podCIDRs; networking.k8s.io/v1 ServiceCIDR (KEP-1880, stable in 1.33).
import type { Problem } from '../../core/catalog/catalog.ts'
import {
  cidrContains,
  cidrOverlaps,
  compareCidr,
  parseCidr,
  prefixToCidr,
  cidrToPrefix
} from '../../core/model/cidr.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import type { Cidr } from '../../core/model/values.ts'
import type { KubeClient } from './client.ts'
import { KubeError } from './errors.ts'
import { readNode, type NodeFacts } from './node-facts.ts'

type CidrSource = 'settings' | 'openshift' | 'cluster' | 'nodes' | 'servicecidrs' | 'none'

interface DiscoveredCidrs {
  /** Sorted, without overlaps; as few as cover exactly what was found. */
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  readonly from: { readonly pods: CidrSource; readonly services: CidrSource }
  /** An `error`: do not join with these. */
  readonly problems: readonly Problem[]
}

interface DiscoverOptions {
  readonly client: KubeClient
  /** From the settings; [] = find out. */
  readonly podPrefixes?: readonly Cidr[]
  readonly servicePrefixes?: readonly Cidr[]
  readonly signal?: AbortSignal
}

/** Errors: KubeError when the API cannot be asked at all. What it refuses to tell is a problem, not an error. */
export async function discoverCidrs(options: DiscoverOptions): Promise<DiscoveredCidrs> {
  const refusals: Problem[] = []
  const ask = async (path: string): Promise<unknown> => {
    try {
      return await options.client.request({ path, ...(options.signal && { signal: options.signal }) })
    } catch (error) {
      if (!(error instanceof KubeError)) throw error
      // No such API here: an older Kubernetes, or no OpenShift.
      if (error.code === 'NOT_FOUND') return undefined
      if (error.code !== 'FORBIDDEN') throw error
      refusals.push({ file: options.client.server, message: error.message, fix: error.fix, level: 'warning' })
      return undefined
    }
  }
  // An older chart gives no right to these, and most clusters have only some of them.
  const optional = (path: string): Promise<unknown> =>
    options.client
      .request({ path, ...(options.signal && { signal: options.signal }) })
      .catch((error: unknown) => {
        if (error instanceof KubeError && ['NOT_FOUND', 'FORBIDDEN'].includes(error.code)) return undefined
        throw error
      })
  const [network, serviceCidrs, pools, ...configMaps] = await Promise.all([
    ask('/apis/config.openshift.io/v1/networks/cluster'),
    ask('/apis/networking.k8s.io/v1/servicecidrs'),
    optional('/apis/crd.projectcalico.org/v1/ippools'),
    ...CONFIG_MAPS.map((name) => optional(`/api/v1/namespaces/kube-system/configmaps/${name}`))
  ])
  const nodes: NodeFacts[] = []
  let next = ''
  do {
    const page = await ask(
      `/api/v1/nodes?limit=500${next === '' ? '' : `&continue=${encodeURIComponent(next)}`}`
    )
    nodes.push(...items(page).map(readNode))
    const metadata = isFields(page) && isFields(page['metadata']) ? page['metadata'] : {}
    next = typeof metadata['continue'] === 'string' ? metadata['continue'] : ''
  } while (next !== '')
  return settleCidrs({
    settings: { pods: options.podPrefixes ?? [], services: options.servicePrefixes ?? [] },
    openshift: readNetwork(network),
    cluster: [...readPools(pools), ...configMaps.flatMap(readConfigMap)],
    serviceCidrs: items(serviceCidrs).flatMap((each) => cidrs(fieldsOf(each['spec'])['cidrs'])),
    nodes,
    refusals
  })
}

export interface CidrFindings {
  readonly settings: { readonly pods: readonly Cidr[]; readonly services: readonly Cidr[] }
  readonly openshift: { readonly pods: readonly Cidr[]; readonly services: readonly Cidr[] }
  /** Pod prefixes of the whole cluster, as its installer or its network plugin was told. */
  readonly cluster: readonly Cidr[]
  readonly serviceCidrs: readonly Cidr[]
  readonly nodes: readonly NodeFacts[]
  readonly refusals: readonly Problem[]
}

/** The best source for each of the two, checked. Pure. */
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
    problems: [
      ...missing(pods.source, services.source, found.refusals),
      ...incomplete(pods.source, found.nodes),
      ...overlaps(pods.cidrs, services.cidrs),
      ...nodesInside(services.cidrs, found.nodes)
    ]
  }
}

/** A configuration that no Node follows is a leftover of another network plugin. Without podCIDRs of Nodes it is all there is. */
function ofTheNodes({ cluster, nodes }: CidrFindings): readonly Cidr[] {
  const used = nodes.flatMap(({ podCidrs }) => podCidrs)
  if (used.length === 0) return cluster
  const followed = cluster.filter((prefix) => used.some((cidr) => cidrContains(prefix, cidr)))
  const isWhole = used.every((cidr) => followed.some((prefix) => cidrContains(prefix, cidr)))
  return isWhole ? followed : []
}

function firstOf(candidates: readonly (readonly [CidrSource, readonly Cidr[]])[]): {
  readonly source: CidrSource
  readonly cidrs: readonly Cidr[]
} {
  const [source, cidrs] = candidates.find(([, cidrs]) => cidrs.length > 0) ?? ['none' as const, []]
  return { source, cidrs: mergeCidrs(cidrs) }
}

/** The fewest prefixes with exactly the same addresses: the /24s of 256 nodes are often one /16. */
export function mergeCidrs(cidrs: readonly Cidr[]): readonly Cidr[] {
  const merged: Cidr[] = []
  for (const cidr of [...cidrs].sort(compareCidr)) {
    let last = merged.at(-1)
    if (last !== undefined && cidrContains(last, cidr)) continue
    merged.push(cidr)
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

/** The prefix of which these are the two halves. */
function joinHalves(left: Cidr, right: Cidr): Cidr | undefined {
  const { address, length } = cidrToPrefix(left)
  if (length !== cidrToPrefix(right).length || length === 0) return undefined
  const parent = prefixToCidr({ address, length: length - 1 })
  return parent !== undefined && cidrContains(parent, right) ? parent : undefined
}

function missing(pods: CidrSource, services: CidrSource, refusals: readonly Problem[]): readonly Problem[] {
  const problems: Problem[] = []
  if (pods === 'none') {
    problems.push({
      file: 'kubernetes',
      message: 'the pod prefixes are not known: no Node has spec.podCIDRs, and this is no OpenShift',
      fix: 'name them, as in --pod-cidr 10.244.0.0/16; see the configuration of the network plugin',
      level: 'error'
    })
  }
  if (services === 'none') {
    problems.push({
      file: 'kubernetes',
      message:
        'the service prefixes are not known: this Kubernetes has no ServiceCIDR (older than 1.33), and is no OpenShift',
      fix: 'name them, as in --service-cidr 10.96.0.0/12: the --service-cluster-ip-range of the API server',
      level: 'error'
    })
  }
  return problems.length > 0 ? [...problems, ...refusals] : []
}

function incomplete(source: CidrSource, nodes: readonly NodeFacts[]): readonly Problem[] {
  const without = nodes.filter(({ podCidrs }) => podCidrs.length === 0)
  if (source !== 'nodes' || without.length === 0) return []
  return [
    {
      file: 'kubernetes',
      message: `${without.length} of ${nodes.length} nodes have no spec.podCIDRs, such as ${without[0]?.name}: their pods cannot be reached`,
      fix: 'name the prefixes of the whole cluster, as in --pod-cidr 10.244.0.0/16',
      level: 'warning'
    }
  ]
}

function overlaps(pods: readonly Cidr[], services: readonly Cidr[]): readonly Problem[] {
  return pods.flatMap((pod) =>
    services
      .filter((service) => cidrOverlaps(pod, service))
      .map((service) => ({
        file: 'kubernetes',
        message: `the pod prefix ${pod} and the service prefix ${service} overlap`,
        fix: 'correct --pod-cidr or --service-cidr: an address is a pod’s or a service’s, never both',
        level: 'error' as const
      }))
  )
}

function nodesInside(services: readonly Cidr[], nodes: readonly NodeFacts[]): readonly Problem[] {
  return nodes.flatMap(({ name, internalIps }) =>
    internalIps
      .filter((ip) => services.some((service) => cidrContains(service, ip)))
      .map((ip) => ({
        file: 'kubernetes',
        message: `the address ${ip} of node ${name} lies in a service prefix`,
        fix: 'correct --service-cidr: routes to services would cut the node off',
        level: 'error' as const
      }))
  )
}

// In kube-system: what kubeadm was told, what kube-proxy was told, what Cilium hands out.
const CONFIG_MAPS = ['kubeadm-config', 'kube-proxy', 'cilium-config'] as const

/** `podSubnet: 10.244.0.0/16`, `clusterCIDR: "10.244.0.0/16,fd00::/56"`: one line of the YAML that each keeps as text. */
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

function readPools(list: unknown): readonly Cidr[] {
  const specs = items(list).map(({ spec }) => fieldsOf(spec))
  return cidrs(specs.filter(({ disabled }) => disabled !== true).map(({ cidr }) => cidr))
}

/** Spec and status of OpenShift's Network; the status is what is in force. */
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

function cidrs(value: unknown): readonly Cidr[] {
  const list = Array.isArray(value) ? value : []
  return list
    .filter((text) => typeof text === 'string')
    .map(parseCidr)
    .flatMap((parsed) => (parsed.kind === 'cidr' ? [parsed.cidr] : []))
}

function items(page: unknown): readonly Fields[] {
  return isFields(page) && Array.isArray(page['items']) ? page['items'].filter(isFields) : []
}

function fieldsOf(value: unknown): Fields {
  return isFields(value) ? value : {}
}
