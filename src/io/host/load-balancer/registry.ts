// The parts of a host that have more than one implementation, and which of them this kernel gets.
import { detectLoadBalancer, hasIpvs } from './detect.ts'
import { HostError } from '../errors.ts'
import { createFilter } from '../filter/filter.ts'
import { withFlowEnds } from './flow-ends.ts'
import { createIpvsLoadBalancer } from './ipvs/ipvs.ts'
import { createNftLoadBalancer } from './nftables/nftables.ts'
import { openNftKernel } from './nftables/kernel.ts'
import type { FilterPort, HostNames, LoadBalancer, Run } from '../ports.ts'

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
    if (wish !== 'auto') return wish
    const found = await detectLoadBalancer(run)
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
    return withLeftovers(withFlowEnds(balancer, context), context)
  },
  createFilter
}

/** Its cleanup also removes what IPVS or nftables has from a time when this host balanced with the other one. */
function withLeftovers(balancer: LoadBalancer, context: PartContext): LoadBalancer {
  const isIpvs = balancer.kind === 'ipvs'
  const other = isIpvs ? createNftLoadBalancer(context) : createIpvsLoadBalancer(context)
  return {
    ...balancer,
    async cleanup(signal) {
      await balancer.cleanup(signal)
      // The tool would load IPVS into a kernel that never used it.
      if (!isIpvs && !(await hasIpvs(context.run))) return
      await other.cleanup(signal)
    }
  }
}
