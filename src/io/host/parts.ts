// Chooses the implementations of the load balancer and of the packet filter. src/io/host/host.ts takes LINUX_PARTS
// unless a caller passes others, as tests do that run without a load balancer or with a model.
import { createFilter } from './filter/filter.ts'
import { createLoadBalancer } from './load-balancer/create.ts'
import { detectLoadBalancer } from './load-balancer/detect.ts'
import type { LoadBalancerName } from './load-balancer/registry.ts'
import type { FilterPort, LoadBalancer, PartContext, Run } from './ports.ts'

/** Creates the exchangeable parts of a host. */
export interface HostParts {
  /** Returns the kind for the setting load-balancer. `auto` tries the kernel. Errors: HostError; NO_LOAD_BALANCER. */
  chooseLoadBalancer(setting: 'auto' | LoadBalancerName, run: Run): Promise<LoadBalancerName>
  createLoadBalancer(kind: LoadBalancerName, context: PartContext): LoadBalancer
  createFilter(context: PartContext): FilterPort
}

/** The parts of a real Linux host. A kind set by name is not tried here: its start() reports what is missing. */
export const LINUX_PARTS: HostParts = {
  chooseLoadBalancer: async (setting, run) => (setting === 'auto' ? detectLoadBalancer(run) : setting),
  createLoadBalancer,
  createFilter
}
