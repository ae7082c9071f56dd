// A view is the mesh as this agent sees it: a pure function of the replica and the certificates.
import type {
  AgentValue,
  Cidr,
  ClusterName,
  EndpointSliceValue,
  Origin,
  ServiceValue
} from '../model/values.ts'
import type { Conflict } from '../trust/order.ts'

/** The view of the whole mesh. */
export interface MeshView {
  readonly self: ClusterName
  /** Every admitted cluster, own one included, in name order. */
  readonly clusters: ReadonlyMap<ClusterName, ClusterView>
}

/** One cluster, as its certificate and its speaker's records describe it. */
export interface ClusterView {
  readonly name: ClusterName
  /** Authorised = claim ∩ certificate, less what a conflict lost. Sorted. */
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  readonly agents: readonly AgentView[]
  /** Key "<namespace>/<name>". Only services that their certificate authorises. */
  readonly services: ReadonlyMap<string, ServiceView>
  /** False until a complete catalogue of this cluster has been seen. Until then DNS answers SERVFAIL, not NXDOMAIN. */
  readonly complete: boolean
  readonly conflicts: readonly Conflict[]
  readonly refusals: readonly Refusal[]
}

/** One agent of a cluster. */
export interface AgentView {
  readonly origin: Origin
  readonly agent: AgentValue
  /** Term of the catalogue that the agent has published, as speaker or as standby; undefined when it has published none. */
  readonly term?: number
}

/** A service with the endpoint slices that belong to it. */
export interface ServiceView {
  readonly service: ServiceValue
  readonly slices: readonly EndpointSliceValue[]
}

/** A record outside its origin's certificate, or not decodable. */
export interface Refusal {
  readonly origin: Origin
  readonly key: string
  readonly reason: string
}
