// Runs in the guest (guest.test.ts boots it): translated addresses before and behind a real IPVS.
import { IPVS } from '../../../src/io/host/load-balancer/ipvs/kind.ts'
import { createIpvsLoadBalancer } from '../../../src/io/host/load-balancer/ipvs/ipvs.ts'
import { withFlowEnds } from '../../../src/io/host/load-balancer/flow-ends.ts'
import type { Cidr } from '../../../src/core/model/values.ts'
import { translationSuite } from '../../contract/translation.ts'

const VIP_PREFIXES = ['10.193.0.0/16', 'fd73::/112'] as readonly string[] as readonly Cidr[]

translationSuite({
  title: 'translated addresses, with services on IPVS',
  create: (run, sources) =>
    withFlowEnds(createIpvsLoadBalancer({ run, names: { vipPrefixes: () => VIP_PREFIXES } }), {
      run,
      sources
    }),
  async prepare(run) {
    for (const [name, value] of IPVS.sysctls) await run('sysctl', ['-qw', `${name}=${value}`])
  }
})
