// The parts of a host that have more than one implementation, and which of them this kernel gets.
import { detectLoadBalancer } from './detect-lb.ts'
import { HostError } from './errors.ts'
import { createFilter } from './filter.ts'
import { withFlowEnds } from './flow-ends.ts'
import { createIpvsLoadBalancer } from './lb-ipvs.ts'
import { createNftLoadBalancer } from './lb-nft.ts'
import { openNftKernel } from './nft-netlink.ts'
import type { FilterPort, HostNames, LoadBalancer, Run } from './ports.ts'

export interface HostParts {
  /** Errors: NO_LOAD_BALANCER. */
  chooseLoadBalancer(wish: 'auto' | LoadBalancer['kind'], run: Run): Promise<LoadBalancer['kind']>
  createLoadBalancer(kind: LoadBalancer['kind'], context: PartContext): LoadBalancer
  createFilter(context: PartContext): FilterPort
}

export interface PartContext {
  readonly run: Run
  readonly names: HostNames
  readonly warn: (message: string) => void
}

export const LINUX_PARTS: HostParts = {
  async chooseLoadBalancer(wish, run) {
    if (wish === 'nftables') return wish
    // Loads the modules, also where there is no choice: only then are the sysctls of IPVS there to be recorded.
    const found = await detectLoadBalancer(run)
    if (wish === 'ipvs') return wish
    if (found !== undefined) return found
    throw new HostError({
      code: 'NO_LOAD_BALANCER',
      message: 'this kernel has neither IPVS nor nftables with address translation',
      fix: 'load the kernel modules ip_vs or nft_chain_nat'
    })
  },
  createLoadBalancer(kind, context) {
    const openKernel = () => openNftKernel(context.names.nftTable)
    const balancer =
      kind === 'ipvs' ? createIpvsLoadBalancer(context) : createNftLoadBalancer({ ...context, openKernel })
    return withFlowEnds(balancer, context)
  },
  createFilter
}
