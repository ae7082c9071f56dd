// This file defines the vocabulary of the mesh: branded strings and record values, as all code after the decoder sees
// them.
// Invariant: a value of these types was validated once (src/core/wire/value-codec.ts) and is not checked again.

declare const brand: unique symbol
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

export type Protocol = 'TCP' | 'UDP' | 'SCTP'
export type Role = 'gateway' | 'node'

/** What an agent announces of itself. */
export interface AgentValue {
  readonly kind: 'agent'
  readonly wireguardKey: WireguardKey
  /** Where peers reach the tunnel, best first; empty when this agent can only dial out. */
  readonly wireguardAddresses: readonly PeerAddress[]
  readonly multiaddrs: readonly string[]
  /** Inside the cluster's pod prefixes; source of host traffic and target of probes. */
  readonly tunnelAddress: Ip | undefined
  readonly node: string
  readonly role: Role
  readonly version: string
  /** UDP echo on tunnelAddress; 0 when none. */
  readonly probePort: number
  /** Pod prefixes of this host alone, inside the cluster's; never empty. Left out: not known, or none. */
  readonly nodePrefixes?: readonly Cidr[]
}

/** What a speaker announces of its cluster. */
export interface ClusterValue {
  readonly kind: 'cluster'
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  readonly term: number
  readonly complete: boolean
}

export interface ServicePort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
  readonly appProtocol: string
}

/** An exported Service. */
export interface ServiceValue {
  readonly kind: 'service'
  readonly namespace: string
  readonly name: string
  readonly clusterIps: readonly Ip[]
  readonly ports: readonly ServicePort[]
  readonly headless: boolean
  /** Set for type ExternalName only, else ''. */
  readonly externalName: string
  /** ClientIP affinity in seconds; 0 = none. */
  readonly affinitySeconds: number
  readonly publishNotReady: boolean
}

export interface EndpointPort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
}

export interface Endpoint {
  readonly addresses: readonly Ip[]
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  readonly hostname: string
  readonly node: string
}

/** An EndpointSlice of an exported Service. */
export interface EndpointSliceValue {
  readonly kind: 'endpointSlice'
  readonly namespace: string
  readonly name: string
  readonly service: string
  readonly ports: readonly EndpointPort[]
  readonly endpoints: readonly Endpoint[]
}

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

/** What a source (folder of manifests, Kubernetes) says of this cluster, whole. Shape of `catalog()`'s result. */
export interface Snapshot {
  readonly services: readonly ServiceValue[]
  readonly endpointSlices: readonly EndpointSliceValue[]
}
