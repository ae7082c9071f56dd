import assert from 'node:assert/strict'
import type { Filter } from '../../src/core/host/host-state.ts'
import type { Cidr } from '../../src/core/model/values.ts'
import { createFilter, createNftFilter, createNoFilter, NO_FILTER } from '../../src/io/host/filter/filter.ts'
import type { FilterPort, Run } from '../../src/io/host/ports.ts'
import { openNftKernel } from '../../src/io/host/load-balancer/nftables/kernel.ts'
import { createRun } from '../../src/io/host/tools/run.ts'
import { eventually } from '../eventually.ts'
import { changedAfterLoad } from './support/changed-after-load.ts'
import { inNamespace } from './support/in-namespace.ts'
import { startAsker, startServers, type Ask } from './support/lb-traffic-client.ts'
import { Lab, type Namespace } from './support/netns.ts'
import { requireLab } from './support/require.ts'

const { signal } = new AbortController()
const MTU = 1380

/** remote (another cluster, two addresses) — host — pod. The link to remote has the tunnel device's name. */
describe('the packet filter', () => {
  let lab: Lab
  let remote: Namespace
  let host: Namespace
  let pod: Namespace
  let run: Run
  let filter: FilterPort
  let askRemote: Ask
  let askPod: Ask
  let names: { readonly nftTable: string; readonly device: string }

  before(async function () {
    requireLab(this)
    lab = await Lab.create('filter.test')
    names = { nftTable: 'rhizome', device: lab.device('wg') }
    remote = await lab.namespace('remote')
    host = await lab.namespace('host')
    pod = await lab.namespace('pod')
    await lab.link(host, names.device, ['192.0.2.1/24', 'fd00::1/64'], remote, 'eth0', [
      '192.0.2.2/24',
      '10.1.0.11/32',
      '10.3.0.11/32',
      'fd00::2/64',
      'fd01::11/128'
    ])
    await lab.link(host, 'pod', ['10.2.0.1/24', 'fd02::1/64'], pod, 'eth0', ['10.2.0.2/24', 'fd02::2/64'])
    await remote.exec(['ip', 'route', 'add', 'default', 'via', '192.0.2.1', 'src', '10.1.0.11'])
    await remote.exec(['ip', 'route', 'add', 'default', 'via', 'fd00::1', 'src', 'fd01::11'])
    await pod.exec(['ip', 'route', 'add', 'default', 'via', '10.2.0.1'])
    await pod.exec(['ip', 'route', 'add', 'default', 'via', 'fd02::1'])
    const forwarding = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding']
    await host.exec(['tee', ...forwarding], { input: '1' })
    await host.exec(['tee', '/proc/sys/net/ipv4/icmp_ratelimit'], { input: '0' })
    for (const to of ['10.1.0.0/16', '10.3.0.0/16']) {
      await host.exec(['ip', 'route', 'add', to, 'via', '192.0.2.2', 'src', '10.2.0.1'])
    }
    await host.exec(['ip', 'route', 'add', 'fd01::/16', 'via', 'fd00::2'])
    await host.exec(['ip', 'route', 'add', 'local', '10.96.0.0/16', 'dev', 'lo', 'src', '10.2.0.1'])
    // WireGuard knows no neighbour discovery, and the filter lets none in.
    for (const [from, device, to, far, ip] of [
      [host, names.device, remote, 'eth0', 'fd00::2'],
      [remote, 'eth0', host, names.device, 'fd00::1']
    ] as const) {
      const mac = (await to.exec(['cat', `/sys/class/net/${far}/address`])).stdout.trim()
      await from.exec(['ip', 'neigh', 'replace', ip, 'lladdr', mac, 'dev', device, 'nud', 'permanent'])
    }
    await startServers(remote, ['10.1.0.11', 'fd01::11'])
    await startServers(pod, ['10.2.0.2', 'fd02::2'])
    await startServers(host, ['0.0.0.0'])
    askRemote = await startAsker(remote)
    askPod = await startAsker(pod)
    run = createRun({ prefix: ['ip', 'netns', 'exec', host.name] })
    filter = createNftFilter({ run, names })
  })
  beforeEach(() => filter.cleanup(signal))
  after(async () => {
    await lab?.close()
  })

  const filterWith = (more: Partial<Filter> = {}): Filter => ({
    remoteSources: ['10.1.0.0/16', 'fd01::/16'] as readonly string[] as readonly Cidr[],
    localDestinations: ['10.2.0.0/24', 'fd02::/64'] as readonly string[] as readonly Cidr[],
    probePort: 0,
    mtu: MTU,
    ...more
  })
  const tcp = (ip: string, more: { source?: string; port?: number } = {}) =>
    ({ protocol: 'TCP', ip, port: 8080, count: 1, ...more }) as const
  const udp = (ip: string, port = 8080) => ({ protocol: 'UDP', ip, port, count: 1 }) as const

  it('observes what was set, also after a restart, and nothing after cleanup', async () => {
    assert.equal(await filter.observe(signal), undefined)
    const filters = [
      filterWith({ probePort: 8472 }),
      filterWith({ remoteSources: [], localDestinations: [] }),
      filterWith({ guardedVips: ['10.96.0.0/16', 'fd96::/112'] as readonly string[] as readonly Cidr[] }),
      filterWith({
        // Nested, adjacent, single.
        remoteSources: [
          '10.1.0.0/16',
          '10.1.2.0/24',
          '10.1.3.0/24',
          '10.1.3.7/32',
          '10.2.0.0/16',
          'fd01::/16'
        ] as readonly string[] as readonly Cidr[]
      })
    ]
    for (const want of filters) {
      await filter.set(want, signal)
      assert.deepEqual(await createNftFilter({ run, names }).observe(signal), want)
    }
    assert.equal(
      await createNftFilter({ run, names: { ...names, device: 'other' } }).observe(signal),
      undefined
    )
    await filter.set(undefined, signal)
    assert.equal(await filter.observe(signal), undefined)
  })

  it('shows as missing when somebody changed a rule, and traffic alone changes nothing', async () => {
    await filter.set(filterWith(), signal)
    await askRemote(udp('10.2.0.1'))
    assert.deepEqual(await filter.observe(signal), filterWith())
    const table = `${names.nftTable}-filter`
    await run('nft', ['add', 'element', 'inet', table, 'remote4', '{ 10.9.0.0/16 }'])
    assert.notDeepEqual(await filter.observe(signal), filterWith())
    await filter.set(filterWith(), signal)
    await run('nft', ['insert', 'rule', 'inet', table, 'forward', 'accept'])
    assert.equal(await filter.observe(signal), undefined)
    await filter.set(filterWith(), signal)
    assert.deepEqual(await filter.observe(signal), filterWith())
  })

  it('reads the table once as long as nothing changes it, and again after each change by another program', async () => {
    const table = `${names.nftTable}-filter`
    let lists = 0
    const counting: Run = (tool, args, options) => {
      if (args.includes('list')) lists++
      return run(tool, args, options)
    }
    const openKernel = () => inNamespace(host, () => openNftKernel(table))
    let nowMs = 0
    const kept = createNftFilter({ run: counting, names, openKernel, nowMs: () => nowMs })
    const listsOf = async (want: Filter | undefined) => {
      lists = 0
      assert.deepEqual(await kept.observe(signal), want)
      return lists
    }
    try {
      await kept.set(filterWith(), signal)
      assert.ok((await listsOf(filterWith())) > 0)
      await askRemote(tcp('10.2.0.2'))
      assert.equal(await listsOf(filterWith()), 0)
      await run('nft', ['add', 'table', 'inet', 'another'])
      nowMs += 59_000
      assert.equal(await listsOf(filterWith()), 0)
      nowMs += 2_000
      assert.ok((await listsOf(filterWith())) > 0)
      await run('nft', ['insert', 'rule', 'inet', table, 'forward', 'accept'])
      assert.ok((await listsOf(undefined)) > 0)
      const { remoteSources: first } = filterWith()
      await kept.set(filterWith({ remoteSources: first.slice(0, 1) }), signal)
      assert.ok((await listsOf(filterWith({ remoteSources: first.slice(0, 1) }))) > 0)
      await run('nft', ['flush', 'ruleset'])
      assert.equal(await kept.observe(signal), undefined)
    } finally {
      await kept.stop?.()
    }
  })

  it('shows as missing when another program changed a rule in the moment after it was set', async () => {
    const table = `${names.nftTable}-filter`
    const changes = [
      ['insert', 'rule', 'inet', table, 'keep', 'drop'],
      ['flush', 'chain', 'inet', table, 'forward'],
      ['add', 'chain', 'inet', table, 'input', '{', 'policy', 'drop', ';', '}'],
      ['add', 'table', 'inet', table, '{', 'flags', 'dormant', ';', '}']
    ]
    for (const change of changes) {
      const meddled = createNftFilter({ run: changedAfterLoad(run, table, change), names })
      await meddled.set(filterWith(), signal)
      assert.equal(await meddled.observe(signal), undefined, change.join(' '))
      await filter.set(filterWith(), signal)
      assert.deepEqual(await filter.observe(signal), filterWith())
    }
    const tables = (await run('nft', ['list', 'tables'])).stdout
    assert.doesNotMatch(tables, /copy/)
  })

  it('lets authorised sources reach local destinations, and nobody else, nor anything of the host', async () => {
    await filter.set(filterWith(), signal)
    assert.deepEqual(await askRemote(tcp('10.2.0.2')), ['10.2.0.2 8080 10.1.0.11'])
    assert.deepEqual(await askRemote(tcp('fd02::2')), ['fd02::2 8080 fd01::11'])
    for (const question of [tcp('10.2.0.1'), udp('10.2.0.1')])
      assert.deepEqual(await askRemote(question), ['ECONNREFUSED'])
    const closed = [udp('192.0.2.1'), { ...udp('10.2.0.2'), source: '10.3.0.11' }]
    for (const question of closed) assert.deepEqual(await askRemote(question), ['TIMEOUT'])
    await filter.set(filterWith({ localDestinations: [] }), signal)
    assert.deepEqual(await askRemote(udp('10.2.0.2')), ['TIMEOUT'])
    await filter.set(undefined, signal)
    assert.deepEqual(await askRemote({ ...udp('10.2.0.2'), source: '10.3.0.11' }), [
      '10.2.0.2 8080 10.3.0.11'
    ])
  })

  it('lets authorised sources reach the endpoints that are the host itself, by address, protocol and port', async () => {
    const hostEndpoints = ['10.2.0.1 TCP 8080', '10.2.0.9 UDP 53', 'fd02::1 TCP 8080'] as const
    await filter.set(filterWith({ hostEndpoints }), signal)
    assert.deepEqual(await createNftFilter({ run, names }).observe(signal), filterWith({ hostEndpoints }))
    assert.deepEqual(await askRemote(tcp('10.2.0.1')), ['0.0.0.0 8080 10.1.0.11'])
    assert.deepEqual(await askRemote(tcp('10.2.0.1', { port: 8081 })), ['ECONNREFUSED'])
    assert.deepEqual(await askRemote(udp('10.2.0.1')), ['ECONNREFUSED'])
    // Nothing listens there: the answer is the host's own.
    assert.deepEqual(await askRemote(tcp('fd02::1')), ['ECONNREFUSED'])
    assert.deepEqual(await askRemote({ ...udp('10.2.0.1'), source: '10.3.0.11' }), ['TIMEOUT'])
    await filter.set(filterWith({ hostEndpoints: ['10.2.0.1 UDP 8080'] }), signal)
    assert.deepEqual(await askRemote(udp('10.2.0.1')), ['0.0.0.0 8080 10.1.0.11'])
    assert.deepEqual(await askRemote(tcp('10.2.0.1')), ['ECONNREFUSED'])
  })

  it('with reach: services, lets other clusters reach the listed endpoints only, by address, protocol and port', async () => {
    const reachable = ['10.2.0.1 TCP 8080', '10.2.0.2 TCP 8080', 'fd02::2 UDP 8080'] as const
    // Endpoints that are not ready are no reason to open a port of the host.
    const want = filterWith({ reach: 'services', reachable, hostEndpoints: ['10.2.0.1 UDP 8080'] })
    await filter.set(want, signal)
    assert.deepEqual(await createNftFilter({ run, names }).observe(signal), want)
    assert.deepEqual(await askRemote(tcp('10.2.0.2')), ['10.2.0.2 8080 10.1.0.11'])
    assert.deepEqual(await askRemote(udp('fd02::2')), ['fd02::2 8080 fd01::11'])
    assert.deepEqual(await askRemote(tcp('10.2.0.1')), ['0.0.0.0 8080 10.1.0.11'])
    for (const question of [
      udp('10.2.0.2'),
      tcp('10.2.0.2', { port: 8081 }),
      tcp('fd02::2'),
      udp('10.2.0.1'),
      tcp('10.2.0.1', { port: 8081 })
    ])
      assert.deepEqual(await askRemote(question), ['ECONNREFUSED'], JSON.stringify(question))
    const ping = await remote.exec(['ping', '-c1', '-W2', '10.2.0.2'], { check: false })
    assert.equal(ping.exitCode, 1)
    assert.deepEqual(await askPod(tcp('10.1.0.11')), ['10.1.0.11 8080 10.2.0.2'])
    // An endpoint that is ready no more, and none at all.
    await filter.set(filterWith({ reach: 'services', reachable: ['fd02::2 UDP 8080'] }), signal)
    assert.deepEqual(await askRemote(tcp('10.2.0.2')), ['ECONNREFUSED'])
    await filter.set(filterWith({ reach: 'services' }), signal)
    assert.deepEqual(await filter.observe(signal), filterWith({ reach: 'services' }))
    assert.deepEqual(await askRemote(udp('fd02::2')), ['ECONNREFUSED'])
  })

  it('with reach: services, lets the named clusters reach an endpoint that is for them only', async () => {
    const from = (source: string) =>
      filterWith({
        reach: 'services',
        remoteSources: ['10.1.0.0/16', '10.3.0.0/16', 'fd01::/16'] as readonly string[] as readonly Cidr[],
        reachableFrom: [
          `${source} 10.2.0.1 TCP 8080`,
          `${source} 10.2.0.2 TCP 8080`,
          'fd01::/16 fd02::2 UDP 8080'
        ]
      })
    await filter.set(from('10.1.0.0/16'), signal)
    assert.deepEqual(await createNftFilter({ run, names }).observe(signal), from('10.1.0.0/16'))
    assert.deepEqual(await askRemote(tcp('10.2.0.2')), ['10.2.0.2 8080 10.1.0.11'])
    assert.deepEqual(await askRemote(tcp('10.2.0.1')), ['0.0.0.0 8080 10.1.0.11'])
    assert.deepEqual(await askRemote(udp('fd02::2')), ['fd02::2 8080 fd01::11'])
    const others = [
      { ...tcp('10.2.0.2'), source: '10.3.0.11' },
      udp('10.2.0.2'),
      tcp('10.2.0.2', { port: 8081 })
    ]
    for (const question of others)
      assert.deepEqual(await askRemote(question), ['ECONNREFUSED'], JSON.stringify(question))
    await filter.set(from('10.3.0.0/16'), signal)
    assert.deepEqual(await askRemote(tcp('10.2.0.2')), ['ECONNREFUSED'])
    assert.deepEqual(await askRemote({ ...tcp('10.2.0.2'), source: '10.3.0.11' }), [
      '10.2.0.2 8080 10.3.0.11'
    ])
  })

  it('lets a cluster that is not allowed open no connection, but answer, ping and probe', async () => {
    const barredSources = ['10.1.0.0/16', 'fd01::/16'] as readonly string[] as readonly Cidr[]
    const want = filterWith({ barredSources, probePort: 8080, hostEndpoints: ['10.2.0.1 TCP 8080'] })
    await filter.set(want, signal)
    assert.deepEqual(await createNftFilter({ run, names }).observe(signal), want)
    for (const question of [tcp('10.2.0.2'), udp('10.2.0.2'), tcp('fd02::2'), tcp('10.2.0.1')])
      assert.deepEqual(await askRemote(question), ['ECONNREFUSED'], JSON.stringify(question))
    assert.deepEqual(await askRemote(udp('10.2.0.1')), ['0.0.0.0 8080 10.1.0.11'])
    await remote.exec(['ping', '-c1', '-W2', '10.2.0.1'])
    assert.deepEqual(await askPod(tcp('10.1.0.11')), ['10.1.0.11 8080 10.2.0.2'])
    assert.deepEqual(await askPod(udp('fd01::11')), ['fd01::11 8080 fd02::2'])
    // Another cluster is not affected.
    await filter.set(filterWith({ barredSources: ['fd01::/16' as Cidr] }), signal)
    assert.deepEqual(await askRemote(tcp('10.2.0.2')), ['10.2.0.2 8080 10.1.0.11'])
    assert.deepEqual(await askRemote(tcp('fd02::2')), ['ECONNREFUSED'])
  })

  it('lets the replies in of what went out', async () => {
    await filter.set(filterWith(), signal)
    assert.deepEqual(await askPod(tcp('10.1.0.11')), ['10.1.0.11 8080 10.2.0.2'])
    assert.deepEqual(await askPod(udp('fd01::11')), ['fd01::11 8080 fd02::2'])
  })

  it('opens the probe port and ping for authorised sources', async () => {
    await filter.set(filterWith({ probePort: 8080 }), signal)
    assert.deepEqual(await askRemote(udp('10.2.0.1')), ['0.0.0.0 8080 10.1.0.11'])
    await remote.exec(['ping', '-c1', '-W2', '10.2.0.1'])
    await remote.exec(['ping', '-c1', '-W2', 'fd02::1'])
    const stranger = await remote.exec(['ping', '-c1', '-W1', '-I', '10.3.0.11', '10.2.0.1'], {
      check: false
    })
    assert.equal(stranger.exitCode, 1)
    assert.deepEqual(await askRemote({ ...udp('10.2.0.1'), source: '10.3.0.11' }), ['TIMEOUT'])
  })

  it('keeps a service address that nothing balances away from the processes of the host', async () => {
    await filter.set(filterWith(), signal)
    assert.deepEqual(await askPod(tcp('10.96.0.7')), ['0.0.0.0 8080 10.2.0.2'])
    await filter.set(filterWith({ guardedVips: ['10.96.0.0/16' as Cidr] }), signal)
    assert.deepEqual(await askPod(tcp('10.96.0.7')), ['ECONNREFUSED'])
    assert.deepEqual(await askPod(udp('10.96.0.7')), ['ECONNREFUSED'])
    assert.deepEqual(await askPod(tcp('10.2.0.1')), ['0.0.0.0 8080 10.2.0.2'])
  })

  it('keeps the source although another table masquerades, and leaves that table alone', async () => {
    const foreign = `table ip cni {
      chain post { type nat hook postrouting priority srcnat; ip saddr 10.2.0.0/24 ip daddr != 10.2.0.0/24 masquerade; }
      chain back { type nat hook postrouting priority srcnat; oifname "pod" masquerade; }
    }\n`
    await run('nft', ['-f', '-'], { stdin: foreign, stdinAsFile: true })
    const before = (await run('nft', ['-a', 'list', 'table', 'ip', 'cni'])).stdout
    assert.deepEqual(await askPod(tcp('10.1.0.11')), ['10.1.0.11 8080 192.0.2.1'])
    await filter.set(filterWith(), signal)
    assert.deepEqual(await askPod(tcp('10.1.0.11')), ['10.1.0.11 8080 10.2.0.2'])
    assert.deepEqual(await askPod(udp('10.1.0.11')), ['10.1.0.11 8080 10.2.0.2'])
    assert.deepEqual(await askRemote(tcp('10.2.0.2')), ['10.2.0.2 8080 10.1.0.11'])
    assert.equal((await run('nft', ['-a', 'list', 'table', 'ip', 'cni'])).stdout, before)
    await filter.cleanup(signal)
    assert.equal((await run('nft', ['-a', 'list', 'table', 'ip', 'cni'])).stdout, before)
    await run('nft', ['delete', 'table', 'ip', 'cni'])
  })

  it('clamps the segment size in both directions', async () => {
    const mss = async (client: Namespace, server: Namespace, ip: string) => {
      const listen = `require('node:net').createServer(() => console.log('open')).listen(9000, () => console.log('ready'))`
      const child = server.spawn([process.execPath, '-e', listen])
      let said = ''
      child.stdout?.on('data', (text: Buffer) => (said += text.toString()))
      await eventually(() => said.includes('ready'))
      const dialer = client.spawn([process.execPath, '-e', `require('node:net').connect(9000, '${ip}')`])
      await eventually(() => said.includes('open'))
      const sides = await Promise.all(
        [client, server].map((side) =>
          side.exec(['ss', '-Htin', 'state', 'established', '( dport = 9000 or sport = 9000 )'])
        )
      )
      const ended = [child, dialer].map((one) => new Promise((resolve) => one.once('exit', resolve)))
      for (const one of [child, dialer]) one.kill('SIGKILL')
      await Promise.all(ended)
      return sides.map(({ stdout }) => Number(/ mss:(\d+)/.exec(stdout)?.[1]))
    }
    // TCP's timestamps take 12 bytes of each segment.
    const [v4, v6] = [MTU - 40 - 12, MTU - 60 - 12]
    assert.deepEqual(await mss(pod, remote, '10.1.0.11'), [1448, 1448])
    await filter.set(filterWith(), signal)
    assert.deepEqual(await mss(pod, remote, '10.1.0.11'), [v4, v4])
    assert.deepEqual(await mss(remote, pod, '10.2.0.2'), [v4, v4])
    assert.deepEqual(await mss(pod, remote, 'fd01::11'), [v6, v6])
  })

  it('is nftables where the kernel has it, and says so where there is none', async () => {
    const found = createFilter({ run, names })
    await found.set(filterWith(), signal)
    assert.deepEqual(await filter.observe(signal), filterWith())
    const said: string[] = []
    const none = createNoFilter({ warn: (text) => said.push(text) })
    await none.set(filterWith(), signal)
    assert.deepEqual(await none.observe(signal), filterWith())
    assert.deepEqual(said, [NO_FILTER])
  })
})
