// The stops of a connection to one address: who owns the address, what balances it, which tunnel carries it.
// Invariants
//   1. The stops are in the order in which a packet meets them. The first fault is the place to mend; the faults behind it
//      may be its consequences.
//   2. What a service should have follows from the view, as in the desired state of the host; what this host has follows
//      from its latest pass. A difference between the two is a fault only where no connection can pass.
//   3. A stop says nothing about another cluster's inside: NetworkPolicies, firewalls and programs there are met only by
//      the connection that the caller tries.
import { cidrContains, cidrToPrefix } from '../model/cidr.ts'
import type { Cidr, Ip, Protocol, ServicePort } from '../model/values.ts'
import { serviceDomain } from '../model/zones.ts'
import type { RealServer } from '../host/host-state.ts'
import { virtualServerKey } from '../host/normalize.ts'
import { serviceServers, trafficOf } from '../host/virtual-servers.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import { balancedWay } from './balanced.ts'
import { kubectl, listed } from './names.ts'
import { fault, note, passes, type ProgrammedFacts, type Stop, type WhyFacts } from './stop.ts'
import { tunnelFault } from './tunnel-fault.ts'

/** What a person asks about: an address with the port, where one is named. */
interface Destination {
  readonly ip: Ip
  readonly port?: number
  readonly protocol?: Protocol
}

/** The stops, and to what a connection can be tried: undefined where none can pass, or no port is known. */
export interface Way {
  readonly stops: readonly Stop[]
  readonly connect?: { readonly ip: Ip; readonly port: number; readonly protocol: Protocol }
  /** A pod address of another cluster to which the kernel's own route can be looked up. */
  readonly routed?: Ip
}

/** Explains the way to one address. */
export function explainAddress(to: Destination, facts: WhyFacts): Way {
  const { view } = facts
  const balanced = balancedWay(to, facts)
  if (balanced !== undefined) return balanced
  const owner = ownerOf(to.ip, [...view.clusters.values()])
  if (owner === undefined) return { stops: [noPrefix(to.ip, facts)] }
  const { cluster, prefix, kind } = owner
  const isOwn = cluster.name === view.self
  const words = isOwn ? 'this cluster' : `cluster ${cluster.name}`
  const stop = passes('prefix', `${to.ip} is in the ${kind} prefix ${prefix} of ${words}`)
  const way = kind === 'service' ? toService(cluster, to, facts) : toPod(cluster, to, facts)
  return { ...way, stops: [stop, ...way.stops] }
}

/** The cluster that an address belongs to, and the prefix of it. */
interface Owner {
  readonly cluster: ClusterView
  readonly prefix: Cidr
  readonly kind: 'pod' | 'service'
}

/** The first cluster one of whose prefixes in force contains the address; prefixes in force do not overlap. */
function ownerOf(ip: Ip, clusters: readonly ClusterView[]): Owner | undefined {
  for (const cluster of clusters)
    for (const [kind, prefixes] of [
      ['service', cluster.servicePrefixes],
      ['pod', cluster.podPrefixes]
    ] as const) {
      const prefix = prefixes.find((one) => cidrContains(one, ip))
      if (prefix !== undefined) return { cluster, prefix, kind }
    }
  return undefined
}

/** An address outside all prefixes in force: perhaps a virtual one of this cluster, or in one that a cluster claims and does not have. */
function noPrefix(ip: Ip, { view, translation }: WhyFacts): Stop {
  const real = translation.toReal.ip(ip)
  if (real !== ip)
    return fault(
      'prefix',
      `${ip} stands for ${real} of this cluster in the mesh: only other clusters reach it by that address`,
      `use ${real} in this cluster; names have the right address in each`
    )
  for (const cluster of view.clusters.values()) {
    const lost = cluster.conflicts.find(
      ({ what, value }) => what !== 'name' && cidrContains(value as Cidr, ip)
    )
    if (lost !== undefined)
      return fault(
        'prefix',
        `${ip} is in ${lost.value}, which cluster ${cluster.name} claims, but which belongs to ${lost.winner}`,
        'two clusters claim one prefix: `meshctl routes` shows the conflict, and `meshctl grant` gives one of them another prefix'
      )
  }
  return note(
    'prefix',
    `${ip} is in no prefix of the mesh, so this host reaches it, or not, without the mesh`
  )
}

/**
 * A service address: the service, its port, its endpoints, the load balancer of this host, and the path to the endpoints. A
 * service of the own cluster has no path: its pods are reached by the cluster's network.
 */
function toService(cluster: ClusterView, to: Destination, facts: WhyFacts): Way {
  const found = [...cluster.services].find(([, { service }]) => service.clusterIps.includes(to.ip))
  if (found === undefined)
    return {
      stops: [
        fault(
          'service',
          `cluster ${cluster.name} exports no service with the address ${to.ip}`,
          `\`meshctl services --cluster ${cluster.name}\` lists the services with their addresses; connections to other addresses of the prefix are refused`
        )
      ]
    }
  const [key, view] = found
  const named = passes('service', `${to.ip} is the address of ${serviceDomain(cluster.name, view.service)}`)
  const port = portOf(view.service.ports, to)
  if (port === undefined) return { stops: [named, noPort(key, view, to)] }
  const { name, port: number, protocol } = port
  const portText = `port ${number} ${protocol}${name === '' ? '' : ` (${name})`}`
  const stops = [
    named,
    to.port === undefined && view.service.ports.length > 1
      ? note(
          'port',
          `the service has the ports ${portsText(view.service.ports)}; this answer is about ${portText}`
        )
      : passes('port', `the service has ${portText}`)
  ]
  const connect = { ip: to.ip, port: number, protocol }
  const [servers, endpoints] = endpointsStop(key, view, connect)
  stops.push(endpoints)
  if (cluster.name === facts.view.self && !facts.balancesOwn)
    return {
      stops: [
        ...stops,
        note('balancer', 'this cluster balances its own services (kube-proxy), not the mesh')
      ],
      connect
    }
  const programmed = programmedOn(facts)
  if ('stop' in programmed) return { stops: [...stops, programmed] }
  stops.push(balancerStop(connect, servers.length, { programmed, isDead: facts.withdrawn.has(cluster.name) }))
  const [first] = servers
  if (cluster.name === facts.view.self || first === undefined) return { stops, connect }
  const backends = servers.map(({ ip }) => ip).filter((ip) => ownerOf(ip, [cluster]) !== undefined)
  return {
    stops: [...stops, ...pathStops(cluster, backends, { facts, programmed })],
    connect,
    routed: first.ip
  }
}

/** A pod address: its path. That no service has it as an endpoint is no fault, since pods are reached by address, too. */
function toPod(cluster: ClusterView, to: Destination, facts: WhyFacts): Way {
  const stops: Stop[] = []
  const [known] = [...cluster.services].flatMap(([key, { slices }]) =>
    slices.flatMap(({ endpoints }) =>
      endpoints.some(({ addresses }) => addresses.includes(to.ip)) ? [key] : []
    )
  )
  if (known !== undefined) stops.push(passes('service', `${to.ip} is an endpoint of service ${known}`))
  const connect =
    to.port === undefined ? {} : { connect: { ip: to.ip, port: to.port, protocol: to.protocol ?? 'TCP' } }
  if (cluster.name === facts.view.self)
    return {
      stops: [...stops, note('route', "the cluster's own pod network carries it, not the mesh")],
      ...connect
    }
  const programmed = programmedOn(facts)
  if ('stop' in programmed) return { stops: [...stops, programmed] }
  return {
    stops: [...stops, ...pathStops(cluster, [to.ip], { facts, programmed })],
    ...connect,
    routed: to.ip
  }
}

/**
 * The first port that fits what was asked; undefined: none. Without a protocol TCP comes first, as in what people mean by
 * name:53, and only its connections can be tried.
 */
function portOf(ports: readonly ServicePort[], { port, protocol }: Destination): ServicePort | undefined {
  const fitting = ports.filter(
    (one) => (port ?? one.port) === one.port && (protocol ?? one.protocol) === one.protocol
  )
  const first = fitting[0]
  return fitting.find((one) => one.port === first?.port && one.protocol === 'TCP') ?? first
}

/** The stop of a port that the service does not have, with those that it has. */
function noPort(key: string, { service }: ServiceView, { port, protocol }: Destination): Stop {
  if (service.ports.length === 0)
    return fault('port', `service ${key} has no port`, 'name its ports in the Service')
  const asked = `${port === undefined ? 'port' : `port ${port}`}${protocol === undefined ? '' : ` ${protocol}`}`
  return fault('port', `service ${key} has no ${asked}`, `its ports are ${portsText(service.ports)}`)
}

function portsText(ports: readonly ServicePort[]): string {
  return listed(
    ports.map(({ port, protocol, name }) => `${port} ${protocol}${name === '' ? '' : ` (${name})`}`)
  )
}

/** The endpoints that get traffic of a port, as every member balances them. */
function endpointsStop(
  key: string,
  view: ServiceView,
  port: { readonly ip: Ip; readonly port: number; readonly protocol: Protocol }
): readonly [readonly RealServer[], Stop] {
  const wanted = virtualServerKey({ ...port, vip: port.ip })
  const server = serviceServers(view, 'rr').servers.find((one) => virtualServerKey(one) === wanted)
  const servers = server?.realServers ?? []
  const { ready, fallback } = trafficOf(view)
  const all = view.slices.reduce((sum, { endpoints }) => sum + endpoints.length, 0)
  if (servers.length > 0)
    return [
      servers,
      fallback > 0
        ? note(
            'endpoints',
            `no endpoint is ready; ${fallback} that terminate still serve, and get the traffic`
          )
        : passes(
            'endpoints',
            `${servers.length} of ${all} endpoints get the traffic: ${listed(servers.map(({ ip, port: at }) => (ip.includes(':') ? `[${ip}]:${at}` : `${ip}:${at}`)))}`
          )
    ]
  const why =
    all === 0
      ? `service ${key} has no endpoint: no pod matches its selector`
      : ready === 0
        ? `none of the ${all} endpoints of service ${key} is ready`
        : `no endpoint of service ${key} serves this port in the family of ${port.ip}`
  return [
    [],
    fault(
      'endpoints',
      `${why}, so connections are refused at once`,
      `look at them in their own cluster: ${kubectl(key)}`
    )
  ]
}

/** What is programmed on this host, or the stop that says why nothing is. */
function programmedOn({ host }: WhyFacts): ProgrammedFacts | Stop {
  return 'off' in host
    ? fault('host', `nothing is programmed on this host: ${host.off}`, '`meshctl status` shows the fix')
    : host
}

/**
 * What the load balancer of this host has for a port. `wanted`: the number of endpoints that get traffic. Draining real
 * servers (weight 0) do not count.
 */
function balancerStop(
  { ip, port, protocol }: { readonly ip: Ip; readonly port: number; readonly protocol: Protocol },
  wanted: number,
  { programmed, isDead }: { readonly programmed: ProgrammedFacts; readonly isDead: boolean }
): Stop {
  const key = virtualServerKey({ vip: ip, port, protocol })
  const server = programmed.have.virtualServers.find((one) => virtualServerKey(one) === key)
  const kind = programmed.loadBalancer
  if (server === undefined)
    return fault('balancer', `${kind} of this host does not balance it: ${programmed.whyMissing(key)}`)
  const has = server.realServers.filter(({ weight }) => weight > 0).length
  if (isDead)
    return note(
      'balancer',
      `${kind} of this host refuses connections at once, since no tunnel to the cluster works`
    )
  if (has < wanted)
    return note(
      'balancer',
      `${kind} of this host balances it over ${has} of ${wanted} endpoints; the next pass sets the others`
    )
  return passes(
    'balancer',
    `${kind} of this host balances it over ${has} ${has === 1 ? 'endpoint' : 'endpoints'}`
  )
}

/** The tunnels and routes to pods of another cluster. Several pods of one gateway give one stop. */
function pathStops(
  cluster: ClusterView,
  pods: readonly Ip[],
  { facts, programmed }: { readonly facts: WhyFacts; readonly programmed: ProgrammedFacts }
): readonly Stop[] {
  const stops = pods.flatMap((ip) => [
    tunnelStop(cluster, ip, facts, programmed),
    routeStop(cluster, ip, programmed)
  ])
  const seen = new Set<string>()
  const once = stops.filter(({ stop, text }) => {
    const key = `${stop} ${text}`
    return !seen.has(key) && seen.add(key)
  })
  const at = (name: string) => once.filter(({ stop }) => stop === name)
  return [...at('tunnel'), ...at('route')]
}

/** The gateway whose WireGuard peer carries an address by its AllowedIPs, and the state of the tunnel to it. */
function tunnelStop(cluster: ClusterView, ip: Ip, facts: WhyFacts, { have }: ProgrammedFacts): Stop {
  const gateways = cluster.agents.filter(({ agent }) => agent.role === 'gateway')
  if (gateways.length === 0)
    return fault(
      'tunnel',
      `cluster ${cluster.name} announces no gateway`,
      `start meshd on a node of cluster ${cluster.name}; \`meshctl peers\` shows its agents`
    )
  const peer = longest(
    have.peers.flatMap((one) => one.allowedIps.map((prefix) => ({ prefix, one }))),
    ip
  )?.one
  // On a node the peer is a gateway of its own cluster, which carries the packets on.
  const own = facts.view.clusters.get(facts.view.self)
  const all = [cluster, ...(own === undefined ? [] : [own])].flatMap((one) =>
    one.agents.map((agent) => ({ agent, of: one.name === cluster.name ? cluster.name : 'this cluster' }))
  )
  const carrier = all.find(({ agent }) => agent.agent.wireguardKey === peer?.publicKey)
  if (carrier === undefined)
    return fault(
      'tunnel',
      `no WireGuard peer of this host carries ${ip}`,
      '`meshctl plan` shows what the next pass changes, and `meshctl status` why it could not'
    )
  const { agent: gateway, of } = carrier
  const { node } = gateway.agent
  const tunnel = facts.tunnel(gateway.origin)
  const way = facts.way?.(gateway.origin)
  const byPath = way?.reason === undefined ? '' : ` over ${way.path} (${way.reason})`
  if (tunnel?.state === 'up')
    return passes(
      'tunnel',
      `gateway ${node} of ${of} carries it, and its tunnel is up${byPath}${tunnel.rttMs === undefined ? '' : `, round trip ${tunnel.rttMs.toFixed(1)} ms`}`
    )
  const text = `gateway ${node} of ${of} would carry it, but its tunnel is ${tunnel?.state ?? 'not seen yet'}${tunnel?.reason === undefined ? '' : `: ${tunnel.reason}`}`
  const known = tunnelFault(facts.faults, { cluster: cluster.name, node })
  return fault(
    'tunnel',
    text,
    known?.fix ?? '`meshctl peers` shows the address that WireGuard uses: its UDP port must be open there'
  )
}

/** The route of this agent to an address: the longest prefix wins, as in the kernel's table. */
function routeStop(cluster: ClusterView, ip: Ip, { have, overlap, whyMissing }: ProgrammedFacts): Stop {
  const prefix = cluster.podPrefixes.find((one) => cidrContains(one, ip)) ?? ip
  const route = longest(
    have.routes.map((one) => ({ prefix: one.destination, one })),
    ip
  )?.one
  if (route === undefined) return fault('route', `this host has no route to ${prefix}: ${whyMissing(prefix)}`)
  if (route.kind === 'throw')
    return fault(
      'route',
      `this host reaches ${route.destination} by itself, so the mesh leaves it alone${overlap(prefix) === undefined ? '' : ` (${prefix} ${overlap(prefix)})`}`,
      `give cluster ${cluster.name} another prefix (\`meshctl grant\`), or take the network of this host away`
    )
  if (route.kind === 'unreachable')
    return fault(
      'route',
      `connections to ${prefix} are refused at once, since no tunnel to ${cluster.name} works`
    )
  return passes(
    'route',
    `the route to ${route.destination} leads into ${have.tunnel?.device ?? 'the tunnel'}`
  )
}

/** Of the entries whose prefix contains the address, the one with the longest prefix. */
function longest<T extends { readonly prefix: Cidr }>(entries: readonly T[], ip: Ip): T | undefined {
  return entries
    .filter(({ prefix }) => cidrContains(prefix, ip))
    .toSorted((a, b) => cidrToPrefix(b.prefix).length - cidrToPrefix(a.prefix).length)[0]
}
