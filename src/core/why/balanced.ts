// The stops of a connection to the address of a balanced service: its policy, its port, and what the load balancer of this
// host has for it. Which tunnels carry it depends on the draw, so `meshctl services` and `meshctl peers` say the rest.
// Invariants
//   1. What the service should have follows from the view, and what this host has from its latest pass, as in addresses.ts.
//   2. The last stop is a fault only where every connection ends there. A cluster that is left out is none: the policy
//      wants it so, or its tunnel has a fault of its own.
import type { Ip, Protocol } from '../model/values.ts'
import { clustersetDomain, isClustersetKey, serviceDomain } from '../model/zones.ts'
import { serviceOf, type BalancedService } from '../view/balanced.ts'
import { fault, passes, type Stop, type WhyFacts } from './stop.ts'

/**
 * The stops in the order of a packet, and to what a connection can be tried; undefined where the port does not exist.
 * addresses.ts has the same shape for all other addresses.
 */
interface BalancedWay {
  readonly stops: readonly Stop[]
  readonly connect?: { readonly ip: Ip; readonly port: number; readonly protocol: Protocol }
}

/**
 * Explains the way to the address of a balanced service. undefined: no balanced service has the address, so a prefix of
 * the mesh decides, or none. Without a port in `to`, the first port of the service is explained.
 */
export function balancedWay(
  to: { readonly ip: Ip; readonly port?: number; readonly protocol?: Protocol },
  { balanced, host }: Pick<WhyFacts, 'balanced' | 'host'>
): BalancedWay | undefined {
  const found = balanced?.values().find(({ address }) => address === to.ip)
  if (found === undefined) return undefined
  const { text, from } = found
  const service = serviceOf(found)
  const key = `${service.namespace}/${service.name}`
  const of = passes(
    'service',
    `${to.ip} is the address of ${nameOf(found)} in this cluster; the policy of ${from} divides its connections: ${text}`
  )
  const port = service.ports.find(
    (one) => (to.port ?? one.port) === one.port && (to.protocol ?? one.protocol) === one.protocol
  )
  if (port === undefined) {
    const ports = service.ports.map((one) => `${one.port} ${one.protocol}`).join(', ')
    return { stops: [of, fault('port', `service ${key} has no such port`, `its ports are ${ports}`)] }
  }
  const connect = { ip: to.ip, port: port.port, protocol: port.protocol }
  return {
    stops: [
      of,
      passes('port', `the service has port ${port.port} ${port.protocol}`),
      balancerOf(key, connect, host)
    ],
    connect
  }
}

/** The name in its merged zone. */
function nameOf(balanced: BalancedService): string {
  const service = serviceOf(balanced)
  return isClustersetKey(balanced.key) ? clustersetDomain(service) : serviceDomain('all', service)
}

/**
 * What the load balancer of this host has for the port. Real servers that drain (weight 0) do not count, since they get
 * no new connection.
 */
function balancerOf(
  key: string,
  { ip, port, protocol }: NonNullable<BalancedWay['connect']>,
  host: WhyFacts['host']
): Stop {
  if ('off' in host)
    return fault('host', `nothing is programmed on this host: ${host.off}`, '`meshctl status` shows the fix')
  const server = host.have.virtualServers.find(
    (one) => one.vip === ip && one.port === port && one.protocol === protocol
  )
  if (server === undefined)
    return fault(
      'balancer',
      `${host.loadBalancer} of this host does not balance it: ${host.whyMissing(`${ip} ${protocol} ${port}`)}`
    )
  const count = server.realServers.filter(({ weight }) => weight > 0).length
  if (count === 0)
    return fault(
      'balancer',
      'no cluster that the policy allows has an endpoint that is reached, so connections are refused at once',
      `\`meshctl services ${key}\` says of each cluster why`
    )
  return passes(
    'balancer',
    `${host.loadBalancer} of this host balances it over ${count} endpoints; \`meshctl services ${key}\` shows the clusters`
  )
}
