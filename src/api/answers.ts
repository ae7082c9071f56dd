// The answers of the admin API, whose table is endpoints.ts. `meshctl` is its only client in this tree.
// Every answer has an apiVersion; every failure is an ErrorAnswer with a fitting HTTP status. No secrets but the token that
// `invite` is asked for.
import type { HostOp } from '../core/host/host-state.ts'

export const API_VERSION = 'rhizome.io/v1'

export interface Answer {
  readonly apiVersion: typeof API_VERSION
}

/** `code` is stable and for programs; `message` says what is wrong and names the field; `fix` says what to do. */
export interface ErrorAnswer extends Answer {
  readonly error: { readonly code: string; readonly message: string; readonly fix?: string }
}

/** What is wrong with this agent now, the worst first; made of the registry of health and of nothing else. */
export interface HealthReport {
  /** The worst severity there is. */
  readonly state: 'ok' | 'warning' | 'error' | 'critical'
  readonly faults: readonly FaultRow[]
  /** Numbers of further faults that are not listed, by code. */
  readonly more: Readonly<Record<string, number>>
}

export interface FaultRow {
  /** Stable: UPPER_SNAKE_CASE. */
  readonly code: string
  /** `critical`: traffic is dead or the agent does not do its main job; `error`: a part does not work; `warning`: act soon. */
  readonly severity: 'critical' | 'error' | 'warning'
  /** For example the cluster, the prefix or the tool; '' when there is only one. */
  readonly subject: string
  readonly message: string
  readonly fix: string
  /** RFC 3339. */
  readonly since: string
}

/** GET /v1/status */
export interface StatusAnswer extends Answer {
  /** Missing in the answers of agents before 0.2. */
  readonly health?: HealthReport
  readonly state: 'unjoined' | 'joining' | 'running'
  readonly version: string
  readonly cluster?: string
  readonly meshId?: string
  readonly peerId?: string
  readonly wireguardKey?: string
  readonly dataplane: {
    readonly state: 'on' | 'off'
    readonly loadBalancer?: string
    readonly device?: string
    readonly reason?: string
  }
  readonly dns: { readonly state: 'on' | 'off'; readonly address?: string; readonly reason?: string }
  readonly source: {
    readonly kind: 'folder' | 'kubernetes'
    readonly path: string
    readonly services: number
    readonly endpointSlices: number
    readonly problems: readonly Problem[]
  }
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  readonly clusters: number
  readonly connections: number
  /** Counts of records refused and bytes dropped since start, by reason. */
  readonly refused: Readonly<Record<string, number>>
  /** The faults of `health` as sentences. */
  readonly warnings: readonly string[]
  readonly lastPass?: {
    readonly at: string
    readonly ops: number
    readonly ms: number
    readonly error?: string
  }
  readonly uptimeSeconds: number
}

/** A manifest that does not count, and why. */
export interface Problem {
  /** `error`: it does not count; `warning`: it counts, but needs a look. */
  readonly level: 'error' | 'warning'
  readonly file: string
  readonly where?: string
  readonly message: string
  readonly fix?: string
}

/** GET /v1/peers: one row per agent of another cluster, and one for itself (state "self"). */
export interface PeersAnswer extends Answer {
  /** Missing in the answers of agents before 0.2. */
  readonly health?: HealthReport
  readonly peers: readonly PeerRow[]
}

export interface PeerRow {
  readonly cluster: string
  readonly peerId: string
  readonly node: string
  /** From the tunnel, not from the control connection. */
  readonly state: 'self' | 'up' | 'connecting' | 'down' | 'conflict' | 'off'
  /** Why it is not `up`. */
  readonly reason?: string
  /** How packets travel: "direct"; "dial-in" when only the peer can start. */
  readonly path: string
  /** WireGuard's endpoint in use. */
  readonly endpoint?: string
  readonly rttMs?: number
  readonly handshakeAgeSeconds?: number
  readonly rxBytes: number
  readonly txBytes: number
  readonly cidrs: readonly string[]
  readonly services: number
  /** Operations known to exist at the origin but not held here; 0 = in step. */
  readonly lag: number
  /** The control connection. */
  readonly connected: boolean
  readonly version: string
}

/** GET /v1/services */
export interface ServicesAnswer extends Answer {
  readonly services: readonly ServiceRow[]
}

export interface ServiceRow {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  readonly type: 'ClusterIP' | 'Headless' | 'ExternalName'
  readonly clusterIps: readonly string[]
  readonly ports: readonly {
    /** '' when the port has no name. */
    readonly name: string
    readonly port: number
    readonly protocol: 'TCP' | 'UDP' | 'SCTP'
  }[]
  readonly ready: number
  readonly endpoints: number
  readonly dnsName: string
}

/** GET /v1/routes */
export interface RoutesAnswer extends Answer {
  readonly routes: readonly RouteRow[]
}

export interface RouteRow {
  readonly destination: string
  readonly kind: 'pod' | 'service'
  readonly cluster: string
  readonly via: string
  readonly state: 'installed' | 'missing' | 'withdrawn' | 'conflict'
  readonly reason?: string
}

/** GET /v1/dns?name=…&type=A: what the responder would say, upstreams included. Without name: the zones. */
export interface DnsAnswer extends Answer {
  readonly zones?: readonly {
    readonly zone: string
    readonly state: 'serving' | 'not synced'
    readonly names: number
  }[]
  readonly rcode?: string
  readonly records?: readonly {
    readonly name: string
    readonly type: string
    readonly ttl: number
    readonly data: string
  }[]
  /** True: not a name of the mesh, so an upstream was asked. */
  readonly forwarded?: boolean
  /** Which upstream answered, also for the target of an ExternalName; left out when none did, or none was asked. */
  readonly upstream?: string
}

/** GET /v1/plan: what a pass would do now, as operations and as commands. Empty when the host is in step. */
export interface PlanAnswer extends Answer {
  readonly inStep: boolean
  readonly steps: readonly { readonly op: HostOp; readonly commands: readonly string[] }[]
}

export interface InviteAnswer extends Answer {
  readonly token: string
  readonly cluster: string
  readonly expires: string
  /** Those asked for, or those chosen: the next free pair. */
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  readonly bootstrap: readonly string[]
  /** What works, but perhaps not as meant: networks of the inviting host that the prefixes overlap, a name of the public DNS. */
  readonly warnings?: readonly string[]
}

/** POST /v1/init, /v1/join */
export interface JoinedAnswer extends Answer {
  readonly cluster: string
  readonly meshId: string
  readonly peerId: string
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  readonly members: readonly string[]
  /** True when this agent had joined with the same token before: nothing was changed. */
  readonly already?: boolean
  /** What works, but perhaps not as meant. */
  readonly warnings?: readonly string[]
}

/** POST /v1/leave: withdraws this cluster's records everywhere, cleans the host, forgets the mesh. */
export interface LeftAnswer extends Answer {
  readonly cluster: string
}
