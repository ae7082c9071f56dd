// Packets that do not come out of the tunnel: forged sources, and other machines that ask service addresses. Real kernels; each claim of a drop
// has its counterpart that passes, and fails when the rule is taken out (src/io/host/filter/underlay.ts).
//
//   lan0 ── eth0 ┐          ┌ cni0 (bridge) ── pod       10.2.0.2, fd02::2
//   lan1 ── eth1 ┼── host ──┼ cali0 (veth, no address) ── single  10.2.9.9
//   node ── eth0 ┘          ├ lxc0 (veth, no route)     ── routeless 10.2.8.8
//     └ vxlan: 10.2.1.0/24  └ docker0 (bridge)          ── container 172.17.0.2
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { desired } from '../../src/core/host/desired.ts'
import type { HostState } from '../../src/core/host/host-state.ts'
import type { Cidr, ClusterName, Ip, Origin, WireguardKey } from '../../src/core/model/values.ts'
import { plan } from '../../src/core/host/plan.ts'
import type { ClusterView } from '../../src/core/view/view.ts'
import { createNftFilter } from '../../src/io/host/filter/filter.ts'
import type { Dropped, DropReason } from '../../src/io/host/ports.ts'
import { createRun } from '../../src/io/host/tools/run.ts'
import { eventually } from '../eventually.ts'
import { Lab, type Namespace } from './support/netns.ts'
import { remoteHost, type RemoteHost } from './support/remote-host.ts'
import { requireLab } from './support/require.ts'

const REMOTE = ['10.1.0.11', 'fd01::11'] as const
const PODS = ['10.2.0.2', 'fd02::2'] as const
const VIPS = ['10.96.0.7', 'fd96::7'] as const
const { signal } = new AbortController()

describe('packets that do not come out of the tunnel', function () {
  let lab: Lab
  let folder: string
  let host: RemoteHost
  let device: string
  let want: HostState
  const spaces = new Map<string, Namespace>()
  const at = (name: string): Namespace => {
    const space = spaces.get(name)
    if (space === undefined) throw new Error(`no namespace ${name}`)
    return space
  }
  const ip = (space: string, ...words: readonly string[]) => at(space).exec(['ip', ...words])
  const { publicKey, privateKey } = keyPair()

  before(async function () {
    requireLab(this)
    lab = await Lab.create('underlay.test')
    folder = mkdtempSync(join(tmpdir(), 'rhizome-underlay-'))
    device = lab.device('un')
    for (const name of ['host', 'lan0', 'lan1', 'node', 'pod', 'single', 'routeless', 'container'])
      spaces.set(name, await lab.namespace(name))
    // The uplink eth0 is a bridge of the lab, outside the host.
    spaces.set('switch', await lab.namespace('switch'))
    await lab.bridge(at('switch'), 'br0')
    for (const [name, number] of [
      ['host', 1],
      ['lan0', 2],
      ['node', 3]
    ] as const)
      await lab.attach(at('switch'), 'br0', name, {
        namespace: at(name),
        device: 'eth0',
        cidr: [`203.0.113.${number}/24`, `fd03::${number}/64`]
      })
    await lab.link(at('host'), 'eth1', ['198.51.100.1/24', 'fd04::1/64'], at('lan1'), 'eth0', [
      '198.51.100.2/24',
      'fd04::2/64'
    ])
    await lab.bridge(at('host'), 'cni0', '10.2.0.1/24')
    await ip('host', 'address', 'add', 'fd02::1/64', 'dev', 'cni0', 'nodad')
    await lab.attach(at('host'), 'cni0', 'veth0', {
      namespace: at('pod'),
      device: 'eth0',
      cidr: ['10.2.0.2/24', 'fd02::2/64']
    })
    await lab.bridge(at('host'), 'docker0', '172.17.0.1/16')
    await lab.attach(at('host'), 'docker0', 'veth1', {
      namespace: at('container'),
      device: 'eth0',
      cidr: ['172.17.0.2/16', '10.2.0.66/32']
    })
    await lab.link(at('host'), 'cali0', undefined, at('single'), 'eth0', '10.2.9.9/32')
    await ip('host', 'route', 'add', '10.2.9.9/32', 'dev', 'cali0')
    await lab.link(at('host'), 'lxc0', undefined, at('routeless'), 'eth0', '10.2.8.8/32')
    // As Cilium: the route to the pod leads to another device than the one on which its packets come in.
    await ip('host', 'link', 'add', 'cilium', 'type', 'bridge')
    await ip('host', 'link', 'set', 'cilium', 'up')
    await ip('host', 'route', 'add', '10.2.8.0/24', 'dev', 'cilium')
    for (const name of ['single', 'routeless']) {
      await ip(name, 'route', 'add', '169.254.1.1', 'dev', 'eth0')
      await ip(name, 'route', 'add', 'default', 'via', '169.254.1.1')
      const end = name === 'single' ? 'cali0' : 'lxc0'
      const mac = (await at('host').exec(['cat', `/sys/class/net/${end}/address`])).stdout.trim()
      await ip(name, 'neigh', 'add', '169.254.1.1', 'lladdr', mac, 'dev', 'eth0')
    }
    await ip('pod', 'route', 'add', 'default', 'via', '10.2.0.1')
    await ip('pod', 'route', 'add', 'default', 'via', 'fd02::1')
    await ip('container', 'route', 'add', 'default', 'via', '172.17.0.1')
    for (const [name, router] of [
      ['lan0', ['203.0.113.1', 'fd03::1']],
      ['lan1', ['198.51.100.1', 'fd04::1']]
    ] as const) {
      for (const address of [...REMOTE, ...PODS])
        await ip(name, 'address', 'add', address, 'dev', 'lo', ...(address.includes(':') ? ['nodad'] : []))
      // More specific than the machine's own addresses, so that packets to the pod leave it.
      for (const via of router) await ip(name, 'route', 'add', 'default', 'via', via)
    }
    // The other node of the cluster: its pods come over an overlay, and those of 10.2.2.0/24 over the uplink.
    for (const [name, own, other] of [
      ['host', 1, 3],
      ['node', 3, 1]
    ] as const) {
      await ip(
        name,
        'link',
        'add',
        'flannel.1',
        'type',
        'vxlan',
        'id',
        '1',
        'remote',
        `203.0.113.${other}`,
        'dstport',
        '8472',
        'dev',
        'eth0'
      )
      await ip(
        name,
        'address',
        'add',
        `10.2.${own === 1 ? 0 : 1}.${own === 1 ? 200 : 0}/32`,
        'dev',
        'flannel.1'
      )
      await ip(name, 'link', 'set', 'flannel.1', 'up')
    }
    await ip('host', 'route', 'add', '10.2.1.0/24', 'via', '10.2.1.0', 'dev', 'flannel.1', 'onlink')
    await ip('node', 'route', 'add', '10.2.0.0/24', 'via', '10.2.0.200', 'dev', 'flannel.1', 'onlink')
    await ip('host', 'route', 'add', '10.2.2.0/24', 'via', '203.0.113.3')
    for (const address of ['10.2.1.5/32', '10.2.2.5/32', '10.1.0.12/32', '10.2.1.6/32'])
      await ip('node', 'address', 'add', address, 'dev', 'lo')
    await ip('host', 'route', 'add', 'default', 'via', '203.0.113.2')
    await ip('host', 'route', 'add', 'default', 'via', 'fd03::2')
    for (const name of ['all', 'default', 'eth0', 'eth1', 'cni0', 'cali0', 'lxc0', 'docker0', 'flannel.1'])
      await at('host').exec(['tee', `/proc/sys/net/ipv4/conf/${name}/rp_filter`], { input: '0' })
    host = remoteHost(at('host'), { device, privateKey, stateFolder: folder })
    await host.start()
    want = await become()
    await watchPods()
  })
  after(async () => {
    await lab?.close()
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  async function become({
    isDown = false,
    servicePrefixes = ['10.96.0.0/16', 'fd96::/64']
  }: { isDown?: boolean; servicePrefixes?: string[] } = {}): Promise<HostState> {
    const surroundings = { ...(await host.surroundings()), resolvers: [] }
    const wanted = desired({
      view: {
        self: 'west' as ClusterName,
        clusters: new Map(
          [
            cluster('west', { podPrefixes: ['10.2.0.0/16', 'fd02::/64'] as Cidr[] }),
            cluster('east', {
              podPrefixes: ['10.1.0.0/16', 'fd01::/64'] as Cidr[],
              servicePrefixes: servicePrefixes as Cidr[]
            })
          ].map((each) => [each.name, each])
        )
      },
      self: { origin: 'west' as Origin, cluster: 'west' as ClusterName },
      local: { publicKey: publicKey as WireguardKey, nodeAddress: '10.2.0.1' as Ip },
      health: () => (isDown ? 'withdrawn' : 'up'),
      surroundings,
      settings: {
        device,
        listenPort: 51820,
        mtu: 1400,
        balanceLocal: false,
        keepaliveSeconds: 0,
        scheduler: 'rr'
      }
    })
    // The service of the other cluster has a pod of this one as its endpoint, so that what is balanced can be seen to arrive.
    const state: HostState = {
      ...wanted,
      virtualServers: VIPS.map((vip, index) => ({
        vip: vip as Ip,
        protocol: 'UDP',
        port: 53,
        scheduler: 'rr',
        affinitySeconds: 0,
        realServers: [{ ip: PODS[index] as Ip, port: 8080, weight: 1 }]
      }))
    }
    await host.apply(plan(state, await host.observe()))
    assert.deepEqual(plan(state, await host.observe()), [], 'the kernel has what was wanted')
    return state
  }

  // ------------------------------------------------------------------ packets

  /** Sources of the datagrams that the pod has got on port 8080, in their order. */
  const got: string[] = []
  async function watchPods(): Promise<void> {
    const receiver = at('pod').spawn([process.execPath, '-e', RECEIVER])
    let isReady = false
    receiver.stdout?.setEncoding('utf8').on('data', (text: string) => {
      for (const line of text.split('\n').filter((each) => each !== ''))
        if (line === 'ready') isReady = true
        else got.push(line)
    })
    await eventually(() => isReady)
  }

  async function send(from: string, source: string, to: string, port = 8080): Promise<void> {
    await at(from).exec([process.execPath, '-e', SENDER, source, to, String(port)])
  }
  async function dropped(): Promise<Dropped> {
    const run = createRun({ prefix: ['ip', 'netns', 'exec', at('host').name] })
    const found = await createNftFilter({ run, names: { nftTable: 'rhizome', device } }).dropped(signal)
    if (found === undefined) throw new Error('no filter')
    return found
  }
  async function arrives(from: string, source: string, to: string, port?: number): Promise<void> {
    const before = got.length
    await send(from, source, to, port)
    await eventually(() => got.slice(before).includes(source), 5_000)
  }
  /** The packet does not arrive, and is counted with its source and device. */
  async function isDropped(
    reason: DropReason,
    on: string,
    { from, source, to, port }: { from: string; source: string; to: string; port?: number }
  ): Promise<void> {
    const [before, count] = [got.length, (await dropped()).packets[reason]]
    await send(from, source, to, port)
    await eventually(async () => (await dropped()).packets[reason] > count, 5_000)
    assert.deepEqual(got.slice(before), [])
    const seen = (await dropped()).senders.filter((each) => each.reason === reason && each.source === source)
    assert.ok(
      seen.some((each) => each.device === on),
      JSON.stringify(seen)
    )
  }

  // ------------------------------------------------------------------ claims

  for (const [uplink, machine] of [
    ['eth0', 'lan0'],
    ['eth1', 'lan1']
  ] as const)
    for (const [family, index] of [
      ['IPv4', 0],
      ['IPv6', 1]
    ] as const) {
      it(`drops the source of another cluster on ${uplink}, ${family}`, () =>
        isDropped('remote', uplink, { from: machine, source: REMOTE[index], to: aimedAt(index) }))
      it(`drops the source of a local pod on ${uplink}, ${family}`, () =>
        isDropped('local', uplink, { from: machine, source: PODS[index], to: aimedAt(index) }))
      it(`drops packets to service addresses on ${uplink}, ${family}`, () =>
        isDropped('service', uplink, {
          from: machine,
          source: ownOf(machine, index),
          to: VIPS[index],
          port: 53
        }))
    }

  it('drops the source of another cluster while its tunnel is down, and while the device does not exist', async () => {
    await become({ isDown: true })
    await isDropped('remote', 'eth0', { from: 'lan0', source: REMOTE[0], to: aimedAt(0) })
    await become()
    await ip('host', 'link', 'delete', device)
    await isDropped('remote', 'eth0', { from: 'lan0', source: REMOTE[0], to: aimedAt(0) })
    await become()
  })

  for (const mode of ['1', '2', '0'])
    it(`drops and accepts alike with rp_filter ${mode}`, async () => {
      const all = ['all', 'eth0', 'eth1'].map((name) => `/proc/sys/net/ipv4/conf/${name}/rp_filter`)
      await at('host').exec(['tee', ...all], { input: mode })
      await isDropped('remote', 'eth0', { from: 'lan0', source: REMOTE[0], to: aimedAt(0) })
      await isDropped('local', 'eth1', { from: 'lan1', source: PODS[0], to: aimedAt(0) })
      await arrives('node', '10.2.1.5', PODS[0])
    })

  it('drops the source of a pod from a container behind another bridge', () =>
    isDropped('local', 'docker0', { from: 'container', source: '10.2.0.66', to: PODS[0] }))

  it('accepts pods of other nodes where their route leads: over the overlay, and over the uplink', async () => {
    await arrives('node', '10.2.1.5', PODS[0])
    await ip('node', 'route', 'replace', `${PODS[0]}/32`, 'via', '203.0.113.1')
    await arrives('node', '10.2.2.5', PODS[0])
    // The overlay's pod does not come over the uplink.
    await isDropped('local', 'eth0', { from: 'node', source: '10.2.1.6', to: PODS[0] })
    await ip('node', 'route', 'delete', `${PODS[0]}/32`)
  })

  it('accepts what another gateway of this cluster hands over from its tunnel, over the overlay', () =>
    arrives('node', '10.1.0.12', PODS[0]))

  it('accepts pods with a device each, also where their route leads to another device', async () => {
    await arrives('single', '10.2.9.9', PODS[0])
    await arrives('routeless', '10.2.8.8', PODS[0])
  })

  it('balances for pods, for a pod that reaches itself, for containers, for pods of other nodes, and for the host', async () => {
    await arrives('single', '10.2.9.9', VIPS[0], 53)
    await ip('node', 'route', 'replace', `${VIPS[0]}/32`, 'via', '10.2.0.200', 'dev', 'flannel.1', 'onlink')
    await arrives('node', '10.2.1.5', VIPS[0], 53)
    await arrives('container', '172.17.0.2', VIPS[0], 53)
    const before = got.length
    await send('host', '10.2.0.1', VIPS[0], 53)
    await eventually(() => got.length > before, 5_000)
    // A pod that is its own backend sees the host's address.
    for (const index of [0, 1] as const) {
      const count = got.length
      await send('pod', PODS[index], VIPS[index], 53)
      await eventually(() => got.length > count, 5_000)
    }
  })

  it('serves a service address inside a network of the host to that network', async () => {
    await become({ servicePrefixes: ['203.0.0.0/8'] })
    const before = (await dropped()).packets
    await at('lan0').exec(['ping', '-c1', '-W2', '203.0.113.1'])
    assert.deepEqual((await dropped()).packets, before)
    want = await become()
    assert.deepEqual(plan(want, await host.observe()), [])
  })

  it('lists no end of a container, and a new bridge at once', async () => {
    const devices = (await host.surroundings()).devices?.map(({ name }) => name) ?? []
    assert.deepEqual([...devices].sort(), ['cni0', 'docker0', 'eth0', 'eth1', 'flannel.1'])
  })
})

/** An address that a machine with the pod's address as its own can still send to. */
function aimedAt(index: 0 | 1): string {
  return index === 0 ? '10.2.0.3' : 'fd02::3'
}

function ownOf(machine: string, index: 0 | 1): string {
  return machine === 'lan0'
    ? (['203.0.113.2', 'fd03::2'][index] ?? '')
    : (['198.51.100.2', 'fd04::2'][index] ?? '')
}

const SENDER = `const [source, to, port] = process.argv.slice(1)
const socket = require('dgram').createSocket(to.includes(':') ? 'udp6' : 'udp4')
socket.bind(0, source, () => socket.send('x', Number(port), to, () => socket.close()))`
const RECEIVER = `for (const type of ['udp4', 'udp6']) {
  const socket = require('dgram').createSocket({ type, ipv6Only: type === 'udp6' })
  socket.on('message', (_, { address }) => console.log(address))
  socket.bind(8080, () => type === 'udp6' && console.log('ready'))
}`

function cluster(name: string, more: Partial<ClusterView>): ClusterView {
  return {
    name: name as ClusterName,
    podPrefixes: [],
    servicePrefixes: [],
    agents: [],
    services: new Map(),
    complete: true,
    conflicts: [],
    refusals: [],
    ...more
  }
}

function keyPair(): { readonly publicKey: string; readonly privateKey: string } {
  const pair = generateKeyPairSync('x25519')
  const raw = (key: { export(options: { format: 'jwk' }): { x?: string; d?: string } }, part: 'x' | 'd') =>
    Buffer.from(key.export({ format: 'jwk' })[part] ?? '', 'base64url').toString('base64')
  return { publicKey: raw(pair.publicKey, 'x'), privateKey: raw(pair.privateKey, 'd') }
}
