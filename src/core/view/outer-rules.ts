// Which outer addresses of a member the other agents may use. A member chooses them freely and all others send there, so
// every address that could lead to another than that member is left out, counted and shown with cluster and peer.
// Invariants
//   1. No address inside a prefix of another cluster is in a view, so it is never dialled and takes no pod or
//      service of that cluster out of the tunnel.
//   2. The rules are the same object while the settlement and the addresses of the host are the same.
import { outerRefusal, type OuterAddressRules } from '../model/outer-address.ts'
import { holderAmong } from '../model/prefix-holder.ts'
import type { AgentValue, Cidr, ClusterName, Ip } from '../model/values.ts'
import type { Settlement } from '../trust/members/settlement.ts'

/** The rules for the addresses of any cluster. */
export type OuterRules = Omit<OuterAddressRules, 'cluster'>

interface HostFacts {
  readonly hostAddresses?: ReadonlySet<Ip>
  readonly allowsLoopback?: boolean
}

const NO_ADDRESSES: ReadonlySet<Ip> = new Set()

/** Returns a function that makes the rules, and keeps them until the settlement or an address of the host changes. */
export function createOuterRules(): (host: HostFacts, settlement: Settlement) => OuterRules {
  let last: { readonly settlement: Settlement; readonly rules: OuterRules } | undefined
  return ({ hostAddresses = NO_ADDRESSES, allowsLoopback = false }, settlement) => {
    const isLast =
      last?.settlement === settlement &&
      last.rules.own === hostAddresses &&
      last.rules.allowsLoopback === allowsLoopback
    if (last !== undefined && isLast) return last.rules
    const rules = { holder: holderOf(settlement), own: hostAddresses, allowsLoopback }
    last = { settlement, rules }
    return rules
  }
}

/** The prefixes in force never overlap (trust/members), so an address has one holder at most. */
function holderOf(settlement: Settlement): OuterRules['holder'] {
  const owners = new Map<Cidr, ClusterName>()
  for (const [name, { podPrefixes, servicePrefixes }] of settlement)
    for (const prefix of [...podPrefixes, ...servicePrefixes]) owners.set(prefix, name)
  const holder = holderAmong([...owners.keys()])
  return (ip) => {
    const prefix = holder(ip)
    return prefix && owners.get(prefix)
  }
}

/** Returns the agent with the allowed addresses only, and one reason for each kind of refusal. */
export function allowedOuters<Agent extends Pick<AgentValue, 'multiaddrs' | 'wireguardAddresses'>>(
  agent: Agent,
  rules: OuterAddressRules
): { readonly agent: Agent; readonly reasons: readonly string[] } {
  const refused = new Map<string, string[]>()
  const isAllowed = (kind: 'multiaddr' | 'peer') => (address: string) => {
    const reason = outerRefusal(kind, address, rules)
    if (reason === undefined) return true
    refused.set(reason, [...(refused.get(reason) ?? []), address])
    return false
  }
  const multiaddrs = agent.multiaddrs.filter(isAllowed('multiaddr'))
  const wireguardAddresses = agent.wireguardAddresses.filter(isAllowed('peer'))
  if (refused.size === 0) return { agent, reasons: [] }
  const reasons = [...refused].map(
    ([reason, addresses]) => `${addresses.length} outer addresses ${reason} (${addresses[0]})`
  )
  return { agent: { ...agent, multiaddrs, wireguardAddresses }, reasons }
}
