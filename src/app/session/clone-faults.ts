// The faults of an identity or a tunnel key that two agents use, for path-faults.ts. Pure.
import type { Origin } from '../../core/model/values.ts'
import type { AgentView, ClusterView } from '../../core/view/view.ts'
import type { FaultText } from '../observe/health.ts'

/** A fault with its subject. */
type NamedFault = FaultText & { readonly subject: string }

/** The fault when another agent has the identity of this one. */
export const OWN_CLONE = clone('this agent', undefined)

/** The fault of an identity that two agents use. `origin` undefined: that of this agent. */
export function clone(who: string, origin: Origin | undefined): NamedFault {
  return {
    subject: origin ?? 'self',
    severity: 'error',
    message: `two agents use the identity of ${who}: its state folder was copied, or a virtual machine was cloned`,
    fix: 'stop one of them, empty its state-dir, and let it join with an invite of its own'
  }
}

/** One fault for each tunnel key that several agents have proved. */
export function sharedKeys(
  members: readonly { readonly cluster: ClusterView; readonly agent: AgentView }[]
): readonly NamedFault[] {
  const shared = members.filter(({ agent }) => agent.clones !== undefined)
  const byKey = Map.groupBy(shared, ({ agent }) => agent.agent.wireguardKey)
  return [...byKey].map(([key, holders]) => {
    const who = holders.map(({ cluster, agent }) => `${agent.agent.node} of cluster ${cluster.name}`)
    return {
      subject: key,
      severity: 'error',
      message: `${who.join(' and ')} have one tunnel key, so each host sends the traffic of both to one of them: a state folder was copied, or a key was stolen`,
      fix: 'stop the agent that has the copy, empty its state-dir, and let it join with an invite of its own'
    }
  })
}
