// Which agents stand (S8). Their certificates travel with their records and not in the trust set; a cluster's
// generation takes the place of expiry, so that no clock but the cluster's own matters. How many of a cluster count is
// decided where certificates are kept (members/held-credentials.ts).
import { compareText, type KeyId, type StatementId } from './ids.ts'
import type { Standing } from './standing.ts'
import { STANDING_RULES, type StandingRules } from './standing-rules.ts'
import type { AgentCert, Bar } from './statement.ts'

/** The verdict on one certificate of an agent. */
export interface AgentStanding {
  readonly stands: boolean
  /** `cluster`: its cluster does not stand, or is not known. */
  readonly reason: 'stands' | 'cluster' | 'barred' | 'generation'
  /** The statements that cause it: a Bar, or what its cluster's verdict names. */
  readonly causes: readonly StatementId[]
}

/** Judges a certificate by the highest generation of its cluster that this agent has seen. O(1). */
export type AgentJudge = (cert: AgentCert, highestGeneration: number) => AgentStanding

/** The judge of one standing. O(n) of its Bars. */
export function agentJudge(standing: Standing, rules: StandingRules = STANDING_RULES): AgentJudge {
  const bars = Map.groupBy(standing.bars, ({ target }) => ('agent' in target ? target.agent : undefined))
  // The first reason that applies: cluster, Bar, generation.
  return (cert, highestGeneration) => {
    const cluster = standing.clusters.get(cert.clusterKey)?.verdict
    if (cluster?.stands !== true) return fallen('cluster', cluster?.causes)
    const bar = (bars.get(cert.agentKey) ?? []).find((one) => countsFor(one, cert.clusterKey, standing))
    if (bar !== undefined) return fallen('barred', [bar.id])
    return rules.S8(cert, highestGeneration) ? STANDS : fallen('generation')
  }
}

/** Whether a Bar names an agent of a cluster, which may hold no certificate yet. O(n) of the Bars. */
export function isAgentBarred(
  standing: Pick<Standing, 'bars' | 'mayDecideOn'>,
  { clusterKey, agentKey }: Pick<AgentCert, 'clusterKey' | 'agentKey'>
): boolean {
  return standing.bars.some(
    (one) => 'agent' in one.target && one.target.agent === agentKey && countsFor(one, clusterKey, standing)
  )
}

/** Whether the signer of a Bar may decide on agents of this cluster: the cluster itself, or a seat that covers its name. */
function countsFor(bar: Bar, clusterKey: KeyId, standing: Pick<Standing, 'mayDecideOn'>): boolean {
  return 'cluster' in bar.by ? bar.by.cluster === clusterKey : standing.mayDecideOn(bar, clusterKey)
}

/**
 * A comparison function for sort(): the order in which certificates count, the newest first. Of two with one generation
 * the lower id comes first, on every member.
 */
export function newestFirst(left: AgentCert, right: AgentCert): number {
  return right.generation - left.generation || compareText(left.id, right.id)
}

/** The highest generation of each cluster that an agent has seen. Persisted, since it must not fall. */
export type Generations = ReadonlyMap<KeyId, number>

const STANDS: AgentStanding = { stands: true, reason: 'stands', causes: [] }

/** An agent that does not stand. */
function fallen(
  reason: Exclude<AgentStanding['reason'], 'stands'>,
  causes: readonly StatementId[] = []
): AgentStanding {
  return { stands: false, reason, causes }
}
