// Which load balancer `auto` means on this kernel.
import { HostError } from '../errors.ts'
import type { Run } from '../ports.ts'
import type { LoadBalancerKind } from './kind.ts'
import { LOAD_BALANCERS, type LoadBalancerName } from './registry.ts'

/** The first kind of the table that this kernel can do. Errors: HostError NO_LOAD_BALANCER where it can do none. */
export async function detectLoadBalancer(run: Run): Promise<LoadBalancerName> {
  for (const kind of LOAD_BALANCERS) if (await kind.detect(run)) return kind.name
  throw noLoadBalancer(LOAD_BALANCERS)
}

function noLoadBalancer(kinds: readonly LoadBalancerKind[]): HostError {
  const last = kinds.toReversed()
  return new HostError({
    code: 'NO_LOAD_BALANCER',
    message: `this kernel has neither ${last.map(({ needs }) => needs).join(' nor ')}`,
    fix: `load the kernel modules ${last.flatMap(({ modules }) => modules.slice(0, 1)).join(' or ')}`
  })
}
