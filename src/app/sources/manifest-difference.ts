// Compares the manifests of a gateway that does not speak for its site with what the speaker publishes. Only the speaker's
// manifests count, so a service that is in the folder of another gateway alone is not in the mesh, and nothing else would
// say so. Pure; agent/part-watch.ts calls it once a second and sets the fault MANIFESTS_DIFFER.
import type { EndpointSliceValue, ServiceValue, Snapshot } from '../../core/model/values.ts'
import type { ServiceView } from '../../core/view/view.ts'
import type { FaultText } from '../observe/health.ts'

// The message names this many services and counts the others.
const SHOWN_MAX = 3

/**
 * Returns the fault, or undefined when both have the same services with the same addresses. `speaker`: the name of the
 * speaker's node. O(n) of the endpoints.
 */
export function manifestsDiffer(
  own: Snapshot,
  published: ReadonlyMap<string, ServiceView>,
  speaker: string
): FaultText | undefined {
  const slices = Map.groupBy(own.endpointSlices, ({ namespace, service }) => `${namespace}/${service}`)
  const here = new Map(
    own.services.map((service) => {
      const name = `${service.namespace}/${service.name}`
      return [name, textOf(service, slices.get(name) ?? [])] as const
    })
  )
  const there = new Map(
    Array.from(published.values(), ({ service, slices: of }) => [
      `${service.namespace}/${service.name}`,
      textOf(service, of)
    ])
  )
  const names = [...new Set([...here.keys(), ...there.keys()])].filter(
    (name) => here.get(name) !== there.get(name)
  )
  if (names.length === 0) return undefined
  const shown = names.toSorted().slice(0, SHOWN_MAX)
  const rest = names.length - shown.length
  const list = `${shown.join(', ')}${rest === 0 ? '' : ` and ${rest} more`}`
  return {
    severity: 'warning',
    message: `the manifests of this gateway differ from those of ${speaker}, which count for this cluster now, in ${names.length} ${names.length === 1 ? 'service' : 'services'} (${list})`,
    fix: 'give all gateways of this site the same manifests: when the other gateway is gone, those of this one count'
  }
}

/** What clients of a service reach, as text. The names of slices, and the order of endpoints, do not matter. */
function textOf(service: ServiceValue, slices: readonly EndpointSliceValue[]): string {
  const { clusterIps, ports, headless, externalName } = service
  const served = ports.map(({ name, protocol, port }) => `${name} ${protocol} ${port}`)
  const endpoints = slices.flatMap((slice) => {
    const open = slice.ports.map(({ name, protocol, port }) => `${name} ${protocol} ${port}`).sort()
    return slice.endpoints.map(({ addresses, ready }) => `${addresses.join()} ${ready} ${open.join()}`)
  })
  return JSON.stringify([clusterIps, served.sort(), headless, externalName, endpoints.sort()])
}
