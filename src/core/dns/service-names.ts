// What one service publishes in DNS, whatever zone it is asked in: Kubernetes DNS-Based Service Discovery 1.1.0.
// Invariant: a pure function of the ServiceView, so it is remembered by the view's identity.
import type { Endpoint, Ip, Protocol } from '../model.ts'
import type { ServiceView } from '../view.ts'
import { isTargetName, type DomainName } from './record.ts'

/** One address behind a name, and one port on it. */
export interface Target {
  /** Label of the endpoint under the service's name, or '' for the service itself. */
  readonly label: string
  readonly address: Ip
  /** undefined: no port is declared, so there is an address but no SRV. */
  readonly port: number | undefined
  /** "_http._tcp", or '' for a port without a name. */
  readonly srv: string
}

export type ServiceNames =
  | { readonly kind: 'alias'; readonly target: DomainName }
  | { readonly kind: 'targets'; readonly targets: readonly Target[] }
  | { readonly kind: 'absent' }

/**
 * The service's own name. A headless service without a published endpoint is absent (NXDOMAIN), as CoreDNS has it; a
 * cluster IP stays, because it is stable and its backends come and go behind it.
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
    const targets = ports.flatMap((port) =>
      service.clusterIps.map((address) => ({
        label: '',
        address,
        port: port?.port,
        srv: port === undefined ? '' : srvLabels(port.name, port.protocol)
      }))
    )
    return { kind: 'targets', targets }
  })
}

/** The targets of "_port._proto" under the service, by that key; and "_proto" alone as an empty non-terminal. */
export function portTargets(view: ServiceView): ReadonlyMap<string, readonly Target[]> {
  return remember(memoOf(view), 'ports', () => {
    const byPort = new Map<string, Target[]>()
    const names = serviceNames(view)
    if (names.kind !== 'targets') return byPort
    for (const target of names.targets) {
      if (target.srv === '') continue
      byPort.set(target.srv.slice(target.srv.indexOf('.') + 1), [])
      push(byPort, target.srv, target)
    }
    return byPort
  })
}

/** Endpoints by their label: the host name, else the dashed address. Cluster IP services have them, too. */
export function endpointNames(view: ServiceView): ReadonlyMap<string, readonly Target[]> {
  return remember(memoOf(view), 'endpoints', () => {
    const byLabel = new Map<string, Target[]>()
    if (view.service.externalName !== '') return byLabel
    for (const target of endpointTargets(view)) push(byLabel, target.label, target)
    return byLabel
  })
}

/** "web-0", or "10-1-2-3" and "fd00--1" for an endpoint without a host name, as CoreDNS's kubernetes plugin. */
export function endpointLabel(endpoint: Endpoint, address: Ip): string {
  return endpoint.hostname === '' ? address.replaceAll(/[.:]/g, '-') : endpoint.hostname.toLowerCase()
}

/** Ready, or published although not ready (`publishNotReadyAddresses`). */
export function isPublished(view: ServiceView, endpoint: Endpoint): boolean {
  return endpoint.ready || view.service.publishNotReady
}

function endpointTargets(view: ServiceView): readonly Target[] {
  return view.slices.flatMap((slice) => {
    const ports = slice.ports.length === 0 ? [undefined] : slice.ports
    return slice.endpoints
      .filter((endpoint) => isPublished(view, endpoint))
      .flatMap((endpoint) =>
        endpoint.addresses.flatMap((address) =>
          ports.map((port) => ({
            label: endpointLabel(endpoint, address),
            address,
            port: port?.port,
            srv: port === undefined ? '' : srvLabels(port.name, port.protocol)
          }))
        )
      )
  })
}

function srvLabels(port: string, protocol: Protocol): string {
  return port === '' ? '' : `_${port}._${protocol}`.toLowerCase()
}

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
