// Runs in the guest (guest.test.ts boots it): the whole way of a connection through IPVS, the packet filter and kernel WireGuard.
//   client — west: service address, IPVS, filter — WireGuard — east — two pods
import assert from 'node:assert/strict'
import type { Cidr } from '../../../src/core/model.ts'
import { createFilter } from '../../../src/io/host/filter.ts'
import { createIpvsLoadBalancer } from '../../../src/io/host/lb-ipvs.ts'
import { real, virtual } from '../../contract/load-balancer.ts'
import { runIn } from '../lb-bench.ts'
import { startAsker, startServers, type Ask } from '../lb-traffic-client.ts'
import { Lab, type Namespace } from '../netns.ts'

const PODS = ['10.1.0.11', '10.1.0.12'] as const

describe('client → service address → IPVS → filter → kernel WireGuard → pod', () => {
  let lab: Lab
  let west: Namespace
  let ask: Ask
  const { signal } = new AbortController()

  before(async () => {
    lab = await Lab.create('guest path')
    west = await lab.namespace('west')
    const [client, east] = [await lab.namespace('client'), await lab.namespace('east')]
    await lab.link(west, 'pod', '10.2.0.1/24', client, 'eth0', '10.2.0.2/24')
    await client.exec(['ip', 'route', 'add', 'default', 'via', '10.2.0.1'])
    await lab.link(west, 'wan', '192.0.2.1/24', east, 'wan', '192.0.2.2/24')
    for (const [index, ip] of PODS.entries()) {
      const pod = await lab.namespace(`pod${index}`)
      await lab.link(east, `pod${index}`, `169.254.${index}.1/24`, pod, 'eth0', [
        `169.254.${index}.2/24`,
        `${ip}/32`
      ])
      await pod.exec(['ip', 'route', 'add', 'default', 'via', `169.254.${index}.1`, 'src', ip])
      await east.exec(['ip', 'route', 'add', ip, 'via', `169.254.${index}.2`])
      await startServers(pod, [ip])
    }
    await tunnel(west, east)
    for (const gateway of [west, east]) {
      await gateway.exec(['tee', '/proc/sys/net/ipv4/ip_forward'], { input: '1' })
    }
    await west.exec(['ip', 'route', 'add', 'local', '10.96.0.0/16', 'dev', 'lo', 'src', '10.2.0.1'])
    ask = await startAsker(client)
  })
  after(async () => {
    await lab?.close()
  })

  /** A device of the kernel on both gateways. */
  async function tunnel(left: Namespace, right: Namespace): Promise<void> {
    const sides = [
      { gateway: left, device: lab.device('w'), far: '192.0.2.2', allowed: '10.1.0.0/16' },
      { gateway: right, device: lab.device('e'), far: '192.0.2.1', allowed: '10.2.0.0/24' }
    ]
    const keys = await Promise.all(
      sides.map(async ({ gateway }) => {
        const secret = (await gateway.exec(['wg', 'genkey'])).stdout
        return { secret, shared: (await gateway.exec(['wg', 'pubkey'], { input: secret })).stdout.trim() }
      })
    )
    for (const [index, { gateway, device, far, allowed }] of sides.entries()) {
      await gateway.exec(['ip', 'link', 'add', 'dev', device, 'type', 'wireguard'])
      const peer = ['peer', keys[1 - index]?.shared ?? '', 'endpoint', `${far}:51820`, 'allowed-ips', allowed]
      const settings = ['listen-port', '51820', 'private-key', '/dev/stdin', ...peer]
      // A pipe of the shell's: wg opens /dev/stdin by name, and Node's pipes are sockets.
      await gateway.exec(['sh', '-c', 'cat | wg set "$@"', 'sh', device, ...settings], {
        input: keys[index]?.secret ?? ''
      })
      await gateway.exec(['ip', 'link', 'set', 'dev', device, 'mtu', '1380', 'up'])
      await gateway.exec(['ip', 'route', 'add', allowed, 'dev', device])
    }
  }

  it('alternates between the pods over TCP and UDP, and each pod sees the client’s own address', async () => {
    const run = runIn(west)
    const said: string[] = []
    const filter = createFilter({
      run,
      names: { nftTable: 'rhizome', device: lab.device('w') },
      warn: (text) => said.push(text)
    })
    const prefixes = (text: string) => [text as Cidr]
    const wish = { remoteSources: prefixes('10.1.0.0/16'), localDestinations: prefixes('10.2.0.0/24') }
    const wanted = { ...wish, guardedVips: prefixes('10.96.0.0/16'), probePort: 0, mtu: 1380 }
    await filter.set(wanted, signal)
    assert.deepEqual(await filter.observe(signal), wanted)
    assert.deepEqual(said, [])

    const balancer = createIpvsLoadBalancer({ run, names: { vipPrefixes: () => ['10.96.0.0/16'] } })
    await balancer.start()
    const reals = PODS.map((ip) => real(ip))
    const tcp = virtual('10.96.0.1', reals)
    const udp = virtual('10.96.0.1', reals, { protocol: 'UDP', port: 53 })
    await balancer.apply(
      [tcp, udp].map((want) => ({ want, have: undefined })),
      signal
    )
    const expected = new Set(PODS.map((ip) => `${ip} 8080 10.2.0.2`))
    for (const { protocol, port } of [
      { protocol: 'TCP', port: 80 },
      { protocol: 'UDP', port: 53 }
    ] as const) {
      const question = { protocol, ip: '10.96.0.1', port } as const
      await ask({ ...question, count: 1 }) // the tunnel's handshake
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
})
