// The DNS names of one service, independent of the zone: Kubernetes DNS-Based Service Discovery 1.1.0. zone.ts and
// reverse.ts answer from them, and the feed for CoreDNS decides with them what to publish.
// Invariant: the result is a pure function of the ServiceView, so it is cached by the identity of the view.
import type { Endpoint, EndpointPort, Ip } from '../model/values.ts'
import type { ServiceView } from '../view/view.ts'
import { isTargetName, type DomainName } from './record.ts'

/** One address behind a name, and one port of it. */
export interface Target {
  /** The label of the endpoint below the service's name; '' for the service itself. */
  readonly label: string
  readonly address: Ip
  /** undefined: the service declares no port, so there is an address but no SRV record. */
  readonly port: number | undefined
  /**
   * "http" and "tcp" in lower case. `portName` is '' for a port without a name; both are '' when no port is declared.
   */
  readonly portName: string
  readonly protocol: string
}

/** The records at the service's own name: a CNAME, addresses and ports, or none. */
type ServiceNames =
  | { readonly kind: 'alias'; readonly target: DomainName }
  | { readonly kind: 'targets'; readonly targets: readonly Target[] }
  | { readonly kind: 'absent' }

/**
 * What the service's own name resolves to. A headless service without a published endpoint is absent (NXDOMAIN), as
 * in CoreDNS. A cluster IP stays, because it is stable while its backends change.
 */
export function serviceNames(view: ServiceView): ServiceNames {
  return remember(memoOf(view), 'service', () => {
    const { service } = view
    if (service.externalName !== '') {
      if (!isTargetName(service.externalName)) return { kind: 'absent' }
      return { kind: 'alias', target: service.externalName.replace(/\.$/, '') }
    }
    if (service.headless) {
      const targets = endpointTargets(view)
      return targets.length === 0 ? { kind: 'absent' } : { kind: 'targets', targets }
    }
    const ports = service.ports.length === 0 ? [undefined] : service.ports
    const targets = ports.flatMap((port) => service.clusterIps.map((address) => target('', address, port)))
    return { kind: 'targets', targets }
  })
}

/**
 * The targets of "_port._proto" below the service; undefined: there is no such port. As in CoreDNS's kubernetes
 * plugin, '' (the label "_") stands for any port name or any protocol.
 */
export function portTargets(
  view: ServiceView,
  port: string,
  protocol: string
): readonly Target[] | undefined {
  const byPort = remember(memoOf(view), 'ports', () => {
    const found = new Map<string, Target[]>()
    const names = serviceNames(view)
    for (const each of names.kind === 'targets' ? names.targets : []) {
      const keys = [each.portName, ''].flatMap((name) => [`${name}.${each.protocol}`, `${name}.`])
      for (const key of new Set(keys)) push(found, key, each)
    }
    return found
  })
  return byPort.get(`${port}.${protocol}`)
}

/** The published endpoints by their label. Services with a cluster IP have them, too; an ExternalName has none. */
export function endpointNames(view: ServiceView): ReadonlyMap<string, readonly Target[]> {
  return remember(memoOf(view), 'endpoints', () => {
    const byLabel = new Map<string, Target[]>()
    if (view.service.externalName !== '') return byLabel
    for (const each of endpointTargets(view)) push(byLabel, each.label, each)
    return byLabel
  })
}

/**
 * The label of an endpoint, as in CoreDNS's kubernetes plugin: its host name ("web-0"), else its address with dashes
 * ("10-1-2-3", "fd00--1").
 */
export function endpointLabel(endpoint: Endpoint, address: Ip): string {
  if (endpoint.hostname !== '') return endpoint.hostname.toLowerCase()
  const dashed = address.replaceAll(/[.:]/g, '-')
  // "fd00::" becomes "fd00--0", because no label may end in a hyphen (RFC 1123).
  return dashed.endsWith('-') ? `${dashed}0` : dashed
}

/** Whether DNS publishes an endpoint: it is ready, or the service has publishNotReadyAddresses. */
export function isPublished(view: ServiceView, endpoint: Endpoint): boolean {
  return endpoint.ready || view.service.publishNotReady
}

/** One target for each published endpoint, address and port. */
function endpointTargets(view: ServiceView): readonly Target[] {
  return view.slices.flatMap((slice) => {
    const ports = slice.ports.length === 0 ? [undefined] : slice.ports
    return slice.endpoints
      .filter((endpoint) => isPublished(view, endpoint))
      .flatMap((endpoint) =>
        endpoint.addresses.flatMap((address) =>
          ports.map((port) => target(endpointLabel(endpoint, address), address, port))
        )
      )
  })
}

function target(label: string, address: Ip, port: EndpointPort | undefined): Target {
  const portName = port?.name.toLowerCase() ?? ''
  return { label, address, port: port?.port, portName, protocol: port?.protocol.toLowerCase() ?? '' }
}

/** The cached results of one ServiceView. */
interface Memo {
  service?: ServiceNames
  ports?: ReadonlyMap<string, readonly Target[]>
  endpoints?: ReadonlyMap<string, readonly Target[]>
}

const memos = new WeakMap<ServiceView, Memo>()

function memoOf(view: ServiceView): Memo {
  let memo = memos.get(view)
  if (memo === undefined) memos.set(view, (memo = {}))
  return memo
}

/** The cached result, or a new one from `make`. */
function remember<K extends keyof Memo>(
  memo: Memo,
  key: K,
  make: () => NonNullable<Memo[K]>
): NonNullable<Memo[K]> {
  return memo[key] ?? (memo[key] = make())
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}
