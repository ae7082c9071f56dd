// Runs in the guest (guest.test.ts boots it): the load balancer contract on a real IPVS.
import assert from 'node:assert/strict'
import { IPVS } from '../../../src/io/host/load-balancer/ipvs/kind.ts'
import { detectLoadBalancer } from '../../../src/io/host/load-balancer/detect.ts'
import { withFlowEnds } from '../../../src/io/host/load-balancer/flow-ends.ts'
import { createIpvsLoadBalancer } from '../../../src/io/host/load-balancer/ipvs/ipvs.ts'
import { loadBalancerContract, PODS, real, VIP_PREFIXES, virtual } from '../../contract/load-balancer.ts'
import { policyContract } from '../../contract/policies.ts'
import { createLabBench, type LabBench } from '../support/lb-bench.ts'
import type { Run } from '../../../src/io/host/ports.ts'
import { missing } from '../../../src/io/host/tools/run.ts'
import { Lab } from '../support/netns.ts'

describe('the IPVS load balancer', () => {
  let lab: Lab
  let bench: LabBench
  const { signal } = new AbortController()
  before(async () => {
    lab = await Lab.create('guest ipvs')
    bench = await createLabBench({
      lab,
      create: (run) =>
        withFlowEnds(createIpvsLoadBalancer({ run, names: { vipPrefixes: () => VIP_PREFIXES } }), { run }),
      foreign: async (run) =>
        (await run('ipvsadm', ['-S', '-n'])).stdout
          .split('\n')
          .filter((line) => line.includes('10.97.'))
          .join('\n'),
      plantForeign: async (run) => {
        for (const line of ['-A -t 10.97.0.1:80 -s sh -p 50', '-a -t 10.97.0.1:80 -r 10.1.0.13:80 -g -w 3']) {
          await run('ipvsadm', line.split(' '))
        }
      },
      tamper: async (run) => {
        await run('ipvsadm', '-d -t 10.96.0.1:80 -r 10.1.0.12:8080'.split(' '))
        await run('ipvsadm', '-A -t 10.96.0.9:80 -s rr'.split(' '))
      }
    })
    await createIpvsLoadBalancer({ run: bench.run, names: { vipPrefixes: () => [] } }).start()
    // What the plan sets on a host before the first virtual server.
    for (const [name, value] of IPVS.sysctls) await bench.run('sysctl', ['-qw', `${name}=${value}`])
  })
  after(async () => {
    await lab?.close()
  })

  loadBalancerContract(() => bench)
  policyContract(() => bench)

  it('is the second choice of `auto`: this kernel has nftables, too', async () => {
    assert.equal(await detectLoadBalancer(bench.run), 'nftables')
    const withoutNft: Run = (tool, args, options) =>
      tool === 'nft' ? Promise.reject(missing(tool)) : bench.run(tool, args, options)
    assert.equal(await detectLoadBalancer(withoutNft), 'ipvs')
  })

  it('draws in turn', async () => {
    const balancer = bench.create()
    await balancer.apply(
      [{ want: virtual('10.96.0.8', [real(PODS[0]), real(PODS[1])]), have: undefined }],
      signal
    )
    const answers = await bench.askFull({
      protocol: 'TCP',
      ip: '10.96.0.8',
      port: 80,
      count: 6,
      source: '10.2.0.3'
    })
    assert.equal(answers.filter((answer) => answer === `${PODS[0]} 8080 10.2.0.3`).length, 3)
    assert.equal(answers.filter((answer) => answer === `${PODS[1]} 8080 10.2.0.3`).length, 3)
  })
})
