// What a cluster with translated addresses publishes. Its hosts work with the real addresses of its own services, pods and
// nodes; each record that leaves has the virtual ones (model/translation.ts), so all other agents read it like any other.
import type { Cidr, EndpointSliceValue, Value } from '../model/values.ts'
import type { Direction, Translation } from '../model/translation.ts'
import type { Change } from './catalog.ts'

/** Returns the changes with virtual addresses; the same list while nothing is translated. */
export function outward(changes: readonly Change[], { isActive, toVirtual }: Translation): readonly Change[] {
  if (!isActive) return changes
  return changes.map(({ key, value }) => ({ key, value: value && moved(value, toVirtual) }))
}

/** Returns a slice with the addresses of its endpoints moved. */
export function movedEndpoints(
  endpoints: EndpointSliceValue['endpoints'],
  to: Direction
): EndpointSliceValue['endpoints'] {
  return endpoints.map((endpoint) => ({ ...endpoint, addresses: endpoint.addresses.map((ip) => to.ip(ip)) }))
}

function moved(value: Value, to: Direction): Value {
  switch (value.kind) {
    case 'agent': {
      const { tunnelAddress, nodePrefixes } = value
      return {
        ...value,
        tunnelAddress: tunnelAddress && to.ip(tunnelAddress),
        ...(nodePrefixes && { nodePrefixes: nodePrefixes.map((cidr: Cidr) => to.cidr(cidr)) })
      }
    }
    // Its prefixes are those of the certificate already.
    case 'cluster':
      return value
    case 'service':
      return { ...value, clusterIps: value.clusterIps.map((ip) => to.ip(ip)) }
    case 'endpointSlice':
      return { ...value, endpoints: movedEndpoints(value.endpoints, to) }
    default:
      return value satisfies never
  }
}
