// Runs in the guest (guest.test.ts boots it): others' rules for local addresses, before a real IPVS.
import { IPVS } from '../../../src/io/host/load-balancer/ipvs/kind.ts'
import { createIpvsLoadBalancer } from '../../../src/io/host/load-balancer/ipvs/ipvs.ts'
import { localDnatSuite, NFT_SHAPES } from '../../contract/local-dnat.ts'

localDnatSuite({
  title: 'service addresses on IPVS, and the rules of others for local addresses',
  // One of each kind: a program takes ten times as long here.
  shapes: NFT_SHAPES.filter(([what]) => /portmap|Docker|redirect/.test(what)),
  orders: ['theirs'],
  create: (run) =>
    createIpvsLoadBalancer({ run, names: { vipPrefixes: () => ['10.96.0.0/16', 'fd96::/112'] } }),
  async prepare(run) {
    for (const [name, value] of IPVS.sysctls) await run('sysctl', ['-qw', `${name}=${value}`])
  }
})
