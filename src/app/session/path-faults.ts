// Computes what is wrong with the paths to other clusters, as faults with cause and fix. Pure: a function of the
// view, the tunnels and the control plane. tell-paths.ts collects the facts and sets the faults.
// Invariant: a text has no counter and no age in it, since each change of a text is a line of the log.
import { REMEDIES, type HandshakeCode } from '../../core/trust/door/codes.ts'
import type { AgentView, ClusterView, MeshView } from '../../core/view/view.ts'
import type { Liveness } from '../../core/replication/failure/failure-detector.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import { FLAPS_MIN, isFlapping } from '../../core/host/flapping.ts'
import type { HandshakeRefusal } from '../control/control.ts'
import type { FaultText } from '../observe/health.ts'
import { carriedFaults } from '../paths/path-faults.ts'
import type { PathNow } from '../paths/path-text.ts'
import { gatewaysOf } from '../../core/host/nodes.ts'
import { clone, OWN_CLONE, sharedKeys } from './clone-faults.ts'
import { carriedCause, noPodsFault, ownGatewaysFault, type OfNode } from './node-faults.ts'
import { answersProbes, type Tunnel } from './tunnels.ts'

/** The facts from which the faults follow. */
export interface PathFacts {
  readonly view: MeshView
  /** Clusters that no tunnel reaches (Tunnels.down). */
  readonly down: ReadonlySet<ClusterName>
  /** Returns the tunnel to an agent; undefined: not seen yet, or there is no data plane. */
  readonly tunnel: (origin: Origin) => Tunnel | undefined
  /** Returns the path of a tunnel; left out, or undefined: none begins here. */
  readonly way?: (origin: Origin) => PathNow | undefined
  /** Facts of the control plane (control/control.ts). */
  readonly control: {
    readonly isConnected: (origin: Origin) => boolean
    /** Whether a frame came over the connection lately. Where the network is cut, a connection stays open for up to 2 min. */
    readonly isHeard: (origin: Origin) => boolean
    readonly liveness: (origin: Origin) => Liveness
    readonly refusal: (origin: Origin) => HandshakeRefusal | undefined
    readonly isFrozen: (origin: Origin) => boolean
    /** Milliseconds without any control connection. */
    readonly aloneMs: number
    /**
     * Milliseconds since a neighbour was last known to hold the latest records of this agent; 0: there is no
     * neighbour.
     */
    readonly ownUnheldMs: number
    /** True when another agent signs with this agent's key. */
    readonly isCloned: boolean
  }
  /** undefined: this agent is a gateway. */
  readonly node?: OfNode
  /** False: the tunnel device of this host could not be set up, so no packet leaves by it. */
  readonly hasDevice: boolean
  /** True: this host has no address that others could dial; left out: it has one. */
  readonly isOffline?: boolean
  /** Name of this host's tunnel device. */
  readonly device: string
  /** MTU of the tunnel device, bytes. */
  readonly mtu: number
}

/** A fault with its subject. */
type NamedFault = FaultText & { readonly subject: string }

/** All faults of each code; an empty list when there is none. */
type PathFaults = Readonly<Record<PathFaultCode, readonly NamedFault[]>>

/** The codes of this file. The registry's list of each of them is replaced once a second. */
export const PATH_FAULT_CODES = [
  'OWN_GATEWAYS_DOWN',
  'NODE_WITHOUT_PREFIX',
  'ALL_CLUSTERS_DOWN',
  'CLUSTER_DOWN',
  'GATEWAY_DOWN',
  'PROBES_UNANSWERED',
  'PATH_MTU',
  'PATH_FLAPPING',
  'PATH_TCP',
  'PATH_RELAY',
  'CONTROL_LOST',
  'HANDSHAKE_REFUSED',
  'RECORDS_NOT_TAKEN',
  'IDENTITY_CLONED',
  'FLAT_TUNNEL_ADDRESS'
] as const
type PathFaultCode = (typeof PATH_FAULT_CODES)[number]

// After a short interruption all members are dialled again, which takes some seconds. CONTROL_LOST comes only after
// that.
const ALONE_MS = 10_000
// Neighbours report once a second what they hold, and a large catalogue takes some time to be pulled.
const UNHELD_MS = 60_000

/**
 * Returns the faults. ALL_CLUSTERS_DOWN comes besides CLUSTER_DOWN, as the one critical fault. GATEWAY_DOWN is for a
 * gateway of a cluster that another gateway still serves.
 */
export function pathFaults(facts: PathFacts): PathFaults {
  const { view, down, control } = facts
  const others = [...view.clusters.values()].filter(({ name }) => name !== view.self)
  const members = [...view.clusters.values()].flatMap((cluster) =>
    cluster.agents.map((agent) => ({ cluster, agent }))
  )
  const gateways = others.flatMap((cluster) => gatewaysOf(cluster).map((agent) => ({ cluster, agent })))
  const isAllDown = others.length > 0 && others.every(({ name }) => down.has(name))
  const { node } = facts
  return {
    OWN_GATEWAYS_DOWN: node ? ownGatewaysFault(node, (origin) => facts.tunnel(origin)?.state) : [],
    NODE_WITHOUT_PREFIX: node ? noPodsFault(node) : [],
    ALL_CLUSTERS_DOWN: isAllDown ? [allDown(others, facts)] : [],
    CLUSTER_DOWN: others.filter(({ name }) => down.has(name)).map((cluster) => clusterDown(cluster, facts)),
    GATEWAY_DOWN: gateways
      .filter(({ cluster, agent }) => !down.has(cluster.name) && facts.tunnel(agent.origin)?.state === 'down')
      .map(({ cluster, agent }) => ({
        subject: `${cluster.name} ${agent.agent.node}`,
        severity: 'warning',
        ...textOf(
          `gateway ${agent.agent.node} of cluster ${cluster.name} is down`,
          node ? carriedCause(node.carrier(cluster.name)) : causeOf(agent, facts)
        )
      })),
    PROBES_UNANSWERED: gateways
      .filter(({ agent }) => facts.tunnel(agent.origin)?.isUnprobed === true)
      .map(({ cluster, agent }) => unprobed(cluster, agent)),
    PATH_FLAPPING: gateways
      .filter(({ agent }) => isFlapping(facts.tunnel(agent.origin)?.changes ?? 0))
      .map(({ cluster, agent }) => flapping(cluster, agent, facts)),
    ...carriedFaults(members, (origin) =>
      facts.tunnel(origin)?.state === 'up' ? facts.way?.(origin) : undefined
    ),
    PATH_MTU: gateways.flatMap(({ cluster, agent }) => narrow(cluster, agent, facts) ?? []),
    CONTROL_LOST: others.length > 0 && control.aloneMs > ALONE_MS ? [CONTROL_LOST] : [],
    HANDSHAKE_REFUSED: members.flatMap(({ cluster, agent }) => refused(cluster, agent, control) ?? []),
    RECORDS_NOT_TAKEN: control.ownUnheldMs > UNHELD_MS ? [RECORDS_NOT_TAKEN] : [],
    IDENTITY_CLONED: [
      ...(control.isCloned ? [OWN_CLONE] : []),
      ...members
        .filter(({ agent }) => control.isFrozen(agent.origin))
        .map(({ cluster, agent }) => clone(`${agent.agent.node} of cluster ${cluster.name}`, agent.origin)),
      ...sharedKeys(members)
    ],
    FLAT_TUNNEL_ADDRESS: gateways
      .filter(({ agent: { agent } }) => agent.probePort !== 0 && agent.tunnelAddress && !answersProbes(agent))
      .map(({ cluster, agent: { agent } }) => ({
        subject: `${cluster.name} ${agent.node}`,
        severity: 'warning',
        message: `the tunnel address ${agent.tunnelAddress} of ${agent.node} (cluster ${cluster.name}) is its outer address, too, so its tunnel cannot be probed and is judged by handshakes`,
        fix: `set node-address on ${agent.node} to another address inside its pod prefixes, or upgrade it`
      }))
  }
}

/**
 * How certain the cause of a tunnel that is down is, the most certain first. The advice is that of the first: a
 * firewall is to blame only where nothing else is known.
 */
const RANKS = { device: 0, offline: 1, refused: 2, gone: 3, udp: 4, silent: 5 } as const

/** The cause of a fault, as a clause for its message, and the fix for this cause. */
interface Cause {
  readonly rank: (typeof RANKS)[keyof typeof RANKS]
  readonly cause: string
  readonly fix: string
}

/**
 * Returns why a tunnel is down, as far as the control plane can tell: the own device is missing; UDP fails while TCP
 * works; the handshake is refused; no member has a connection to the agent; only this one has none. A connection that
 * is silent is none, also while other members still hear the agent.
 */
function causeOf({ origin, agent }: AgentView, facts: PathFacts): Cause {
  const { tunnel, control } = facts
  if (!facts.hasDevice) return noDevice(facts.device)
  if (facts.isOffline === true && facts.control.aloneMs > 0) return OFFLINE
  const endpoint = tunnel(origin)?.stats?.peerAddress ?? agent.wireguardAddresses[0]
  const [, host, port] = /^(.*):(\d+)$/.exec(endpoint ?? '') ?? []
  const refusal = control.refusal(origin)
  const liveness = control.liveness(origin)
  if (control.isHeard(origin)) {
    if (endpoint === undefined)
      return {
        rank: RANKS.udp,
        cause: `${agent.node} announces no address, and its WireGuard has not connected to this host; TCP control works`,
        fix: `let UDP out of ${agent.node}, and in to this host’s WireGuard port`
      }
    return {
      rank: RANKS.udp,
      cause: `UDP ${port} to ${host} gets no answer; TCP control works`,
      fix: `let UDP ${port} pass between this host and ${host} in both directions: check the firewalls and security groups of both hosts and of the networks between them; where UDP stays blocked, set tcp-path-rate above 0 on both hosts`
    }
  }
  if (refusal !== undefined)
    return {
      rank: RANKS.refused,
      cause: `its control connection is refused (${refusal.detail})`,
      fix: fixOf(refusal.code)
    }
  const where = endpoint === undefined ? agent.node : `${host}`
  if (liveness === 'dead')
    return {
      rank: RANKS.gone,
      cause: `${where} answers no member, neither by UDP nor by TCP`,
      fix: `check that the host ${agent.node} runs, that its network works, and that meshd runs there (\`systemctl status meshd\`); if it does, check the way from here: \`ip route get ${where}\`, \`ip neigh show ${where}\``
    }
  return {
    rank: RANKS.silent,
    cause: `${where} answers this host neither by UDP nor by TCP`,
    fix: `check the route and the firewalls between this host and ${where}: \`ip route get ${where}\`, \`ping ${where}\`; or set relay-rate on a gateway of a cluster that reaches both`
  }
}

/**
 * Without the device of this host, the other side and the way to it may be in order: advice about firewalls would
 * mislead.
 */
const noDevice = (device: string): Cause => ({
  rank: RANKS.device,
  cause: `the tunnel device ${device} of this host is not set up`,
  fix: 'first correct the fault of the WireGuard device (HOST_STEP_FAILED in `meshctl status`)'
})

/** The failure detector calls all others dead then, but the fault is here. */
const OFFLINE: Cause = {
  rank: RANKS.offline,
  cause:
    'this host has no address in an outer network and no control connection, so its own uplink does not work',
  fix: 'bring the uplink of this host up: `ip -br link`, `ip -br address`, `ip route show default`'
}

/** The causes of all gateways of a cluster, each once, the most certain first. */
function causesOf(cluster: ClusterView, facts: PathFacts): readonly [Cause, ...Cause[]] {
  if (facts.node !== undefined && facts.hasDevice)
    return [{ rank: RANKS.silent, ...carriedCause(facts.node.carrier(cluster.name)) }]
  const causes = new Map(
    gatewaysOf(cluster)
      .map((gateway) => causeOf(gateway, facts))
      .map((each) => [each.cause, each])
  )
  const [first, ...others] = [...causes.values()].sort((a, b) => a.rank - b.rank)
  return first === undefined ? [NO_GATEWAY] : [first, ...others]
}

/** The fault of a cluster, with the causes of all its gateways and the fix for the first of them. */
function clusterDown(cluster: ClusterView, facts: PathFacts): NamedFault {
  const causes = causesOf(cluster, facts)
  return {
    subject: cluster.name,
    severity: 'error',
    ...textOf(`cluster ${cluster.name} is down`, {
      cause: causes.map((each) => each.cause).join('; '),
      fix: causes[0].fix
    })
  }
}

const NO_GATEWAY: Cause = {
  rank: RANKS.gone,
  cause: 'it announces no gateway',
  fix: 'run `meshctl status` on a gateway of that cluster; after `meshctl leave` there, its name disappears without further action'
}

/** The fault when no other cluster can be reached. The fix is that of the cause that is known best. */
function allDown(others: readonly ClusterView[], facts: PathFacts): NamedFault {
  const { aloneMs } = facts.control
  const what = others.length === 1 ? 'the only other cluster is' : `all ${others.length} other clusters are`
  const [first] = others.map((cluster) => causesOf(cluster, facts)[0]).sort((a, b) => a.rank - b.rank)
  return {
    subject: '',
    severity: 'critical',
    message: `no traffic of the mesh passes: ${what} down${aloneMs > 0 ? ', and there is no control connection' : ''}`,
    fix: first === undefined ? '' : fixOfAll(first, aloneMs > 0)
  }
}

/** `isAlone`: no member answers this host, so its own uplink is the most likely cause, unless a member refused it. */
function fixOfAll({ rank, fix }: Cause, isAlone: boolean): string {
  const more = '; the causes per cluster follow'
  if (rank <= RANKS.offline) return fix
  if (rank === RANKS.refused) return `${fix}${more}`
  if (isAlone)
    return `check the uplink and the firewall of this host (\`ip route show default\`, \`nft list ruleset\`)${more}`
  return rank === RANKS.udp
    ? `let the WireGuard port (UDP) pass on this host and in the networks beyond it${more}`
    : `${fix}${more}`
}

/**
 * WireGuard has a handshake, and no probe was ever answered: most likely a firewall drops the probes at the other
 * end.
 */
function unprobed(cluster: ClusterView, { agent }: AgentView): NamedFault {
  return {
    subject: `${cluster.name} ${agent.node}`,
    severity: 'warning',
    message: `WireGuard has a handshake with ${agent.node} of cluster ${cluster.name}, but no probe through the tunnel is answered`,
    fix: `let UDP ${agent.probePort} in from the tunnel device on ${agent.node}, and its answers on this host (INPUT rules of the firewall); or set probe-port to 0 on ${agent.node}`
  }
}

/** A path that carries traffic now and then. `meshctl peers` shows the number of changes. */
function flapping(cluster: ClusterView, { origin, agent }: AgentView, facts: PathFacts): NamedFault {
  const endpoint = facts.tunnel(origin)?.stats?.peerAddress ?? agent.wireguardAddresses[0]
  const host = endpoint?.replace(/:\d+$/, '') ?? agent.node
  return {
    subject: `${cluster.name} ${agent.node}`,
    severity: 'warning',
    message: `the tunnel to ${agent.node} of cluster ${cluster.name} flaps: it has changed between up and down at least ${FLAPS_MIN} times in 10 min`,
    fix: `look for lost packets between the hosts (\`ping -c 100 ${host}\`), and for two hosts that use one WireGuard key or address`
  }
}

/**
 * The fault of a path that carries smaller packets than the tunnel's MTU; undefined: it carries them, or was not
 * measured.
 */
function narrow(
  cluster: ClusterView,
  { origin, agent }: AgentView,
  facts: PathFacts
): NamedFault | undefined {
  const tunnel = facts.tunnel(origin)
  if (tunnel?.pathMtu === undefined) return undefined
  const where = `${agent.node} of cluster ${cluster.name}`
  const subject = `${cluster.name} ${agent.node}`
  const port = /:(\d+)$/.exec(tunnel.stats?.peerAddress ?? '')?.[1] ?? 'of WireGuard'
  if (tunnel.isBelowMtu)
    return {
      subject,
      severity: 'error',
      message: `large packets are lost on the way to ${where}: not even 1280 bytes pass through the tunnel, so bulk transfers hang`,
      fix: `let ICMP "fragmentation needed" pass on the way, or raise the MTU of the links between the hosts to at least 1360; where they have that, a firewall on the way drops large UDP packets: let UDP ${port} with up to 1500 bytes pass`
    }
  return {
    subject,
    severity: 'warning',
    message: `the path to ${where} carries packets of ${tunnel.pathMtu} bytes through the tunnel, not ${facts.mtu}, and sends no ICMP error; routes to it use ${tunnel.pathMtu}`,
    fix: `set mtu to ${tunnel.pathMtu} on both gateways, or let ICMP "fragmentation needed" pass on the way`
  }
}

const CONTROL_LOST: NamedFault = {
  subject: '',
  severity: 'error',
  message:
    'there is no control connection to any member: changes of services and endpoints neither arrive nor leave',
  fix: 'check that the control ports (TCP 7946) of the members are reachable from here; `meshctl peers` says why each connection fails'
}

const RECORDS_NOT_TAKEN: NamedFault = {
  subject: '',
  severity: 'error',
  message:
    'no neighbour has taken the latest records of this cluster: others see its services and endpoints as they were',
  fix: 'run `meshctl status` on a neighbour and read its log for records of this agent that it refuses; upgrade the older of the two agents'
}

/** The fault of a refused handshake, unless there is a control connection by now. */
function refused(
  cluster: ClusterView,
  { origin, agent }: AgentView,
  { refusal, isConnected }: PathFacts['control']
): NamedFault | undefined {
  const found = refusal(origin)
  // A node that another agent turns away is a leaf, as it should be.
  if (found === undefined || found.code === 'leaf' || isConnected(origin)) return undefined
  return {
    subject: `${cluster.name} ${agent.node}`,
    severity: 'error',
    message: `${refusalText(found)} (${agent.node} of cluster ${cluster.name})`,
    fix: fixOf(found.code)
  }
}

/** Returns the refusal as a clause, which `meshctl peers` shows, too. */
export function refusalText({ byPeer, detail }: HandshakeRefusal): string {
  return `${byPeer ? 'it refuses our control connection' : 'its control connection is refused here'}: ${detail}`
}

/** Returns the fix for a HandshakeCode (core/trust/door/codes.ts). */
function fixOf(code: string): string {
  return REMEDIES[code as HandshakeCode] ?? REMEDIES.unspecified
}

function textOf(
  what: string,
  { cause, fix }: Pick<Cause, 'cause' | 'fix'>
): Pick<FaultText, 'message' | 'fix'> {
  return { message: `${what}: ${cause}`, fix }
}
