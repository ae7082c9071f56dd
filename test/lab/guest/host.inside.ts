// Runs in the guest (guest.test.ts boots it): host edges with IPVS, the packet filter and kernel WireGuard, and a connection through all.
//   client — west: service address, IPVS, filter — WireGuard — east — two pods
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { IPVS } from '../../../src/io/host/load-balancer/ipvs/kind.ts'
import type { HostState } from '../../../src/core/host/host-state.ts'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import type { Cidr, Ip, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import { plan } from '../../../src/core/host/plan.ts'
import { real, virtual } from '../../contract/load-balancer.ts'
import { eventually } from '../../eventually.ts'
import { startAsker, startServers, type Ask } from '../support/lb-traffic-client.ts'
import { Lab, type Namespace } from '../support/netns.ts'
import { remoteHost, type RemoteHost } from '../support/remote-host.ts'

const PODS = ['10.1.0.11', '10.1.0.12'] as const
const [POD_CIDR, CLIENT_CIDR, VIPS] = [
  '10.1.0.0/16',
  '10.2.0.0/24',
  '10.96.0.0/16'
] as readonly string[] as readonly [Cidr, Cidr, Cidr]
const MTU = 1380

describe('client → service address → IPVS → filter → kernel WireGuard → pod', () => {
  let lab: Lab
  let folder: string
  let west: Namespace
  let here: RemoteHost
  let want: HostState
  let ask: Ask

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'rhizome-guest-host-'))
    lab = await Lab.create('guest host')
    west = await lab.namespace('west')
    const [client, east] = [await lab.namespace('client'), await lab.namespace('east')]
    await lab.link(west, 'pod', '10.2.0.1/24', client, 'eth0', '10.2.0.2/24')
    await client.exec(['ip', 'route', 'add', 'default', 'via', '10.2.0.1'])
    await lab.link(west, 'wan', '192.0.2.1/24', east, 'wan', '192.0.2.2/24')
    for (const [index, ip] of PODS.entries()) {
      const pod = await lab.namespace(`pod${index}`)
      const addresses = [`169.254.${index}.2/24`, `${ip}/32`]
      await lab.link(east, `pod${index}`, `169.254.${index}.1/24`, pod, 'eth0', addresses)
      await pod.exec(['ip', 'route', 'add', 'default', 'via', `169.254.${index}.1`, 'src', ip])
      await east.exec(['ip', 'route', 'add', ip, 'via', `169.254.${index}.2`])
      await startServers(pod, [ip])
    }
    ask = await startAsker(client)
    const [mine, theirs] = [keyPair(), keyPair()]
    here = edge(west, 'w', mine.privateKey)
    const there = edge(east, 'e', theirs.privateKey)
    const source = '10.2.0.1' as Ip
    const reals = PODS.map((ip) => real(ip))
    want = {
      tunnel: { device: lab.device('w'), listenPort: 51_820, mtu: MTU, publicKey: mine.publicKey },
      peers: [peer(theirs.publicKey, '192.0.2.2:51820', POD_CIDR)],
      routes: [{ destination: POD_CIDR, source }],
      vips: [{ destination: VIPS, source }],
      virtualServers: [
        virtual('10.96.0.1', reals),
        virtual('10.96.0.1', reals, { protocol: 'UDP', port: 53 })
      ],
      filter: { ...filterOf(POD_CIDR, CLIENT_CIDR), guardedVips: [VIPS] },
      sysctls: [...IPVS.sysctls, ['net.ipv4.ip_forward', '1'] as const]
        .map(([name, value]) => ({ name, value }))
        .sort((a, b) => (a.name < b.name ? -1 : 1))
    }
    await there.start()
    await pass(there, {
      ...EMPTY_HOST,
      tunnel: { device: lab.device('e'), listenPort: 51_820, mtu: MTU, publicKey: theirs.publicKey },
      peers: [peer(mine.publicKey, undefined, CLIENT_CIDR)],
      routes: [{ destination: CLIENT_CIDR, source: undefined }],
      filter: filterOf(CLIENT_CIDR, POD_CIDR),
      sysctls: [{ name: 'net.ipv4.ip_forward', value: '1' }]
    })
    await here.start()
  })

  after(async () => {
    await lab?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  it('becomes what is wanted, the settings of IPVS included, and a second pass has nothing to do', async () => {
    await pass(here, want)
    assert.deepEqual(await here.observe(), want)
    assert.match((await west.exec(['ip', '-d', 'link', 'show', 'dev', lab.device('w')])).stdout, /wireguard/)
    for (const [name, value] of IPVS.sysctls)
      assert.equal((await west.exec(['sysctl', '-n', name])).stdout.trim(), value, name)
  })

  it('is read by netlink as wg prints it', async () => {
    await ask({ protocol: 'TCP', ip: '10.96.0.1', port: 80, count: 1 }).catch(() => undefined)
    const { kernel, tool } = await here.wireguard()
    // Bytes and handshakes may have grown between the two readings.
    const still = ({ peers, ...device }: typeof kernel) => ({
      ...device,
      peers: peers.map((peer) => ({ ...peer, rxBytes: 0, txBytes: 0, lastHandshakeSeconds: 0 }))
    })
    assert.deepEqual(still(kernel), still(tool))
    assert.ok(
      tool.peers.some(({ peerAddress, allowedIps }) => peerAddress !== undefined && allowedIps.length > 0)
    )
  })

  it('alternates between the pods over TCP and UDP, and each pod sees the client’s own address', async () => {
    const expected = new Set(PODS.map((ip) => `${ip} 8080 10.2.0.2`))
    for (const { protocol, port } of [
      { protocol: 'TCP', port: 80 },
      { protocol: 'UDP', port: 53 }
    ] as const) {
      const question = { protocol, ip: '10.96.0.1', port } as const
      await eventually(async () => expected.has((await ask({ ...question, count: 1 }))[0] ?? '')) // the handshake
      const answers = await ask({ ...question, count: 8 })
      for (const [turn, answer] of answers.entries()) {
        assert.ok(expected.has(answer), answer)
        if (turn > 0) assert.notEqual(answer, answers[turn - 1])
      }
    }
    // What nothing balances is refused by the filter, and reaches no process of the gateway.
    const [refusal] = await ask({ protocol: 'TCP', ip: '10.96.0.1', port: 81, count: 1 })
    assert.equal(refusal, 'ECONNREFUSED')
  })

  it('sees kube-proxy in IPVS mode, and counts what it deletes', async () => {
    assert.deepEqual(await here.rivals(), { kubeProxy: false, foreign: 0, lost: 0, prefixes: [VIPS] })
    await west.exec(['ip', 'link', 'add', 'dev', 'kube-ipvs0', 'type', 'dummy'])
    await west.exec(['ipvsadm', '-A', '-t', '10.97.0.1:443', '-s', 'rr'])
    assert.deepEqual(await here.rivals(), { kubeProxy: true, foreign: 1, lost: 0, prefixes: [VIPS] })
    await west.exec(['ipvsadm', '-D', '-t', '10.96.0.1:80'])
    await pass(here, want)
    assert.deepEqual(await here.rivals(), { kubeProxy: true, foreign: 1, lost: 1, prefixes: [VIPS] })
    const answers = await ask({ protocol: 'TCP', ip: '10.96.0.1', port: 80, count: 2 })
    assert.equal(new Set(answers).size, 2, answers.join())
  })

  it('leaves the host as it was, but for what others have there, also when it balances with nftables by now', async () => {
    await here.stop()
    await here.kill()
    here = edge(west, 'w', '', 'nftables')
    await here.start()
    await here.cleanup()
    assert.equal((await west.exec(['ipvsadm', '-S', '-n'])).stdout.trim(), '-A -t 10.97.0.1:443 -s rr')
    assert.doesNotMatch((await west.exec(['nft', 'list', 'tables'])).stdout, /rhizome/)
    assert.equal((await west.exec(['sysctl', '-n', 'net.ipv4.vs.conntrack'])).stdout.trim(), '0')
  })

  function edge(
    namespace: Namespace,
    suffix: string,
    privateKey: string,
    loadBalancer: 'ipvs' | 'nftables' = 'ipvs'
  ): RemoteHost {
    const stateFolder = join(folder, suffix)
    return remoteHost(namespace, { device: lab.device(suffix), privateKey, stateFolder, loadBalancer })
  }
})

async function pass(host: RemoteHost, want: HostState): Promise<void> {
  await host.apply(plan(want, await host.observe()))
  assert.deepEqual(plan(want, await host.observe()), [])
}

function peer(publicKey: WireguardKey, address: string | undefined, allowed: Cidr) {
  const peerAddress = address as PeerAddress | undefined
  return { publicKey, peerAddress, allowedIps: [allowed], keepaliveSeconds: 0 }
}

function filterOf(source: Cidr, destination: Cidr) {
  return { remoteSources: [source], localDestinations: [destination], probePort: 0, mtu: MTU }
}

function keyPair(): { readonly privateKey: string; readonly publicKey: WireguardKey } {
  const { privateKey, publicKey } = generateKeyPairSync('x25519')
  const raw = (key: typeof publicKey, type: 'spki' | 'pkcs8') =>
    key.export({ format: 'der', type }).subarray(-32).toString('base64')
  return { privateKey: raw(privateKey, 'pkcs8'), publicKey: raw(publicKey, 'spki') as WireguardKey }
}
