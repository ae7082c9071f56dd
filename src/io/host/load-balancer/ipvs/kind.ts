// The row of IPVS in the table of load balancers (registry.ts). IPVS serves kernels without nftables, and hosts whose
// setting load-balancer names it. The sysctls are described in the kernel's Documentation/networking/ipvs-sysctl.rst.
import type { LoadBalancerKind } from '../kind.ts'
import { succeeds } from '../../tools/succeeds.ts'
import { createIpvsLoadBalancer, IPVS_MODULES } from './ipvs.ts'

/** IPVS as a kind. See LoadBalancerKind for the fields. */
export const IPVS = {
  name: 'ipvs',
  title: 'IPVS',
  needs: 'IPVS',
  tools: ['ipvsadm'],
  modules: IPVS_MODULES,
  // With the kernel's defaults, a removed or drained real server would keep its clients.
  sysctls: [
    // Conntrack has the flows, so that the filter's exemption from masquerading sees the replies.
    ['net.ipv4.vs.conntrack', '1'],
    // A flow to a removed real server ends at once instead of at its timeout.
    ['net.ipv4.vs.expire_nodest_conn', '1'],
    // ClientIP persistence must not bind a client to a draining real server.
    ['net.ipv4.vs.expire_quiescent_template', '1'],
    // A connection from a reused source port is balanced again. This is safe on kernels from 5.9 on.
    ['net.ipv4.vs.conn_reuse_mode', '1']
  ],
  async detect(run) {
    // The result of modprobe does not count, because a kernel with IPVS built in has no modules. The listing decides.
    await succeeds(run, 'modprobe', ['-a', '-q', ...IPVS_MODULES])
    return succeeds(run, 'ipvsadm', ['-S', '-n'])
  },
  /**
   * Returns whether /proc/net/ip_vs exists, which means that IPVS is loaded or built in. ipvsadm is not asked, because
   * it would load IPVS into a kernel that has never used it.
   */
  async mayHaveLeftovers(run) {
    return (await succeeds(run, 'cat', ['/proc/net/ip_vs'])) && succeeds(run, 'ipvsadm', ['--version'])
  },
  create: createIpvsLoadBalancer
} as const satisfies LoadBalancerKind
