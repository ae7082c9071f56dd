// Three sites with the same pod and service prefixes, the same pod addresses and the same service addresses: each has virtual
// prefixes in the mesh, and they reach each other both ways, by TCP and UDP, with the sources kept apart.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RoutesAnswer, StatusAnswer } from '../../src/api/answers.ts'
import type { PingAnswer } from '../../src/api/diagnosis-answers.ts'
import { podCidr, serviceCidr, type Cluster, type Site } from '../demo/site.ts'
import type { PodReply } from '../demo/pod.ts'
import { eventually } from '../eventually.ts'
import { startFlow } from '../lab/support/counted-flow.ts'
import { done, inStep, look, marks, peer, raise, refused, status } from './harness.ts'

const REAL = ['--real-pod-cidr', podCidr('west'), '--real-service-cidr', serviceCidr('west')]
const SITES = ['west', 'east', 'edge'] as const
// What `init` and `invite` choose from their pools, in the order in which the sites come.
const VIRTUAL: Record<Cluster, { readonly pods: string; readonly services: string }> = {
  west: { pods: '10.128', services: '10.192' },
  east: { pods: '10.129', services: '10.193' },
  edge: { pods: '10.130', services: '10.194' }
}
const DEADLINE_MS = 60_000

describe('clusters with the same addresses', function () {
  const { site } = raise('overlap', SITES, { alike: 'west' })
  const podIn = (cluster: Cluster, index: number): string => `${VIRTUAL[cluster].pods}.0.${11 + index}`
  const webIn = (cluster: Cluster): string => `${VIRTUAL[cluster].services}.0.10`

  async function joins(cluster: Cluster): Promise<void> {
    const token = (await done(site('west').ctl('invite', cluster, ...REAL))).stdout.trim()
    await done(site(cluster).ctl('join', token, ...REAL))
  }

  /** A pod of `from` is answered by a pod of `to`, which sees the virtual address of the asking pod. */
  async function reaches(from: Cluster, to: Cluster): Promise<void> {
    const client = podIn(from, 0)
    const pod = site(from).pod(0)
    await eventually(async () => {
      is(await pod.tcp(webIn(to), 80, { timeoutMs: 1000 }), { client, at: to })
      return true
    }, DEADLINE_MS)
    for (const host of [webIn(to), `web.shop.svc.cluster.${to}`])
      is(await pod.tcp(host, 80, { count: 6 }), { client, at: to })
    const telemetry = `telemetry.platform.svc.cluster.${to}`
    is(await pod.udp(telemetry, 8125, { count: 3 }), { client, at: to })
    const [address = ''] = (await pod.resolve(telemetry)).addresses
    assert.ok(address.startsWith(`${VIRTUAL[to].services}.`), address)
    is(await pod.udp(address, 8125, { count: 3 }), { client, at: to })
    // The pod of `to` with the same real address as the asking one, and another one.
    for (const index of [0, 2]) {
      is(await pod.tcp(podIn(to, index), 8080), { client, at: to })
      is(await pod.udp(podIn(to, index), 9125), { client, at: to })
    }
  }

  it('refuses real prefixes of other lengths, and names both sides', async () => {
    const wrong = ['--pod-cidr', '10.128.0.0/17', '--service-cidr', '10.192.0.0/16', ...REAL]
    const said = await refused(site('west').ctl('init', '--cluster', 'west', ...wrong))
    assert.match(said, /10\.1\.0\.0\/16/)
    assert.match(said, /10\.128\.0\.0\/17/)
    assert.match(said, /same lengths/)
  })

  it('two sites reach each other, both ways', async () => {
    await done(site('west').ctl('init', '--cluster', 'west', ...REAL))
    await joins('east')
    await Promise.all([reaches('west', 'east'), reaches('east', 'west')])
  })

  it('shows the prefixes of the mesh and the real ones', async () => {
    const { podCidrs, translated } = await status(site('east'))
    assert.deepEqual(podCidrs, ['10.129.0.0/16'])
    assert.deepEqual(translated, { '10.129.0.0/16': podCidr('west'), '10.193.0.0/16': serviceCidr('west') })
    const { stdout } = await done(site('east').ctl('status'))
    assert.match(stdout, /10\.129\.0\.0\/16 \(really 10\.1\.0\.0\/16\)/)
    assert.deepEqual((await peer(site('west'), 'east'))?.cidrs, ['10.129.0.0/16', '10.193.0.0/16'])
    const own = await peer(site('east'), 'east')
    assert.deepEqual(own?.cidrs, ['10.129.0.0/16', '10.193.0.0/16'])
    assert.deepEqual(own.translated, translated)
    const services = (await done(site('east').ctl('services'))).stdout.split('\n')
    const web = (of: Cluster) => services.find((line) => line.startsWith(of) && / web /.test(line)) ?? ''
    assert.match(web('east'), /10\.101\.0\.10 \(mesh 10\.193\.0\.10\)/)
    assert.match(web('west'), / 10\.192\.0\.10 /)
  })

  it('why follows a connection to a virtual address, and names the real one of an own pod', async () => {
    const [pod, from] = [podIn('west', 0), site('east').pod(0).address]
    const { stdout } = await done(site('east').ctl('why', `${pod}:8080`, '--from', from))
    assert.match(stdout, /^It works/)
    assert.match(stdout, new RegExp(`other clusters see it as ${podIn('east', 0)}`))
    const own = await site('east').ctl('why', `${podIn('east', 0)}:8080`)
    assert.equal(own.exitCode, 1)
    assert.match(own.stdout, new RegExp(`use ${from} in this cluster`))
  })

  it('an overlap without a translation is refused with the flags of one', async () => {
    const flags = ['--pod-cidr', VIRTUAL.west.pods + '.0.0/16', '--service-cidr', '10.240.0.0/16']
    const said = await refused(site('west').ctl('invite', 'edge', ...flags))
    assert.match(said, /overlaps 10\.128\.0\.0\/16 of cluster west/)
    assert.match(said, /--real-pod-cidr.*--real-service-cidr/)
    const real = ['--pod-cidr', podCidr('west'), '--service-cidr', serviceCidr('west')]
    assert.match(await refused(site('west').ctl('invite', 'edge', ...real)), /--real-pod-cidr/)
  })

  it('own names have the real addresses, names of the other cluster the virtual ones', async () => {
    const pod = site('east').pod(1)
    const own = await pod.resolve('web.shop.svc.cluster.east')
    assert.deepEqual(own.addresses, ['10.101.0.10'])
    const all = await pod.resolve('web.shop.svc.cluster.all')
    assert.deepEqual(all.addresses.toSorted(), ['10.101.0.10', webIn('west')])
    const headless = await pod.resolve('cassandra-1.cassandra.shop.svc.cluster.west')
    assert.deepEqual(headless.addresses, [podIn('west', 1)])
    // By its own name, the service answers with the client's real address, and without the tunnel.
    // A pod that the load balancer leads back to itself sees the address of its host.
    const reply = await pod.tcp('web.shop.svc.cluster.east', 80, { count: 6 })
    assert.equal(reply.error, undefined)
    for (const answer of reply.answers) {
      const client = answer.pod === pod.name ? '10.1.0.1' : pod.address
      is({ ...reply, answers: [answer] }, { client, at: 'east' })
    }
  })

  it('a third site comes, and every pair reaches each other', async () => {
    await joins('edge')
    const pairs = SITES.flatMap((from) => SITES.filter((to) => to !== from).map((to) => [from, to] as const))
    await Promise.all(pairs.map(([from, to]) => reaches(from, to)))
    for (const cluster of SITES) await inStep(site(cluster))
  })

  it('ping is answered, and a refused connection says so at once', async () => {
    const { namespace } = site('west').pod(0)
    await namespace.exec(['ping', '-c', '2', '-W', '2', podIn('east', 0)])
    assert.equal((await site('west').pod(0).tcp(podIn('east', 0), 7777)).error, 'ECONNREFUSED')
    // The kernel tells a connected UDP socket of the ICMP error only if its inner addresses are the real ones.
    const { stdout } = await namespace.exec([
      process.execPath,
      '-e',
      `const s = require('dgram').createSocket('udp4')
       s.on('error', (e) => { console.log(e.code); process.exit() })
       s.connect(7777, '${podIn('east', 0)}', () => { s.send('x'); setTimeout(() => s.send('x'), 300) })
       setTimeout(() => process.exit(), 3000)`
    ])
    assert.equal(stdout.trim(), 'ECONNREFUSED')
  })

  it('no packet left with a real source, and none named a real destination', async () => {
    for (const cluster of SITES) {
      const { gateway } = site(cluster)
      const table = (await gateway.exec(['nft', 'list', 'table', 'inet', 'rhizome-filter'])).stdout
      assert.match(table, /chain unreal \{[^}]*counter packets 0 bytes 0 drop/)
      assert.doesNotMatch(table, /set stray4 \{[^}]*elements/)
    }
  })

  it('the agents are killed and started under traffic: no request fails, and no flow loses a packet', async () => {
    const east = site('east').pod(1)
    const flow = await startFlow(
      site('west').pod(1).namespace,
      { namespace: east.namespace, address: east.address, sent: podIn('east', 1) },
      20
    )
    await undisturbed('west', 'east', async () => {
      await site('east').stop('SIGKILL')
      await site('east').start()
      await inStep(site('east'))
      await site('west').stop('SIGKILL')
      await site('west').start()
      await inStep(site('west'))
    })
    // The flow began before: the kernel went on to translate it.
    const { sent, lost, lostTcp } = await flow.end()
    assert.ok(sent > 20, String(sent))
    assert.deepEqual({ lost, lostTcp }, { lost: [], lostTcp: 0 })
    const { translated } = await look<StatusAnswer>(site('east'), 'status')
    assert.equal(translated?.['10.129.0.0/16'], podCidr('west'))
    await Promise.all([reaches('west', 'east'), reaches('east', 'west')])
  })

  it('a policy over translated clusters has one address, and the clusters that it chooses answer', async () => {
    for (const [policy, chosen] of [
      ['failover=east,west', 'east'],
      ['failover=west,east', 'west']
    ] as const) {
      annotate('west', policy)
      await eventually(async () => {
        const { addresses } = await site('west').pod(0).resolve('web.shop.svc.cluster.all')
        assert.equal(addresses.length, 1)
        const { answers, error } = await site('west')
          .pod(0)
          .tcp('web.shop.svc.cluster.all', 80, { count: 10 })
        assert.equal(error, undefined)
        assert.ok(
          answers.every(({ pod }) => pod.startsWith(`${chosen}-`)),
          JSON.stringify(answers)
        )
        return true
      }, DEADLINE_MS)
    }
  })

  it('routes lead to the virtual prefixes of the others', async () => {
    const { routes } = await look<RoutesAnswer>(site('west'), 'routes')
    const toEast = routes.filter(({ destination }) => destination === '10.129.0.0/16')
    assert.equal(toEast.length, 1)
  })

  it('a site leaves, and nothing of it stays; the others go on', async () => {
    await done(site('edge').ctl('leave', '--yes'))
    assert.equal(await marks(site('edge')), '')
    await Promise.all([reaches('west', 'east'), reaches('east', 'west')])
  })

  it('a Grant gives east another virtual prefix: probes and flows that keep their port follow it', async () => {
    const moved = '10.200.0'
    const ask = () => site('east').pod(1).udp(podIn('west', 1), 9125, { sourcePort: 40_404, timeoutMs: 1000 })
    is(await ask(), { client: podIn('east', 1), at: 'west' })
    const flags = ['--add-pod-cidr', `${moved}.0/16`, '--drop', `${VIRTUAL.east.pods}.0.0/16`]
    await done(site('west').ctl('grant', 'east', ...flags))
    await eventually(async () => {
      is(await ask(), { client: `${moved}.12`, at: 'west' })
      // The reason would say that the gateway answers no probes.
      for (const [from, to] of [
        ['west', 'east'],
        ['east', 'west']
      ] as const)
        assert.equal((await peer(site(from), to))?.reason, undefined)
      const { gateways } = await site('west').ask<PingAnswer>('ping', 'east', '-c', '1')
      assert.deepEqual(
        gateways.map(({ address, received }) => [address, received]),
        [[`${moved}.1`, 1]]
      )
      return true
    }, DEADLINE_MS)
  })

  /** Writes the policy of the Service shop/web of a cluster. */
  function annotate(cluster: Cluster, policy: string): void {
    const file = join(site(cluster).manifests, 'storefront.yaml')
    const text = readFileSync(file, 'utf8').replace(/\n {2}annotations:\n.*\n/, '\n')
    const at = text.indexOf('  name: web\n')
    const annotation = `  annotations:\n    rhizome.io/balance: ${policy}\n`
    writeFileSync(file, `${text.slice(0, at)}${annotation}${text.slice(at)}`)
  }

  /** Does this while a pod of `from` asks the services of `to` by TCP and UDP: every request must be answered. */
  async function undisturbed(from: Cluster, to: Cluster, act: () => Promise<void>): Promise<void> {
    const ended = new AbortController()
    const failures: Record<string, number> = {}
    let count = 0
    const ask = async (request: (of: Site) => Promise<PodReply>): Promise<void> => {
      while (!ended.signal.aborted) {
        const { error } = await request(site(from))
        count++
        if (error !== undefined) failures[error] = (failures[error] ?? 0) + 1
      }
    }
    const loops = Promise.all([
      ask((of) => of.pod(0).tcp(webIn(to), 80, { timeoutMs: 2000 })),
      ask((of) => of.pod(1).udp(podIn(to, 1), 9125, { timeoutMs: 2000 }))
    ])
    try {
      await act()
    } finally {
      ended.abort()
      await loops
    }
    assert.deepEqual(failures, {}, `of ${count} requests`)
  }
})

/** The reply came from pods of this cluster, which saw this client. */
function is(reply: PodReply, { client, at }: { readonly client: string; readonly at: Cluster }): void {
  assert.equal(reply.error, undefined)
  for (const { pod, client: seen } of reply.answers) {
    assert.equal(seen.replace('::ffff:', ''), client)
    assert.ok(pod.startsWith(`${at}-`), pod)
  }
}
