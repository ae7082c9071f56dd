// Reads from a Node object the prefixes of its pods and its own addresses. kube-source.ts keeps these facts instead of
// whole objects; discover-cidrs.ts finds the cluster's prefixes with them.
import { parseCidr, parseIp } from '../../core/model/cidr.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import { isZoneName, ZONE_LABEL } from '../../core/model/topology.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'

/** The facts of one Node. */
export interface NodeFacts {
  readonly name: string
  /** spec.podCIDRs; empty where the network plugin assigns addresses by another method. */
  readonly podCidrs: readonly Cidr[]
  /** status.addresses of type InternalIP. */
  readonly internalIps: readonly Ip[]
  /** False for a Node whose label kubernetes.io/os names another system: no agent runs there. */
  readonly isLinux: boolean
  /** The label topology.kubernetes.io/zone; '' without it. */
  readonly zone: string
  /** All facts as one text, so that two versions of a Node are compared cheaply. */
  readonly text: string
}

/** Reads the facts from a Node object. Malformed fields are left out. */
export function readNode(object: Fields): NodeFacts {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const spec = isFields(object['spec']) ? object['spec'] : {}
  const status = isFields(object['status']) ? object['status'] : {}
  const name = typeof metadata['name'] === 'string' ? metadata['name'] : ''
  // podCIDR is the older field, with one prefix. podCIDRs, since Kubernetes 1.16, begins with the same prefix.
  const podCidrs = texts(spec['podCIDRs'] ?? [spec['podCIDR']])
    .map(parseCidr)
    .flatMap((parsed) => (parsed.kind === 'cidr' ? [parsed.cidr] : []))
  const addresses = Array.isArray(status['addresses']) ? status['addresses'].filter(isFields) : []
  const internalIps = texts(
    addresses.filter(({ type }) => type === 'InternalIP').map(({ address }) => address)
  )
    .map(parseIp)
    .filter((ip) => ip !== undefined)
  const labels = isFields(metadata['labels']) ? metadata['labels'] : {}
  const isLinux = (labels['kubernetes.io/os'] ?? 'linux') === 'linux'
  const label = labels[ZONE_LABEL]
  const zone = typeof label === 'string' && isZoneName(label) ? label : ''
  return {
    name,
    podCidrs,
    internalIps,
    isLinux,
    zone,
    text: JSON.stringify([name, podCidrs, internalIps, isLinux, zone])
  }
}

/** The strings of an array; [] for any other value. */
function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : []
}
