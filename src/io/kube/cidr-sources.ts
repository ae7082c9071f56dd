// Reads pod and service prefixes of a whole cluster from what its installer and its network plugin keep in the API. Each
// function takes an object as it was received, and leaves out what is malformed. discover-cidrs.ts asks and chooses.
// Sources: OpenShift's config.openshift.io/v1 Network; Calico's IPPool; the ConfigMaps of kubeadm, kube-proxy, Cilium,
// flannel and Canal; the annotation node-args of k3s and RKE2.
import { familyOf, parseCidr, parseIp } from '../../core/model/cidr.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'
import { parseYaml } from '../manifests/parse-yaml.ts'

/** What one source says. */
export interface FoundCidrs {
  readonly pods: readonly Cidr[]
  readonly services: readonly Cidr[]
}

/** ConfigMaps with prefixes, by namespace and name, in the order in which they count: plugins before installers. */
export const CONFIG_MAPS = [
  ['kube-system', 'cilium-config'],
  ['kube-flannel', 'kube-flannel-cfg'],
  ['kube-system', 'kube-flannel-cfg'],
  ['kube-system', 'canal-config'],
  ['kube-system', 'kubeadm-config'],
  ['kube-system', 'kube-proxy']
] as const

/**
 * Reads a ConfigMap. kubeadm and kube-proxy keep YAML as text, flannel and Canal JSON, and Cilium has a key for each
 * address family.
 */
export function readConfigMap(configMap: unknown): FoundCidrs {
  const data = fieldsOf(isFields(configMap) ? configMap['data'] : undefined)
  const networking = fieldsOf(document(data['ClusterConfiguration'])['networking'])
  const proxy = document(data['config.conf'])
  const flannel = document(data['net-conf.json'])
  return {
    pods: split([
      data['cluster-pool-ipv4-cidr'],
      data['cluster-pool-ipv6-cidr'],
      flannel['Network'],
      flannel['IPv6Network'],
      networking['podSubnet'],
      proxy['clusterCIDR']
    ]),
    services: split([networking['serviceSubnet']])
  }
}

/** A text as YAML, of which JSON is a part; {} where it is no mapping. */
function document(text: unknown): Fields {
  if (typeof text !== 'string' || text.length > TEXT_MAX) return {}
  const parsed = parseYaml(text)
  return parsed.kind === 'object' ? fieldsOf(parsed.object) : {}
}

// In characters. These texts have a few hundred, and parsing blocks for 1 to 2 s for each MiB.
const TEXT_MAX = 65_536

/** Texts with prefixes between commas or blanks. */
function split(texts: readonly unknown[]): readonly Cidr[] {
  return cidrs(texts.filter((text) => typeof text === 'string').flatMap((text) => text.split(/[ ,]+/)))
}

/** Reads Calico's IPPools. Disabled ones, and those that are not for pods, give no pod an address. */
export function readPools(list: unknown): FoundCidrs {
  const pools = items(list)
    .map(({ spec }) => fieldsOf(spec))
    .filter(({ disabled, allowedUses: uses }) => disabled !== true && isForPods(uses))
  return { pods: cidrs(pools.map(({ cidr }) => cidr)), services: [] }
}

function isForPods(uses: unknown): boolean {
  return !Array.isArray(uses) || uses.length === 0 || uses.includes('Workload')
}

/** Reads OpenShift's Network. Its status is in force; its spec may be a change that is not applied yet. */
export function readNetwork(network: unknown): FoundCidrs {
  const object = fieldsOf(network)
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

/** Reads the prefixes of ServiceCIDR objects. */
export function readServiceCidrs(list: unknown): readonly Cidr[] {
  return items(list).flatMap(({ spec }) => cidrs(fieldsOf(spec)['cidrs']))
}

// What a server of k3s and RKE2 takes without the flag.
const K3S = { 'cluster-cidr': '10.42.0.0/16', 'service-cidr': '10.43.0.0/16' } as const

/** Reads the arguments of a k3s or RKE2 server from its Node: `["server","--cluster-cidr","10.52.0.0/16"]`. */
export function readNodeArgs(node: Fields): FoundCidrs {
  const annotations = fieldsOf(fieldsOf(node['metadata'])['annotations'])
  const text = annotations['k3s.io/node-args'] ?? annotations['rke2.io/node-args']
  const { args } = document(typeof text === 'string' ? `{"args": ${text}}` : undefined)
  if (!Array.isArray(args) || args[0] !== 'server') return { pods: [], services: [] }
  const given = (flag: keyof typeof K3S): readonly Cidr[] => {
    const values = args.flatMap((arg: unknown, at): readonly unknown[] => {
      if (typeof arg === 'string' && arg.startsWith(`--${flag}=`)) return [arg.slice(flag.length + 3)]
      return arg === `--${flag}` ? [args[at + 1]] : []
    })
    return split(values.length > 0 ? values : [K3S[flag]])
  }
  return { pods: given('cluster-cidr'), services: given('service-cidr') }
}

/**
 * Reads the addresses of pods from a page of EndpointSlices. A pod with the network of its node has the address of the
 * node, which `nodeIps` has; such addresses are left out.
 */
export function readPodIps(list: unknown, nodeIps: ReadonlySet<string>): readonly Ip[] {
  const endpoints = items(list).flatMap(({ endpoints }) =>
    Array.isArray(endpoints) ? endpoints.filter(isFields) : []
  )
  return endpoints
    .filter(({ targetRef }) => fieldsOf(targetRef)['kind'] === 'Pod')
    .flatMap(({ addresses }) => (Array.isArray(addresses) ? addresses : []))
    .flatMap((address: unknown) => (typeof address === 'string' ? (parseIp(address) ?? []) : []))
    .filter((ip) => !nodeIps.has(ip))
}

/** The prefixes or addresses of one family. */
export function ofFamily<T extends Cidr | Ip>(family: 4 | 6, list: readonly T[]): readonly T[] {
  return list.filter((each) => familyOf(each) === family)
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
