import assert from 'node:assert/strict'
import {
  dnsAddresses,
  localFacts,
  type MeshPrefixes,
  type FactSources
} from '../../../src/app/session/local-facts.ts'
import { resolveSettings, type Settings } from '../../../src/app/settings/settings.ts'
import { cidrContains } from '../../../src/core/model/cidr.ts'
import type { Cidr, Ip } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import type { OwnNetwork } from '../../../src/core/host/own-addresses.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'

const settings = (flags: Readonly<Record<string, string>> = {}): Settings =>
  resolveSettings({ flags, env: {}, file: undefined })
const own = (...podPrefixes: readonly string[]): MeshPrefixes => ({
  podPrefixes: podPrefixes as readonly Cidr[],
  servicePrefixes: ['198.19.0.0/16' as Cidr]
})

const crypto = createCrypto()
const ORIGIN = originOf(crypto.publicKeyOf(new Uint8Array(32).fill(1)))
const EMPTY: OwnNetwork = { addresses: [], defaultSources: [], innerBridges: new Set() }
const heard = (...listening: readonly string[]): FactSources => ({
  network: EMPTY,
  listening,
  origin: ORIGIN,
  resolved: new Map()
})
/** "eth0 203.0.113.7" of each device; `sources` are those of the default routes. */
const hostOf = (
  devices: readonly string[],
  sources: readonly string[],
  bridges: readonly string[] = []
): OwnNetwork => ({
  addresses: devices.map((text) => {
    const [device = '', ip = ''] = text.split(' ')
    return { device, ip: ip as Ip }
  }),
  defaultSources: sources as readonly Ip[],
  innerBridges: new Set(bridges)
})

describe('local facts', () => {
  const last: readonly (readonly [prefix: string, address: string])[] = [
    ['198.18.7.0/24', '198.18.7.254'],
    ['198.18.0.0/15', '198.19.255.254'],
    ['198.18.7.8/29', '198.18.7.14'],
    ['198.18.7.8/31', '198.18.7.9'],
    ['198.18.7.8/32', '198.18.7.8'],
    ['fd99:1::/64', 'fd99:1::ffff:ffff:ffff:fffe']
  ]
  for (const [prefix, address] of last) {
    it(`a host without an interface in ${prefix} is ${address} in it`, () => {
      assert.equal(localFacts(settings(), own(prefix), heard()).nodeAddress, address)
    })
  }

  it('the address of a node is in a prefix of its own, since its gateways send it nothing else', () => {
    const nodePrefixes = ['198.18.7.0/24' as Cidr]
    const of = (role: string, devices: readonly string[]) =>
      localFacts(settings({ role }), own('198.18.0.0/16'), {
        ...heard(),
        network: hostOf(devices, []),
        nodePrefixes
      }).nodeAddress
    assert.equal(of('node', ['a 198.18.9.1', 'b 198.18.7.1']), '198.18.7.1')
    assert.equal(of('node', ['a 198.18.9.1']), '198.18.7.254')
    assert.equal(of('gateway', ['a 198.18.9.1', 'b 198.18.7.1']), '198.18.9.1')
  })

  it('gateways of one cluster have addresses of their own, the same after a restart, in the last sixteenth', () => {
    const prefixes = [
      ['198.18.0.0/16', '198.18.240.0/20'],
      ['198.18.7.0/24', '198.18.7.240/28'],
      ['fd99:1::/64', 'fd99:1::/64']
    ] as const
    for (const [prefix, last] of prefixes) {
      const addresses = Array.from({ length: 8 }, (_, index) => {
        const origin = originOf(crypto.publicKeyOf(new Uint8Array(32).fill(index)))
        const find = () =>
          localFacts(settings({ source: 'kubernetes' }), own(prefix), { ...heard(), origin }).nodeAddress
        const address = find() ?? assert.fail(prefix)
        assert.equal(find(), address)
        assert.ok(cidrContains(last as Cidr, address), `${address} in ${last}`)
        return address
      })
      // Sixteen places of a /24 are few: of eight gateways some may meet there.
      assert.ok(new Set(addresses).size >= (last.endsWith('/28') ? 2 : 8), addresses.join(' '))
    }
  })

  it('what is set counts before what is found', () => {
    const facts = localFacts(
      settings({
        'node-address': '198.18.0.7',
        'wireguard-address': '203.0.113.9:4000',
        announce: '/ip4/203.0.113.9/tcp/1'
      }),
      own('198.18.0.0/16'),
      heard('/ip4/192.0.2.1/tcp/7946')
    )
    assert.deepEqual(facts, {
      nodeAddress: '198.18.0.7',
      wireguardAddresses: ['203.0.113.9:4000'],
      multiaddrs: ['/ip4/203.0.113.9/tcp/1']
    })
  })

  it('never offers loopback, link-local, pod or service addresses to others', () => {
    const { wireguardAddresses, multiaddrs } = localFacts(settings(), own('198.18.0.0/16'), {
      ...heard('/ip4/127.0.0.1/tcp/7946', '/ip4/192.0.2.1/tcp/7946'),
      network: hostOf(
        [
          'lo 127.0.0.1',
          'lo ::1',
          'eth0 169.254.3.4',
          'eth0 fe80::1',
          'pods0 198.18.0.1',
          'vips 198.19.0.1',
          'rhizome0 203.0.113.99',
          'eth0 203.0.113.7'
        ],
        ['203.0.113.7']
      )
    })
    assert.deepEqual(wireguardAddresses, ['203.0.113.7:51820'])
    assert.deepEqual(multiaddrs, ['/ip4/203.0.113.7/tcp/7946'])
  })

  it('lists the sources of the default routes first, then global, then private addresses, and cuts only after that', () => {
    const bridges = Array.from({ length: 20 }, (_, index) => `br-${index} 172.${17 + index}.0.1`)
    const own24 = Array.from({ length: 24 }, (_, index) => `lan${index} 10.200.${index}.1`)
    const facts = localFacts(
      settings({ listen: '/ip4/0.0.0.0/tcp/7946,/ip6/::/tcp/7946' }),
      own('198.18.0.0/16'),
      {
        ...heard(),
        network: hostOf(
          [...bridges, ...own24, 'eth1 198.51.100.9', 'eth0 192.168.1.7', 'eth0 2001:db8:1::7'],
          ['192.168.1.7', '2001:db8:1::7']
        )
      }
    )
    assert.deepEqual(facts.wireguardAddresses.slice(0, 4), [
      '192.168.1.7:51820',
      '[2001:db8:1::7]:51820',
      '198.51.100.9:51820',
      '10.200.0.1:51820'
    ])
    assert.equal(facts.wireguardAddresses.length, 16)
    assert.equal(facts.multiaddrs.length, 16)
    assert.deepEqual(facts.multiaddrs.slice(0, 3), [
      '/ip4/192.168.1.7/tcp/7946',
      '/ip6/2001:db8:1::7/tcp/7946',
      '/ip4/198.51.100.9/tcp/7946'
    ])
    assert.doesNotMatch(facts.multiaddrs.join(), /172\./)
  })

  const bridged: readonly (readonly [what: string, network: OwnNetwork, expected: readonly string[]])[] = [
    [
      'a bridge that bears the default route is an uplink, whatever its name',
      hostOf(['docker0 172.17.0.1', 'br-lan 192.168.1.1'], ['192.168.1.1'], ['docker0', 'br-lan']),
      ['192.168.1.1:51820']
    ],
    [
      'a bridge without a card is a container’s under any name',
      hostOf(['apps 10.88.0.1', 'eth0 192.168.1.1'], [], ['apps']),
      ['192.168.1.1:51820']
    ],
    [
      'bridges of containers are named only when there is nothing else',
      hostOf(['cni0 10.42.0.1', 'kube-ipvs0 10.43.0.1'], [], ['cni0']),
      ['10.42.0.1:51820']
    ],
    [
      'a flat network’s host inside the pod prefix names the source of its default route',
      hostOf(['eth0 198.18.0.9', 'cni0 198.18.4.1'], ['198.18.0.9'], ['cni0']),
      ['198.18.0.9:51820']
    ]
  ]
  for (const [what, network, expected] of bridged) {
    it(what, () => {
      const { wireguardAddresses } = localFacts(settings(), own('198.18.0.0/16'), { ...heard(), network })
      assert.deepEqual(wireguardAddresses, expected)
    })
  }

  it('a flat network’s host has a tunnel address apart from its outer one, since that is never reached through the tunnel', () => {
    const nodeAddress = (network: OwnNetwork, flags: Readonly<Record<string, string>> = {}) =>
      localFacts(settings(flags), own('198.18.0.0/16'), { ...heard(), network }).nodeAddress
    assert.equal(nodeAddress(hostOf(['eth0 198.18.0.9'], ['198.18.0.9'])), '198.18.255.254')
    assert.equal(nodeAddress(hostOf(['eth0 198.18.0.9', 'cni0 198.18.4.1'], ['198.18.0.9'])), '198.18.4.1')
    const told = { 'wireguard-address': '198.18.0.9' }
    assert.equal(nodeAddress(hostOf(['eth0 198.18.0.9'], []), told), '198.18.255.254')
  })

  it('a name is told as its addresses, and for control connections as itself, too', () => {
    const facts = localFacts(
      settings({
        'wireguard-address': 'gw.example.com,[2001:db8::9]:4000',
        announce: '/dns4/gw.example.com/tcp/1,gw.example.com'
      }),
      own('198.18.0.0/16'),
      { ...heard(), resolved: new Map([['gw.example.com', ['203.0.113.9', '2001:db8::7'] as Ip[]]]) }
    )
    assert.deepEqual(facts.wireguardAddresses, [
      '203.0.113.9:51820',
      '[2001:db8::7]:51820',
      '[2001:db8::9]:4000'
    ])
    assert.deepEqual(facts.multiaddrs, [
      '/ip4/203.0.113.9/tcp/1',
      '/dns4/gw.example.com/tcp/1',
      '/ip4/203.0.113.9/tcp/7946',
      '/ip6/2001:db8::7/tcp/7946',
      '/dns/gw.example.com/tcp/7946'
    ])
  })

  it('a port that the kernel chose is the one that is told', () => {
    const { multiaddrs } = localFacts(settings({ listen: '/ip4/0.0.0.0/tcp/0' }), own('198.18.0.0/16'), {
      ...heard('/ip4/127.0.0.1/tcp/40001', '/ip4/192.168.1.1/tcp/40001'),
      network: hostOf(['eth0 192.168.1.1', 'eth1 192.168.2.1'], ['192.168.1.1'])
    })
    assert.deepEqual(multiaddrs, ['/ip4/192.168.1.1/tcp/40001', '/ip4/192.168.2.1/tcp/40001'])
  })

  const dns: readonly (readonly [listen: string, node: string | undefined, expected: readonly string[]])[] = [
    ['auto', '10.1.0.1', ['10.1.0.1:53']],
    ['auto', undefined, ['127.0.0.1:5353']],
    ['off', '10.1.0.1', []],
    ['127.0.0.1:1053,[::1]:1053', '10.1.0.1', ['127.0.0.1:1053', '::1:1053']]
  ]
  for (const [listen, node, expected] of dns) {
    it(`dns-listen ${listen} on a host that is ${node ?? 'no node'} listens on ${expected.join(', ') || 'nothing'}`, () => {
      const found = dnsAddresses(settings({ 'dns-listen': listen }), node as Ip | undefined)
      assert.deepEqual(
        found.map(({ address, port }) => `${address}:${port}`),
        expected
      )
    })
  }
})
