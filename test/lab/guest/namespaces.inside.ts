// Runs in the guest (guest.test.ts boots it): IPVS in several network namespaces of one kernel, where /proc/net/ip_vs ends early.
import assert from 'node:assert/strict'
import type { VirtualServer } from '../../../src/core/host/host-state.ts'
import type { Cidr } from '../../../src/core/model/values.ts'
import { createIpvsLoadBalancer } from '../../../src/io/host/load-balancer/ipvs/ipvs.ts'
import type { LoadBalancer, Run } from '../../../src/io/host/ports.ts'
import { real, virtual } from '../../contract/load-balancer.ts'
import { runIn } from '../support/lb-bench.ts'
import { Lab } from '../support/netns.ts'

const SERVICES = 80
const PREFIXES = ['10.96.0.0/16'] as readonly string[] as readonly Cidr[]

interface Host {
  readonly run: Run
  readonly balancer: LoadBalancer
  readonly desired: readonly VirtualServer[]
}

describe('IPVS in three network namespaces of one kernel', () => {
  let lab: Lab
  const hosts: Host[] = []
  const { signal } = new AbortController()

  before(async () => {
    lab = await Lab.create('guest namespaces')
    for (const role of ['a', 'b', 'c']) {
      const run = runIn(await lab.namespace(role))
      const balancer = createIpvsLoadBalancer({ run, names: { vipPrefixes: () => PREFIXES } })
      const desired = Array.from({ length: SERVICES }, (_, index) =>
        virtual(`10.96.1.${index}`, [real(`10.1.${hosts.length}.1`), real(`10.1.${hosts.length}.2`)])
      )
      await balancer.start()
      await balancer.apply(
        desired.map((want) => ({ want, have: undefined })),
        signal
      )
      hosts.push({ run, balancer, desired })
    }
  })
  after(async () => {
    await lab?.close()
  })

  it('each reads all of its own services back, and none of another', async () => {
    for (const { balancer, desired } of hosts) assert.deepEqual(await balancer.observe(signal), desired)
    // It is not read from /proc/net/ip_vs: there this kernel ends the list of one namespace early, by chance of its hash (27 of 80 seen).
  })

  it('a service that exists already is no error, and becomes what is asked for', async () => {
    for (const { balancer, desired } of hosts) {
      const again = desired.slice(0, 10)
      const other = again.map((server) => ({
        ...server,
        affinitySeconds: 60,
        realServers: [real('10.1.9.9', 3)]
      }))
      await balancer.apply(
        other.map((want) => ({ want, have: undefined })),
        signal
      )
      assert.deepEqual(await balancer.observe(signal), [...other, ...desired.slice(10)])
      await balancer.apply(
        again.map((want) => ({ want, have: undefined })),
        signal
      )
      assert.deepEqual(await balancer.observe(signal), desired)
    }
  })

  it('what one removes stays with the others', async () => {
    const [first, ...others] = hosts
    await first?.balancer.cleanup(signal)
    assert.deepEqual(await first?.balancer.observe(signal), [])
    for (const { balancer, desired } of others) assert.deepEqual(await balancer.observe(signal), desired)
  })
})
