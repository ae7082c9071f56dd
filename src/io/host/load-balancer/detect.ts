// Finds the load balancer that the setting `auto` means on this kernel: it tries the kinds in the order of registry.ts.
// src/io/host/parts.ts calls it when the host starts.
import { HostError } from '../errors.ts'
import type { Run } from '../ports.ts'
import type { LoadBalancerKind } from './kind.ts'
import { LOAD_BALANCERS, type LoadBalancerName } from './registry.ts'

/**
 * Returns the first kind of the table that this kernel can run. Errors: HostError; NO_LOAD_BALANCER where it can run
 * none.
 */
export async function detectLoadBalancer(run: Run): Promise<LoadBalancerName> {
  for (const kind of LOAD_BALANCERS) if (await kind.detect(run)) return kind.name
  throw noLoadBalancer(LOAD_BALANCERS)
}

/** The text names the kinds from the last to the first, and the first module of each. */
function noLoadBalancer(kinds: readonly LoadBalancerKind[]): HostError {
  const last = kinds.toReversed()
  return new HostError({
    code: 'NO_LOAD_BALANCER',
    message: `this kernel has neither ${last.map(({ needs }) => needs).join(' nor ')}`,
    fix: `load the kernel modules ${last.flatMap(({ modules }) => modules.slice(0, 1)).join(' or ')}`
  })
}
