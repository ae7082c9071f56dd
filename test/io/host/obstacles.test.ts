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
