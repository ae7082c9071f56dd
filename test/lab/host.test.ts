import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { HostOp, HostState } from '../../src/core/host/host-state.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../src/core/model/values.ts'
import { plan } from '../../src/core/host/plan.ts'
import { eventually } from '../eventually.ts'
import { Lab, type Namespace } from './support/netns.ts'
import { remoteHost, RemoteError, type RemoteHost } from './support/remote-host.ts'
import { requireLab } from './support/require.ts'

interface Site {
  readonly namespace: Namespace
  readonly device: string
  readonly privateKey: string
  readonly publicKey: WireguardKey
  readonly stateFolder: string
  readonly want: HostState
  host: RemoteHost
}

// Site n: 192.0.2.n on the wire, tunnel addresses 10.n.0.1 and fd00:n::1, services 10.9n.0.0/16 and fd9n::/108 of the other.
describe('a host edge in a network namespace', function () {
  this.bail(true) // one story: each test starts where the last one ended
  let lab: Lab
  let folder: string
  let one: Site
  let two: Site

  before(async function () {
    requireLab(this)
    lab = await Lab.create('host.test')
    folder = mkdtempSync(join(tmpdir(), 'rhizome-host-'))
    const [a, b] = [await lab.namespace('one'), await lab.namespace('two')]
    await lab.link(a, 'eth0', ['192.0.2.1/24', 'fd0f::1/64'], b, 'eth0', ['192.0.2.2/24', 'fd0f::2/64'])
    const keys = [keyPair(), keyPair()] as const
    one = makeSite(1, a, keys[0], keys[1].publicKey)
    two = makeSite(2, b, keys[1], keys[0].publicKey)
    for (const site of [one, two]) await site.namespace.exec(['sysctl', '-qw', 'net.ipv4.ip_forward=0'])
  })

  after(async () => {
    await lab?.close()
    if (lab !== undefined) assert.deepEqual(await Lab.leftovers(lab.id), [])
    if (folder !== undefined) rmSync(folder, { recursive: true })
  })

  function makeSite(n: 1 | 2, namespace: Namespace, keys: KeyPair, peer: WireguardKey): Site {
    const other = 3 - n
    const device = lab.device(`w${n}`)
    const stateFolder = join(folder, String(n))
    const source = { v4: `10.${n}.0.1` as Ip, v6: `fd00:${n}::1` as Ip }
    const want: HostState = {
      tunnel: { device, listenPort: 51820, mtu: 1400, publicKey: keys.publicKey },
      peers: [
        {
          publicKey: peer,
          // Only site one knows where to dial.
          peerAddress: n === 1 ? ('192.0.2.2:51820' as PeerAddress) : undefined,
          allowedIps: [`10.${other}.0.0/16` as Cidr, `fd00:${other}::/64` as Cidr],
          keepaliveSeconds: n === 1 ? 5 : 0
        }
      ],
      routes: [
        { destination: `10.${other}.0.0/16` as Cidr, source: source.v4 },
        { destination: `fd00:${other}::/64` as Cidr, source: source.v6 }
      ],
      vips: [
        { destination: `10.9${other}.0.0/16` as Cidr, source: source.v4 },
        { destination: `fd9${other}::/108` as Cidr, source: source.v6 }
      ],
      virtualServers: [],
      filter: undefined,
      sysctls: [
        { name: 'net.ipv4.ip_forward', value: '1' },
        { name: `net.ipv4.conf.${device}.rp_filter`, value: '2' }
      ].sort((x, y) => (x.name < y.name ? -1 : 1))
    }
    const site = { namespace, device, ...keys, stateFolder, want }
    return { ...site, host: startProcess(site) }
  }

  function startProcess(site: Omit<Site, 'host'>): RemoteHost {
    const { device, privateKey, stateFolder } = site
    return remoteHost(site.namespace, { device, privateKey, stateFolder, bare: true })
  }

  it('says that nothing is missing here', async () => {
    assert.deepEqual(await one.host.preflight(), [])
  })

  it('derives the MTU from the default route, with a floor', async () => {
    assert.equal(await one.host.detectMtu(), 1420)
    await one.namespace.exec(['ip', 'route', 'add', 'default', 'via', '192.0.2.2'])
    await one.namespace.exec(['ip', 'link', 'set', 'dev', 'eth0', 'mtu', '1400'])
    assert.equal(await one.host.detectMtu(), 1320)
    await one.namespace.exec(['ip', 'link', 'set', 'dev', 'eth0', 'mtu', '1300'])
    assert.equal(await one.host.detectMtu(), 1280)
    await one.namespace.exec(['ip', 'link', 'set', 'dev', 'eth0', 'mtu', '1500'])
    await one.namespace.exec(['ip', 'route', 'del', 'default'])
  })

  it('observes an empty host as empty', async () => {
    for (const site of [one, two]) {
      await site.host.start()
      assert.deepEqual(await site.host.observe(), EMPTY)
    }
  })

  it('refuses a second instance in the same namespace, and says who is first', async () => {
    const second = startProcess(one)
    await assert.rejects(second.start(), (error: unknown) => {
      assert.ok(error instanceof RemoteError)
      assert.equal(error.code, 'SECOND_INSTANCE')
      assert.match(error.message, new RegExp(`pid ${one.host.process.pid}\\b`))
      return true
    })
    await second.kill()
  })

  it('becomes what is wanted, beside what others have there', async () => {
    for (const site of [one, two]) {
      await foreign(site.namespace)
      const before = await snapshot(site)
      await pass(site)
      assert.deepEqual(await site.host.observe(), site.want)
      assert.deepEqual(await pass(site), [])
      assert.equal(await snapshot(site), before)
    }
  })

  it('carries packets of both families through the tunnel, with the tunnel address as source', async () => {
    await eventually(async () => ok(one.namespace, ['ping', '-c1', '-W1', '10.2.0.1']), 15_000)
    await one.namespace.exec(['ping', '-c1', '-W2', 'fd00:2::1'])
    await two.namespace.exec(['ping', '-c1', '-W2', '10.1.0.1'])
    const route = await one.namespace.exec(['ip', 'route', 'get', '10.2.0.7'])
    assert.match(route.stdout, /src 10\.1\.0\.1 /)
  })

  it('leaves the address that WireGuard learned alone, and has nothing to do about it', async () => {
    const [stats] = await two.host.peerStats()
    assert.equal(stats?.peerAddress, '192.0.2.1:51820')
    assert.ok((stats.lastHandshakeMs ?? 0) > 0)
    assert.deepEqual(await two.host.observe(), two.want)
    const peer = { ...two.want.peers[0]!, peerAddress: '192.0.2.99:1' as PeerAddress }
    await two.host.apply([{ kind: 'setPeer', peer }])
    assert.equal((await two.host.peerStats())[0]?.peerAddress, '192.0.2.1:51820')
    assert.deepEqual((await two.host.observe()).peers, [peer])
    await two.host.apply([{ kind: 'setPeer', peer: two.want.peers[0]! }])
    assert.deepEqual(await two.host.observe(), two.want)
  })

  it('replaces an address of our own that the desired state has changed', async () => {
    const peer = { ...one.want.peers[0]!, peerAddress: '192.0.2.2:51821' as PeerAddress }
    await one.host.apply([{ kind: 'setPeer', peer }])
    assert.equal((await one.host.peerStats())[0]?.peerAddress, '192.0.2.2:51821')
    await one.host.apply([{ kind: 'setPeer', peer: one.want.peers[0]! }])
    assert.deepEqual(await one.host.observe(), one.want)
  })

  it('delivers a service address locally and never sends from one unasked', async () => {
    for (const vip of ['10.92.3.4', 'fd92::304']) {
      await one.namespace.exec(['ping', '-c1', '-W2', vip])
      const route = await one.namespace.exec(['ip', 'route', 'get', vip])
      assert.match(route.stdout, vip.includes(':') ? / src fd00:1::1 / : / src 10\.1\.0\.1 /)
    }
  })

  it('moves an allowed prefix between peers', async () => {
    const [a, b] = [keyPair().publicKey, keyPair().publicKey]
    const peer = (publicKey: WireguardKey, ...allowedIps: string[]) => ({
      publicKey,
      peerAddress: undefined,
      allowedIps: allowedIps as Cidr[],
      keepaliveSeconds: 0
    })
    const others = async () =>
      (await one.host.observe()).peers
        .filter(({ publicKey }) => publicKey === a || publicKey === b)
        .sort((x) => (x.publicKey === a ? -1 : 1))
    await one.host.apply([
      { kind: 'setPeer', peer: peer(a, '10.50.0.0/16', '10.51.0.0/16') },
      { kind: 'setPeer', peer: peer(b) }
    ])
    assert.deepEqual(await others(), [peer(a, '10.50.0.0/16', '10.51.0.0/16'), peer(b)])
    await one.host.apply([
      { kind: 'setPeer', peer: peer(b, '10.51.0.0/16') },
      { kind: 'setPeer', peer: peer(a, '10.50.0.0/16') }
    ])
    assert.deepEqual(await others(), [peer(a, '10.50.0.0/16'), peer(b, '10.51.0.0/16')])
    await one.host.apply([
      { kind: 'removePeer', publicKey: a },
      { kind: 'removePeer', publicKey: b }
    ])
    assert.deepEqual(await one.host.observe(), one.want)
  })

  it('refuses to take over the route of somebody else', async () => {
    await one.namespace.exec(['ip', 'route', 'add', 'local', '10.98.0.0/16', 'dev', 'lo'])
    const route = { destination: '10.98.0.0/16' as Cidr, source: undefined }
    await assert.rejects(one.host.apply([{ kind: 'addVip', vip: route }]), { code: 'ROUTE_TAKEN' })
    await one.host.apply([{ kind: 'removeVip', vip: route }])
    assert.match(
      (await one.namespace.exec(['ip', 'route', 'show', 'table', 'local'])).stdout,
      /10\.98\.0\.0\/16/
    )
    await one.namespace.exec(['ip', 'route', 'del', 'local', '10.98.0.0/16', 'dev', 'lo'])
  })

  it('removes what it is told to remove, twice as well as once', async () => {
    const ops: HostOp[] = [
      ...one.want.vips.map((vip) => ({ kind: 'removeVip', vip }) as const),
      ...one.want.routes.map((route) => ({ kind: 'removeRoute', route }) as const)
    ]
    await one.host.apply(ops)
    assert.deepEqual(await one.host.observe(), { ...one.want, routes: [], vips: [] })
    await one.host.apply(ops)
    await pass(one)
    assert.deepEqual(await one.host.observe(), one.want)
  })

  const drifts: Record<string, (site: Site) => string[]> = {
    'its addresses deleted': ({ device }) => ['ip', 'address', 'flush', 'dev', device],
    'its device down': ({ device }) => ['ip', 'link', 'set', 'dev', device, 'down'],
    'its device gone': ({ device }) => ['ip', 'link', 'del', 'dev', device],
    'its mark gone': ({ device }) => ['wg', 'set', device, 'fwmark', 'off'],
    'its rule gone': () => ['ip', '-6', 'rule', 'del', 'pref', '5142'],
    'a route gone': () => ['ip', 'route', 'flush', 'table', '5142'],
    'a service prefix gone': () => ['ip', 'route', 'del', 'local', '10.92.0.0/16', 'dev', 'lo'],
    'its MTU changed': ({ device }) => ['ip', 'link', 'set', 'dev', device, 'mtu', '1300'],
    'forwarding off': () => ['sysctl', '-qw', 'net.ipv4.ip_forward=0']
  }
  for (const [name, command] of Object.entries(drifts)) {
    it(`sees and repairs ${name}`, async () => {
      await one.namespace.exec(command(one))
      assert.notDeepEqual(await one.host.observe(), one.want)
      await pass(one)
      assert.deepEqual(await one.host.observe(), one.want)
      await eventually(async () => ok(one.namespace, ['ping', '-c1', '-W1', '10.2.0.1']), 15_000)
    })
  }

  it('hears of changes', async () => {
    await one.host.watch()
    await eventually(async () => {
      await one.namespace.exec([
        'ip',
        'link',
        'set',
        'dev',
        'foreign0',
        'mtu',
        String(1400 + (Date.now() % 90))
      ])
      return (await one.host.hints()) > 0
    })
  })

  it('leaves traffic flowing when it is killed, and takes over where it was', async () => {
    await one.host.kill()
    await one.namespace.exec(['ping', '-c1', '-W2', '10.2.0.1'])
    one.host = startProcess(one)
    await one.host.start()
    assert.deepEqual(await one.host.observe(), one.want)
    assert.deepEqual(await pass(one), [])
  })

  it('says which port is taken', async () => {
    const blocker = one.namespace.spawn([
      process.execPath,
      '-e',
      "const s = require('node:dgram').createSocket('udp4'); s.bind(51999, () => console.log('bound'))"
    ])
    await new Promise((resolve) => blocker.stdout?.once('data', resolve))
    const tunnel = { ...one.want.tunnel!, listenPort: 51999 }
    await assert.rejects(one.host.apply([{ kind: 'setTunnel', tunnel }]), { code: 'PORT_IN_USE' })
    blocker.kill()
    await one.host.apply([{ kind: 'setTunnel', tunnel: one.want.tunnel! }])
    assert.deepEqual(await one.host.observe(), one.want)
  })

  it('refuses a device name that a wireguard-go in another namespace holds', async () => {
    const three = await lab.namespace('three')
    const host = startProcess({ ...one, namespace: three, stateFolder: join(folder, '3') })
    await host.start()
    await assert.rejects(host.apply([{ kind: 'setTunnel', tunnel: one.want.tunnel! }]), {
      code: 'DEVICE_TAKEN'
    })
    await three.exec(['ip', 'link', 'add', one.device, 'type', 'bridge'])
    await assert.rejects(host.observe(), { code: 'DEVICE_TAKEN' })
    await host.kill()
    assert.deepEqual(await one.host.observe(), one.want)
  })

  it('refuses a desired state for another key than it holds', async () => {
    const tunnel = { ...one.want.tunnel!, publicKey: keyPair().publicKey }
    await assert.rejects(one.host.apply([{ kind: 'setTunnel', tunnel }]), { code: 'KEY_MISMATCH' })
    assert.deepEqual(await one.host.observe(), one.want)
  })

  it('does the same with its real load balancer and filter', async () => {
    const four = await lab.namespace('four')
    await lab.link(four, 'eth0', '198.51.100.1/24', await lab.namespace('five'), 'eth0', '198.51.100.2/24')
    await foreign(four)
    const device = lab.device('w4')
    const { privateKey, publicKey } = keyPair()
    const options = { device, privateKey, stateFolder: join(folder, '4') }
    const site = { namespace: four, ...options, publicKey, want: one.want }
    const host = remoteHost(four, options)
    await host.start()
    const before = await snapshot({ ...site, host })
    const want: HostState = {
      ...one.want,
      tunnel: { ...one.want.tunnel!, device, publicKey },
      virtualServers: [
        {
          vip: '10.92.0.10' as Ip,
          protocol: 'TCP',
          port: 80,
          scheduler: 'rr',
          affinitySeconds: 0,
          realServers: [
            { ip: '10.2.0.11' as Ip, port: 8080, weight: 1 },
            { ip: '10.2.0.12' as Ip, port: 8080, weight: 1 }
          ]
        }
      ],
      filter: {
        remoteSources: ['10.2.0.0/16' as Cidr],
        localDestinations: ['10.1.0.0/16' as Cidr],
        probePort: 4000,
        mtu: 1400
      },
      sysctls: [{ name: 'net.ipv4.ip_forward', value: '1' }]
    }
    assert.ok((await pass({ host, want })).length > 0)
    assert.deepEqual(await host.observe(), want)
    assert.deepEqual(await pass({ host, want }), [])
    assert.match(await everything(four), /rhizome/)
    await host.cleanup()
    assert.deepEqual(await host.observe(), EMPTY)
    assert.equal(await snapshot({ ...site, host }), before)
    assert.doesNotMatch(await everything(four), new RegExp(`${device}|proto(col)? 142|rhizome`))
    await host.stop()
  })

  it('cleans up to the state of before, sysctls included, and only its own', async () => {
    const before = await snapshot(one)
    await one.host.cleanup()
    assert.deepEqual(await one.host.observe(), EMPTY)
    assert.equal(await snapshot(one), before)
    assert.equal((await one.namespace.exec(['sysctl', '-n', 'net.ipv4.ip_forward'])).stdout, '0\n')
    await one.host.cleanup()
    await one.host.stop()
    const all = await everything(one.namespace)
    assert.doesNotMatch(all, new RegExp(`${one.device}|proto(col)? 142`))
  })
})

const EMPTY: HostState = {
  tunnel: undefined,
  peers: [],
  routes: [],
  vips: [],
  virtualServers: [],
  filter: undefined,
  sysctls: []
}

interface KeyPair {
  readonly privateKey: string
  readonly publicKey: WireguardKey
}

function keyPair(): KeyPair {
  const pair = generateKeyPairSync('x25519')
  const raw = (der: Buffer) => der.subarray(-32).toString('base64')
  return {
    privateKey: raw(pair.privateKey.export({ type: 'pkcs8', format: 'der' })),
    publicKey: raw(pair.publicKey.export({ type: 'spki', format: 'der' })) as WireguardKey
  }
}

/** What the reconciler does. */
async function pass({ host, want }: Pick<Site, 'host' | 'want'>): Promise<readonly HostOp[]> {
  const ops = plan(want, await host.observe())
  await host.apply(ops)
  return ops
}

/** Things of others that look like ours in one way or another. */
async function foreign(namespace: Namespace): Promise<void> {
  const commands = [
    'ip link add foreign0 type veth peer name foreign1',
    'ip address add 10.77.0.1/24 dev foreign0',
    'ip link set dev foreign0 up',
    'ip link set dev foreign1 up',
    'ip route add 10.78.0.0/16 dev foreign0 proto 141 table 5142',
    'ip route add 10.79.0.0/16 dev foreign0 table 5143',
    'ip route add local 10.80.0.0/16 dev lo',
    'ip rule add preference 5142 fwmark 0x2000/0x2000 lookup 5143',
    'ip rule add preference 5143 lookup 5143',
    'nft add table inet foreign',
    'nft add chain inet foreign input { type filter hook input priority 0; }',
    'nft add rule inet foreign input counter'
  ]
  for (const command of commands) await namespace.exec(command.split(' '))
}

/** What of all this is not ours, as text. */
async function snapshot(site: Site): Promise<string> {
  // Link-local addresses come and go with the kernel's duplicate detection.
  const ours = new RegExp(`${site.device}|proto(col)? 142|rhizome|fe80::|ff00::`)
  return (await everything(site.namespace))
    .split('\n')
    .filter((line) => !ours.test(line))
    .map((line) => line.replace(/mtu 14\d\d|packets \d+ bytes \d+/, ''))
    .join('\n')
}

async function everything(namespace: Namespace): Promise<string> {
  const commands = [
    'ip -details -oneline link show',
    'ip -oneline address show',
    'ip -d rule show',
    'ip -6 -d rule show',
    'ip -d route show table all',
    'ip -6 -d route show table all',
    'nft list ruleset'
  ]
  const texts = []
  for (const command of commands) texts.push((await namespace.exec(command.split(' '))).stdout)
  return texts.join('\n')
}

async function ok(namespace: Namespace, argv: readonly string[]): Promise<boolean> {
  return (await namespace.exec(argv, { check: false })).exitCode === 0
}
