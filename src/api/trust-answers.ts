// The fields of the answers about the trust set and of the requests of administrators. Times are RFC 3339, keys and ids
// hexadecimal digits. No answer has a secret.
import type { Answer } from './answers.ts'

/** The answer of a request that signed a statement of an administrator. */
export interface StatementAnswer extends Answer {
  /** What was done, as the end of a sentence: "removed the cluster east". */
  readonly done: string
  /** The members that got it at once; the others get it from them. */
  readonly neighbours: number
  /** Sentences about what else may have to be done; absent: none. */
  readonly notes?: readonly string[]
}

/** The answer of a request that changed only this agent, and about which no member is told. */
export interface DoneAnswer extends Answer {
  /** What was done, as a sentence without its full stop. */
  readonly done: string
}

/** The answer of POST /v1/admin/key: a public key, 64 hexadecimal digits. */
export interface AdminKeyAnswer extends Answer {
  readonly adminKey: string
}

/** The answer of POST /v1/root/export: the content of the file, and the first 16 digits of its SHA-256. */
export interface RootFileAnswer extends Answer {
  readonly file: string
  readonly check: string
}

/** Whether something of the trust set stands, and why. */
export interface StandingRow {
  readonly stands: boolean
  /** The rule of docs/trust-set.md that decides. */
  readonly rule: string
  /** The end of a sentence whose subject is what the row is about. */
  readonly reason: string
  /** The statements that cause it, in words. */
  readonly because: readonly string[]
}

/** A seat of the answer of GET /v1/trust. */
export interface SeatRow extends StandingRow {
  readonly id: string
  readonly label: string
  /** True when this agent holds its key. */
  readonly own: boolean
  /** The label of the seat that it stands under; absent under the roots. */
  readonly under?: string
  readonly names: readonly string[]
  readonly prefixes: readonly string[]
  readonly clusters: number
  readonly clustersMax: number
  readonly inviteDaysMax: number
  readonly maySeat: boolean
}

/** A cluster key of the answer of GET /v1/trust. */
export interface TrustedClusterRow extends StandingRow {
  readonly name: string
  /** 64 hexadecimal digits. */
  readonly key: string
  /** True when it has its name here. */
  readonly hasName: boolean
  readonly podCidrs: readonly string[]
  readonly serviceCidrs: readonly string[]
  /** The namespaces that it may export, by its invite; absent: all. */
  readonly namespaces?: readonly string[]
  /** The label of the seat that invited it, and the cluster that admitted it; absent for a founding cluster. */
  readonly invitedBy?: string
  readonly admittedBy?: string
}

/** An open or closed invite that this agent has made. */
export interface InviteRow {
  readonly cluster: string
  readonly state: 'open' | 'used' | 'cancelled' | 'expired'
  /** The name of the cluster whose place the invited one takes; absent: none. */
  readonly replaces?: string
  readonly expires: string
  readonly cidrs: readonly string[]
  /** Set for one more gateway of the own cluster: the PeerId of the agent that has used the token, or nothing yet. */
  readonly gateway?: { readonly usedBy?: string }
}

/** A statement of the trust set. */
export interface StatementRow {
  readonly id: string
  readonly kind: string
  readonly signer: string
  readonly text: string
  readonly stands: boolean
  readonly reason: string
}

/** The answer of GET /v1/trust: the trust set, and what follows from it here. */
export interface TrustAnswer extends Answer {
  readonly meshId: string
  /**
   * How many of the roots sign, how many there are, how many of them this agent holds (`inMemory` of these until
   * `root forget` or a restart), and whether as many as must sign are in files. `inFiles`: the numbers of those that are.
   */
  readonly roots: {
    readonly k: number
    readonly number: number
    readonly held: number
    readonly exported: boolean
    readonly inMemory?: number
    readonly inFiles?: readonly number[]
  }
  readonly seats: readonly SeatRow[]
  readonly clusters: readonly TrustedClusterRow[]
  /** Claims that are not in force here, because another cluster's are. */
  readonly contested: readonly {
    readonly what: 'name' | 'pods' | 'services'
    readonly value: string
    readonly winner: string
    readonly loser: string
  }[]
  readonly invites: readonly InviteRow[]
  readonly statements: readonly StatementRow[]
}
