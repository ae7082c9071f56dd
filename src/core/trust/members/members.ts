// The members of a mesh, as replication, the door and the view ask for them: the trust set with everything that is
// computed of it, and the credentials of agents. An agent is a member when it holds a credential and stands.
// Invariants
//   1. Standing, claims, ownership and settlement are computed once for each version of the set, when they are asked for.
//   2. The answers depend on statements, credentials, and the two persisted tables, not on the order of arrival, but
//      for E1: a claim that is in force stays in force.
//   3. A credential is kept only when the set knows its cluster. So a stranger with a token cannot fill memory with
//      clusters of its own: their admissions name sponsors that no member admitted, and wait in the set's small pool.
//   4. No clock is read.
import { equalBytes } from '../../model/bytes.ts'
import type { Crypto } from '../../model/crypto.ts'
import { publicKeyOf } from '../../model/identity.ts'
import type { Origin } from '../../model/values.ts'
import { type AgentJudge, agentJudge, type Generations } from '../set/agents.ts'
import type { Bounds } from '../set/bounds.ts'
import { type Claims, claimsOf } from '../set/claims.ts'
import type { OpenedItem } from '../set/form.ts'
import type { KeyId, StatementId } from '../set/ids.ts'
import type { MeshRoots } from '../set/mesh-roots.ts'
import { type Ownership, ownershipOf, type Owners } from '../set/ownership.ts'
import { evaluateTrust, type Standing } from '../set/standing.ts'
import type { AgentCert } from '../set/statement.ts'
import { type Changes, createTrustSet, type TrustSet } from '../set/trust-set.ts'
import type { Verdict } from '../set/verdict.ts'
import { type Credential, openCredential } from './credential.ts'
import {
  CREDENTIAL_BOUNDS,
  type CredentialBounds,
  type Held,
  HeldCredentials,
  type MemberAgent
} from './held-credentials.ts'
import { type Settlement, settlementOf } from './settlement.ts'

/**
 * The answer to a credential. `admitted`: its agent stands, by this credential or by a newer one that is held.
 * Only `malformed` is an offence of the sender. `later`: it is of a later version. `unknown`: the set does not know its cluster yet, so offer it again
 * when the set has changed. `full`: the bound of its cluster or of the mesh is reached.
 */
export type Admitted =
  | { readonly kind: 'admitted' }
  | {
      readonly kind: 'refused'
      readonly code: 'malformed' | 'later' | 'unknown' | 'fallen' | 'full'
      readonly reason: string
    }

/** The verdict on an agent. */
export type MemberVerdict =
  | { readonly kind: 'stands' }
  /** The set does not hold what made its cluster a member: an exchange may bring it. */
  | { readonly kind: 'unknown' }
  | {
      readonly kind: 'fallen'
      /** `barred`: it or its cluster; `replaced`: another key has its cluster's place; `void`: what it stands on fell. */
      readonly code: 'barred' | 'replaced' | 'void' | 'generation'
      readonly rule: Verdict['rule'] | 'S8'
      /** The end of a sentence whose subject is the cluster, or for S8 the agent. */
      readonly reason: string
      /** At most EXPLAINED_MAX statements that cause it; their items go along with a refusal. */
      readonly explain: readonly StatementId[]
    }

/** See the head of this file. */
export interface Members {
  /** The id of the mesh, 32 bytes. */
  readonly meshId: Uint8Array
  readonly set: TrustSet
  /** Rises whenever the standing of an origin or the settlement may have changed. */
  readonly version: number
  standing(): Standing
  claims(): Claims
  ownership(): Ownership
  /** The cluster of each name. An unchanged cluster is the same object as before. */
  settlement(): Settlement
  /**
   * Adds what one frame or one file brought. At start, add all items of the store in one call and before any other
   * method: the table of owners is computed of what is there at the first question.
   */
  addItems(items: readonly OpenedItem[]): Changes
  /**
   * Adds the statements of a credential to the set, and keeps the credential. One of a cluster that does not stand is
   * refused with the reason, and kept within its bound, so that it counts when the cluster is restored.
   */
  addCredential(credential: Credential): Admitted
  /** What credentials have brought into the set since the last call: to be stored, and offered to neighbours. */
  takeChanges(): Changes
  /** Whether a credential of this origin is held, and the agent stands. */
  isAdmitted(origin: Origin): boolean
  /** Checks the encoded credential of an origin and adds it. Never throws on any bytes. */
  admit(origin: Origin, bytes: Uint8Array): Admitted
  /** The encoded credential that counts; also of an agent that does not stand. */
  credentialOf(origin: Origin): Uint8Array | undefined
  /** The raw Ed25519 public key (32 bytes) inside the PeerId; undefined when the text is no PeerId. */
  publicKeyOf(origin: Origin): Uint8Array | undefined
  /** The agent of an admitted origin; the same object while its certificate is the same. */
  agentOf(origin: Origin): MemberAgent | undefined
  /** The verdict on an agent, or on a credential that is held or not. */
  verdictOn(of: Origin | Credential): MemberVerdict
  /** Whether a credential of this cluster is held whose agent was ended, by a bar or by newer generations. */
  hasEndedAgent(cluster: KeyId): boolean
  /** All admitted origins. */
  origins(): Iterable<Origin>
  /** The tables to persist: what was in force here (E1), and the highest generation of each cluster (S8). */
  owners(): Owners
  generations(): Generations
}

/** Everything that is computed of one version of the set. */
interface Evaluated {
  readonly version: number
  readonly standing: Standing
  readonly claims: Claims
  readonly ownership: Ownership
  readonly settlement: Settlement
  readonly judge: AgentJudge
}

const EXPLAINED_MAX = 4
/** Clusters with a generation: all that a set can hold, and as many that it held before. */
const GENERATIONS_MAX = 4096

/** Creates the members of a mesh. `owners` and `generations` are what this agent has persisted. */
export function createMembers(options: {
  readonly crypto: Crypto
  readonly roots: MeshRoots
  readonly owners: Owners
  readonly generations: Generations
  /** Smaller in tests. */
  readonly bounds?: Bounds
  readonly credentialBounds?: CredentialBounds
}): Members {
  const { crypto, roots } = options
  const set = createTrustSet({ crypto, roots }, options.bounds)
  const credentials = new HeldCredentials(options.credentialBounds ?? CREDENTIAL_BOUNDS)
  const generations = new Map(options.generations)
  let owners = options.owners
  let evaluated: Evaluated | undefined
  /** Changes of credentials; added to the version of the set. */
  let changes = 0
  /** What takeChanges returns. */
  let [added, cut]: [StatementId[], StatementId[]] = [[], []]

  return {
    meshId: roots.meshId,
    set,
    get version() {
      return set.version + changes
    },
    standing: () => evaluate().standing,
    claims: () => evaluate().claims,
    ownership: () => evaluate().ownership,
    settlement: () => evaluate().settlement,
    addItems: (items) => set.addOpened(items),
    addCredential,
    takeChanges() {
      const taken = { added, cut }
      ;[added, cut] = [[], []]
      return taken
    },
    isAdmitted: (origin) => standingOne(origin) !== undefined,
    admit(origin, bytes) {
      const held = credentials.of(origin).find((one) => equalBytes(one.bytes, bytes))
      if (held !== undefined) return answer(verdictOnCert(held.cert))
      const credential = openCredential(set, bytes)
      if (credential.kind === 'refused') {
        const { rule, statement, reason } = credential
        return refused(rule === 'later' ? 'later' : 'malformed', `its ${statement}: ${reason}`)
      }
      if (credential.origin !== origin)
        return refused('malformed', `the credential belongs to ${credential.origin}, not to ${origin}`)
      return addCredential(credential)
    },
    credentialOf: (origin) => (standingOne(origin) ?? credentials.of(origin)[0])?.bytes,
    publicKeyOf: (origin) => credentials.of(origin)[0]?.agentKey ?? publicKeyOf(origin),
    agentOf: (origin) => standingOne(origin)?.agent,
    verdictOn(of) {
      if (typeof of !== 'string') return verdictOnCert(of.cert)
      const held = standingOne(of) ?? credentials.of(of)[0]
      return held === undefined ? { kind: 'unknown' } : verdictOnCert(held.cert)
    },
    hasEndedAgent: (cluster) => {
      const { judge } = evaluate()
      return [...credentials.ofCluster(cluster)].some(({ cert }) => !judge(cert, highestOf(cluster)).stands)
    },
    *origins() {
      for (const origin of credentials.origins()) if (standingOne(origin) !== undefined) yield origin
    },
    owners: () => (evaluate(), owners),
    generations: () => generations
  }

  /** Invariant 1. Nothing is computed of an empty set, so that the owners of the last run are kept until it is filled. */
  function evaluate(): Evaluated {
    if (evaluated?.version === set.version) return evaluated
    const standing = evaluateTrust(set)
    const claims = claimsOf(standing)
    const ownership = ownershipOf(claims, owners)
    if (set.version > 0) owners = ownership.owners
    const settlement = settlementOf(standing, ownership, evaluated?.settlement ?? new Map())
    evaluated = { version: set.version, standing, claims, ownership, settlement, judge: agentJudge(standing) }
    credentials.follow((key) => {
      const cluster = standing.clusters.get(key)
      return cluster === undefined ? 'unknown' : cluster.verdict.stands ? 'stands' : 'fallen'
    })
    if (generations.size > GENERATIONS_MAX)
      for (const key of generations.keys()) if (!standing.clusters.has(key)) generations.delete(key)
    return evaluated
  }

  function addCredential({ item, ...credential }: Credential): Admitted {
    const { cert } = credential
    const brought = set.addOpened([item])
    added.push(...brought.added)
    cut.push(...brought.cut)
    const cluster = evaluate().standing.clusters.get(cert.clusterKey)
    if (cluster === undefined) return answer({ kind: 'unknown' })
    raiseGeneration(cert)
    const kept = credentials.add({ ...credential, item }, cluster.verdict.stands)
    if (kept === 'kept') changes++
    const verdict = verdictOnCert(cert)
    if (kept === 'full' && verdict.kind === 'stands')
      return refused(
        'full',
        `the mesh or the cluster ${credential.cluster} has as many agents as it may have`
      )
    return kept === 'older' && standingOne(credential.origin) !== undefined ? ADMITTED : answer(verdict)
  }

  /** S8: the highest generation of a cluster never falls. */
  function raiseGeneration({ clusterKey, generation }: AgentCert): void {
    if (generation <= highestOf(clusterKey)) return
    generations.set(clusterKey, generation)
    changes++
  }

  function highestOf(cluster: KeyId): number {
    return generations.get(cluster) ?? 0
  }

  /** The credential by which an origin stands. */
  function standingOne(origin: Origin): Held | undefined {
    const { judge } = evaluate()
    return credentials.of(origin).find(({ cert }) => judge(cert, highestOf(cert.clusterKey)).stands)
  }

  function verdictOnCert(cert: AgentCert): MemberVerdict {
    const { judge, standing } = evaluate()
    const cluster = standing.clusters.get(cert.clusterKey)
    if (cluster === undefined) return { kind: 'unknown' }
    const agent = judge(cert, highestOf(cert.clusterKey))
    if (agent.stands) return { kind: 'stands' }
    const explain = agent.causes.slice(0, EXPLAINED_MAX)
    const { reason: ofAgent } = agent
    if (ofAgent === 'barred' || ofAgent === 'generation')
      return { kind: 'fallen', code: ofAgent, rule: 'S8', reason: AGENT_REASONS[ofAgent], explain }
    const { rule, reason } = cluster.verdict
    return { kind: 'fallen', code: clusterCode(cluster.verdict), rule, reason, explain }
  }

  /** The kind of the statement that ended a cluster. Only a Bar of its key and a replacement decide by S5. */
  function clusterCode({ rule, causes }: Verdict): 'barred' | 'replaced' | 'void' {
    const [cause] = causes
    if (rule !== 'S5' || cause === undefined) return 'void'
    return set.admissions.has(cause) ? 'replaced' : 'barred'
  }
}

const ADMITTED: Admitted = { kind: 'admitted' }

/** What a verdict by S8 says of an agent whose cluster stands. */
const AGENT_REASONS = {
  barred: 'a bar names the agent',
  generation: 'its certificate is two generations old or older: renew it'
} as const

/** A verdict as the answer to a credential. */
function answer(verdict: MemberVerdict): Admitted {
  if (verdict.kind === 'stands') return ADMITTED
  if (verdict.kind === 'fallen') return refused('fallen', verdict.reason)
  return refused('unknown', 'the admission of its cluster is not known here yet')
}

function refused(code: Extract<Admitted, { kind: 'refused' }>['code'], reason: string): Admitted {
  return { kind: 'refused', code, reason }
}
