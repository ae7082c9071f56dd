// The types of a view: the mesh as this agent sees it. A view is a pure function of the replica and the certificates
// (build-view.ts). DNS, the feed for CoreDNS, the desired state of the host and the admin API all read the same view.
// What did not change is the same object in the next view, so readers find changes by identity.
import type {
  AgentValue,
  Cidr,
  ClusterName,
  EndpointSliceValue,
  Origin,
  ServiceValue,
  WireguardKey
} from '../model/values.ts'
import type { Conflict } from '../trust/members/settlement.ts'

/** The view of the whole mesh. */
export interface MeshView {
  /** The name of this agent's own cluster. */
  readonly self: ClusterName
  /** Every admitted cluster, the own one included, in the order of names. */
  readonly clusters: ReadonlyMap<ClusterName, ClusterView>
}

/**
 * One cluster, as its certificate and its records describe it. The records are those of its speaker, the agent whose
 * catalogue counts (build-view.ts).
 */
export interface ClusterView {
  readonly name: ClusterName
  /**
   * The prefixes that the speaker claims and the certificate covers, without those that an older certificate owns.
   * They are sorted and do not overlap.
   */
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  /** The agents of the cluster in the order of their PeerIds; also those that are not reachable now. */
  readonly agents: readonly AgentView[]
  /** The services that the certificate authorises, by "<namespace>/<name>". */
  readonly services: ReadonlyMap<string, ServiceView>
  /**
   * False until a complete catalogue of this cluster has been seen. Until then DNS answers SERVFAIL, not NXDOMAIN.
   */
  readonly complete: boolean
  /** Claims of the cluster that are not in force, because another cluster's are. */
  readonly conflicts: readonly Conflict[]
  /** The records of the cluster that were refused, wholly or in part. */
  readonly refusals: readonly Refusal[]
}

/** What an agent announces, with the WireGuard key that it has proved in place of the tunnel keys that it claims. */
export type ProvedAgent = Omit<AgentValue, 'tunnelKeys'> & {
  readonly wireguardKey: WireguardKey
}

/** One agent of a cluster. */
export interface AgentView {
  readonly origin: Origin
  readonly agent: ProvedAgent
  /**
   * Other agents that have proved the same WireGuard key, by PeerId: they have the seed of this agent's tunnel, so a
   * state folder was copied. Absent when there are none.
   */
  readonly clones?: readonly Origin[]
  /**
   * The term of the catalogue that the agent has published, as speaker or as standby; undefined when it has published
   * none.
   */
  readonly term?: number
}

/** A service with the endpoint slices that belong to it, in the order of their names. */
export interface ServiceView {
  readonly service: ServiceValue
  readonly slices: readonly EndpointSliceValue[]
  /**
   * The weight of each endpoint of the slice with the same index, 1 or more. Only a service that is merged from several
   * clusters has weights (host/merged-services.ts); absent: all endpoints weigh the same.
   */
  readonly weights?: readonly number[]
}

/**
 * A record that its origin's certificate does not cover, or that cannot be decoded. `reason` is a clause for people.
 */
export interface Refusal {
  readonly origin: Origin
  readonly key: string
  readonly reason: string
}
