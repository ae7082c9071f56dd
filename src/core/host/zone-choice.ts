// Which endpoints of a cluster's service are near a host: those of its zone, or of its node, where the service asks for
// it. The load balancers see the chosen endpoints only.
// Invariants
//   1. While an endpoint is ready, one is chosen, for each port and address family that had one: where the near endpoints
//      leave a port or a family without any, the next level counts, and in the end all endpoints do.
//   2. Nearness is a wish: without one in the service or its policy, all endpoints are chosen. A wish of the Service holds
//      in its own cluster only, because two clusters may use one name for two zones; of another cluster, only the policy
//      (`same-zone`) says that they are one.
//   3. Endpoints that are not ready are never left out here: the fallback to endpoints that terminate ignores zones, as in
//      kube-proxy.
// Sources: KEP-2433 (hints count when all ready endpoints have some), KEP-4444 (PreferClose), KEP-3015 (PreferSameZone,
// PreferSameNode). kube-proxy reads hints only, which the controller of EndpointSlices writes from trafficDistribution. A
// folder of manifests has no such controller, so here the zones of the endpoints count where there are no hints.
import { familyOf } from '../model/cidr.ts'
import type { Place } from '../model/topology.ts'
import type {
  Endpoint,
  EndpointPort,
  EndpointSliceValue,
  ServicePort,
  ServiceValue
} from '../model/values.ts'
import type { ServiceView } from '../view/view.ts'
import { useOf } from './endpoint-use.ts'

/** How near the chosen endpoints are: on the host's node, in its zone, or anywhere in the cluster. */
type Nearness = 'node' | 'zone' | 'all'

/** What asks for near endpoints. */
export interface NearWish {
  /** spec.trafficDistribution of the Service; undefined: not set. */
  readonly trafficDistribution: string | undefined
  /** Whether this is the host's own cluster. */
  readonly isOwn: boolean
  /** Whether the policy has the term `same-zone`. */
  readonly sameZone: boolean
}

/** The endpoints of a service that a host uses. */
export interface NearChoice {
  readonly nearness: Nearness
  /** The slices with the ready endpoints that are near, and with all that are not ready; the given ones for `all`. */
  readonly slices: readonly EndpointSliceValue[]
  /** A clause for people: where these endpoints are, or why all of them count; undefined: nothing asks for near ones. */
  readonly reason: string | undefined
}

interface NearOptions {
  readonly place: Place
  /** The address families in which the host balances the service. */
  readonly families: readonly (4 | 6)[]
  readonly wish: NearWish
}

type Served = Pick<ServiceValue, 'ports' | 'publishNotReady'>

/** Chooses the endpoints of one service of one cluster for a host. */
export function chooseNear(
  { service, slices }: { readonly service: Served; readonly slices: readonly EndpointSliceValue[] },
  { place, families, wish }: NearOptions
): NearChoice {
  const isReady = (endpoint: Endpoint): boolean => useOf(endpoint, service) === 'ready'
  const levels = levelsOf(wish, place, () =>
    slices.every(({ endpoints }) =>
      endpoints.every((endpoint) => !isReady(endpoint) || endpoint.forZones !== undefined)
    )
  )
  if (levels === undefined) return { nearness: 'all', slices, reason: undefined }
  for (const { nearness, isNear, title } of levels) {
    if (!covers(slices, { service, families, isReady, isNear })) continue
    return { nearness, slices: slices.map((slice) => cut(slice, isReady, isNear)), reason: title }
  }
  const reason =
    place.zone === '' ? 'the zone of this host is not known' : `no ready endpoint is in zone ${place.zone}`
  return { nearness: 'all', slices, reason }
}

interface Level {
  readonly nearness: Nearness
  readonly isNear: (endpoint: Endpoint) => boolean
  readonly title: string
}

/** Returns what may count as near, the nearest first; undefined where nothing asks for near endpoints. */
function levelsOf(
  { trafficDistribution = '', isOwn, sameZone }: NearWish,
  { zone, node }: Place,
  areAllHinted: () => boolean
): readonly Level[] | undefined {
  const isHinted = isOwn && areAllHinted()
  const isClose = isOwn && CLOSE.has(trafficDistribution)
  if (!isHinted && !isClose && !sameZone) return undefined
  const levels: Level[] = []
  if (isOwn && node !== '' && trafficDistribution === 'PreferSameNode')
    levels.push({
      nearness: 'node',
      isNear: (endpoint) => endpoint.node === node,
      title: `on node ${node}`
    })
  if (zone !== '')
    levels.push(
      isHinted
        ? {
            nearness: 'zone',
            isNear: ({ forZones }) => forZones?.includes(zone) === true,
            title: `with hints for zone ${zone}`
          }
        : { nearness: 'zone', isNear: (endpoint) => endpoint.zone === zone, title: `in zone ${zone}` }
    )
  return levels
}

/** Values of spec.trafficDistribution that ask for near endpoints. */
const CLOSE: ReadonlySet<string> = new Set(['PreferClose', 'PreferSameZone', 'PreferSameNode'])

interface Covering {
  readonly service: Served
  readonly families: readonly (4 | 6)[]
  readonly isReady: (endpoint: Endpoint) => boolean
  readonly isNear: (endpoint: Endpoint) => boolean
}

/** Whether each port and family with a ready endpoint has one that is near, and there is one at all (invariant 1). */
function covers(
  slices: readonly EndpointSliceValue[],
  { service, families, isReady, isNear }: Covering
): boolean {
  const [served, near] = [new Set<string>(), new Set<string>()]
  for (const { ports, endpoints } of slices) {
    const names = ports.filter((port) => service.ports.some((each) => isFor(port, each)))
    if (names.length === 0) continue
    const ready = endpoints.filter(isReady)
    for (const family of families) {
      const ofFamily = ready.filter(({ addresses }) => addresses.some((ip) => familyOf(ip) === family))
      if (ofFamily.length === 0) continue
      const hasNear = ofFamily.some(isNear)
      for (const { name, protocol } of names) {
        served.add(`${family} ${protocol} ${name}`)
        if (hasNear) near.add(`${family} ${protocol} ${name}`)
      }
    }
  }
  return near.size > 0 && near.size === served.size
}

function isFor({ name, protocol }: EndpointPort, port: ServicePort): boolean {
  return name === port.name && protocol === port.protocol
}

function cut(
  slice: EndpointSliceValue,
  isReady: (endpoint: Endpoint) => boolean,
  isNear: (endpoint: Endpoint) => boolean
): EndpointSliceValue {
  const endpoints = slice.endpoints.filter((endpoint) => !isReady(endpoint) || isNear(endpoint))
  if (endpoints.length === slice.endpoints.length) return slice
  const { kind, namespace, name, service, ports } = slice
  return { kind, namespace, name, service, ports, endpoints }
}

/** Chooses the endpoints of a service of the host's own cluster, under its own address. */
export function chooseNearOwn({ service, slices }: ServiceView, place: Place): NearChoice {
  return chooseNear(
    { service, slices },
    {
      place,
      families: [...new Set(service.clusterIps.map(familyOf))],
      wish: { trafficDistribution: service.trafficDistribution, isOwn: true, sameZone: false }
    }
  )
}

// A view keeps the ServiceView of a service that did not change, so the cut one is the same object as before, too, and the
// Balancer does no work for it.
const made = new WeakMap<ServiceView, { readonly place: Place; readonly view: ServiceView }>()

/** Returns a service of the host's own cluster with the endpoints that the host uses; the same object for equal inputs. */
export function nearView(view: ServiceView, place: Place): ServiceView {
  const known = made.get(view)
  if (known?.place.zone === place.zone && known.place.node === place.node) return known.view
  const { slices } = chooseNearOwn(view, place)
  const near = slices.every((slice, index) => slice === view.slices[index]) ? view : { ...view, slices }
  made.set(view, { place, view: near })
  return near
}
