// The answers of the requests that change a membership: init, invite, join, backup, leave and key. Other answers are in
// answers.ts.
import type { Answer } from './answers.ts'

/** The answer of POST /v1/invite: a token with which the cluster `cluster` can join until `expires` (RFC 3339). */
export interface InviteAnswer extends Answer {
  readonly token: string
  readonly cluster: string
  readonly expires: string
  /** The cluster whose place the new one takes; absent: none. */
  readonly replaces?: string
  /** Open invites whose tokens are void from now on, with the time at which each was made; absent: none. */
  readonly takesBack?: readonly { readonly cluster: string; readonly made: string }[]
  /**
   * The prefixes that the request named; if it named none, those of the cluster that is replaced, or the next free pair,
   * which meshd has chosen.
   */
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  /** Multiaddrs with PeerIds of the agents that the new cluster dials first, at most 6. */
  readonly bootstrap: readonly string[]
  /**
   * Possible mistakes that do not prevent the join: prefixes that overlap networks of this host, a name that the public
   * DNS has, too.
   */
  readonly warnings?: readonly string[]
}

/** The answer of POST /v1/invite/gateway: a token for one more gateway of the cluster. The token is a secret. */
export interface GatewayInviteAnswer extends Answer {
  readonly token: string
  /** The own cluster. */
  readonly cluster: string
  readonly expires: string
  /** Multiaddrs of this agent, which the new gateway dials. */
  readonly bootstrap: readonly string[]
}

/** The answer of POST /v1/invite/gateway/cancel. */
export interface CancelledAnswer extends Answer {
  /** How many invites were open, and are not any more. */
  readonly cancelled: number
}

/** The answer of POST /v1/init and POST /v1/join. */
export interface JoinedAnswer extends Answer {
  readonly cluster: string
  readonly meshId: string
  readonly peerId: string
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  /** Of each prefix of the mesh that stands for another one: the prefix that the cluster really uses; absent without any. */
  readonly translated?: Readonly<Record<string, string>>
  /** The names of the mesh's clusters as this agent knows them at this moment. */
  readonly members: readonly string[]
  /** True when this agent has become one more gateway of the cluster. */
  readonly gateway?: boolean
  /** True when this agent had joined with the same token before, so that the request changed nothing. */
  readonly already?: boolean
  /**
   * Possible mistakes that did not prevent the request: of init a cluster name that the public DNS has, too; of join a
   * token that is not valid by the clock of this host.
   */
  readonly warnings?: readonly string[]
}

/** The answer of POST /v1/backup/create: the file, and what a person wants to know of it. */
export interface BackupAnswer extends Answer {
  /** The text of the file. Its content is encrypted with the passphrase. */
  readonly file: string
  /** The first 16 digits of its SHA-256, by which copies can be compared. */
  readonly check: string
  readonly cluster: string
  readonly meshId: string
  /** The agent that made the backup. */
  readonly peerId: string
  /** RFC 3339. */
  readonly made: string
  /** The numbers of statements of the trust set, administrators' keys and open invites in the file. */
  readonly statements: number
  readonly seats: number
  readonly invites: number
  /** The number of root keys on this agent, which are not in the file. */
  readonly rootsHere: number
  /** Sentences about what the operator should check; else absent. */
  readonly warnings?: readonly string[]
}

/** The answer of POST /v1/backup/restore: the membership, as after `join`, and where it comes from. */
export interface RestoredAnswer extends JoinedAnswer {
  /** When the backup was made, RFC 3339. */
  readonly made: string
  /** The agent that made the backup. It stays a gateway of the cluster until it is revoked. */
  readonly formerPeerId: string
  /** Whether another member has accepted this agent already. */
  readonly reached: boolean
}

/**
 * The answer of POST /v1/leave, which withdraws this cluster's records, cleans the host and deletes the membership.
 * `cluster` is the name that this cluster had in the mesh, or was to get with the pending token.
 */
export interface LeftAnswer extends Answer {
  readonly cluster: string
  /** True when this cluster was in no mesh, and the token that no member had answered was discarded; else absent. */
  readonly pending?: boolean
  /** The command to run on an administrator’s agent, when no other member could be told of the leave; else absent. */
  readonly repair?: string
  /** True when no other cluster was in the mesh, which has ended with this leave; else absent. */
  readonly endedMesh?: boolean
  /**
   * PeerIds of agents that have the key of this cluster and may still run, although none of them has told a record here, for
   * example the one that made the backup from which this agent came: the cluster stays in the mesh for them. Else absent.
   */
  readonly keptFor?: readonly string[]
}

/** The answer of POST /v1/key/rotate: the WireGuard keys of this agent, in base64. */
export interface KeyRotatedAnswer extends Answer {
  /** The key that was published until now. */
  readonly before: string
  readonly wireguardKey: string
  /** True when the tunnel device has not taken the new key yet, so that the old one is still published; else absent. */
  readonly pending?: boolean
}

/** The answer of POST /v1/key/rotate/cluster: the public keys of the cluster, 64 hexadecimal digits. */
export interface ClusterKeyRotatedAnswer extends Answer {
  readonly cluster: string
  readonly before: string
  readonly clusterKey: string
  /** The number of members that are connected now, and were told at once. */
  readonly neighbours: number
  /** PeerIds of other agents of the cluster that have no way to the new key; they have to join anew. Absent: none. */
  readonly ended?: readonly string[]
  /** PeerIds of the gateways of a site that may ask this one for the new key, and do so by themselves. */
  readonly kept?: readonly string[]
}

/** The answer of POST /v1/cert/renew: the generation of this cluster's certificates. */
export interface CertRenewedAnswer extends Answer {
  readonly cluster: string
  /** The generation until now. Certificates of it count until the next renewal. */
  readonly before: number
  readonly generation: number
  /** The number of members that are connected now, and were told at once. */
  readonly neighbours: number
}
