// A host on which something cannot be done: all else is done, the obstacle is named, and it is done once the obstacle has gone. Real kernels.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pass } from '../../src/app/host/pass.ts'
import type { HostState, Route } from '../../src/core/host/host-state.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../src/core/model/values.ts'
import { plan } from '../../src/core/host/plan.ts'
import { RETRY_MS_MAX } from '../../src/core/host/retries.ts'
import { eventually, slowness } from '../eventually.ts'
import { Lab, type Namespace } from './support/netns.ts'
import { remoteHost, RemoteError, type RemoteHost } from './support/remote-host.ts'
import { requireLab } from './support/require.ts'

interface Machine {
  readonly namespace: Namespace
  readonly host: RemoteHost
  readonly device: string
  readonly want: HostState
  readonly pass: Pass
  /** A pass in which everything that has failed is due again. */
  run(want?: HostState): Promise<void>
  /** "addRoute IPV6_OFF" of everything that cannot be done. */
  failed(): readonly string[]
}

describe('a host with an obstacle', function () {
  let lab: Lab
  let folder: string
  let count = 0

  before(async function () {
    requireLab(this)
    lab = await Lab.create('host-obstacles.test')
    folder = mkdtempSync(join(tmpdir(), 'rhizome-obstacles-'))
  })

  after(async () => {
    await lab?.close()
    if (lab !== undefined) assert.deepEqual(await Lab.leftovers(lab.id), [])
    if (folder !== undefined) rmSync(folder, { recursive: true })
  })

  /** Wants two remote clusters: 10.2.0.0/16 with fd00:2::/64, and 10.3.0.0/16; services of both. */
  async function machine(
    prepare: (namespace: Namespace) => Promise<unknown> = async () => undefined
  ): Promise<Machine> {
    count += 1
    const namespace = await lab.namespace(`m${count}`)
    const outside = await lab.namespace(`o${count}`)
    await lab.link(namespace, 'eth0', ['192.0.2.1/24'], outside, 'eth0', ['192.0.2.2/24'])
    await namespace.exec(['sysctl', '-qw', 'net.ipv4.ip_forward=0'])
    await prepare(namespace)
    const device = lab.device(`m${count}`)
    const { privateKey, publicKey } = keyPair()
    const options = { device, privateKey, stateFolder: join(folder, String(count)) }
    const host = remoteHost(namespace, options)
    await host.start()
    let nowMs = 0
    const pass = new Pass({ host: host.edge, drainMs: 0, now: () => nowMs })
    const want = desired({ device, publicKey })
    return {
      namespace,
      host,
      device,
      want,
      pass,
      run: async (other = want) => {
        nowMs += RETRY_MS_MAX
        pass.markStale()
        await pass.run({ want: other, keeps: [] }, AbortSignal.timeout(30_000 * slowness()))
      },
      failed: () => {
        const { steps, parts } = pass.failures
        const code = (error: unknown) => (error instanceof RemoteError ? error.code : String(error))
        return [
          ...steps.map(({ op, error }) => `${op.kind} ${code(error)}`),
          ...parts.map(({ part, error }) => `${part} ${code(error)}`)
        ].sort()
      }
    }
  }

  const left = async (one: Machine, want = one.want) => plan(want, await one.host.observe())

  it('keeps applying IPv4, and removing, while IPv6 is switched off; then does IPv6, too', async () => {
    const one = await machine((namespace) =>
      namespace.exec(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1'])
    )
    await one.run()
    assert.deepEqual(one.failed(), ['addRoute IPV6_OFF', 'addVip IPV6_OFF'])
    assert.deepEqual(
      (await left(one)).map((op) => op.kind),
      ['addRoute', 'addVip']
    )
    for (const { error } of one.pass.failures.steps) {
      assert.ok(error instanceof RemoteError)
      assert.match(error.message, /IPv6 is switched off on this host/)
      assert.match(error.fix ?? '', /disable_ipv6=0/)
    }
    // A change, and a cluster that leaves: both are done beside what cannot be done.
    const fewer: HostState = {
      ...one.want,
      routes: one.want.routes.filter(({ destination }) => destination !== '10.3.0.0/16'),
      peers: one.want.peers.slice(0, 1),
      virtualServers: one.want.virtualServers.map((server) => ({
        ...server,
        realServers: server.realServers.slice(1)
      }))
    }
    await one.run(fewer)
    assert.deepEqual(
      (await left(one, fewer)).map((op) => op.kind),
      ['addRoute', 'addVip']
    )
    await one.namespace.exec(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0'])
    await one.namespace.exec(['sysctl', '-qw', `net.ipv6.conf.lo.disable_ipv6=0`])
    await one.run()
    assert.deepEqual(one.failed(), [])
    assert.deepEqual(await left(one), [])
  })

  it('switched off on the tunnel device alone, or on the loopback device alone, IPv6 stops only what needs that device', async () => {
    const one = await machine()
    await one.run()
    assert.deepEqual(one.failed(), [])
    await one.namespace.exec(['sysctl', '-qw', `net.ipv6.conf.${one.device}.disable_ipv6=1`])
    await one.run()
    assert.deepEqual(one.failed(), ['addRoute IPV6_OFF'])
    await one.namespace.exec(['sysctl', '-qw', `net.ipv6.conf.${one.device}.disable_ipv6=0`])
    await one.run()
    assert.deepEqual(await left(one), [])
    await one.namespace.exec(['sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=1'])
    await one.run()
    assert.deepEqual(one.failed(), ['addVip IPV6_OFF'])
  })

  it('a route of others in our table refuses that prefix only', async () => {
    const one = await machine((namespace) =>
      namespace.exec(['ip', 'route', 'add', '10.2.0.0/16', 'dev', 'eth0', 'table', '5142'])
    )
    await one.namespace.exec(['ip', 'route', 'add', 'local', '10.93.0.0/16', 'dev', 'lo'])
    await one.run()
    assert.deepEqual(one.failed(), ['addRoute ROUTE_TAKEN', 'addVip ROUTE_TAKEN'])
    assert.deepEqual(
      (await left(one)).map(
        (op) => ('route' in op ? op.route : 'vip' in op ? op.vip : undefined)?.destination
      ),
      ['10.2.0.0/16', '10.93.0.0/16']
    )
    await one.namespace.exec(['ip', 'route', 'del', '10.2.0.0/16', 'dev', 'eth0', 'table', '5142'])
    await one.namespace.exec(['ip', 'route', 'del', 'local', '10.93.0.0/16', 'dev', 'lo'])
    await one.run()
    assert.deepEqual(await left(one), [])
  })

  it('a WireGuard port that another process has leaves the services of this host working', async () => {
    let blocker: ReturnType<Namespace['spawn']> | undefined
    const one = await machine(async (namespace) => {
      blocker = namespace.spawn([
        process.execPath,
        '-e',
        "const s = require('node:dgram').createSocket('udp6'); s.bind(51820, () => console.log('bound'))"
      ])
      await new Promise((resolve) => blocker?.stdout?.once('data', resolve))
    })
    await one.run()
    assert.deepEqual(one.failed(), ['setTunnel PORT_IN_USE'])
    const found = await one.host.observe()
    assert.deepEqual(found.virtualServers, one.want.virtualServers)
    assert.deepEqual(found.filter, one.want.filter)
    assert.deepEqual(found.vips, one.want.vips)
    const ended = new Promise((resolve) => blocker?.once('exit', resolve))
    blocker?.kill()
    await ended
    await one.run()
    assert.deepEqual(one.failed(), [])
    assert.deepEqual(await left(one), [])
  })

  it('our device under another name, up or down, is replaced by one of our name', async () => {
    const one = await machine()
    await one.run()
    for (const after of ['up', 'down']) {
      const set = ['ip', 'link', 'set', 'dev']
      await one.namespace.exec([...set, one.device, 'down'])
      await one.namespace.exec([...set, one.device, 'name', `was-${after}`])
      await one.namespace.exec([...set, `was-${after}`, after])
      await one.run()
      assert.deepEqual(one.failed(), [])
      assert.deepEqual(await left(one), [])
      // The old one has gone with its process, and with it the port.
      await eventually(async () => {
        const { stdout } = await one.namespace.exec(['ip', '-o', 'link'])
        return !stdout.includes('was-')
      })
    }
  })

  it('a foreign link of the name of our device leaves the services of this host working', async () => {
    const device = lab.device(`m${count + 1}`)
    const one = await machine((namespace) => namespace.exec(['ip', 'link', 'add', device, 'type', 'bridge']))
    await one.run()
    assert.deepEqual(one.failed(), ['tunnel DEVICE_TAKEN'])
    const found = (
      await one.host.edge.look(['virtualServers', 'routes', 'filter'], new AbortController().signal)
    ).found
    assert.deepEqual(found.virtualServers, one.want.virtualServers)
    assert.deepEqual(found.routes, [])
    assert.deepEqual(
      found.vips?.map(({ destination }) => destination),
      one.want.vips.map(({ destination }) => destination)
    )
    await one.namespace.exec(['ip', 'link', 'del', device])
    await eventually(async () => {
      await one.run()
      return one.failed().length === 0
    })
    assert.deepEqual(await left(one), [])
  })

  it('one bad line of many takes no other one down', async () => {
    const one = await machine()
    const routes: Route[] = Array.from({ length: 200 }, (_, index) => ({
      // The kernel refuses a prefix with bits beyond its length.
      destination: `10.200.${index}.${index === 77 ? 1 : 0}/24` as Cidr,
      source: undefined
    }))
    const want: HostState = {
      ...one.want,
      routes: [...one.want.routes, ...routes],
      virtualServers: [
        ...one.want.virtualServers,
        ...Array.from({ length: 50 }, (_, index) => ({
          ...one.want.virtualServers[0]!,
          port: index + 1000,
          // A kernel refuses port 70000.
          realServers: [{ ip: '10.2.0.11' as Ip, port: index === 33 ? 70_000 : 8080, weight: 1 }]
        }))
      ]
    }
    await one.run(want)
    const undone = await left(one, want)
    assert.deepEqual(
      undone.map((op) =>
        op.kind === 'setVirtualServer'
          ? op.virtualServer.port
          : op.kind === 'addRoute'
            ? op.route.destination
            : op
      ),
      ['10.200.77.1/24', 1033]
    )
    assert.deepEqual(
      one.failed().map((text) => text.split(' ')[0]),
      ['addRoute', 'setVirtualServer']
    )
  })
})

function desired({ device, publicKey }: { device: string; publicKey: WireguardKey }): HostState {
  const peer = (n: number, ...allowedIps: string[]) => ({
    publicKey: keyPair().publicKey,
    peerAddress: `192.0.2.${n}:51820` as PeerAddress,
    allowedIps: allowedIps as Cidr[],
    keepaliveSeconds: 15
  })
  const to = (destination: string): Pick<Route, 'destination' | 'source'> => ({
    destination: destination as Cidr,
    source: undefined
  })
  return {
    tunnel: { device, listenPort: 51820, mtu: 1400, publicKey },
    peers: [peer(2, '10.2.0.0/16', 'fd00:2::/64'), peer(3, '10.3.0.0/16')].sort((a, b) =>
      a.publicKey < b.publicKey ? -1 : 1
    ),
    routes: [to('10.2.0.0/16'), to('10.3.0.0/16'), to('fd00:2::/64')],
    vips: [to('10.92.0.0/16'), to('10.93.0.0/16'), to('fd92::/108')],
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
      remoteSources: ['10.2.0.0/16', '10.3.0.0/16', 'fd00:2::/64'] as Cidr[],
      localDestinations: ['10.1.0.0/16' as Cidr],
      probePort: 4000,
      mtu: 1400,
      guardedVips: ['10.92.0.0/16', '10.93.0.0/16', 'fd92::/108'] as Cidr[]
    },
    sysctls: [
      { name: 'net.ipv4.ip_forward', value: '1' },
      { name: 'net.ipv6.conf.all.forwarding', value: '1' }
    ]
  }
}

function keyPair(): { readonly privateKey: string; readonly publicKey: WireguardKey } {
  const pair = generateKeyPairSync('x25519')
  const raw = (
    key: { export(options: { type: 'pkcs8' | 'spki'; format: 'der' }): Buffer },
    type: 'pkcs8' | 'spki'
  ) => key.export({ type, format: 'der' }).subarray(-32).toString('base64')
  return { privateKey: raw(pair.privateKey, 'pkcs8'), publicKey: raw(pair.publicKey, 'spki') as WireguardKey }
}
