import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import * as fc from 'fast-check'
import {
  bytesToIp,
  cidrContains,
  cidrIntersection,
  cidrOverlaps,
  cidrToPrefix,
  compareCidr,
  familyOf,
  hostCidr,
  ipToBytes,
  nextFreeCidr,
  parseCidr,
  parseIp,
  prefixToCidr
} from '../../../src/core/model/cidr.ts'
import type { Cidr, Ip } from '../../../src/core/model/values.ts'

const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text)
  assert.equal(parsed.kind, 'cidr', text)
  return parsed.kind === 'cidr' ? parsed.cidr : assert.fail()
}

const ip = (text: string): Ip => parseIp(text) ?? assert.fail(text)

const ips = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map(bytesToIp)
  .filter((value) => value !== undefined)

const cidrs = fc
  .tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.nat(32))
  .map(([bytes, length]) =>
    cidr(
      `${bytesToIp(bytes.map((byte, i) => byte & (0xff << (8 - Math.min(8, Math.max(0, length - 8 * i))))))}/${length}`
    )
  )

describe('addresses', () => {
  const canonical: readonly [string, string | undefined][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['255.255.255.255', '255.255.255.255'],
    ['2001:DB8::0:1', '2001:db8::1'],
    ['2001:db8:0:0:1:0:0:0', '2001:db8:0:0:1::'],
    ['::', '::'],
    ['1', undefined],
    ['10.1', undefined],
    ['010.0.0.1', undefined],
    ['0x0a.0.0.1', undefined],
    ['10.0.0.256', undefined],
    ['10.0.0.1 ', undefined],
    ['10.0.0.1\n', undefined],
    ['fe80::1%eth0', undefined],
    ['::ffff:10.0.0.1', undefined],
    ['::ffff:a00:1', undefined],
    ['1::2::3', undefined],
    ['', undefined],
    [':', undefined],
    ['1'.repeat(100_000), undefined]
  ]
  for (const [text, expected] of canonical) {
    it(`${expected === undefined ? 'refuses' : 'reads'} ${JSON.stringify(text.slice(0, 30))}`, () => {
      assert.equal(parseIp(text), expected)
    })
  }

  it('survive the way to bytes and back, and parsing is a fixed point', () => {
    fc.assert(
      fc.property(ips, (address) => {
        assert.equal(bytesToIp(ipToBytes(address)), address)
        assert.equal(parseIp(address), address)
        assert.equal(isIP(address), familyOf(address))
      })
    )
  })

  it('never throw for any text, and take nothing that node:net refuses', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcf.:/%x ')) }), (text) => {
        if (parseIp(text) !== undefined) assert.notEqual(isIP(text), 0)
        parseCidr(text)
      })
    )
  })

  it('are not made of 3 or 17 bytes', () => {
    assert.equal(bytesToIp(new Uint8Array(3)), undefined)
    assert.equal(bytesToIp(new Uint8Array(17)), undefined)
    assert.equal(bytesToIp(new Uint8Array(0)), undefined)
  })
})

describe('prefixes', () => {
  it('with host bits set are refused with the corrected prefix', () => {
    const parsed = parseCidr('10.1.2.3/16')
    assert.ok(parsed.kind === 'invalid')
    assert.match(parsed.reason, /host bits.*10\.1\.0\.0\/16/)
  })

  for (const text of [
    '10.0.0.0',
    '10.0.0.0/33',
    '::/129',
    '10.0.0.0/',
    '/8',
    '10.0.0.0/08',
    '10.0.0.0/8/8',
    '10/8',
    '::ffff:0:0/96',
    '2001:DB8::/32 '
  ]) {
    it(`refuses ${text}`, () => assert.equal(parseCidr(text).kind, 'invalid'))
  }

  it('are canonical', () => {
    assert.equal(cidr('::/0'), '::/0')
    assert.equal(cidr('0.0.0.0/0'), '0.0.0.0/0')
  })

  it('in IPv6 are brought into canonical form', () => {
    assert.deepEqual(parseCidr('2001:0DB8::/32'), { kind: 'cidr', cidr: '2001:db8::/32' })
  })

  it('survive the way to the wire and back', () => {
    fc.assert(fc.property(cidrs, (prefix) => assert.equal(prefixToCidr(cidrToPrefix(prefix)), prefix)))
  })

  it('from the wire with host bits or a wrong length are refused', () => {
    assert.equal(prefixToCidr({ address: Uint8Array.of(10, 1, 0, 1), length: 16 }), undefined)
    assert.equal(prefixToCidr({ address: Uint8Array.of(10, 1, 0, 0), length: 33 }), undefined)
    assert.equal(prefixToCidr({ address: Uint8Array.of(10, 1, 0), length: 8 }), undefined)
    assert.equal(prefixToCidr({ address: Uint8Array.of(10, 1, 0, 0), length: 15.5 }), undefined)
  })

  it('contain, overlap and intersect by address, never across families', () => {
    assert.ok(cidrContains(cidr('10.0.0.0/8'), cidr('10.1.0.0/16')))
    assert.ok(cidrContains(cidr('10.1.0.0/16'), ip('10.1.255.255')))
    assert.ok(!cidrContains(cidr('10.1.0.0/16'), ip('10.2.0.0')))
    assert.ok(!cidrContains(cidr('10.1.0.0/16'), cidr('10.0.0.0/8')))
    assert.ok(!cidrContains(cidr('0.0.0.0/0'), ip('::1')))
    assert.ok(!cidrOverlaps(cidr('0.0.0.0/0'), cidr('::/0')))
    assert.ok(cidrContains(cidr('fd00::/8'), ip('fd00::1')))
    assert.equal(hostCidr(ip('fd00::1')), 'fd00::1/128')
  })

  it('overlap exactly when they intersect, and the intersection is the longer of the two', () => {
    fc.assert(
      fc.property(cidrs, cidrs, (a, b) => {
        const both = cidrIntersection(a, b)
        assert.equal(both !== undefined, cidrOverlaps(a, b))
        assert.equal(both, cidrIntersection(b, a))
        if (both) assert.ok(cidrContains(a, both) && cidrContains(b, both))
      })
    )
  })

  it('sort by family, address, then length', () => {
    const sorted = ['0.0.0.0/0', '9.0.0.0/8', '10.0.0.0/8', '10.0.0.0/16', '::/0', 'fd00::/8'].map(cidr)
    assert.deepEqual(sorted.toReversed().sort(compareCidr), sorted)
  })
})

describe('the next free prefix', () => {
  const pool = cidr('10.0.0.0/8')

  it('skips what is taken, also by longer and shorter prefixes', () => {
    const taken = ['10.0.0.0/15', '10.2.3.0/24', '10.4.0.0/16', '192.168.0.0/16'].map(cidr)
    assert.equal(nextFreeCidr({ pool, length: 16, taken }), '10.3.0.0/16')
  })

  it('is undefined in a full pool, and for a length that does not fit', () => {
    assert.equal(nextFreeCidr({ pool, length: 16, taken: [cidr('0.0.0.0/0')] }), undefined)
    assert.equal(nextFreeCidr({ pool, length: 4, taken: [] }), undefined)
    assert.equal(nextFreeCidr({ pool, length: 33, taken: [] }), undefined)
    assert.equal(
      nextFreeCidr({ pool: cidr('10.0.0.0/16'), length: 16, taken: [cidr('10.0.9.0/24')] }),
      undefined
    )
  })

  it('lies in the pool and is free, and every lower one is not', () => {
    const small = cidr('10.0.0.0/24')
    const inside = fc
      .tuple(fc.nat(255), fc.integer({ min: 24, max: 32 }))
      .map(([host, length]) => cidr(`10.0.0.${host & (0xff << (32 - length)) & 0xff}/${length}`))
    fc.assert(
      fc.property(fc.array(inside, { maxLength: 12 }), fc.integer({ min: 24, max: 30 }), (taken, length) => {
        const size = 2 ** (32 - length)
        const all = Array.from({ length: 256 / size }, (_, i) => cidr(`10.0.0.${i * size}/${length}`))
        const expected = all.find((candidate) => !taken.some((other) => cidrOverlaps(candidate, other)))
        assert.equal(nextFreeCidr({ pool: small, length, taken }), expected)
      })
    )
  })
})
