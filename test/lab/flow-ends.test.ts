import { createNftLoadBalancer } from '../../src/io/host/load-balancer/nftables/nftables.ts'
import { flowEndsSuite } from '../contract/flow-ends.ts'

flowEndsSuite({
  title: 'the ends of flows on nftables',
  create: (run) => createNftLoadBalancer({ run, names: { nftTable: 'rhizome' } }),
  loseRules: async (run) => {
    await run('nft', ['flush', 'ruleset'])
  }
})
