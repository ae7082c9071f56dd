// The row of the toy in the table of load balancers.
import type { LoadBalancerKind } from '../../../src/io/host/load-balancer/kind.ts'
import { succeeds } from '../../../src/io/host/tools/succeeds.ts'
import { createToyLoadBalancer } from './toy.ts'

export const TOY = {
  name: 'toy',
  title: 'the toy',
  needs: 'a toy',
  tools: ['toylb'],
  modules: [],
  sysctls: [['net.ipv4.vs.toy', '1']],
  detect: (run) => succeeds(run, 'toylb', ['--version']),
  mayHaveLeftovers: (run) => succeeds(run, 'toylb', ['--version']),
  create: createToyLoadBalancer
} as const satisfies LoadBalancerKind
