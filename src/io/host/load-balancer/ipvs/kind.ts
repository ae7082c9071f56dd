// The row of IPVS in the table of load balancers.
import type { LoadBalancerKind } from '../kind.ts'
import { succeeds } from '../../tools/succeeds.ts'
import { createIpvsLoadBalancer, IPVS_MODULES } from './ipvs.ts'

export const IPVS = {
  name: 'ipvs',
  title: 'IPVS',
  needs: 'IPVS',
  tools: ['ipvsadm'],
  modules: IPVS_MODULES,
  // Without them a removed or drained real server would keep its clients.
  sysctls: [
    // Replies must be seen by netfilter's masquerade exemption.
    ['net.ipv4.vs.conntrack', '1'],
    // A flow to a real server that is gone ends at once instead of waiting for its timeout.
    ['net.ipv4.vs.expire_nodest_conn', '1'],
    // ClientIP persistence must not bind a client to a draining real server.
    ['net.ipv4.vs.expire_quiescent_template', '1'],
    // A reused source port is balanced anew (safe on kernels from 5.9).
    ['net.ipv4.vs.conn_reuse_mode', '1']
  ],
  async detect(run) {
    await succeeds(run, 'modprobe', ['-a', '-q', ...IPVS_MODULES])
    return succeeds(run, 'ipvsadm', ['-S', '-n'])
  },
  /** The file is there only where IPVS is loaded or built in: ipvsadm would load it into a kernel that never used it. */
  async mayHaveLeftovers(run) {
    return (await succeeds(run, 'cat', ['/proc/net/ip_vs'])) && succeeds(run, 'ipvsadm', ['--version'])
  },
  create: createIpvsLoadBalancer
} as const satisfies LoadBalancerKind
