import assert from 'node:assert/strict'
import fc from 'fast-check'

import { corefile, forwardCorefile } from '../../../src/core/coredns/corefile.ts'
import { reverseZones } from '../../../src/core/coredns/reverse-zones.ts'
import type { Cidr } from '../../../src/core/model/values.ts'
import { cluster, meshOf, shopMesh } from '../dns/fixtures.ts'

const FEED = { feedUrl: 'http://127.0.0.1:948' }

describe('corefile', () => {
  it('has a block with its own path of the feed for each cluster, one for all and one for the rest', () => {
    const text = corefile(shopMesh(), { ...FEED, upstreams: ['10.0.0.10', '/etc/resolv.conf'] })
    const keys = text.split('\n').filter((line) => line.endsWith(':53 {'))
    assert.deepEqual(keys, [
      'cluster.east:53 2.10.in-addr.arpa:53 2.0.0.0.0.0.d.f.ip6.arpa:53 1.10.in-addr.arpa:53 1.0.0.0.0.0.d.f.ip6.arpa:53 {',
      'cluster.west:53 12.10.in-addr.arpa:53 11.10.in-addr.arpa:53 {',
      'cluster.all:53 {',
      '.:53 {'
    ])
    for (const name of ['east', 'west', 'all']) {
      assert.match(text, new RegExp(`^ {8}endpoint http://127\\.0\\.0\\.1:948/clusters/${name}$`, 'm'))
    }
    assert.match(text, /forward \. 10\.0\.0\.10 \/etc\/resolv\.conf/)
    assert.match(text, /^ {4}reload /m)
  })

  it('gives a reverse zone to one block only', () => {
    const twins = ['east', 'west'].map((name) =>
      cluster(name, { podPrefixes: ['10.1.0.0/16'], servicePrefixes: [] })
    )
    const keys = [...corefile(meshOf(...twins), FEED).matchAll(/1\.10\.in-addr\.arpa/g)]
    assert.equal(keys.length, 1)
  })

  it('sends the zones of the mesh to the responder, in the other way', () => {
    const text = forwardCorefile(shopMesh(), { responders: ['10.0.0.2:53', '[fd00::2]:53'] })
    assert.match(text, /^cluster\.east:53 .* cluster\.west:53 .* cluster\.all:53 clusterset\.local:53 \{$/m)
    assert.match(text, /forward \. 10\.0\.0\.2:53 \[fd00::2\]:53 \{/)
  })

  it('refuses options that would be more than an address', () => {
    const bad = ['http://x {', 'http://127.0.0.1:948/a b', 'file:///etc/passwd', 'http://a\n}', '']
    for (const feedUrl of bad) assert.throws(() => corefile(shopMesh(), { feedUrl }), RangeError, feedUrl)
    for (const address of ['1.2.3.4 {', '.\n', 'tls://x y', '']) {
      assert.throws(() => corefile(shopMesh(), { ...FEED, upstreams: [address] }), RangeError)
      assert.throws(() => corefile(shopMesh(), { ...FEED, bind: [address] }), RangeError)
    }
  })
})

describe('reverse zones of a prefix', () => {
  const table: readonly (readonly [string, readonly string[]])[] = [
    ['10.2.0.0/16', ['2.10.in-addr.arpa']],
    ['10.1.2.0/24', ['2.1.10.in-addr.arpa']],
    ['10.1.2.2/31', ['2.2.1.10.in-addr.arpa', '3.2.1.10.in-addr.arpa']],
    ['10.4.0.0/14', ['4.10.in-addr.arpa', '5.10.in-addr.arpa', '6.10.in-addr.arpa', '7.10.in-addr.arpa']],
    ['fd00:1::/32', ['1.0.0.0.0.0.d.f.ip6.arpa']],
    ['fd00:2000::/19', ['2.0.0.d.f.ip6.arpa', '3.0.0.d.f.ip6.arpa']]
  ]
  for (const [cidr, zones] of table) {
    it(`${cidr} is ${zones.join(', ')}`, () => assert.deepEqual(reverseZones(cidr as Cidr), zones))
  }

  it('cover the prefix and nothing beside it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 32 }), fc.nat({ max: 0xffffffff }), (length, random) => {
        const mask = (0xffffffff << (32 - length)) >>> 0
        const base = (random & mask) >>> 0
        const text = [24, 16, 8, 0].map((shift) => (base >>> shift) & 255).join('.')
        const zones = reverseZones(`${text}/${length}` as Cidr)
        const sizes = zones.map((zone) => 2 ** (32 - 8 * (zone.split('.').length - 2)))
        assert.equal(
          sizes.reduce((sum, size) => sum + size, 0),
          2 ** (32 - length)
        )
        for (const zone of zones) {
          const digits = zone.split('.').slice(0, -2).toReversed().map(Number)
          const first = [...digits, 0, 0, 0, 0].slice(0, 4).reduce((sum, digit) => sum * 256 + digit, 0)
          assert.equal((first & mask) >>> 0, base, `${zone} of ${text}/${length}`)
        }
      })
    )
  })
})
