// Runs in the guest (guest.test.ts boots it): the ends of flows on a real IPVS.
import { IPVS } from '../../../src/io/host/load-balancer/ipvs/kind.ts'
import { createIpvsLoadBalancer } from '../../../src/io/host/load-balancer/ipvs/ipvs.ts'
import { flowEndsSuite } from '../../contract/flow-ends.ts'
import { VIP_PREFIXES } from '../../contract/load-balancer.ts'

flowEndsSuite({
  title: 'the ends of flows on IPVS',
  create: (run) => createIpvsLoadBalancer({ run, names: { vipPrefixes: () => VIP_PREFIXES } }),
  loseRules: async (run) => {
    await run('ipvsadm', ['-C'])
  },
  async prepare(run) {
    for (const [name, value] of IPVS.sysctls) await run('sysctl', ['-qw', `${name}=${value}`])
  }
})
