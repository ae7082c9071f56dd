// The kinds of statements, decoded. A statement says one thing that its signer has the right to say, and never changes;
// what it is worth is computed from the whole set (standing.ts). codec.ts makes these values from bytes, form.ts checks
// signatures and rights.
// Source: the table "Data" of docs/trust-set.md.
import type { ClusterName, Role } from '../../model/values.ts'
import type { KeyId, ShortId, StatementId } from './ids.ts'
import type { PrefixRange } from './prefix-range.ts'

/** Every statement; AgentCert travels with its agent's records, the others in the trust set. */
export type Statement = Seat | Invite | Grant | Bar | Decide | Void | ClusterCert | Admission | AgentCert

/** The name of a kind: the field of StatementBody in mesh.proto, and a part of the signed bytes. */
export type StatementKind = Statement['kind']

interface Common {
  /** SHA-256 of the encoded body. */
  readonly id: StatementId
}

/** What a seat may do. The rights of a child lie within those of its parent (F3). */
export interface Rights {
  /** Cluster names, sorted; a last character "*" stands for any ending, also for none. */
  readonly names: readonly string[]
  /** The prefixes that it may give to clusters, sorted. */
  readonly prefixes: readonly PrefixRange[]
  /** The longest span of an invite, in days. */
  readonly inviteDaysMax: number
  /** How many admissions may stand under it. */
  readonly clustersMax: number
  /** Whether it may create child seats. */
  readonly maySeat: boolean
}

/** An administrator: a key with rights. `under` undefined: the roots signed it. */
export interface Seat extends Common, Rights {
  readonly kind: 'seat'
  readonly under: StatementId | undefined
  readonly adminKey: KeyId
  /** A text for people, at most 64 characters. */
  readonly label: string
}

/** Prefixes for pods and for services, each list sorted and all of them disjoint. */
export interface PodsAndServices {
  readonly pods: readonly PrefixRange[]
  readonly services: readonly PrefixRange[]
}

/** The right to become the cluster of this name, for the holder of the seed of `inviteKey`. */
export interface Invite extends Common, PodsAndServices {
  readonly kind: 'invite'
  readonly under: StatementId
  readonly inviteKey: KeyId
  readonly cluster: ClusterName
  /** Namespaces that the cluster may export, sorted; empty: all of them. */
  readonly namespaces: readonly string[]
  /** Unix seconds. Only the sponsor's door compares them with a clock. */
  readonly notBefore: number
  readonly notAfter: number
  /** The cluster key whose place the newcomer takes. */
  readonly replaces: KeyId | undefined
}

/** Adds prefixes to a cluster, and drops every prefix of it that lies in one of `drop`. */
export interface Grant extends Common {
  readonly kind: 'grant'
  readonly under: StatementId
  readonly clusterKey: KeyId
  readonly add: PodsAndServices
  readonly drop: readonly PrefixRange[]
}

/** Ends a cluster or an agent. */
export interface Bar extends Common {
  readonly kind: 'bar'
  /** The signer: a seat, or a cluster that speaks of itself and its own agents. */
  readonly by: { readonly seat: StatementId } | { readonly cluster: KeyId }
  readonly target: { readonly cluster: KeyId } | { readonly agent: KeyId }
  /** Set: of the admissions that the target sponsored, only these stay (S3). */
  readonly keepOnly: ReadonlySet<ShortId> | undefined
}

/** Leaves one claimant of a name. */
export interface Decide extends Common {
  readonly kind: 'decide'
  readonly under: StatementId
  readonly name: ClusterName
  readonly clusterKey: KeyId
}

/** Takes a statement back. `under` undefined: the roots signed it. */
export interface Void extends Common {
  readonly kind: 'void'
  readonly under: StatementId | undefined
  readonly target: StatementId
  /** Where the target is a seat: the statements and admissions below it that stay. */
  readonly keep: ReadonlySet<ShortId>
}

/** Binds a name to a cluster key. `invite` undefined: a founding cluster, whose prefixes stand here. */
export interface ClusterCert extends Common, PodsAndServices {
  readonly kind: 'clusterCert'
  readonly invite: StatementId | undefined
  readonly name: ClusterName
  readonly clusterKey: KeyId
}

/** A member's word that it let a newcomer in. */
export interface Admission extends Common {
  readonly kind: 'admission'
  readonly invite: StatementId
  readonly clusterKey: KeyId
  readonly sponsorKey: KeyId
  /** The logical clock by which claimants are ordered; a founding cluster has 0. */
  readonly seen: number
  /** Unix seconds by the sponsor's clock, for people only. */
  readonly time: number
}

/** Binds an agent to its cluster until the cluster's generation is two higher (S8). */
export interface AgentCert extends Common {
  readonly kind: 'agentCert'
  readonly clusterKey: KeyId
  readonly agentKey: KeyId
  readonly node: string
  readonly roles: readonly Role[]
  readonly generation: number
}

/** A statement before it is signed: without an id. */
export type Draft = Statement extends infer S ? (S extends Statement ? Omit<S, 'id'> : never) : never

/** Why a statement is refused. */
export interface Refusal {
  readonly kind: 'refused'
  /** The rule of docs/trust-set.md that it breaks. `later` (a kind or a field of a later version) and `waiting` are no offence of the sender. */
  readonly rule: 'F1' | 'F2' | 'F3' | 'F4' | 'F5' | 'signature' | 'parents' | 'later' | 'waiting'
  /** The kind of the statement; `item` where the bytes around the statements are wrong. */
  readonly statement: StatementKind | 'item'
  /** The field at fault, by its name in this file; '' when it is the whole. */
  readonly field: string
  readonly reason: string
  /** What its author can do. */
  readonly fix: string
}
