import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  bytesToIp,
  cidrContains,
  cidrToPrefix,
  compareCidr,
  constantCidrs,
  ipToBytes,
  prefixToCidr
} from '../../../src/core/model/cidr.ts'
import {
  createTranslation,
  NO_TRANSLATION,
  pairPrefixes,
  parseRealPrefix,
  realPrefixes,
  realPrefixText,
  translationFault,
  type RealPrefix
} from '../../../src/core/model/translation.ts'
import type { Cidr, Ip } from '../../../src/core/model/values.ts'

const [POD, SERVICE, POD6] = constantCidrs('10.1.0.0/16', '10.96.0.0/12', 'fd00:1::/48') as [Cidr, Cidr, Cidr]
const [VPOD, VSERVICE, VPOD6] = constantCidrs('10.128.0.0/16', '10.192.0.0/12', 'fd72:6800::/48') as [
  Cidr,
  Cidr,
  Cidr
]
const ALL: readonly RealPrefix[] = [
  { kind: 'pod', real: POD, virtual: VPOD },
  { kind: 'service', real: SERVICE, virtual: VSERVICE },
  { kind: 'pod', real: POD6, virtual: VPOD6 }
]

/** Prefixes of one family, disjoint: each of two trees of addresses (real, virtual) has a part for each pair. */
const pairs = fc
  .record({
    length: fc.integer({ min: 9, max: 30 }),
    isV6: fc.boolean(),
    count: fc.integer({ min: 1, max: 4 })
  })
  .map(({ length, isV6, count }): readonly RealPrefix[] =>
    Array.from({ length: count }, (_, at) => ({
      kind: at % 2 === 0 ? ('pod' as const) : ('service' as const),
      real: part(isV6, 10 + at, length),
      virtual: part(isV6, 100 + at, length)
    }))
  )

function part(isV6: boolean, byte: number, length: number): Cidr {
  const address = new Uint8Array(isV6 ? 16 : 4)
  if (isV6) address[0] = 0xfd
  address[isV6 ? 1 : 0] = byte
  return prefixToCidr({ address, length: isV6 ? length + 8 : length }) ?? assert.fail()
}

/** An address of a prefix, by its bits behind the prefix. */
function within(prefix: Cidr, bits: Uint8Array): Ip {
  const { address, length } = cidrToPrefix(prefix)
  const bytes = address.map((byte, at) => {
    const kept = Math.min(8, Math.max(0, length - at * 8))
    return byte | ((bits[at] ?? 0) & (0xff >> kept))
  })
  return bytesToIp(bytes) ?? assert.fail()
}

const bits = fc.uint8Array({ minLength: 16, maxLength: 16 })

describe('the translation of a cluster’s addresses', () => {
  it('moves an address into the other prefix and keeps the bits behind it', () => {
    const { toVirtual, toReal } = createTranslation(ALL)
    for (const [real, virtual] of [
      ['10.1.2.3', '10.128.2.3'],
      ['10.107.0.10', '10.203.0.10'],
      ['fd00:1::7', 'fd72:6800::7'],
      ['192.0.2.1', '192.0.2.1']
    ] as [Ip, Ip][]) {
      assert.equal(toVirtual.ip(real), virtual)
      assert.equal(toReal.ip(virtual), real)
    }
    assert.equal(toVirtual.cidr('10.1.4.0/24' as Cidr), '10.128.4.0/24')
    assert.equal(toReal.cidr('10.128.0.0/16' as Cidr), '10.1.0.0/16')
    // A prefix that holds more than a pair is none of the cluster's.
    assert.equal(toVirtual.cidr('10.0.0.0/8' as Cidr), '10.0.0.0/8')
  })

  it('each direction undoes the other, lands in the partner and keeps the order', () => {
    fc.assert(
      fc.property(pairs, fc.nat(3), bits, bits, (prefixes, which, left, right) => {
        assert.equal(translationFault(prefixes.map((one) => ({ ...one }))), undefined)
        const { toVirtual, toReal } = createTranslation(prefixes)
        const { real, virtual = real } = prefixes[which % prefixes.length] ?? assert.fail()
        const [a, b] = [within(real, left), within(real, right)]
        assert.ok(cidrContains(virtual, toVirtual.ip(a)))
        assert.equal(toReal.ip(toVirtual.ip(a)), a)
        const v = within(virtual, left)
        assert.equal(toVirtual.ip(toReal.ip(v)), v)
        assert.equal(Math.sign(compareCidr(toVirtual.ip(a), toVirtual.ip(b))), Math.sign(compareCidr(a, b)))
        // The bits behind the prefix stay.
        const length = cidrToPrefix(real).length
        const tail = (ip: Ip) =>
          [...ipToBytes(ip)].map((byte, at) => byte & (0xff >> Math.min(8, Math.max(0, length - at * 8))))
        assert.deepEqual(tail(toVirtual.ip(a)), tail(a))
      })
    )
  })

  it('leaves every other address as it is', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), (bytes) => {
        const ip = bytesToIp(bytes) ?? assert.fail()
        const { toVirtual, toReal, pods, services } = createTranslation(ALL)
        const sides = [...pods, ...services]
        if (!sides.some(({ real }) => cidrContains(real, ip))) assert.equal(toVirtual.ip(ip), ip)
        if (!sides.some(({ virtual }) => cidrContains(virtual, ip))) assert.equal(toReal.ip(ip), ip)
        assert.equal(NO_TRANSLATION.toVirtual.ip(ip), ip)
      })
    )
    const same = createTranslation([{ kind: 'pod', real: POD, virtual: POD }])
    assert.equal(same.isActive, false)
    assert.deepEqual(
      realPrefixes({ podPrefixes: [VPOD], servicePrefixes: [POD6] }, createTranslation(ALL)).podPrefixes,
      [POD]
    )
  })

  it('refuses prefixes that overlap across the two sides', () => {
    assert.equal(translationFault(ALL), undefined)
    const crossed: readonly RealPrefix[] = [
      { kind: 'pod', real: POD, virtual: VPOD },
      { kind: 'service', real: VPOD, virtual: POD6 }
    ]
    assert.match(translationFault(crossed) ?? '', /10\.128\.0\.0\/16/)
    assert.match(
      translationFault([{ kind: 'pod', real: '127.0.0.0/16' as Cidr, virtual: VPOD }]) ?? '',
      /never routed/
    )
  })

  it('pairs equal prefixes first, then those of one length in their order, and keeps known pairs', () => {
    const [first, second, other] = constantCidrs('10.150.0.0/16', '10.151.0.0/16', '10.152.0.0/20') as [
      Cidr,
      Cidr,
      Cidr
    ]
    const real: readonly RealPrefix[] = [{ kind: 'pod', real: POD }]
    const inMesh = (...podPrefixes: readonly Cidr[]) => ({ podPrefixes, servicePrefixes: [] })
    assert.deepEqual(pairPrefixes(real, inMesh(first, second)), {
      prefixes: [{ kind: 'pod', real: POD, virtual: first }],
      unpaired: [second]
    })
    const known = pairPrefixes(real, inMesh(second)).prefixes
    assert.equal(pairPrefixes(known, inMesh(first, second)).prefixes[0]?.virtual, second)
    // The mesh gives another prefix in its place: the translation follows.
    assert.equal(pairPrefixes(known, inMesh(first)).prefixes[0]?.virtual, first)
    assert.deepEqual(pairPrefixes(known, inMesh(other)), {
      prefixes: [{ kind: 'pod', real: POD }],
      unpaired: [other]
    })
    assert.equal(pairPrefixes(real, inMesh(first, POD)).prefixes[0]?.virtual, POD)
  })

  it('is read again from its text, and no other text is', () => {
    for (const prefix of [...ALL, { kind: 'pod', real: POD } as const])
      assert.deepEqual(parseRealPrefix(realPrefixText(prefix)), prefix)
    for (const text of [
      '',
      'pod',
      'node 10.1.0.0/16',
      'pod 10.1.0.1/16',
      'pod 10.1.0.0/16 10.128.0.0/17',
      'pod 10.1.0.0/16 fd00::/16',
      'pod 10.1.0.0/16 10.128.0.0/16 x'
    ])
      assert.equal(parseRealPrefix(text), undefined, text)
  })
})
