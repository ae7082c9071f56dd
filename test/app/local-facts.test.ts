import assert from 'node:assert/strict'
import { dnsAddresses, localFacts, type MeshPrefixes } from '../../src/app/local-facts.ts'
import { resolveSettings, type Settings } from '../../src/app/settings.ts'
import { cidrContains } from '../../src/core/cidr.ts'
import type { Cidr, Ip } from '../../src/core/model.ts'
import { originOf } from '../../src/core/origin.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'

const settings = (flags: Readonly<Record<string, string>> = {}): Settings =>
  resolveSettings({ flags, env: {}, file: undefined })
const own = (...podPrefixes: readonly string[]): MeshPrefixes => ({
  podPrefixes: podPrefixes as readonly Cidr[],
  servicePrefixes: ['198.19.0.0/16' as Cidr]
})

const crypto = createCrypto()
const ORIGIN = originOf(crypto.publicKeyOf(new Uint8Array(32).fill(1)))
const heard = (...listening: readonly string[]) => ({ listening, origin: ORIGIN })

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
          localFacts(settings({ source: 'kubernetes' }), own(prefix), { listening: [], origin }).nodeAddress
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
    const { wireguardAddresses, multiaddrs } = localFacts(
      settings(),
      own('0.0.0.0/0', '::/0'),
      heard('/ip4/127.0.0.1/tcp/7946', '/ip4/192.0.2.1/tcp/7946')
    )
    assert.deepEqual(wireguardAddresses, [])
    assert.deepEqual(multiaddrs, [])
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
