import { withFlowEnds } from '../../src/io/host/load-balancer/flow-ends.ts'
import { createNftLoadBalancer } from '../../src/io/host/load-balancer/nftables/nftables.ts'
import { translationSuite } from '../contract/translation.ts'

translationSuite({
  title: 'translated addresses, with services on nftables',
  create: (run, sources) =>
    withFlowEnds(createNftLoadBalancer({ run, names: { nftTable: 'rhizome' } }), { run, sources })
})
