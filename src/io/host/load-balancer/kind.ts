// What the agent knows of one kind of load balancer. The table in registry.ts has one row for each kind, and everything that lists kinds
// reads that table: the setting load-balancer, preflight, detection, sysctls, start and cleanup.
import type { LoadBalancer, PartContext, Run } from '../ports.ts'

export interface LoadBalancerKind {
  /** A value of the setting load-balancer; `meshctl status` prints it. */
  readonly name: string
  /** The name as help texts spell it. */
  readonly title: string
  /** What the kernel must have, as the error says where no kind works. */
  readonly needs: string
  /** Programs that must be on the PATH where this kind is set by name. tools/tools.ts has their packages and deadlines. */
  readonly tools: readonly string[]
  /** Kernel modules; the first one is what an operator loads by hand. */
  readonly modules: readonly string[]
  /** Names and values. They are set before the first virtual server is made. */
  readonly sysctls: readonly (readonly [name: string, value: string])[]
  /** Whether this kernel can do it, found by trying; may load kernel modules. Errors: HostError where a tool gives no answer. */
  detect(run: Run): Promise<boolean>
  /** Whether an earlier agent may have left virtual servers of this kind on the host. Loads no kernel module. */
  mayHaveLeftovers(run: Run): Promise<boolean>
  create(context: PartContext): LoadBalancer
}
