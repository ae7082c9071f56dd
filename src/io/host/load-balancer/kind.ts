// The description of one kind of load balancer. The table in registry.ts has one row for each kind, and all code that
// lists kinds reads that table: the setting load-balancer, preflight, detection, sysctls, start and cleanup.
import type { LoadBalancer, PartContext, Run } from '../ports.ts'

/** One row of the table. docs/adding.md shows how to add one. */
export interface LoadBalancerKind {
  /** A value of the setting load-balancer; `meshctl status` prints it. */
  readonly name: string
  /** The name as help texts spell it, such as "IPVS". */
  readonly title: string
  /** The feature that the kernel must have. The error NO_LOAD_BALANCER names it. */
  readonly needs: string
  /** Programs that must be on the PATH if this kind is set by name. tools/tools.ts has their packages and deadlines. */
  readonly tools: readonly string[]
  /** Kernel modules. An operator loads the first one by hand, and the error NO_LOAD_BALANCER names it. */
  readonly modules: readonly string[]
  /** Names and values that become a part of the desired host. A pass sets them before virtual servers. */
  readonly sysctls: readonly (readonly [name: string, value: string])[]
  /**
   * Returns whether this kernel can run the kind, found by trying it. It may load kernel modules. Errors: HostError
   * where a tool gives no answer.
   */
  detect(run: Run): Promise<boolean>
  /** Returns whether an earlier agent may have left virtual servers of this kind. Loads no kernel module. */
  mayHaveLeftovers(run: Run): Promise<boolean>
  /** Returns a load balancer that is not started. Runs no tool. */
  create(context: PartContext): LoadBalancer
}
