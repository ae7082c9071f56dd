// A load balancer of one kind with what every kind needs around it.
import type { LoadBalancer, PartContext } from '../ports.ts'
import { withFlowEnds } from './flow-ends.ts'
import type { LoadBalancerKind } from './kind.ts'
import { LOAD_BALANCERS, loadBalancerKind, type LoadBalancerName } from './registry.ts'

export function createLoadBalancer(name: LoadBalancerName, context: PartContext): LoadBalancer {
  const kind = loadBalancerKind(name)
  if (kind === undefined) throw new Error(`no load balancer is called ${name}`)
  const others = LOAD_BALANCERS.filter((other) => other !== kind)
  return withLeftovers(withFlowEnds(kind.create(context), context), others, context)
}

/** Its cleanup also removes what the other kinds have from a time when this host balanced with one of them. */
function withLeftovers(
  balancer: LoadBalancer,
  others: readonly LoadBalancerKind[],
  context: PartContext
): LoadBalancer {
  return {
    ...balancer,
    async cleanup(signal) {
      await balancer.cleanup(signal)
      for (const other of others)
        if (await other.mayHaveLeftovers(context.run)) await other.create(context).cleanup(signal)
    }
  }
}
