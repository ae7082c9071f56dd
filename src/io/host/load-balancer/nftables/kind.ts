// The row of nftables in the table of load balancers.
import type { LoadBalancerKind } from '../kind.ts'
import { canMakeChain } from '../../tools/nft-trial.ts'
import { openNftKernel } from './kernel.ts'
import { createNftLoadBalancer } from './nftables.ts'

export const NFTABLES = {
  name: 'nftables',
  title: 'nftables',
  needs: 'nftables with address translation',
  tools: ['nft'],
  modules: ['nft_chain_nat'],
  sysctls: [],
  detect: (run) => canMakeChain(run, 'nat', 'prerouting'),
  mayHaveLeftovers: async () => true,
  create: (context) =>
    createNftLoadBalancer({ ...context, openKernel: () => openNftKernel(context.names.nftTable) })
} as const satisfies LoadBalancerKind
