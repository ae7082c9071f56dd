// The vocabulary of the mesh: branded strings and record values, as all code after the decoder sees them.
// proto/mesh.proto has the same fields as bytes; a new field is added in both, and in src/core/wire/value-codec.ts.
// Invariant: a value of these types was validated once, by value-codec.ts or cidr.ts, and is not checked again.

declare const brand: unique symbol
/** A string that only a validating function may make; the brand exists for the type checker, not at run time. */
type Brand<T, B extends string> = T & { readonly [brand]: B }

/** An agent's identity: its libp2p PeerId (Ed25519, base58btc, "12D3KooW…"). */
export type Origin = Brand<string, 'Origin'>
/** An RFC 1123 DNS label, ≤ 63 characters, lower case; neither "all" nor "local". */
export type ClusterName = Brand<string, 'ClusterName'>
/** A canonical address: dotted decimal, or RFC 5952 lower-case IPv6. */
export type Ip = Brand<string, 'Ip'>
/** A canonical prefix "10.1.0.0/16": host bits zero, address canonical. */
export type Cidr = Brand<string, 'Cidr'>
/** A WireGuard public key: 32 bytes as 44 characters of base64. */
export type WireguardKey = Brand<string, 'WireguardKey'>
/** "203.0.113.7:51820" or "[2001:db8::1]:51820": what WireGuard calls an endpoint. */
export type PeerAddress = Brand<string, 'PeerAddress'>

/** The transport protocol of a service port, as Kubernetes writes it. */
export type Protocol = 'TCP' | 'UDP' | 'SCTP'
/**
 * What an agent is for its cluster: other clusters make tunnels to agents with the role "gateway" only. This version
 * announces "gateway" in every case; "node" is valid on the wire.
 */
export type Role = 'gateway' | 'node'

/**
 * A tunnel key: an Ed25519 public key (32 bytes) and its signature over mesh, agent and key (64 bytes), each in base64.
 * The key is canonical and not of small order.
 */
export interface TunnelKey {
  readonly edKey: string
  readonly proof: string
}

/** What an agent announces about itself, under the key "agent". */
export interface AgentValue {
  readonly kind: 'agent'
  /** The keys of the tunnel as the agent claims them; trust/tunnel-key.ts proves them. One, or two during a rotation. */
  readonly tunnelKeys: readonly TunnelKey[]
  /** Where peers reach the tunnel, best first; empty when this agent can only dial out. */
  readonly wireguardAddresses: readonly PeerAddress[]
  /** Where libp2p dials this agent, without /p2p/…. */
  readonly multiaddrs: readonly string[]
  /**
   * An address inside the cluster's pod prefixes: the source of the host's own traffic and the target of probes.
   * undefined: the agent has none.
   */
  readonly tunnelAddress: Ip | undefined
  /** The name of the host, or of the Kubernetes node; may be ''. */
  readonly node: string
  readonly role: Role
  /** The version of the software, for people only. */
  readonly version: string
  /** UDP port of the echo service on tunnelAddress; 0 when the agent answers no probes. */
  readonly probePort: number
  /**
   * The pod prefixes of this host alone, each inside a pod prefix of the cluster. The list is never empty: the field
   * is absent when the host has none or the agent does not know them.
   */
  readonly nodePrefixes?: readonly Cidr[]
  /** Of a gateway that hands over: other gateways of its cluster are preferred (host/gateway-order.ts). */
  readonly handOver?: HandOver
  /**
   * Mbit/s that the agent relays for the tunnels of others, 1 to RELAY_RATE_MAX; absent when it relays none.
   */
  readonly relayRate?: number
}

/**
 * Why a gateway hands its traffic over. `drained`: an operator asked for it, and takes it back. `stopping`: its agent stops
 * for long, or has stopped; it takes that back itself when it runs again.
 */
export type HandOver = 'drained' | 'stopping'

/**
 * What a speaker announces about its cluster, under the key "cluster": the prefixes that it claims, and the state of
 * its catalogue.
 */
export interface ClusterValue {
  readonly kind: 'cluster'
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  /**
   * The transition count of the election Lease, from 1; 1 for an agent without an election. Of the complete
   * catalogues of a cluster, the one with the highest term counts.
   */
  readonly term: number
  /** False until the source was listed completely for the first time. */
  readonly complete: boolean
}

/** A port of a Service. `name` is '' where a single port has none; `appProtocol` is '' when it is not set. */
export interface ServicePort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
  readonly appProtocol: string
}

/** An exported Service, under the key "svc/<namespace>/<name>". */
export interface ServiceValue {
  readonly kind: 'service'
  readonly namespace: string
  readonly name: string
  /** Stable addresses; empty for a headless service and for ExternalName. */
  readonly clusterIps: readonly Ip[]
  readonly ports: readonly ServicePort[]
  readonly headless: boolean
  /** The target of a Service of type ExternalName; '' for all other types. */
  readonly externalName: string
  /**
   * How long a client stays with one endpoint (session affinity ClientIP), in seconds, 1 to 86,400; 0 when there is
   * no affinity.
   */
  readonly affinitySeconds: number
  /** publishNotReadyAddresses: DNS publishes endpoints that are not ready, too. */
  readonly publishNotReady: boolean
  /**
   * The annotation rhizome.io/balance as it was written: printable ASCII, at most 1,024 characters (balance-policy.ts
   * reads it). The field is absent when there is none.
   */
  readonly balance?: string
  /** What the ServiceExport of the same name adds; absent when there is none. */
  readonly clusterset?: ClustersetExport
  /** spec.trafficDistribution, as in "PreferSameZone" (host/zone-choice.ts reads it); absent when it is not set. */
  readonly trafficDistribution?: string
  /** The other clusters that see the service; absent: all. The own cluster always does. */
  readonly exportTo?: ExportTo
}

/** Names of clusters in the order of code units, at least one and at most EXPORT_TO_MAX. */
export type ExportTo = readonly [ClusterName, ...ClusterName[]]

// A list that a person writes is far shorter. With the longest names it takes 8 KB of the 64 KiB of a record.
/** Most clusters that an ExportTo names. */
export const EXPORT_TO_MAX = 128

/**
 * A ServiceExport (multicluster.x-k8s.io), and the fields of its Service that only the Multi-Cluster Services API needs.
 * view/clusterset.ts makes one service of the exports of all clusters.
 */
export interface ClustersetExport {
  /** When the ServiceExport was created, in Unix seconds; 0: it does not say so. */
  readonly exportedAt: number
  /** The address families of the Service, the first one first; empty when it names none. */
  readonly ipFamilies: readonly (4 | 6)[]
  /** spec.internalTrafficPolicy of the Service; '' when it is not set. */
  readonly internalTrafficPolicy: '' | 'Cluster' | 'Local'
  /** spec.trafficDistribution of the Service, as in "PreferClose"; '' when it is not set. */
  readonly trafficDistribution: string
  /** Labels and annotations for the ServiceImports, in the order of their keys. */
  readonly labels: readonly Attribute[]
  readonly annotations: readonly Attribute[]
}

/** A label or an annotation: a qualified name of Kubernetes, and printable ASCII. */
export interface Attribute {
  readonly key: string
  readonly value: string
}

/** A port that every endpoint of a slice serves; matched to a port of the Service by name and protocol. */
export interface EndpointPort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
}

/**
 * One endpoint of a slice: its addresses (at least one, up to 100) and the conditions of discovery.k8s.io/v1.
 * `hostname` and `node` are '' when they are not set.
 */
export interface Endpoint {
  readonly addresses: readonly Ip[]
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  readonly hostname: string
  readonly node: string
  /** The zone in which the endpoint runs (topology.ts); absent when it is not known. */
  readonly zone?: string
  /** hints.forZones: the zones whose clients should use the endpoint. Never empty: absent when there is no hint. */
  readonly forZones?: readonly string[]
}

/**
 * An EndpointSlice of an exported Service, under the key "eps/<namespace>/<slice>". `service` is the name of that
 * Service, in the same namespace.
 */
export interface EndpointSliceValue {
  readonly kind: 'endpointSlice'
  readonly namespace: string
  readonly name: string
  readonly service: string
  readonly ports: readonly EndpointPort[]
  readonly endpoints: readonly Endpoint[]
}

/** Everything that a record can hold. */
export type Value = AgentValue | ClusterValue | ServiceValue | EndpointSliceValue

/** The record key of a value: "agent", "cluster", "svc/<namespace>/<name>", "eps/<namespace>/<slice>". */
export function keyOf(value: Value): string {
  switch (value.kind) {
    case 'agent':
    case 'cluster':
      return value.kind
    case 'service':
      return `svc/${value.namespace}/${value.name}`
    case 'endpointSlice':
      return `eps/${value.namespace}/${value.name}`
    default:
      return value satisfies never
  }
}

/**
 * All services that a source (a folder of manifests, Kubernetes) has for this cluster. `catalog()` makes it, sorted
 * by key.
 */
export interface Snapshot {
  readonly services: readonly ServiceValue[]
  readonly endpointSlices: readonly EndpointSliceValue[]
}
