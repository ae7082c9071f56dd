import assert from 'node:assert/strict'
import {
  droppedBy,
  parseNftRuleset,
  redirectedBy,
  translatedBefore,
  type FirewallPacket
} from '../../../src/core/host/firewall.ts'
import { parseIptablesSave } from '../../../src/core/host/iptables-save.ts'
import type { Ip } from '../../../src/core/model/values.ts'

const incoming: FirewallPacket = {
  iif: 'rhizome0',
  oif: 'cni0',
  saddr: '10.2.0.1' as Ip,
  daddr: '10.1.0.11' as Ip,
  protocol: 'tcp',
  dport: undefined
}
const outgoing: FirewallPacket = {
  ...incoming,
  iif: 'cni0',
  oif: 'rhizome0',
  saddr: '10.1.0.11' as Ip,
  daddr: '10.2.0.1' as Ip
}
const filter = (policy: string, ...rules: readonly string[]) =>
  parseIptablesSave(
    [
      '*filter',
      `:FORWARD ${policy} [0:0]`,
      ':DOCKER-USER - [0:0]',
      ':KUBE-FORWARD - [0:0]',
      ...rules,
      'COMMIT'
    ].join('\n'),
    'ip',
    'iptables'
  )

describe('the rules of another packet filter', () => {
  // What iptables-save prints, and whether a packet from the tunnel to a pod is certain to be dropped.
  const rows: readonly [what: string, policy: string, rules: readonly string[], isDropped: boolean][] = [
    ['a policy of accept', 'ACCEPT', [], false],
    ['a policy of drop', 'DROP', [], true],
    [
      'Docker: drop, and accepts for its own bridge',
      'DROP',
      [
        '-A FORWARD -j DOCKER-USER',
        '-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
        '-A FORWARD -i docker0 ! -o docker0 -j ACCEPT',
        '-A DOCKER-USER -j RETURN'
      ],
      true
    ],
    [
      'Docker, with the tunnel let through by the user',
      'DROP',
      ['-A FORWARD -j DOCKER-USER', '-A DOCKER-USER -i rhizome0 -j ACCEPT', '-A DOCKER-USER -j RETURN'],
      false
    ],
    [
      'an accept for established flows only',
      'DROP',
      ['-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
      true
    ],
    [
      'a drop rule under a policy of accept',
      'ACCEPT',
      ['-A FORWARD -s 10.2.0.0/16 -j REJECT --reject-with icmp-port-unreachable'],
      true
    ],
    ['a drop rule for other sources', 'ACCEPT', ['-A FORWARD -s 10.3.0.0/16 -j DROP'], false],
    ['a drop rule for all but the tunnel', 'ACCEPT', ['-A FORWARD ! -i rhizome0 -j DROP'], false],
    [
      'an accept by a wildcard',
      'DROP',
      ['-A FORWARD -i rhizome+ -m comment --comment "mesh - in" -j ACCEPT'],
      false
    ],
    ['an accept that is not understood', 'DROP', ['-A FORWARD -m set --match-set good src -j ACCEPT'], false],
    ['a drop that is not understood', 'ACCEPT', ['-A FORWARD -m set --match-set bad src -j DROP'], false],
    [
      'Kubernetes: marked packets only',
      'DROP',
      ['-A FORWARD -j KUBE-FORWARD', '-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT'],
      true
    ],
    [
      'flannel: all of the pods',
      'DROP',
      ['-A FORWARD -d 10.1.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT'],
      false
    ],
    [
      'a chain that jumps to itself',
      'DROP',
      ['-A FORWARD -j KUBE-FORWARD', '-A KUBE-FORWARD -j KUBE-FORWARD'],
      false
    ]
  ]
  for (const [what, policy, rules, isDropped] of rows) {
    it(`${what}: ${isDropped ? 'drops packets from the tunnel' : 'is no certain obstacle'}`, () => {
      const found = droppedBy(filter(policy, ...rules), 'forward', incoming)
      assert.equal(found.length > 0, isDropped, JSON.stringify(found))
      if (isDropped) assert.match(found[0]?.by ?? '', /chain .* of table filter \(iptables\)/)
    })
  }

  const nft = (...entries: readonly object[]) =>
    parseNftRuleset(
      {
        nftables: [
          { metainfo: {} },
          {
            chain: {
              family: 'inet',
              table: 'fw',
              name: 'fwd',
              type: 'filter',
              hook: 'forward',
              prio: 0,
              policy: 'drop'
            }
          },
          {
            chain: {
              family: 'inet',
              table: 'rhizome-filter',
              name: 'forward',
              hook: 'forward',
              prio: -10,
              policy: 'drop'
            }
          },
          ...entries.map((rule, handle) => ({
            rule: { family: 'inet', table: 'fw', chain: 'fwd', handle, ...rule }
          }))
        ]
      },
      'rhizome'
    )
  const match = (left: object, right: unknown, op = '==') => ({ match: { op, left, right } })
  const saddr = { payload: { protocol: 'ip', field: 'saddr' } }

  it('of nftables are read likewise, and ours are not', () => {
    assert.equal(droppedBy(nft(), 'forward', incoming)[0]?.chain.table, 'table inet fw')
    const iif = match({ meta: { key: 'iifname' } }, { set: ['eth0', 'rhizome0'] })
    assert.deepEqual(droppedBy(nft({ expr: [iif, { accept: null }] }), 'forward', incoming), [])
    assert.equal(droppedBy(nft({ expr: [iif, { accept: null }] }), 'forward', outgoing).length, 1)
    const inside = match(saddr, { prefix: { addr: '10.2.0.0', len: 16 } })
    assert.deepEqual(droppedBy(nft({ expr: [inside, { accept: null }] }), 'forward', incoming), [])
    const state = match({ ct: { key: 'state' } }, ['established', 'related'], 'in')
    assert.equal(droppedBy(nft({ expr: [state, { accept: null }] }), 'forward', incoming).length, 1)
    const named = match(saddr, '@friends')
    assert.deepEqual(droppedBy(nft({ expr: [named, { accept: null }] }), 'forward', incoming), [])
    const vmap = { vmap: { key: { meta: { key: 'iifname' } }, data: '@zones' } }
    assert.deepEqual(droppedBy(nft({ expr: [vmap] }), 'forward', incoming), [])
  })

  it('that are no rules at all are none', () => {
    for (const odd of [
      undefined,
      null,
      1,
      'x',
      [],
      { nftables: [null, 1, { chain: 1 }, { rule: { expr: 7 } }] }
    ])
      assert.deepEqual(parseNftRuleset(odd, 'rhizome'), [])
    assert.deepEqual(parseIptablesSave('-A FORWARD\n:\n*\n-A', 'ip', 'iptables'), [])
  })

  it('that translate sources of pods before ours are found, and those after it are not', () => {
    const nat = (prio: number, ...expr: readonly object[]) =>
      parseNftRuleset(
        {
          nftables: [
            {
              chain: {
                family: 'ip',
                table: 'nat',
                name: 'post',
                type: 'nat',
                hook: 'postrouting',
                prio,
                policy: 'accept'
              }
            },
            { rule: { family: 'ip', table: 'nat', chain: 'post', handle: 4, expr } }
          ]
        },
        'rhizome'
      )
    const early = nat(50, match({ meta: { key: 'oifname' } }, 'docker0', '!='), { masquerade: null })
    assert.match(
      translatedBefore(early, 90, outgoing)[0]?.by ?? '',
      /rule 4 \(translate\) in chain post of table ip nat/
    )
    assert.deepEqual(translatedBefore(nat(100, { masquerade: null }), 90, outgoing), [])
    const containers = match(saddr, { prefix: { addr: '172.17.0.0', len: 16 } })
    assert.deepEqual(translatedBefore(nat(50, containers, { masquerade: null }), 90, outgoing), [])
  })

  it('are read within a bound', () => {
    const many = Array.from({ length: 30_000 }, () => '-A FORWARD -s 10.9.0.0/16 -j ACCEPT')
    assert.deepEqual(droppedBy(filter('DROP', ...many), 'forward', incoming), [], 'nothing is certain')
  })
})

describe('a rule that sends packets elsewhere', () => {
  const packet: FirewallPacket = {
    iif: undefined,
    oif: undefined,
    saddr: '203.0.113.12' as Ip,
    daddr: '203.0.113.11' as Ip,
    protocol: 'udp',
    dport: 51820
  }
  const nat = (...rules: readonly string[]) =>
    parseIptablesSave(
      ['*nat', ':PREROUTING ACCEPT [0:0]', ':DOCKER - [0:0]', ...rules, 'COMMIT'].join('\n'),
      'ip',
      'iptables'
    )
  const rows: readonly [what: string, rules: readonly string[], isRedirected: boolean][] = [
    ['no rule', [], false],
    [
      'a DNAT of the port',
      ['-A PREROUTING -p udp -m udp --dport 51820 -j DNAT --to-destination 10.9.9.9'],
      true
    ],
    [
      'a REDIRECT of a range',
      ['-A PREROUTING -p udp -m udp --dport 50000:60000 -j REDIRECT --to-ports 53'],
      true
    ],
    [
      'a DNAT of the port of TCP',
      ['-A PREROUTING -p tcp -m tcp --dport 51820 -j DNAT --to-destination 10.9.9.9'],
      false
    ],
    [
      'a DNAT of another address',
      ['-A PREROUTING -d 198.51.100.1/32 -p udp --dport 51820 -j DNAT --to-destination 1.1.1.1'],
      false
    ],
    ['a DNAT of another port', ['-A PREROUTING -p udp --dport 53 -j DNAT --to-destination 10.9.9.9'], false],
    [
      'a port that Docker publishes',
      [
        '-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER',
        '-A DOCKER ! -i docker0 -p udp -m udp --dport 51820 -j DNAT --to-destination 172.17.0.2:51820'
      ],
      true
    ],
    [
      'a proxy that takes all packets of a mark',
      ['-A PREROUTING -m mark --mark 0x1 -j REDIRECT --to-ports 1'],
      false
    ],
    ['a proxy for all packets', ['-A PREROUTING -p udp -j REDIRECT --to-ports 1'], false],
    ['all ports but this one', ['-A PREROUTING -p udp ! --dport 51820 -j REDIRECT --to-ports 1'], false]
  ]
  for (const [what, rules, isRedirected] of rows)
    it(`${what}: ${isRedirected ? 'is named' : 'is none'}`, () => {
      assert.equal(redirectedBy(nat(...rules), packet).length > 0, isRedirected)
    })

  it('is read from nft, and the protocol of its port counts', () => {
    const rule = (protocol: string) => ({
      nftables: [
        {
          chain: { family: 'ip', table: 'n', name: 'pre', hook: 'prerouting', prio: -100, policy: 'accept' }
        },
        {
          rule: {
            family: 'ip',
            table: 'n',
            chain: 'pre',
            handle: 4,
            expr: [
              { match: { op: '==', left: { payload: { protocol, field: 'dport' } }, right: 51820 } },
              { dnat: { addr: '10.9.9.9' } }
            ]
          }
        }
      ]
    })
    assert.deepEqual(
      redirectedBy(parseNftRuleset(rule('udp'), 'rhizome'), packet).map(({ by }) => by),
      ['rule 4 (redirect) in chain pre of table ip n']
    )
    assert.deepEqual(redirectedBy(parseNftRuleset(rule('tcp'), 'rhizome'), packet), [])
    assert.equal(redirectedBy(parseNftRuleset(rule('th'), 'rhizome'), packet).length, 1)
  })

  it('drops no packet of UDP by a rule for TCP', () => {
    const drop = (protocol: string) => ({
      nftables: [
        { chain: { family: 'ip', table: 'f', name: 'in', hook: 'input', prio: 0, policy: 'accept' } },
        {
          rule: {
            family: 'ip',
            table: 'f',
            chain: 'in',
            handle: 4,
            expr: [
              { match: { op: '==', left: { payload: { protocol, field: 'dport' } }, right: 51820 } },
              { drop: null }
            ]
          }
        }
      ]
    })
    assert.equal(droppedBy(parseNftRuleset(drop('udp'), 'rhizome'), 'input', packet).length, 1)
    assert.equal(droppedBy(parseNftRuleset(drop('tcp'), 'rhizome'), 'input', packet).length, 0)
  })
})
