// The answers of the admin API, whose table is endpoints.ts. `meshctl` is its only client in this tree.
// Every answer has an apiVersion. Every failure is an ErrorAnswer whose HTTP status is not 200. Answers hold no secrets, except the
// token in the answer of `invite`.
import type { HostOp } from '../core/host/host-state.ts'

export const API_VERSION = 'rhizome.io/v1'

/** The fields that all answers share. */
export interface Answer {
  readonly apiVersion: typeof API_VERSION
}

/** `code` is stable, for programs. `message` says what is wrong and names the field. `fix` says what the operator can do. */
export interface ErrorAnswer extends Answer {
  readonly error: { readonly code: string; readonly message: string; readonly fix?: string }
}

/** The faults of this agent now, the worst first. The registry of health (app/observe/health.ts) is its only source. */
export interface HealthReport {
  /** The worst severity of all faults; `ok` when there is no fault. */
  readonly state: 'ok' | 'warning' | 'error' | 'critical'
  readonly faults: readonly FaultRow[]
  /** The number of faults that `faults` leaves out, by code. */
  readonly more: Readonly<Record<string, number>>
}

/** One fault of the registry of health. */
export interface FaultRow {
  /** The code is stable, for programs, and in UPPER_SNAKE_CASE. */
  readonly code: string
  /** `critical`: no traffic flows, or the agent cannot do its main job. `error`: a part does not work. `warning`: act soon. */
  readonly severity: 'critical' | 'error' | 'warning'
  /** The thing that has the fault, for example a cluster, a prefix or a tool; '' when the code can have only one. */
  readonly subject: string
  readonly message: string
  readonly fix: string
  /** The time at which the fault appeared, in RFC 3339. */
  readonly since: string
}

/** The answer of GET /v1/status: the state of this agent. */
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
  /** How many handshakes, frames and records were refused, by reason. */
  readonly refused: Readonly<Record<string, number>>
  /** The listed faults of `health`, each as one sentence with its fix. */
  readonly warnings: readonly string[]
  readonly lastPass?: {
    readonly at: string
    readonly ops: number
    readonly ms: number
    readonly error?: string
  }
  readonly uptimeSeconds: number
}

/** A problem of one manifest or object of the source. */
export interface Problem {
  /** `error`: the manifest is ignored. `warning`: the manifest is used, but the operator should check it. */
  readonly level: 'error' | 'warning'
  readonly file: string
  readonly where?: string
  readonly message: string
  readonly fix?: string
}

/** The answer of GET /v1/peers: one row per agent of the mesh. This agent's own row has the state "self". */
export interface PeersAnswer extends Answer {
  /** Missing in the answers of agents before 0.2. */
  readonly health?: HealthReport
  readonly peers: readonly PeerRow[]
}

/** One agent of the mesh, as this agent sees it. */
export interface PeerRow {
  readonly cluster: string
  readonly peerId: string
  readonly node: string
  /** The state of the tunnel; the state of the control connection is in `connected`. */
  readonly state: 'self' | 'up' | 'connecting' | 'down' | 'conflict' | 'off'
  /** Why the state is not `up`, or why there is no control connection. */
  readonly reason?: string
  /** "direct"; "dial-in" when only the peer can start the tunnel, because it announces no address; "-" for this agent. */
  readonly path: string
  /** The peer's address and port that WireGuard uses now. */
  readonly endpoint?: string
  readonly rttMs?: number
  readonly handshakeAgeSeconds?: number
  readonly rxBytes: number
  readonly txBytes: number
  readonly cidrs: readonly string[]
  readonly services: number
  /** The number of operations that the origin has published and this agent does not hold yet; 0: none is missing. */
  readonly lag: number
  /** Whether there is a control connection to this agent; true for this agent itself. */
  readonly connected: boolean
  readonly version: string
}

/** The answer of GET /v1/services: the services of all clusters. */
export interface ServicesAnswer extends Answer {
  readonly services: readonly ServiceRow[]
}

/** One service of a cluster, with the numbers of its endpoints. */
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

/** The answer of GET /v1/routes: the prefixes of the other clusters. */
export interface RoutesAnswer extends Answer {
  readonly routes: readonly RouteRow[]
}

/** One prefix of another cluster, and whether this host has a route to it. */
export interface RouteRow {
  readonly destination: string
  readonly kind: 'pod' | 'service'
  readonly cluster: string
  readonly via: string
  readonly state: 'installed' | 'missing' | 'withdrawn' | 'conflict'
  readonly reason?: string
}

/** The answer of GET /v1/dns?name=…&type=A: the answer of the responder and its upstreams. Without `name`: the list of zones. */
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
  /** True when the name is not of the mesh, so that an upstream was asked. */
  readonly forwarded?: boolean
  /** The upstream that answered, also for the target of an ExternalName; absent when none answered or none was asked. */
  readonly upstream?: string
}

/** The answer of GET /v1/plan: what a pass would do now, as operations and as commands. `steps` is empty when the host is up to date. */
export interface PlanAnswer extends Answer {
  readonly inStep: boolean
  readonly steps: readonly { readonly op: HostOp; readonly commands: readonly string[] }[]
}

/** The answer of POST /v1/invite: a token with which the cluster `cluster` can join until `expires` (RFC 3339). */
export interface InviteAnswer extends Answer {
  readonly token: string
  readonly cluster: string
  readonly expires: string
  /** The prefixes that the request named; if it named none, the next free pair, which meshd has chosen. */
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  readonly bootstrap: readonly string[]
  /** Possible mistakes that do not prevent the join: prefixes that overlap networks of this host, a name that the public DNS has, too. */
  readonly warnings?: readonly string[]
}

/** The answer of POST /v1/init and POST /v1/join. */
export interface JoinedAnswer extends Answer {
  readonly cluster: string
  readonly meshId: string
  readonly peerId: string
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  readonly members: readonly string[]
  /** True when this agent had joined with the same token before, so that the request changed nothing. */
  readonly already?: boolean
  /** Possible mistakes that did not prevent the join. */
  readonly warnings?: readonly string[]
}

/** The answer of POST /v1/leave, which withdraws this cluster's records, cleans the host and deletes the membership. */
export interface LeftAnswer extends Answer {
  readonly cluster: string
}
