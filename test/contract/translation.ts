// The addresses of the own pods between tunnel and host, where other clusters know them by virtual prefixes: one suite for every
// load balancer, run on nftables in a namespace and on IPVS in the guest (test/lab/support/guest.ts).
import assert from 'node:assert/strict'
import type { Filter } from '../../src/core/host/host-state.ts'
import type { Cidr } from '../../src/core/model/values.ts'
import { createNftFilter } from '../../src/io/host/filter/filter.ts'
import type { FilterPort, LoadBalancer, Run } from '../../src/io/host/ports.ts'
import { createRun } from '../../src/io/host/tools/run.ts'
import { TranslatedSources } from '../../src/io/host/translated-sources.ts'
import { startAsker, startServers, type Ask } from '../lab/support/lb-traffic-client.ts'
import { Lab, type Namespace } from '../lab/support/netns.ts'
import { patient } from '../lab/support/patient.ts'
import { requireLab } from '../lab/support/require.ts'
import { real, virtual } from './load-balancer.ts'

const { signal } = new AbortController()
const FILTER: Filter = {
  remoteSources: ['10.129.0.0/16', 'fd72:6801::/48'] as readonly string[] as readonly Cidr[],
  localDestinations: ['10.1.0.0/16', 'fd01::/48'] as readonly string[] as readonly Cidr[],
  guardedVips: ['10.193.0.0/16', 'fd73::/112'] as readonly string[] as readonly Cidr[],
  translatedPods: ['10.1.0.0/16 10.128.0.0/16', 'fd01::/48 fd72:6800::/48'],
  probePort: 0,
  mtu: 1380
}
/** Other virtual prefixes, as a Grant gives them. */
const MOVED = ['10.1.0.0/16 10.140.0.0/16', 'fd01::/48 fd72:6a00::/48'] as const
/** By family: a pod here, what others call it, and a pod and a service of the other cluster. */
const ENDS = [
  { pod: '10.1.0.2', inMesh: '10.128.0.2', remote: '10.129.0.2', service: '10.193.0.10' },
  { pod: 'fd01::2', inMesh: 'fd72:6800::2', remote: 'fd72:6801::2', service: 'fd73::10' }
] as const

export interface TranslationOptions {
  readonly title: string
  create(run: Run, sources: TranslatedSources): LoadBalancer
  /** Once, in the host's namespace. */
  prepare?(run: Run): Promise<void>
}

/** remote (another cluster) — host — pod. The link to remote has the tunnel device's name. */
export function translationSuite(options: TranslationOptions): void {
  describe(options.title, () => suite(options))
}

function suite(options: TranslationOptions): void {
  let lab: Lab
  let host: Namespace
  let names: { readonly nftTable: string; readonly device: string }
  let run: Run
  let filter: FilterPort
  let balancer: LoadBalancer
  let askPod: Ask
  let askHost: Ask
  let askRemote: Ask

  before(async function () {
    requireLab(this)
    lab = await Lab.create('translation.test')
    names = { nftTable: 'rhizome', device: lab.device('wg') }
    host = await lab.namespace('host')
    const remote = await lab.namespace('remote')
    const pod = await lab.namespace('pod')
    await lab.link(host, names.device, ['192.0.2.1/24', 'fd00::1/64'], remote, 'eth0', [
      '192.0.2.2/24',
      '10.129.0.2/32',
      'fd00::2/64',
      'fd72:6801::2/128'
    ])
    await lab.link(host, 'pod', ['10.1.0.1/24', 'fd01::1/64'], pod, 'eth0', ['10.1.0.2/24', 'fd01::2/64'])
    await pod.exec(['ip', 'route', 'add', 'default', 'via', '10.1.0.1'])
    await pod.exec(['ip', 'route', 'add', 'default', 'via', 'fd01::1'])
    await remote.exec(['ip', 'route', 'add', 'default', 'via', '192.0.2.1', 'src', '10.129.0.2'])
    await remote.exec(['ip', 'route', 'add', 'default', 'via', 'fd00::1', 'src', 'fd72:6801::2'])
    const forwarding = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding']
    await host.exec(['tee', ...forwarding], { input: '1' })
    await host.exec(['tee', '/proc/sys/net/ipv4/icmp_ratelimit'], { input: '0' })
    for (const route of [
      '10.129.0.0/16 via 192.0.2.2 src 10.1.0.1',
      'fd72:6801::/48 via fd00::2 src fd01::1',
      'local 10.193.0.0/16 dev lo src 10.1.0.1',
      'local fd73::/112 dev lo src fd01::1'
    ])
      await host.exec(['ip', ...(route.includes('fd') ? ['-6'] : []), 'route', 'add', ...route.split(' ')])
    // WireGuard knows no neighbour discovery, and the filter lets none in.
    for (const [from, device, to, far, ip] of [
      [host, names.device, remote, 'eth0', 'fd00::2'],
      [remote, 'eth0', host, names.device, 'fd00::1']
    ] as const) {
      const [link] = JSON.parse((await to.exec(['ip', '-json', 'link', 'show', 'dev', far])).stdout) as [
        { readonly address: string }
      ]
      const mac = link.address
      await from.exec(['ip', 'neigh', 'replace', ip, 'lladdr', mac, 'dev', device, 'nud', 'permanent'])
    }
    await startServers(
      remote,
      ENDS.map((end) => end.remote)
    )
    await startServers(
      pod,
      ENDS.map((end) => end.pod)
    )
    askPod = await startAsker(pod)
    askHost = await startAsker(host)
    askRemote = await startAsker(remote)
    run = patient(createRun({ prefix: ['ip', 'netns', 'exec', host.name] }))
    const sources = new TranslatedSources()
    filter = createNftFilter({ run, names, sources })
    balancer = options.create(run, sources)
    await options.prepare?.(run)
    await balancer.observe(signal)
    await filter.set(FILTER, signal)
    const wanted = ENDS.flatMap(({ service, remote: to }) => [
      virtual(service, [real(to)]),
      virtual(service, [real(to)], { protocol: 'UDP', port: 53 })
    ])
    await balancer.apply(
      wanted.map((want) => ({ want, have: undefined })),
      signal
    )
  })
  after(async () => {
    await lab?.close()
  })

  const answers = async (ask: Ask, ip: string, protocol: 'TCP' | 'UDP', port = 8080) => [
    ...new Set(await ask({ protocol, ip, port, count: 3 }))
  ]

  it('is observed as it was set, also after a restart', async () => {
    assert.deepEqual(await createNftFilter({ run, names }).observe(signal), FILTER)
  })

  for (const { pod, inMesh, remote, service } of ENDS) {
    for (const protocol of ['TCP', 'UDP'] as const)
      it(`${protocol}: ${pod} and ${remote} reach each other, and ${remote} knows the pod as ${inMesh}`, async () => {
        assert.deepEqual(await answers(askPod, remote, protocol), [`${remote} 8080 ${inMesh}`])
        assert.deepEqual(await answers(askRemote, inMesh, protocol), [`${pod} 8080 ${remote}`])
        // A process of the host has the address of the host in the pod prefix.
        const [host1] = await answers(askHost, remote, protocol)
        assert.equal(host1, `${remote} 8080 ${inMesh.replace(/2$/, '1')}`)
      })

    it(`${pod} reaches the service ${service} of the other cluster, which sees ${inMesh}`, async () => {
      assert.deepEqual(await answers(askPod, service, 'TCP', 80), [`${remote} 8080 ${inMesh}`])
      assert.deepEqual(await answers(askPod, service, 'UDP', 53), [`${remote} 8080 ${inMesh}`])
      // The flows are right: a sweep of those to wrong backends or with wrong sources ends none.
      await balancer.observe(signal)
      assert.deepEqual(await answers(askPod, service, 'UDP', 53), [`${remote} 8080 ${inMesh}`])
    })

    it(`a closed port of ${inMesh} is refused at once`, async () => {
      assert.deepEqual(await answers(askRemote, inMesh, 'TCP', 7777), ['ECONNREFUSED'])
    })
  }

  it('a packet from the tunnel that names a real address of this cluster is dropped', async () => {
    const [{ pod }] = ENDS
    const [answer] = await askRemote({ protocol: 'UDP', ip: pod, port: 8080, count: 1 })
    assert.ok(!answer?.startsWith(pod), answer)
    assert.match(await table(), /chain unreal \{[^}]*ip daddr 10\.1\.0\.0\/16 counter packets [1-9]/)
  })

  it('no packet was seen with a source that does not belong into the tunnel', async () => {
    assert.doesNotMatch(await table(), /set stray[46] \{[^}]*elements/)
  })

  it('flows with fixed ports follow the prefixes when these change, and when the table was lost for a moment', async () => {
    const asked = ENDS.flatMap(({ remote, service }, at) => [
      { protocol: 'UDP' as const, ip: remote, port: 8080, count: 1, sourcePort: 40_001 + 2 * at },
      { protocol: 'UDP' as const, ip: service, port: 53, count: 1, sourcePort: 40_002 + 2 * at }
    ])
    const sources = async (): Promise<unknown[]> => {
      const said = []
      for (const question of asked) said.push((await askPod(question))[0]?.split(' ')[2])
      return said
    }
    assert.deepEqual(await sources(), ['10.128.0.2', '10.128.0.2', 'fd72:6800::2', 'fd72:6800::2'])
    await filter.set({ ...FILTER, translatedPods: MOVED }, signal)
    const moved = ['10.140.0.2', '10.140.0.2', 'fd72:6a00::2', 'fd72:6a00::2']
    assert.deepEqual(await sources(), moved)
    await host.exec(['nft', 'delete', 'table', 'inet', `${names.nftTable}-filter`])
    await host.exec(['conntrack', '-F'])
    assert.deepEqual((await sources())[0], ENDS[0].pod)
    assert.equal(await filter.observe(signal), undefined)
    await filter.set({ ...FILTER, translatedPods: MOVED }, signal)
    assert.deepEqual(await sources(), moved)
  })

  it('without the translation, the pods have their real addresses in the tunnel', async () => {
    const { translatedPods: _, ...plain } = FILTER
    await filter.set(plain, signal)
    const [{ pod, remote }] = ENDS
    assert.deepEqual(await answers(askPod, remote, 'TCP'), [`${remote} 8080 ${pod}`])
    assert.deepEqual(await answers(askRemote, pod, 'TCP'), [`${pod} 8080 ${remote}`])
  })

  const table = async (): Promise<string> =>
    (await host.exec(['nft', 'list', 'table', 'inet', `${names.nftTable}-filter`])).stdout
}
