// Which agents stand (S8). Their certificates travel with their records and not in the trust set; a cluster's
// generation takes the place of expiry, so that no clock but the cluster's own matters.
import { compareText, type KeyId, type StatementId } from './ids.ts'
import type { Standing } from './standing.ts'
import { STANDING_RULES, type StandingRules } from './standing-rules.ts'
import type { AgentCert } from './statement.ts'

/** The verdict on one agent. */
interface AgentStanding {
  /** Of the agent's certificates, the one that counts. */
  readonly cert: AgentCert
  readonly stands: boolean
  readonly reason: 'stands' | 'cluster' | 'barred' | 'generation' | 'quota'
  /** The statements that cause it: a Bar, or what its cluster's verdict names. */
  readonly causes: readonly StatementId[]
}

/** The agents that a cluster may have. A large cluster has one agent on each Kubernetes node. */
const AGENTS_OF_CLUSTER_MAX = 2000

/** The highest generation of each cluster that an agent has seen. Persisted, since it must not fall. */
type Generations = ReadonlyMap<KeyId, number>

/** Computes the standing of agents, by agent key, and the next table of generations. O(n log n) of certificates. */
export function agentsOf(
  standing: Standing,
  certs: readonly AgentCert[],
  options: { readonly generations: Generations; readonly max?: number; readonly rules?: StandingRules }
): { readonly agents: ReadonlyMap<KeyId, AgentStanding>; readonly generations: Generations } {
  const rules = options.rules ?? STANDING_RULES
  const generations = new Map(options.generations)
  for (const { clusterKey, generation } of certs)
    generations.set(clusterKey, Math.max(generation, generations.get(clusterKey) ?? 0))
  const bars = Map.groupBy(standing.bars, ({ target }) => ('agent' in target ? target.agent : undefined))
  const agents = new Map<KeyId, AgentStanding>()
  const counts = new Map<KeyId, number>()
  for (const cert of certs.toSorted(newestFirst)) {
    const verdict = verdictOn(cert)
    const held = agents.get(cert.agentKey)
    if (held?.stands || (held !== undefined && !verdict.stands)) continue
    if (verdict.stands) counts.set(cert.clusterKey, (counts.get(cert.clusterKey) ?? 0) + 1)
    agents.set(cert.agentKey, verdict)
  }
  return { agents, generations }

  /** The first reason that applies: cluster, Bar, generation, quota. */
  function verdictOn(cert: AgentCert): AgentStanding {
    const cluster = standing.clusters.get(cert.clusterKey)?.verdict
    if (cluster?.stands !== true) return fallen(cert, 'cluster', cluster?.causes)
    const bar = (bars.get(cert.agentKey) ?? []).find((one) =>
      'cluster' in one.by ? one.by.cluster === cert.clusterKey : standing.mayDecideOn(one, cert.clusterKey)
    )
    if (bar !== undefined) return fallen(cert, 'barred', [bar.id])
    if (!rules.S8(cert, generations.get(cert.clusterKey) ?? 0)) return fallen(cert, 'generation')
    const full = (counts.get(cert.clusterKey) ?? 0) >= (options.max ?? AGENTS_OF_CLUSTER_MAX)
    return full ? fallen(cert, 'quota') : { cert, stands: true, reason: 'stands', causes: [] }
  }
}

/** An agent that does not stand. */
function fallen(
  cert: AgentCert,
  reason: Exclude<AgentStanding['reason'], 'stands'>,
  causes: readonly StatementId[] = []
): AgentStanding {
  return { cert, stands: false, reason, causes }
}

/** The order in which certificates count towards the quota. */
function newestFirst(left: AgentCert, right: AgentCert): number {
  return right.generation - left.generation || compareText(left.id, right.id)
}
