// The row of nftables in the table of load balancers (registry.ts). It comes first in the table, so `auto` takes it on
// every kernel that can make a nat chain of the family inet.
import type { LoadBalancerKind } from '../kind.ts'
import { canMakeChain } from '../../tools/nft-trial.ts'
import { openNftKernel } from './kernel.ts'
import { createNftLoadBalancer } from './nftables.ts'

/** nftables as a kind. See LoadBalancerKind for the fields. */
export const NFTABLES = {
  name: 'nftables',
  title: 'nftables',
  needs: 'nftables with address translation',
  tools: ['nft'],
  modules: ['nft_chain_nat'],
  sysctls: [],
  detect: (run) => canMakeChain(run, 'nat', 'prerouting'),
  // To delete a table that does not exist costs one call of nft, as much as a question would.
  mayHaveLeftovers: async () => true,
  create: (context) =>
    createNftLoadBalancer({ ...context, openKernel: () => openNftKernel(context.names.nftTable) })
} as const satisfies LoadBalancerKind
