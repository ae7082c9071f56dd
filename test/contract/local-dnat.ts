// Others' rules for the host's own addresses (a hostPort, `docker run -p`, a NodePort, an ingress) never take a connection to a service address
// of the mesh, though the VIP route makes it an address of this host, too. One suite for every load balancer: IPVS balances after those rules.
import assert from 'node:assert/strict'
import type { Filter } from '../../src/core/host/host-state.ts'
import type { Cidr } from '../../src/core/model/values.ts'
import { createNftFilter } from '../../src/io/host/filter/filter.ts'
import type { FilterPort, LoadBalancer, Run } from '../../src/io/host/ports.ts'
import { createRun } from '../../src/io/host/tools/run.ts'
import { real, virtual } from './load-balancer.ts'
import { startAsker, startServers, type Ask } from '../lab/support/lb-traffic-client.ts'
import { Lab, type Namespace } from '../lab/support/netns.ts'
import { requireLab } from '../lab/support/require.ts'

const { signal } = new AbortController()
const DESIRED: Filter = {
  remoteSources: ['10.1.0.0/16', 'fd01::/16'] as readonly string[] as readonly Cidr[],
  localDestinations: ['10.2.0.0/24', 'fd02::/64'] as readonly string[] as readonly Cidr[],
  guardedVips: ['10.96.0.0/16', 'fd96::/112'] as readonly string[] as readonly Cidr[],
  probePort: 0,
  mtu: 1380
}
const INGRESS = '10.2.0.3'
const INGRESS6 = 'fd02::3'
// Every port of a local address, as an ingress for all of them would have it.
const TO_INGRESS = `meta nfproto ipv4 fib daddr type local tcp dport { 80, 443, 8080 } dnat ip to ${INGRESS}:8080
    meta nfproto ipv6 fib daddr type local tcp dport { 80, 443, 8080 } dnat ip6 to [${INGRESS6}]:8080
    meta nfproto ipv4 fib daddr type local udp dport 53 dnat ip to ${INGRESS}:8080`

/** What it is, and the rules. */
export type Shape = readonly [what: string, rules: string]

function hooks(priority: string): string {
  return `table inet portmap {
  chain prerouting { type nat hook prerouting priority ${priority}; ${TO_INGRESS}; }
  chain output { type nat hook output priority ${priority}; ${TO_INGRESS}; }
}`
}

/** Rules as nft reads them. */
export const NFT_SHAPES: readonly Shape[] = [
  ['CNI portmap, at priority dstnat', hooks('-100')],
  ['firewalld’s policy, at a lower priority', hooks('-110')],
  ['a chain before those of kube-proxy', hooks('-190')],
  ['a chain after all others', hooks('-1')],
  [
    'kube-proxy in nftables mode, NodePorts in a map',
    `table ip kube-proxy {
  map nodeports { type inet_proto . inet_service : verdict; elements = { tcp . 80 : goto ep, tcp . 443 : goto ep, tcp . 8080 : goto ep }; }
  chain ep { meta l4proto tcp dnat to ${INGRESS}:8080; }
  chain services { fib daddr type local meta l4proto . th dport vmap @nodeports; }
  chain pre { type nat hook prerouting priority dstnat; jump services; }
  chain out { type nat hook output priority -100; jump services; }
}`
  ],
  [
    'Docker’s chains in table ip nat',
    `table ip nat {
  chain DOCKER { iifname != "docker0" tcp dport { 80, 443, 8080 } dnat to ${INGRESS}:8080; }
  chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local jump DOCKER; }
  chain OUTPUT { type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER; }
}`
  ],
  [
    'a redirect of local addresses to a local port',
    `table ip nat {
  chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local tcp dport { 80, 443 } redirect to :8080; }
  chain OUTPUT { type nat hook output priority -100; fib daddr type local tcp dport { 80, 443 } redirect to :8080; }
}`
  ]
]

/** Rules as iptables reads them, of Docker and of kube-proxy. Each begins with the name of its tool. */
export const IPTABLES_SHAPES: readonly Shape[] = ['iptables-nft', 'iptables-legacy'].flatMap(
  (tool): Shape[] => [
    [
      `Docker’s rules, by ${tool}`,
      [
        '-N DOCKER',
        '-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER',
        '-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER',
        `-A DOCKER ! -i docker0 -p tcp -m multiport --dports 80,443,8080 -j DNAT --to-destination ${INGRESS}:8080`
      ]
        .map((rule) => `${tool} -t nat ${rule}`)
        .join('\n')
    ],
    [
      `kube-proxy’s NodePorts, by ${tool}`,
      [
        '-N KUBE-SERVICES',
        '-N KUBE-NODEPORTS',
        '-A PREROUTING -j KUBE-SERVICES',
        '-A OUTPUT -j KUBE-SERVICES',
        '-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
        ...[80, 443, 8080].map(
          (port) => `-A KUBE-NODEPORTS -p tcp --dport ${port} -j DNAT --to-destination ${INGRESS}:8080`
        )
      ]
        .map((rule) => `${tool} -t nat ${rule}`)
        .join('\n')
    ]
  ]
)

export interface LocalDnatOptions {
  readonly title: string
  readonly shapes: readonly Shape[]
  /** Whose rules are there first; default: each once. */
  readonly orders?: readonly ('ours' | 'theirs')[]
  create(run: Run): LoadBalancer
  /** Once, in the host's namespace. */
  prepare?(run: Run): Promise<void>
}

/** client — host — pods, one of which is the ingress. The host has a server of its own on 8080. */
export function localDnatSuite(options: LocalDnatOptions): void {
  describe(options.title, () => suite(options))
}

function suite(options: LocalDnatOptions): void {
  let lab: Lab
  let host: Namespace
  let run: Run
  let filter: FilterPort
  let balancer: LoadBalancer
  const asks = new Map<'pod' | 'host', Ask>()

  before(async function () {
    requireLab(this)
    lab = await Lab.create('local-dnat.test')
    host = await lab.namespace('host')
    const pods = await lab.namespace('pods')
    const client = await lab.namespace('client')
    await lab.link(host, 'pods', ['10.2.0.1/25', 'fd02::1/65'], pods, 'eth0', [
      '10.2.0.2/25',
      `${INGRESS}/25`,
      'fd02::2/65',
      `${INGRESS6}/65`
    ])
    await lab.link(host, 'client', ['10.2.0.129/25', 'fd02::8000:0:0:1/65'], client, 'eth0', [
      '10.2.0.130/25',
      'fd02::8000:0:0:2/65'
    ])
    for (const [namespace, v4, v6] of [
      [pods, '10.2.0.1', 'fd02::1'],
      [client, '10.2.0.129', 'fd02::8000:0:0:1']
    ] as const) {
      await namespace.exec(['ip', 'route', 'add', 'default', 'via', v4])
      await namespace.exec(['ip', 'route', 'add', 'default', 'via', v6])
    }
    const forwarding = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding']
    await host.exec(['tee', ...forwarding], { input: '1' })
    await host.exec(['tee', '/proc/sys/net/ipv4/icmp_ratelimit'], { input: '0' })
    await host.exec(['ip', 'route', 'add', 'local', '10.96.0.0/16', 'dev', 'lo', 'src', '10.2.0.1'])
    await host.exec(['ip', '-6', 'route', 'add', 'local', 'fd96::/112', 'dev', 'lo', 'src', 'fd02::1'])
    await startServers(pods, ['10.2.0.2', INGRESS, 'fd02::2', INGRESS6])
    await startServers(host, ['0.0.0.0'])
    asks.set('pod', await startAsker(client))
    asks.set('host', await startAsker(host))
    run = createRun({ prefix: ['ip', 'netns', 'exec', host.name] })
    filter = createNftFilter({ run, names: { nftTable: 'rhizome', device: lab.device('wg') } })
    balancer = options.create(run)
    await options.prepare?.(run)
  })
  beforeEach(async () => {
    await run('nft', ['flush', 'ruleset'])
    if (options.shapes === IPTABLES_SHAPES) await run('iptables-legacy', ['-t', 'nat', '-F'])
    if (options.shapes === IPTABLES_SHAPES) await run('iptables-legacy', ['-t', 'nat', '-X'])
    await balancer.cleanup(signal)
    await balancer.observe(signal)
  })
  after(async () => {
    await lab?.close()
  })

  /** Ours. */
  async function set(): Promise<void> {
    await filter.set(DESIRED, signal)
    const servers = [
      virtual('10.96.0.1', [real('10.2.0.2')]),
      virtual('fd96::1', [real('fd02::2')]),
      virtual('10.96.0.1', [real('10.2.0.2')], { protocol: 'UDP', port: 53 })
    ]
    await balancer.apply(
      servers.map((want) => ({ want, have: undefined })),
      signal
    )
  }
  async function plant(text: string): Promise<void> {
    if (text.startsWith('iptables')) {
      for (const line of text.split('\n')) {
        const [tool = '', ...words] = line.split(' ')
        await run(tool, words)
      }
      return
    }
    await run('nft', ['-f', '-'], { stdin: `${text}\n`, stdinAsFile: true })
  }
  async function answers(from: 'pod' | 'host', ip: string, more: { port?: number; protocol?: 'UDP' } = {}) {
    const question = { protocol: 'TCP', ip, port: 80, count: 1, ...more } as const
    const [answer = ''] = (await asks.get(from)?.(question)) ?? []
    return answer.split(' ')[0]
  }

  async function check(): Promise<void> {
    for (const from of ['pod', 'host'] as const) {
      assert.equal(await answers(from, '10.96.0.1'), '10.2.0.2', `a served port, from the ${from}`)
      assert.equal(await answers(from, 'fd96::1'), 'fd02::2', `a served port of IPv6, from the ${from}`)
      assert.equal(await answers(from, '10.96.0.1', { protocol: 'UDP', port: 53 }), '10.2.0.2')
      for (const ip of ['10.96.0.1', 'fd96::1']) {
        assert.equal(await answers(from, ip, { port: 443 }), 'ECONNREFUSED', `${ip} 443, from the ${from}`)
        assert.equal(await answers(from, ip, { port: 8080 }), 'ECONNREFUSED', `${ip} 8080, from the ${from}`)
      }
      assert.equal(await answers(from, '10.96.0.7'), 'ECONNREFUSED', `no service at all, from the ${from}`)
    }
  }

  for (const [what, text] of options.shapes)
    for (const first of options.orders ?? (['ours', 'theirs'] as const))
      it(`service addresses are not taken by ${what}, ${first} being first`, async () => {
        if (first === 'theirs') await plant(text)
        await set()
        if (first === 'ours') await plant(text)
        await check()
        // Their own business goes on.
        const expected = text.includes('redirect') ? '0.0.0.0' : INGRESS
        assert.equal(await answers('pod', '10.2.0.129'), expected)
      })
}
