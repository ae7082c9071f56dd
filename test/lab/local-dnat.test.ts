import { createNftLoadBalancer } from '../../src/io/host/load-balancer/nftables/nftables.ts'
import { IPTABLES_SHAPES, localDnatSuite, NFT_SHAPES } from '../contract/local-dnat.ts'

for (const [rules, shapes] of [
  ['nft', NFT_SHAPES],
  ['iptables', IPTABLES_SHAPES]
] as const)
  localDnatSuite({
    title: `service addresses on nftables, and the ${rules} rules of others for local addresses`,
    shapes,
    create: (run) => createNftLoadBalancer({ run, names: { nftTable: 'rhizome' } })
  })
