// The table of load balancers: one row for each kind, in order of preference, which is the order in which `auto` tries
// them. A third kind is one folder and one row (docs/adding.md).
// nftables comes first, because kube-proxy in IPVS mode deletes every virtual server that is not its own, and because
// in IPVS a connection to a pod times out if its client port was used for a service just before
// (docs/decisions/0032-nftables-before-ipvs.md).
import { IPVS } from './ipvs/kind.ts'
import type { LoadBalancerKind } from './kind.ts'
import { NFTABLES } from './nftables/kind.ts'

export const LOAD_BALANCERS = [NFTABLES, IPVS] as const satisfies readonly LoadBalancerKind[]

/** The values of the setting load-balancer without `auto`. */
export type LoadBalancerName = (typeof LOAD_BALANCERS)[number]['name']

/** Returns the row with this name; undefined where there is none, as for `auto`. */
export function loadBalancerKind(name: string): LoadBalancerKind | undefined {
  return LOAD_BALANCERS.find((kind) => kind.name === name)
}

/** Returns the help text of the value `auto`, such as "auto = nftables where the kernel has it, else IPVS". */
export function autoHelp(kinds: readonly LoadBalancerKind[] = LOAD_BALANCERS): string {
  const titles = kinds.map(({ title }) => title)
  const wanted = titles.slice(0, -1).map((title) => `${title} where the kernel has it`)
  return `auto = ${[...wanted, ...titles.slice(-1)].join(', else ')}`
}
