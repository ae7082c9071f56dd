// HostState says what a host should be, or what it is, in one value without the vocabulary of any tool. Lists are
// sorted and free of duplicates, so that two equal hosts are deeply equal values. A HostState has no secrets.
import type { Cidr, Ip, PeerAddress, Protocol, WireguardKey } from '../model/values.ts'

/** The network state of a host that this agent owns. */
export interface HostState {
  /** undefined when no tunnel device of ours exists. */
  readonly tunnel: Tunnel | undefined
  readonly peers: readonly WireguardPeer[]
  readonly routes: readonly Route[]
  readonly vips: readonly Vip[]
  readonly virtualServers: readonly VirtualServer[]
  readonly filter: Filter | undefined
  readonly sysctls: readonly Sysctl[]
}

/** The WireGuard device. */
export interface Tunnel {
  /** Interface name, ≤ 15 characters. */
  readonly device: string
  readonly listenPort: number
  /** MTU of the device in bytes: path MTU − 80, at least 1280. */
  readonly mtu: number
  /**
   * The public key belongs to the private key that the edge (src/io/host) holds. The private key is never in a
   * HostState.
   */
  readonly publicKey: WireguardKey
}

/** A gateway of another cluster, or a node or gateway of this one, as a peer of the WireGuard device. */
export interface WireguardPeer {
  readonly publicKey: WireguardKey
  /**
   * undefined when the peer dials this host. The observed value is undefined, too, where WireGuard learned the
   * address from a packet.
   */
  readonly peerAddress: PeerAddress | undefined
  readonly allowedIps: readonly Cidr[]
  /** Interval of persistent keepalives in seconds; 0 turns them off. */
  readonly keepaliveSeconds: number
}

/** A route of a table of ours: a remote pod prefix, a prefix of a node of this cluster, or an exception inside one. */
export interface Route {
  readonly destination: Cidr
  /** Source address of traffic that this host starts. */
  readonly source: Ip | undefined
  /**
   * `throw`: this host reaches the prefix without the mesh, so the next routing rule decides. `unreachable`: the
   * tunnel is down, so connections end at once with an ICMP error. Left out: the route leads into the tunnel.
   */
  readonly kind?: 'throw' | 'unreachable'
  /** The MTU of the path through the tunnel in bytes; absent when it is not less than the device's MTU. */
  readonly mtu?: number
  /**
   * True: the route leads between a gateway and a node of this cluster. It is in a table of its own, which only packets
   * that came out of the tunnel and probes of this host use: all other traffic between the nodes stays with the network
   * plugin. The field is left out rather than false.
   */
  readonly inner?: true
}

/** A service prefix that this host balances. One AnyIP route makes the prefix local. */
export interface Vip {
  readonly destination: Cidr
  readonly source: Ip | undefined
  /**
   * `throw`: the prefix lies inside a service prefix, but this host reaches it without the mesh. Such a prefix is not
   * local, and the host does not answer ARP for it.
   */
  readonly kind?: 'throw'
}

/**
 * How a load balancer chooses a real server: round robin, weighted round robin, Maglev hashing of the source, least
 * connections.
 */
export type Scheduler = 'rr' | 'wrr' | 'mh' | 'lc'

/** One address, protocol and port of a service, with the real servers behind it. */
export interface VirtualServer {
  readonly vip: Ip
  readonly protocol: Protocol
  readonly port: number
  readonly scheduler: Scheduler
  /** Duration of ClientIP session affinity in seconds; 0 = none. */
  readonly affinitySeconds: number
  /** Connections are refused at once while the list is empty. They are never dropped in silence. */
  readonly realServers: readonly RealServer[]
}

/** One endpoint of a virtual server. */
export interface RealServer {
  readonly ip: Ip
  readonly port: number
  /** 0 = draining: no new flow, old flows continue. Else 1 … 65535. */
  readonly weight: number
}

/**
 * The packet filter says which traffic is accepted from the tunnel, and which traffic this host must not masquerade.
 * All else from the tunnel is denied.
 */
export interface Filter {
  /** Sources accepted from the tunnel are the authorised pod prefixes of the other clusters. */
  readonly remoteSources: readonly Cidr[]
  /** Destinations accepted from the tunnel are the pod prefixes of this cluster. */
  readonly localDestinations: readonly Cidr[]
  /** UDP port of the probe on this host, which is open to remoteSources; 0 = none. */
  readonly probePort: number
  /** MTU in bytes. The TCP MSS is clamped to mtu − 40 (IPv4) or mtu − 60 (IPv6) in both directions. */
  readonly mtu: number
  /**
   * Service prefixes that a Vip makes local. A port there without a virtual server is refused and reaches no process
   * of the host. The field is left out rather than empty.
   */
  readonly guardedVips?: readonly Cidr[]
  /**
   * Networks of this host inside guardedVips, to which the guard does not apply. The field is left out rather than
   * empty.
   */
  readonly ownNetworks?: readonly Cidr[]
  /**
   * Endpoints of exported services that are addresses of this host (pods with hostNetwork). They are open to
   * remoteSources; every other port of localDestinations on this host is refused. The field is left out rather than
   * empty.
   */
  readonly hostEndpoints?: readonly HostEndpoint[]
  /**
   * Parts of remoteSources that this host reaches without the mesh. Packets from there do not come out of the tunnel.
   * The field is left out rather than empty.
   */
  readonly ownSources?: readonly Cidr[]
  /**
   * Devices on which a packet with a source in localDestinations is accepted only if the route to that source leads
   * to the same device (core/host/underlay.ts). The field is left out rather than empty.
   */
  readonly checkedDevices?: readonly string[]
  /**
   * Devices of the pod network between the nodes of this cluster. Another gateway of this cluster hands packets from
   * its tunnel over by them, so sources in remoteSources are accepted there. The field is left out rather than empty.
   */
  readonly overlayDevices?: readonly string[]
  /**
   * Bridges of containers of this host. With every source, containers there may use service addresses; elsewhere only
   * sources in localDestinations may. The field is left out rather than empty.
   */
  readonly containerBridges?: readonly string[]
  /**
   * `services`: other clusters may open connections to `reachable` only. Left out: to all of localDestinations, and on
   * this host to hostEndpoints.
   */
  readonly reach?: 'services'
  /** Ready endpoints of exported services, with `reach`. The field is left out rather than empty. */
  readonly reachable?: readonly HostEndpoint[]
  /**
   * Ready endpoints of services that are exported to some clusters only, each with a pod prefix of one of those, with
   * `reach`. The field is left out rather than empty.
   */
  readonly reachableFrom?: readonly SourceEndpoint[]
  /**
   * Parts of remoteSources that may open no connections to this cluster: the other clusters that the operator did not
   * allow. Answers to connections from here still pass, and the probe and ping. The field is left out rather than empty.
   */
  readonly barredSources?: readonly Cidr[]
  /**
   * Prefixes and tunnel addresses of nodes or gateways of this cluster that are peers here. From the tunnel they may reach
   * remoteSources, and on this host ping and the probe. The field is left out rather than empty.
   */
  readonly nodeSources?: readonly Cidr[]
  /**
   * Pod prefixes of this cluster that other clusters know by a virtual prefix. Between tunnel and host, the addresses of
   * pods are translated one to one; all other fields have the real addresses. The field is left out rather than empty.
   */
  readonly translatedPods?: readonly TranslatedPrefix[]
}

/** A real prefix and the virtual one that stands for it in the mesh, such as "10.1.0.0/16 10.128.0.0/16". */
export type TranslatedPrefix = `${string} ${string}`

/** Address, protocol and port of an endpoint on this host, such as "10.2.0.1 TCP 8080". */
export type HostEndpoint = `${string} ${Protocol} ${number}`

/** A source, and an endpoint that it may reach, such as "10.3.0.0/16 10.2.0.1 TCP 8080". */
export type SourceEndpoint = `${string} ${HostEndpoint}`

/** A kernel parameter and its value. */
export interface Sysctl {
  /** Dotted name of the parameter, such as "net.ipv4.ip_forward". */
  readonly name: string
  readonly value: string
}

/** One step towards `want`. Each operation is idempotent and carries the complete value that it sets. */
export type HostOp =
  | { readonly kind: 'setSysctl'; readonly sysctl: Sysctl }
  | { readonly kind: 'setTunnel'; readonly tunnel: Tunnel }
  | { readonly kind: 'setFilter'; readonly filter: Filter }
  | { readonly kind: 'setPeer'; readonly peer: WireguardPeer }
  | { readonly kind: 'addRoute'; readonly route: Route }
  | {
      readonly kind: 'setVirtualServer'
      readonly virtualServer: VirtualServer
      readonly before: VirtualServer | undefined
    }
  | { readonly kind: 'addVip'; readonly vip: Vip }
  | { readonly kind: 'removeVip'; readonly vip: Vip }
  | { readonly kind: 'removeVirtualServer'; readonly virtualServer: VirtualServer }
  | { readonly kind: 'removeRoute'; readonly route: Route }
  | { readonly kind: 'removePeer'; readonly publicKey: WireguardKey }
  | { readonly kind: 'removeFilter' }
  | { readonly kind: 'removeTunnel' }

/**
 * The parts of a host, which are read, and can fail, independently. A tool that hangs or a table that cannot be read
 * stops the work on its own part only.
 */
export const HOST_PARTS = ['tunnel', 'routes', 'virtualServers', 'filter', 'sysctls'] as const
/** The name of a part. */
export type HostPart = (typeof HOST_PARTS)[number]

/** An operation that was not carried out, with the reason. */
export interface OpFailure {
  readonly op: HostOp
  /** The error has a code and a fix. */
  readonly error: unknown
  /**
   * `operation`: this operation alone was refused. `part`: no operation of its part can be done now (the tool hangs,
   * is missing or lacks permission). `untried`: the bundle was refused, and it had too many operations to try each
   * alone.
   */
  readonly scope: 'operation' | 'part' | 'untried'
}

/** Result of reading some parts of the host. */
export interface Look {
  /** The fields of the parts that could be read. */
  readonly found: Partial<HostState>
  readonly failures: readonly { readonly part: HostPart; readonly error: unknown }[]
}

/** Live facts of a WireGuard peer. They are read beside the state and never compared with `want`. */
export interface PeerStats {
  readonly publicKey: WireguardKey
  readonly peerAddress: PeerAddress | undefined
  /** Time of the latest handshake in Unix milliseconds; undefined when there was none. */
  readonly lastHandshakeMs: number | undefined
  readonly rxBytes: number
  readonly txBytes: number
}

/**
 * A Host owns the network of a host. `src/io/host` implements it with real tools, and tests implement it with a model.
 */
export interface Host {
  /** The name of the load balancer that `auto` chose. */
  readonly loadBalancer: string
  /** Takes the lock of this network namespace and finds the tools. Errors: HostError with a code and the fix. */
  start(): Promise<void>
  /**
   * Reads from the kernel what exists of ours in these parts. A part that cannot be read is a failure of that part
   * alone.
   */
  look(parts: readonly HostPart[], signal: AbortSignal): Promise<Look>
  /** Reads all parts. Rejects with the first failure of a part. */
  observe(signal: AbortSignal): Promise<HostState>
  /**
   * Applies the operations in order, in bundles where the tools allow. Returns the operations that were not carried
   * out; all others were. A refused operation does not stop the others, and failures of the host do not reject the
   * promise.
   */
  apply(ops: readonly HostOp[], signal: AbortSignal): Promise<readonly OpFailure[]>
  peerStats(signal: AbortSignal): Promise<readonly PeerStats[]>
  /** Returns the commands that `apply` runs for this operation, without secrets. */
  describe(op: HostOp): readonly string[]
  /** Leaves the kernel state in place, so that traffic continues, and releases the lock. */
  stop(): Promise<void>
  /** Removes everything of ours and restores the recorded sysctls. */
  cleanup(signal: AbortSignal): Promise<void>
}
