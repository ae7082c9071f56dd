// A row of GET /v1/services for a service that a policy balances over clusters (docs/balancing.md).

/** A policy that a cluster wrote, and why it is not in force on this agent. */
export interface UnusedPolicyRow {
  readonly cluster: string
  readonly policy: string
  readonly reason: string
}

/** A service with the annotation rhizome.io/balance, of which no policy is in force on this agent. */
export interface UnbalancedRow {
  readonly namespace: string
  readonly name: string
  readonly policies: readonly UnusedPolicyRow[]
}

/** Which endpoints of a service of the own cluster this host uses, where the Service asks for near ones. */
export interface NearRow {
  /** How near they are: on this node, in the zone of this host, or anywhere in the cluster because none is nearer. */
  readonly nearness: 'node' | 'zone' | 'all'
  /** Where they are, or why all count. */
  readonly reason: string
  /** The ready endpoints of each zone, and how many of them this host uses. '': endpoints without a zone. */
  readonly zones: readonly { readonly zone: string; readonly ready: number; readonly used: number }[]
}

/** A service with the annotation rhizome.io/balance, and what its policy chooses on this agent. */
export interface BalancedRow {
  readonly namespace: string
  readonly name: string
  /** "web.shop.svc.cluster.all", without a dot at the end. */
  readonly dnsName: string
  /** The address of the name in this cluster. */
  readonly address: string
  /** The policy in force, as the cluster `from` wrote it. */
  readonly policy: string
  readonly from: string
  /** Clusters that the policy names and that are not in the mesh; absent: none. */
  readonly unknown?: readonly string[]
  /** Policies of other clusters that are not in force, with the reason. */
  readonly overruled?: readonly UnusedPolicyRow[]
  /** Of a name in clusterset.local: how the exports of the clusters differ, with the fix; absent: they agree. */
  readonly conflict?: string
  /** Every cluster that has the service. */
  readonly clusters: readonly {
    readonly cluster: string
    /** The number of endpoints that get traffic. */
    readonly endpoints: number
    /** The part of new connections that the cluster gets, in percent with one digit after the point. */
    readonly percent: number
    /** Why the cluster has this part, or none. */
    readonly reason: string
  }[]
}
