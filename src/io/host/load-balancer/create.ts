// Creates the load balancer of one kind, and adds to it what every kind needs: flows to removed backends are ended
// (flow-ends.ts), and cleanup also removes the virtual servers of the other kinds. src/io/host/host.ts calls it in
// start() with the kind that the setting or detection chose.
import type { LoadBalancer, PartContext } from '../ports.ts'
import { withFlowEnds } from './flow-ends.ts'
import type { LoadBalancerKind } from './kind.ts'
import { LOAD_BALANCERS, loadBalancerKind, type LoadBalancerName } from './registry.ts'

/** Returns a load balancer that is not started. Throws an Error for a name without a row in registry.ts. */
export function createLoadBalancer(name: LoadBalancerName, context: PartContext): LoadBalancer {
  const kind = loadBalancerKind(name)
  if (kind === undefined) throw new Error(`no load balancer is called ${name}`)
  const others = LOAD_BALANCERS.filter((other) => other !== kind)
  return withLeftovers(withFlowEnds(kind.create(context), context), others, context)
}

/** Extends cleanup to virtual servers of other kinds, left from a time when another kind was set on this host. */
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
