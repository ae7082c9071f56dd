// What a host should be, or is: one value, without any tool's vocabulary. Lists are sorted and free of duplicates, so
// that two equal hosts are deeply equal values. Secrets are not part of it.
import type { Cidr, Ip, PeerAddress, Protocol, WireguardKey } from '../model/values.ts'

export interface HostState {
  /** undefined: no tunnel device of ours exists. */
  readonly tunnel: Tunnel | undefined
  readonly peers: readonly WireguardPeer[]
  readonly routes: readonly Route[]
  readonly vips: readonly Vip[]
  readonly virtualServers: readonly VirtualServer[]
  readonly filter: Filter | undefined
  readonly sysctls: readonly Sysctl[]
}

export interface Tunnel {
  /** Interface name, ≤ 15 characters. */
  readonly device: string
  readonly listenPort: number
  /** Bytes: path MTU − 80, floor 1280. */
  readonly mtu: number
  /** Derived from the private key that the edge holds; never the private key itself. */
  readonly publicKey: WireguardKey
}

export interface WireguardPeer {
  readonly publicKey: WireguardKey
  /** undefined: the peer dials us. Observed as undefined, too, where WireGuard learned an address by itself. */
  readonly peerAddress: PeerAddress | undefined
  readonly allowedIps: readonly Cidr[]
  /** 0 = off. */
  readonly keepaliveSeconds: number
}

/** In the table of the tunnel: a remote pod prefix, or an exception inside one. */
export interface Route {
  readonly destination: Cidr
  /** Source of traffic that this host starts. */
  readonly source: Ip | undefined
  /**
   * `throw`: this host reaches it by itself, so the next routing rule decides. `unreachable`: the tunnel is down, so that
   * connections end at once with an ICMP error. Left out: into the tunnel.
   */
  readonly kind?: 'throw' | 'unreachable'
  /** Bytes that the path through the tunnel carries, where that is less than the device's MTU. */
  readonly mtu?: number
}

/** A service prefix that this host balances, made local by one AnyIP route. */
export interface Vip {
  readonly destination: Cidr
  readonly source: Ip | undefined
  /** `throw`: inside a service prefix, but this host reaches it by itself: not local, and never answered for by ARP. */
  readonly kind?: 'throw'
}

export type Scheduler = 'rr' | 'wrr' | 'mh' | 'lc'

export interface VirtualServer {
  readonly vip: Ip
  readonly protocol: Protocol
  readonly port: number
  readonly scheduler: Scheduler
  /** ClientIP persistence in seconds; 0 = none. */
  readonly affinitySeconds: number
  /** Empty: connections are refused at once, never dropped in silence. */
  readonly realServers: readonly RealServer[]
}

export interface RealServer {
  readonly ip: Ip
  readonly port: number
  /** 0 = draining: no new flow, old flows live on. Else 1 … 65535. */
  readonly weight: number
}

/** What may come out of the tunnel, and what this host must not masquerade. Default deny. */
export interface Filter {
  /** Sources accepted from the tunnel: the authorised pod prefixes of the other clusters. */
  readonly remoteSources: readonly Cidr[]
  /** Destinations accepted from the tunnel: the pod prefixes of this cluster. */
  readonly localDestinations: readonly Cidr[]
  /** UDP port on this host open to remoteSources (probe); 0 = none. */
  readonly probePort: number
  /** Bytes; TCP MSS is clamped to mtu − 40 (IPv4) or − 60 (IPv6) in both directions. */
  readonly mtu: number
  /**
   * Service prefixes that a Vip makes local here: a port there that is no virtual server is refused and reaches no process of
   * the host. Absent rather than empty.
   */
  readonly guardedVips?: readonly Cidr[]
  /** Networks of this host inside those prefixes, which the guard leaves alone. Absent rather than empty. */
  readonly ownNetworks?: readonly Cidr[]
  /**
   * Endpoints of exported services that are this host itself (pods with hostNetwork): remoteSources may reach them; every other port of
   * localDestinations on this host is refused. Absent rather than empty.
   */
  readonly hostEndpoints?: readonly HostEndpoint[]
}

/** "10.2.0.1 TCP 8080" */
export type HostEndpoint = `${string} ${Protocol} ${number}`

export interface Sysctl {
  /** "net.ipv4.ip_forward" */
  readonly name: string
  readonly value: string
}

/** One step towards `want`. Each is idempotent and carries the whole of what it sets. */
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
 * The parts of a host that are read, and can fail, apart from each other: a tool that hangs or a table that cannot be read stops the
 * work on its own part only.
 */
export const HOST_PARTS = ['tunnel', 'routes', 'virtualServers', 'filter', 'sysctls'] as const
export type HostPart = (typeof HOST_PARTS)[number]

/** An operation that was not carried out. */
export interface OpFailure {
  readonly op: HostOp
  /** An Error with a code and a fix. */
  readonly error: unknown
  /**
   * `operation`: this operation was refused by itself. `part`: nothing of its part can be done now (the tool hangs, is missing or may
   * not). `untried`: the bundle was refused, and there were too many operations in it to try each by itself.
   */
  readonly scope: 'operation' | 'part' | 'untried'
}

export interface Look {
  /** The fields of the parts that could be read. */
  readonly found: Partial<HostState>
  readonly failures: readonly { readonly part: HostPart; readonly error: unknown }[]
}

/** Live facts of the tunnel, read beside the state and never compared with a wish. */
export interface PeerStats {
  readonly publicKey: WireguardKey
  readonly peerAddress: PeerAddress | undefined
  /** Unix milliseconds; undefined: never. */
  readonly lastHandshakeMs: number | undefined
  readonly rxBytes: number
  readonly txBytes: number
}

/** The edge that owns a host's network. `src/io/host` implements it with real tools; tests with a model. */
export interface Host {
  /** The name of the load balancer that `auto` chose. */
  readonly loadBalancer: string
  /** Takes the lock of this network namespace and finds the tools. Errors: HostError with a code and the fix. */
  start(): Promise<void>
  /** What exists of ours in these parts, read from the kernel. A part that cannot be read is a failure of that part alone. */
  look(parts: readonly HostPart[], signal: AbortSignal): Promise<Look>
  /** All parts. Errors: the first failure of a part. */
  observe(signal: AbortSignal): Promise<HostState>
  /**
   * Applies in order, bundled where the tools allow. Returns the operations that were not carried out; every other one was. One refused
   * operation stops no other one. Rejects for no reason of the host.
   */
  apply(ops: readonly HostOp[], signal: AbortSignal): Promise<readonly OpFailure[]>
  peerStats(signal: AbortSignal): Promise<readonly PeerStats[]>
  /** The commands that `apply` runs for this operation, without secrets. */
  describe(op: HostOp): readonly string[]
  /** Leaves the kernel state in place (traffic flows on); releases the lock. */
  stop(): Promise<void>
  /** Removes everything of ours and restores recorded sysctls. */
  cleanup(signal: AbortSignal): Promise<void>
}
