import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { desired } from '../../src/core/host/desired.ts'
import type { HostState } from '../../src/core/host/host-state.ts'
import type { Cidr, ClusterName, Ip, Origin, WireguardKey } from '../../src/core/model/values.ts'
import { plan } from '../../src/core/host/plan.ts'
import type { Surroundings } from '../../src/core/host/surroundings.ts'
import type { ClusterView } from '../../src/core/view/view.ts'
import { Lab, type Namespace } from './support/netns.ts'
import { remoteHost, type RemoteHost } from './support/remote-host.ts'
import { requireLab } from './support/require.ts'

/**
 *   lan ── eth0 ── host ── docker0 ── container        router (default route, DNS) on eth1
 *   10.2.5.0/24, fd02:5::/64   172.17.0.0/16           198.18.0.0/16
 */
describe('a host whose networks overlap prefixes of the mesh', function () {
  let lab: Lab
  let folder: string
  let namespace: Namespace
  let lan: Namespace
  let container: Namespace
  let host: RemoteHost
  let device: string
  const { publicKey, privateKey } = keyPair()

  before(async function () {
    requireLab(this)
    lab = await Lab.create('own-networks.test')
    folder = mkdtempSync(join(tmpdir(), 'rhizome-own-'))
    device = lab.device('own')
    namespace = await lab.namespace('host')
    lan = await lab.namespace('lan')
    container = await lab.namespace('container')
    const router = await lab.namespace('router')
    await lab.link(namespace, 'eth0', ['10.2.5.1/24', 'fd02:5::1/64'], lan, 'eth0', [
      '10.2.5.2/24',
      'fd02:5::2/64'
    ])
    await lab.bridge(namespace, 'docker0', '172.17.0.1/16')
    await lab.attach(namespace, 'docker0', 'veth0', {
      namespace: container,
      device: 'eth0',
      cidr: '172.17.0.2/16'
    })
    await lab.link(namespace, 'eth1', '198.18.0.1/16', router, 'eth0', ['198.18.0.254/16', '198.18.0.53/16'])
    await namespace.exec(['ip', 'route', 'add', 'default', 'via', '198.18.0.254'])
    host = remoteHost(namespace, { device, privateKey, stateFolder: folder })
    await host.start()
  })
  after(async () => {
    await lab?.close()
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  async function become(east: Partial<ClusterView>): Promise<HostState> {
    const surroundings: Surroundings = { ...(await host.surroundings()), resolvers: ['198.18.0.53' as Ip] }
    const want = desired({
      view: {
        self: 'west' as ClusterName,
        clusters: new Map(
          [cluster('west', { podPrefixes: ['10.1.0.0/16' as Cidr] }), cluster('east', east)].map((each) => [
            each.name,
            each
          ])
        )
      },
      self: { origin: 'west' as Origin, cluster: 'west' as ClusterName },
      local: { publicKey: publicKey as WireguardKey },
      health: () => 'up',
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
    await host.apply(plan(want, await host.observe()))
    return want
  }
  const pings = async (from: Namespace, to: string): Promise<boolean> =>
    (await from.exec(['ping', '-c1', '-W2', to], { check: false })).exitCode === 0
  const routed = async (to: string): Promise<string> =>
    (await namespace.exec(['ip', 'route', 'get', to])).stdout

  it('keeps its LAN, its containers, its default gateway and its resolver, and routes the rest into the tunnel', async () => {
    const want = await become({
      podPrefixes: ['10.2.0.0/16', '172.16.0.0/12', '198.18.0.0/15', 'fd02::/16'] as Cidr[]
    })
    for (const address of ['10.2.5.2', 'fd02:5::2', '172.17.0.2', '198.18.0.254', '198.18.0.53'])
      assert.ok(await pings(namespace, address), address)
    for (const address of ['10.2.6.1', '172.18.0.1', '198.19.0.1', 'fd02:6::1'])
      assert.match(await routed(address), new RegExp(`dev ${device} `), address)
    assert.deepEqual(plan(want, await host.observe()), [], 'the kernel has what was wanted')
  })

  it('keeps gateway and resolver, where a prefix of the mesh lies inside its LAN', async () => {
    await become({ podPrefixes: ['198.18.0.0/24', '10.2.5.128/25', 'fd02:5::8000:0:0:0/65'] as Cidr[] })
    for (const address of ['198.18.0.254', '198.18.0.53', '10.2.5.2', 'fd02:5::2'])
      assert.ok(await pings(namespace, address), address)
    for (const address of ['198.18.0.7', '10.2.5.200', 'fd02:5::8000:0:0:1'])
      assert.match(await routed(address), new RegExp(`dev ${device} `), address)
  })

  it('answers no ARP and no neighbour discovery for free addresses of its LAN inside a service prefix', async () => {
    const want = await become({ servicePrefixes: ['10.2.0.0/16', '172.16.0.0/12', 'fd02::/16'] as Cidr[] })
    for (const address of ['10.2.5.77', '172.17.0.77', 'fd02:5::77']) {
      assert.equal(await pings(address.startsWith('172') ? container : lan, address), false, address)
      assert.doesNotMatch(await routed(address), /^local /, address)
    }
    for (const address of ['10.2.5.2', 'fd02:5::2', '172.17.0.2'])
      assert.ok(await pings(namespace, address), address)
    assert.match(await routed('10.2.6.7'), /^local /)
    assert.match(await routed('fd02:6::7'), /^local /)
    assert.deepEqual(plan(want, await host.observe()), [])
  })

  it('is still reached at its own address there, which the guard of service addresses leaves alone', async () => {
    const listening = namespace.spawn([process.execPath, '-e', SERVER])
    await new Promise((resolve) => listening.stdout?.once('data', resolve))
    for (const address of ['10.2.5.1', 'fd02:5::1'])
      assert.equal((await lan.exec([process.execPath, '-e', CLIENT, address])).stdout, 'connected', address)
    listening.kill()
  })

  it('refuses connections to a cluster whose tunnels are down at once, and is as before when they are back', async () => {
    const prefixes: Partial<ClusterView> = { podPrefixes: ['10.9.0.0/16', 'fd09::/64'] as Cidr[] }
    const up = await become(prefixes)
    const down: HostState = {
      ...up,
      routes: up.routes.map(({ destination }) => ({ destination, source: undefined, kind: 'unreachable' }))
    }
    await host.apply(plan(down, up))
    assert.deepEqual(plan(down, await host.observe()), [])
    for (const address of ['10.9.0.7', 'fd09::7']) {
      const asked = await namespace.exec([process.execPath, '-e', CLIENT, address], { check: false })
      assert.match(asked.stdout, /EHOSTUNREACH/, address)
    }
    await host.apply(plan(up, await host.observe()))
    assert.deepEqual(plan(up, await host.observe()), [])
    assert.match(await routed('10.9.0.7'), new RegExp(`dev ${device} `))
  })

  it('is as it was after cleanup', async () => {
    await become({
      podPrefixes: ['10.2.0.0/16', 'fd02::/16'] as Cidr[],
      servicePrefixes: ['172.16.0.0/12' as Cidr]
    })
    await host.cleanup()
    for (const family of ['-4', '-6']) {
      const left = await namespace.exec(['ip', family, 'route', 'show', 'table', 'all', 'proto', '142'])
      assert.equal(left.stdout, '')
    }
    for (const address of ['10.2.5.2', 'fd02:5::2', '172.17.0.2'])
      assert.ok(await pings(namespace, address), address)
  })
})

const SERVER = `require('net').createServer((socket) => socket.end()).listen(8080, '::', () => console.log('listening'))`
const CLIENT = `const socket = require('net').connect({ host: process.argv[1], port: 8080 })
socket.on('connect', () => { process.stdout.write('connected'); socket.destroy() })
socket.on('error', (error) => process.stdout.write(error.code))`

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
