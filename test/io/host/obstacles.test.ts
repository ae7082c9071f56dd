import assert from 'node:assert/strict'
import type { Ip } from '../../../src/core/model/values.ts'
import { findObstacles } from '../../../src/io/host/obstacles.ts'
import type { Run } from '../../../src/io/host/ports.ts'

const NAMES = {
  device: 'wg0',
  nftTable: 'rhizome',
  rulePreference: 5142,
  innerPreference: 5141,
  routeTable: 5142,
  routeProtocol: 142
}
const far = [
  { cluster: 'east', ip: '10.2.0.1' as Ip },
  { cluster: 'edge', ip: '10.3.0.1' as Ip }
]

/** `ip route get` of both, and `ip rule show`. */
const found = async (
  routes: { stdout: string; stderr?: string },
  rules: string,
  table: readonly [four: string, six: string] = ['[]', '[]']
) => {
  const run: Run = async (tool, args) => ({
    stderr: '',
    exitCode: 0,
    stdout: '',
    ...(tool !== 'ip' ? {} : args.includes('rule') ? { stdout: rules } : routes),
    ...(args.includes('table') && { stdout: table[args.includes('-4') ? 0 : 1] })
  })
  const question = { far, pod: undefined, probePort: 0 }
  return (await findObstacles(run, NAMES, question, new AbortController().signal)).map(({ by }) => by)
}

const OURS = '[{"dst":"10.3.0.1","dev":"wg0"}]\n'
const RULES =
  '0:\tfrom all lookup local\n100:\tfrom all to 10.2.0.0/16 prohibit\n5142:\tfrom all lookup 5142\n'
const REFUSED = 'RTNETLINK answers: Permission denied\nCommand failed -:1\n'

describe('a rule before ours', () => {
  it('that refuses packets is named for the address that is refused', async () => {
    assert.deepEqual(await found({ stdout: OURS, stderr: REFUSED }, RULES), [
      '10.2.0.1 is refused: ip rule "100: from all to 10.2.0.0/16 prohibit"'
    ])
  })

  it('is not named where the tool says nothing of the address, or prints what cannot be read', async () => {
    for (const stdout of [OURS, '', '{}', '[null]', '\u0007\uFFFD[{', '[{"dst":5}]'])
      assert.deepEqual(await found({ stdout }, RULES), [])
  })

  it('is no line that only looks like one', async () => {
    assert.deepEqual(await found({ stdout: OURS, stderr: REFUSED }, '27:\uFFFD\u0007\n28: rubbish\n'), [])
  })
})

describe('a route of another program in our table', () => {
  it('is named, whatever its prefix, kind, metric and family', async () => {
    const four = [
      { dst: '10.2.0.0/16', dev: 'wg0', protocol: '142' },
      { type: '9', dst: '10.2.60.0/24', protocol: '142' },
      { type: '6', dst: '10.2.0.0/24', protocol: '3' },
      { dst: 'default', dev: 'tun0', protocol: '4' }
    ]
    const six = [
      { dst: 'fd00:2::/48', dev: 'wg0', protocol: '142', metric: 1024 },
      { type: '8', dst: 'fd00:2::/48', dev: 'lo', protocol: '186', metric: 5 }
    ]
    assert.deepEqual(await found({ stdout: OURS }, RULES, [JSON.stringify(four), JSON.stringify(six)]), [
      'blackhole 10.2.0.0/24 in table 5142',
      '0.0.0.0/0 dev tun0 in table 5142',
      'prohibit fd00:2::/48 dev lo in table 5142'
    ])
  })
})

describe('the ports of meshd', () => {
  const saved = (policy: string, ...rules: readonly string[]) =>
    ['*filter', `:INPUT ${policy} [0:0]`, ...rules, 'COMMIT', ''].join('\n')
  const named = async (rules: string) => {
    const run: Run = async (tool) => ({
      stderr: '',
      exitCode: 0,
      stdout: tool === 'iptables-nft-save' ? rules : ''
    })
    const outer = {
      own: ['203.0.113.11' as Ip, '198.51.100.2' as Ip],
      others: ['203.0.113.12' as Ip],
      peers: [
        { ip: '203.0.113.12' as Ip, port: 51820 },
        { ip: '203.0.113.13' as Ip, port: 51820 }
      ],
      ports: [
        { protocol: 'udp', port: 51820 },
        { protocol: 'tcp', port: 7946 }
      ] as const
    }
    const question = { far: [], pod: undefined, probePort: 0, outer }
    const all = await findObstacles(run, NAMES, question, new AbortController().signal)
    return all.map(({ kind, subject }) => `${kind} ${subject}`)
  }

  it('are named where a filter is certain to drop their packets, each rule once', async () => {
    assert.deepEqual(await named(saved('ACCEPT')), [])
    assert.deepEqual(await named(saved('DROP')), ['port UDP 51820', 'port TCP 7946'])
    assert.deepEqual(await named(saved('DROP', '-A INPUT -p udp -m udp --dport 51820 -j ACCEPT')), [
      'port TCP 7946'
    ])
    assert.deepEqual(await named(saved('ACCEPT', '-A INPUT -p tcp -m tcp --dport 7946 -j DROP')), [
      'port TCP 7946'
    ])
    // Which device the packets come by is not known.
    assert.deepEqual(await named(saved('DROP', '-A INPUT -i eth0 -j ACCEPT')), [])
  })

  it('are named where packets to the WireGuard of members cannot leave', async () => {
    const out = (policy: string, ...rules: readonly string[]) =>
      ['*filter', `:OUTPUT ${policy} [0:0]`, ...rules, 'COMMIT', ''].join('\n')
    assert.deepEqual(await named(out('DROP')), ['egress UDP 51820'])
    assert.deepEqual(await named(out('DROP', '-A OUTPUT -p udp -m udp --dport 51820 -j ACCEPT')), [])
    assert.deepEqual(await named(out('ACCEPT', '-A OUTPUT -d 203.0.113.13/32 -p udp -j DROP')), [
      'egress UDP 51820'
    ])
    assert.deepEqual(await named(out('ACCEPT', '-A OUTPUT -p tcp -j DROP')), [])
  })

  it('are named where a rule sends their packets elsewhere', async () => {
    const rule = '-A PREROUTING -p udp -m udp --dport 51820 -j REDIRECT --to-ports 53'
    const nat = ['*nat', ':PREROUTING ACCEPT [0:0]', rule, 'COMMIT', ''].join('\n')
    assert.deepEqual(await named(nat), ['redirect UDP 51820'])
  })
})

describe('packets to services', () => {
  const base = (hook: string, prio: number, expr: readonly object[], family = 'inet', chain = 'c') => [
    { chain: { family, table: 'other', name: chain, hook, prio, policy: 'accept' } },
    { rule: { family, table: 'other', chain, handle: 7, expr } }
  ]
  const daddr = (addr: string) => ({
    match: {
      op: '==',
      left: { payload: { protocol: 'ip', field: 'daddr' } },
      right: { prefix: { addr, len: 16 } }
    }
  })
  const services = [{ cluster: 'east', ip: '10.102.0.10' as Ip }]
  const judged = async (rules: readonly object[], xfrm = '') => {
    const run: Run = async (tool, args) => ({
      stderr: '',
      exitCode: 0,
      stdout:
        tool === 'nft' && args.includes('ruleset')
          ? JSON.stringify({ nftables: rules })
          : args[0] === 'xfrm'
            ? xfrm
            : ''
    })
    const pod = { ip: '10.1.0.0' as Ip, device: 'cni0' }
    const outer = {
      own: ['203.0.113.11' as Ip],
      others: ['203.0.113.12' as Ip],
      peers: [{ ip: '203.0.113.12' as Ip, port: 51820 }],
      ports: [{ protocol: 'udp', port: 51820 }] as const
    }
    const question = { far: far.slice(0, 1), services, pod, probePort: 0, outer }
    const all = await findObstacles(run, NAMES, question, new AbortController().signal)
    return all.map(({ kind, subject, by }) => `${kind} ${subject}: ${by}`)
  }

  it('are named where a rule drops them before the load balancer, and not where it comes after it', async () => {
    const drops = [daddr('10.102.0.0'), { drop: null }]
    for (const hook of ['output', 'prerouting'])
      assert.deepEqual(await judged(base(hook, -150, drops)), [
        'service east: rule 7 (drop) in chain c of table inet other'
      ])
    assert.deepEqual(await judged(base('output', -50, drops)), [])
    assert.deepEqual(await judged(base('output', -150, [daddr('10.200.0.0'), { drop: null }])), [])
  })

  it('are named where a rule keeps them out of connection tracking, if it comes before that', async () => {
    const untracks = [daddr('10.102.0.0'), { notrack: null }]
    assert.deepEqual(await judged(base('output', -300, untracks)), [
      'untracked east: rule 7 (untrack) in chain c of table inet other'
    ])
    assert.deepEqual(await judged(base('output', -150, untracks)), [])
    assert.deepEqual(await judged(base('output', -300, [{ limit: {} }, ...untracks])), [])
  })

  it('of WireGuard are named where a rule at a device drops them by their port', async () => {
    const port = { match: { op: '==', left: { payload: { protocol: 'udp', field: 'dport' } }, right: 51820 } }
    const at = (hook: string, ...expr: readonly object[]) => judged(base(hook, 0, expr, 'netdev'))
    assert.deepEqual(await at('ingress', port, { drop: null }), [
      'port UDP 51820: rule 7 (drop) in chain c of table netdev other'
    ])
    assert.deepEqual(await at('egress', port, { drop: null }), [
      'egress UDP 51820: rule 7 (drop) in chain c of table netdev other'
    ])
    // A device may be another one than that of the packet.
    assert.deepEqual(await at('ingress', { drop: null }), [])
    assert.deepEqual(await at('ingress', port, { limit: {} }, { drop: null }), [])
  })

  it('into the tunnel are named where an IPsec policy takes them', async () => {
    const policy = (src: string, dst: string, direction: string, rest: string) =>
      `src ${src} dst ${dst} \n\tdir ${direction} ${rest}\n`
    const block = 'action block priority 0 '
    const esp = 'priority 0 \n\ttmpl src 203.0.113.11 dst 198.51.100.9\n\t\tproto esp mode tunnel'
    for (const [text, isNamed] of [
      [policy('0.0.0.0/0', '10.2.0.0/16', 'out', block), true],
      [policy('10.1.0.0/16', '10.0.0.0/8', 'out', esp), true],
      [policy('10.1.0.0/16', '10.0.0.0/8', 'out', 'priority 0 '), false],
      [policy('10.7.0.0/16', '10.2.0.0/16', 'out', block), false],
      [policy('0.0.0.0/0', '10.2.0.0/16', 'in', block), false],
      [policy('0.0.0.0/0', '10.9.0.0/16', 'out', block), false],
      [policy('\uFFFD', '999.2.0.0/16', 'out', block), false]
    ] as const)
      assert.equal((await judged([], text)).length, isNamed ? 1 : 0, text)
  })
})
