// The answers of the admin API, whose table is endpoints.ts. The handlers in app/admin/routes build them; `meshctl` is
// their only reader in this tree, and `meshctl --json` prints them unchanged, so scripts depend on these fields, too.
// Every answer has an apiVersion. Every failure is an ErrorAnswer whose HTTP status is not 200. Answers hold no
// secrets, except the token in the answer of `invite`.
import type { BalancedRow, NearRow, UnbalancedRow } from './balanced-row.ts'
import type { HostOp } from '../core/host/host-state.ts'

/** The version of the contract. meshctl refuses an answer with another version (exit code 7). */
export const API_VERSION = 'rhizome.io/v1'

/** The fields that all answers share. */
export interface Answer {
  readonly apiVersion: typeof API_VERSION
}

/**
 * The answer of a request that failed. `code` is stable, for programs, and decides the exit code of meshctl
 * (cli/output/exit-codes.ts). `message` says what is wrong and names the field. `fix` says what the operator can do.
 */
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
  /**
   * `critical`: no traffic flows, or the agent cannot do its main job. `error`: a part does not work. `warning`:
   * everything works, but the operator should act.
   */
  readonly severity: 'critical' | 'error' | 'warning'
  /** The thing that has the fault, for example a cluster, a prefix or a tool; '' when the code can have only one. */
  readonly subject: string
  readonly message: string
  /** What the operator does about the fault; '' when there is no fix. */
  readonly fix: string
  /** The time at which the fault appeared, in RFC 3339. */
  readonly since: string
}

/** The answer of GET /v1/status: the state of this agent. */
export interface StatusAnswer extends Answer {
  /** Missing in the answers of agents before 0.2. */
  readonly health?: HealthReport
  /** `unjoined`: in no mesh. `joining`: `join` waits for a member's answer. `running`: a member of a mesh. */
  readonly state: 'unjoined' | 'joining' | 'running'
  readonly version: string
  /** The cluster of a token that no member has answered; only with the state `unjoined`. */
  readonly pendingToken?: { readonly cluster: string }
  /** `cluster`, `meshId` and `peerId` are absent while this cluster is in no mesh. */
  readonly cluster?: string
  readonly meshId?: string
  readonly peerId?: string
  /** The public key of this host's tunnel, in base64. */
  readonly wireguardKey?: string
  /** The tunnel, the routes and the load balancer of this host. */
  readonly dataplane: {
    readonly state: 'on' | 'off'
    /** The kind in use, for example "nftables" or "ipvs"; only with the state `on`. */
    readonly loadBalancer?: string
    /** The network interface of the tunnel; only with the state `on`. */
    readonly device?: string
    /** Why the state is `off`. */
    readonly reason?: string
  }
  /** The DNS responder. `address` is its first address with the port, such as "10.1.0.1:53". */
  readonly dns: { readonly state: 'on' | 'off'; readonly address?: string; readonly reason?: string }
  /** The source of this cluster's services, with the numbers of objects that it holds. */
  readonly source: {
    readonly kind: 'folder' | 'kubernetes'
    /** The path of the folder of manifests, or the URL of the Kubernetes API server. */
    readonly path: string
    readonly services: number
    readonly endpointSlices: number
    readonly problems: readonly Problem[]
  }
  /** The certified prefixes of this cluster; empty while it is in no mesh. */
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  /** Of each prefix of the mesh that stands for another one: the prefix that the cluster really uses; absent without any. */
  readonly translated?: Readonly<Record<string, string>>
  /** What this agent is for its cluster. Missing in the answers of agents before 0.3: all were gateways. */
  readonly role?: 'gateway' | 'node'
  /** What other clusters may reach here, and the names of the clusters that may; an empty list: all. */
  readonly reach?: { readonly what: 'pods' | 'services'; readonly clusters: readonly string[] }
  /** The number of clusters of the mesh, this one included; 0 while this cluster is in no mesh. */
  readonly clusters: number
  /** The number of open control connections to other agents. */
  readonly connections: number
  /** How many handshakes, frames and records were refused, by reason. */
  readonly refused: Readonly<Record<string, number>>
  /**
   * How many packets were dropped because they did not come out of the tunnel, by reason. `service`: a machine beside
   * this host asked a service address. `remote`, `local`: the source was that of a pod of another cluster, or of this
   * one. Absent while this cluster is in no mesh, and in the answers of agents before 0.3.
   */
  readonly dropped?: Readonly<Record<string, number>>
  /**
   * The tunnels of others that this agent relays now; absent while the setting relay-rate is 0, and in the answers of older
   * agents.
   */
  readonly relays?: readonly {
    /** The agents at both ends, and their clusters. */
    readonly peerIds: readonly [string, string]
    readonly clusters: readonly [string, string]
    readonly seconds: number
  }[]
  /** The listed faults of `health`, each as one sentence with its fix. */
  readonly warnings: readonly string[]
  /** The last pass that applied operations, or whose `error` was another than before; absent before the first pass. */
  readonly lastPass?: {
    /** RFC 3339. */
    readonly at: string
    /** The number of operations that were applied. */
    readonly ops: number
    /** The duration in milliseconds. */
    readonly ms: number
    /** The first failure of the pass; absent when the pass had none. All failures are in `health`. */
    readonly error?: string
  }
  readonly uptimeSeconds: number
}

/** A problem of one manifest or object of the source. */
export interface Problem {
  /** `error`: the manifest is ignored. `warning`: the manifest is used, but the operator should check it. */
  readonly level: 'error' | 'warning'
  /** The file of the folder, or the object of the Kubernetes API. */
  readonly file: string
  /** The place in the file, for example a line, an object and a field. */
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
  /** The name of the node or host on which the agent runs. */
  readonly node: string
  /** Missing in the answers of agents before 0.3: all were gateways. */
  readonly role?: 'gateway' | 'node'
  /** The state of the tunnel; the state of the control connection is in `connected`. */
  readonly state: 'self' | 'up' | 'connecting' | 'down' | 'conflict' | 'off'
  /**
   * How often the tunnel has changed between up and down in the last 10 min; absent: never. From 4 on meshctl shows the
   * state `up` as `flapping`.
   */
  readonly changes?: number
  /** Why the state is not `up`, or why there is no control connection. */
  readonly reason?: string
  /**
   * "direct"; "tcp" when UDP gets no answer and the control connection carries the tunnel; "dial-in" when only the peer can start the tunnel, because it announces no address; on a node, "via" and the
   * gateway of its own cluster that carries the traffic; "-" where there is no tunnel, as for this agent.
   */
  readonly path: string
  /** Why the path is no better one; absent when it is the best. */
  readonly pathReason?: string
  /** The peer's address and port that WireGuard uses now; with the path "tcp", those of the control connection. */
  readonly endpoint?: string
  /** The round-trip time of the tunnel probe, in milliseconds, rounded to 0.01; absent before the first answer. */
  readonly rttMs?: number
  /** The age of WireGuard's last handshake with the peer; absent before the first handshake. */
  readonly handshakeAgeSeconds?: number
  /** Bytes that WireGuard has received from the peer and sent to it; 0 without a tunnel. */
  readonly rxBytes: number
  readonly txBytes: number
  /** The pod prefixes and the service prefixes of the peer's cluster, as the mesh knows them. */
  readonly cidrs: readonly string[]
  /** Of each of them that stands for another one: the prefix that the cluster really uses; of the own cluster only. */
  readonly translated?: Readonly<Record<string, string>>
  /** The number of services of the peer's cluster. */
  readonly services: number
  /** The number of operations that the origin has published and this agent does not hold yet; 0: none is missing. */
  readonly lag: number
  /** Whether there is a control connection to this agent; true for this agent itself. */
  readonly connected: boolean
  /** The version of meshd that the peer runs. */
  readonly version: string
  /**
   * Of a gateway that hands its traffic over to the others of its cluster. `drained`: by `meshctl drain`. `stopping`: its
   * agent stops, or has stopped.
   */
  readonly handOver?: 'drained' | 'stopping'
}

/** The answer of GET /v1/services: the services of all clusters. */
export interface ServicesAnswer extends Answer {
  readonly services: readonly ServiceRow[]
  /** The services that a policy balances over clusters; absent: none. */
  readonly balanced?: readonly BalancedRow[]
  /** The services with policies of which none is in force; absent: none. */
  readonly unbalanced?: readonly UnbalancedRow[]
  /** The zone of this host; absent: not known. */
  readonly zone?: string
}

/** One service that a cluster exports, with the numbers of its endpoints. */
export interface ServiceRow {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  readonly type: 'ClusterIP' | 'Headless' | 'ExternalName'
  readonly clusterIps: readonly string[]
  /** The addresses by which other clusters reach the service, where they are not `clusterIps`; of the own cluster only. */
  readonly meshIps?: readonly string[]
  readonly ports: readonly {
    /** '' when the port has no name. */
    readonly name: string
    readonly port: number
    readonly protocol: 'TCP' | 'UDP' | 'SCTP'
  }[]
  /** The number of ready endpoints, out of `endpoints`. A Service with publishNotReadyAddresses has all ready. */
  readonly ready: number
  /**
   * The number of endpoints that terminate but still serve, and get the traffic because none is ready, as kube-proxy
   * does it (KEP-1669); absent: none.
   */
  readonly fallback?: number
  readonly endpoints: number
  /**
   * Of the own cluster, where this host balances it: which endpoints the host uses; absent where the Service does not ask
   * for near ones.
   */
  readonly near?: NearRow
  /** "web.shop.svc.cluster.east", without a dot at the end. */
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
  /** The device of the tunnel; for a service prefix the load balancer and the device, as text; "-" for a conflict. */
  readonly via: string
  /**
   * `installed`: the host has the route. `missing`: the host lacks it. `withdrawn`: no tunnel to the cluster works, so
   * connections are refused at once. `conflict`: the prefix belongs to another cluster, whose certificate comes first.
   */
  readonly state: 'installed' | 'missing' | 'withdrawn' | 'conflict'
  /** Why the state is not `installed`, or which own network of the host takes a part of an installed prefix. */
  readonly reason?: string
}

/**
 * The answer of GET /v1/dns?name=…&type=A: the answer of the responder and its upstreams, in `rcode`, `records`,
 * `forwarded` and `upstream`. Without `name` the answer has only `zones`.
 */
export interface DnsAnswer extends Answer {
  readonly zones?: readonly {
    readonly zone: string
    /** `not synced`: no complete catalogue has arrived for the zone yet, so the responder answers SERVFAIL. */
    readonly state: 'serving' | 'not synced'
    /** The number of services whose names are in the zone. */
    readonly names: number
  }[]
  /** The response code by its IANA name, such as "NOERROR" or "NXDOMAIN". */
  readonly rcode?: string
  readonly records?: readonly {
    readonly name: string
    readonly type: string
    /** Seconds. */
    readonly ttl: number
    /** The data as text: an address, a name, or several fields with spaces between them. */
    readonly data: string
  }[]
  /** True when the name is not of the mesh, so that an upstream was asked. */
  readonly forwarded?: boolean
  /**
   * The address and port of the upstream that answered, also for the target of an ExternalName; absent when none
   * answered or none was asked.
   */
  readonly upstream?: string
}

/** The answer of GET /v1/events: what this agent has refused from its peers since its start, the oldest first. */
export interface EventsAnswer extends Answer {
  readonly events: readonly EventRow[]
}

/**
 * `refused`: a handshake, frame or record of the peer was not accepted. `disconnected`: the control connection ended.
 * `banned`: control connections with the peer are refused for a while. `ban ended`: they are accepted again.
 */
export type EventKind = 'refused' | 'disconnected' | 'banned' | 'ban ended' | 'path'

/** One event. Equal events of one peer within a minute are one row with a count. Times are in RFC 3339. */
export interface EventRow {
  /** The times of the first and of the latest of `count` equal events. */
  readonly at: string
  readonly lastAt: string
  readonly kind: EventKind
  readonly peerId: string
  /** Absent when the peer has shown no valid certificate. */
  readonly cluster?: string
  readonly reason: string
  readonly count: number
}

/**
 * The answer of GET /v1/plan: the operations that a pass over the host would apply now, in their order, and each as
 * shell commands. `steps` is empty when the host is up to date.
 */
export interface PlanAnswer extends Answer {
  /** True when `steps` is empty. */
  readonly inStep: boolean
  readonly steps: readonly { readonly op: HostOp; readonly commands: readonly string[] }[]
}
