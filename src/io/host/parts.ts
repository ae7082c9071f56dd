// The parts of a host that have more than one implementation, and which of them this kernel gets.
import { createFilter } from './filter/filter.ts'
import { createLoadBalancer } from './load-balancer/create.ts'
import { detectLoadBalancer } from './load-balancer/detect.ts'
import type { LoadBalancerName } from './load-balancer/registry.ts'
import type { FilterPort, LoadBalancer, PartContext, Run } from './ports.ts'

export interface HostParts {
  /** Errors: NO_LOAD_BALANCER. */
  chooseLoadBalancer(wish: 'auto' | LoadBalancerName, run: Run): Promise<LoadBalancerName>
  createLoadBalancer(kind: LoadBalancerName, context: PartContext): LoadBalancer
  createFilter(context: PartContext): FilterPort
}

export const LINUX_PARTS: HostParts = {
  chooseLoadBalancer: async (wish, run) => (wish === 'auto' ? detectLoadBalancer(run) : wish),
  createLoadBalancer,
  createFilter
}
