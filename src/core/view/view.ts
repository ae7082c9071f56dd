// What the mesh is, as this agent sees it: a pure function of the replica and the certificates.
import type {
  AgentValue,
  Cidr,
  ClusterName,
  EndpointSliceValue,
  Origin,
  ServiceValue
} from '../model/values.ts'
import type { Conflict } from '../trust/order.ts'

export interface MeshView {
  readonly self: ClusterName
  /** Every admitted cluster, own one included, in name order. */
  readonly clusters: ReadonlyMap<ClusterName, ClusterView>
}

export interface ClusterView {
  readonly name: ClusterName
  /** Authorised = claim ∩ certificate, less what a conflict lost. Sorted. */
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  readonly agents: readonly AgentView[]
  /** Key "<namespace>/<name>". Only services that their certificate authorises. */
  readonly services: ReadonlyMap<string, ServiceView>
  /** False until a whole catalogue of this cluster has been seen: DNS answers SERVFAIL, not NXDOMAIN. */
  readonly complete: boolean
  readonly conflicts: readonly Conflict[]
  readonly refusals: readonly Refusal[]
}

export interface AgentView {
  readonly origin: Origin
  readonly agent: AgentValue
  /** Of the catalogue that it has published, as speaker or to stand by; undefined: none. */
  readonly term?: number
}

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
