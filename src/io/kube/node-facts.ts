// What is of interest of a Node: which pods' addresses lie on it, and its own.
import { parseCidr, parseIp } from '../../core/model/cidr.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'

export interface NodeFacts {
  readonly name: string
  /** Empty where the network plugin hands out addresses in its own way. */
  readonly podCidrs: readonly Cidr[]
  readonly internalIps: readonly Ip[]
  /** All of it as one text, to tell whether anything changed. */
  readonly text: string
}

/** Reads the facts from a Node object. Malformed fields are left out. */
export function readNode(object: Fields): NodeFacts {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const spec = isFields(object['spec']) ? object['spec'] : {}
  const status = isFields(object['status']) ? object['status'] : {}
  const name = typeof metadata['name'] === 'string' ? metadata['name'] : ''
  const podCidrs = texts(spec['podCIDRs'] ?? [spec['podCIDR']])
    .map(parseCidr)
    .flatMap((parsed) => (parsed.kind === 'cidr' ? [parsed.cidr] : []))
  const addresses = Array.isArray(status['addresses']) ? status['addresses'].filter(isFields) : []
  const internalIps = texts(
    addresses.filter(({ type }) => type === 'InternalIP').map(({ address }) => address)
  )
    .map(parseIp)
    .filter((ip) => ip !== undefined)
  return { name, podCidrs, internalIps, text: JSON.stringify([name, podCidrs, internalIps]) }
}

function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : []
}
