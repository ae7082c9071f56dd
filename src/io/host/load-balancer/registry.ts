// The load balancers, one row for each kind, in order of preference. A third kind is one folder and one row: docs/adding.md.
// nftables first: kube-proxy in IPVS mode deletes every virtual server that is not its own, and in IPVS a client port that was used for a
// service and is then used for a pod directly times out.
import { IPVS } from './ipvs/kind.ts'
import type { LoadBalancerKind } from './kind.ts'
import { NFTABLES } from './nftables/kind.ts'

export const LOAD_BALANCERS = [NFTABLES, IPVS] as const satisfies readonly LoadBalancerKind[]

export type LoadBalancerName = (typeof LOAD_BALANCERS)[number]['name']

/** undefined: no row has this name. */
export function loadBalancerKind(name: string): LoadBalancerKind | undefined {
  return LOAD_BALANCERS.find((kind) => kind.name === name)
}

/** The help text of the value `auto`. */
export function autoHelp(kinds: readonly LoadBalancerKind[] = LOAD_BALANCERS): string {
  const titles = kinds.map(({ title }) => title)
  const wanted = titles.slice(0, -1).map((title) => `${title} where the kernel has it`)
  return `auto = ${[...wanted, ...titles.slice(-1)].join(', else ')}`
}
