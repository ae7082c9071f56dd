import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { bytesToIp, parseCidr, parseIp, prefixToCidr } from '../../../src/core/model/cidr.ts'
import { isSoundPoint } from '../../../src/core/model/ed25519-point.ts'
import { decodeValue, encodeValue, parsePeerAddress } from '../../../src/core/wire/value-codec.ts'
import {
  EXPORT_TO_MAX,
  keyOf,
  type Cidr,
  type ExportTo,
  type Ip,
  type Value
} from '../../../src/core/model/values.ts'
import { encodeMessage, wire } from '../../../src/core/wire/messages.ts'

const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?$/)
const ip = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map(bytesToIp)
  .filter((ip): ip is Ip => ip !== undefined)
const cidr = fc
  .tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.integer({ min: 0, max: 32 }))
  .map(([address, length]) => prefixToCidr({ address: masked(address, length), length }))
  .filter((cidr): cidr is Cidr => cidr !== undefined)
const port = fc.integer({ min: 1, max: 65_535 })
const protocol = fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const)
const tunnelKey = fc
  .record({
    edKey: fc.uint8Array({ minLength: 32, maxLength: 32 }).filter(isSoundPoint),
    proof: fc.uint8Array({ minLength: 64, maxLength: 64 })
  })
  .map(({ edKey, proof }) => ({
    edKey: Buffer.from(edKey).toString('base64'),
    proof: Buffer.from(proof).toString('base64')
  }))
const zone = fc.constantFrom('a', 'eu-west-1a', 'Rack_7.b', 'z'.repeat(63))
const value: fc.Arbitrary<Value> = fc.oneof(
  fc
    .record({
      kind: fc.constant('agent' as const),
      tunnelKeys: fc.array(tunnelKey, { minLength: 1, maxLength: 2 }),
      wireguardAddresses: fc.array(fc.constantFrom('203.0.113.7:51820', '[2001:db8::1]:1').map(peerAddress)),
      multiaddrs: fc.array(
        fc.constantFrom('/ip4/203.0.113.7/tcp/4001', '/ip6/::1/tcp/1', '/dns4/gw.example.com/tcp/4001')
      ),
      tunnelAddress: fc.option(ip, { nil: undefined }),
      node: fc.oneof(fc.constant(''), label),
      role: fc.constantFrom('gateway' as const, 'node' as const),
      version: fc.constantFrom('', '0.1.0-rc.1+abc'),
      probePort: fc.integer({ min: 0, max: 65_535 }),
      nodePrefixes: fc.array(cidr, { maxLength: 4 }),
      handOver: fc.constantFrom(undefined, 'drained' as const, 'stopping' as const),
      relayRate: fc.integer({ min: 0, max: 10_000 })
    })
    .map(({ nodePrefixes, handOver, relayRate, ...agent }) => ({
      ...agent,
      ...(nodePrefixes.length > 0 && { nodePrefixes }),
      ...(handOver && { handOver }),
      ...(relayRate > 0 && { relayRate })
    })),
  fc.record({
    kind: fc.constant('cluster' as const),
    podPrefixes: fc.array(cidr),
    servicePrefixes: fc.array(cidr),
    term: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    complete: fc.boolean()
  }),
  fc.record({
    kind: fc.constant('service' as const),
    namespace: label,
    name: label,
    clusterIps: fc.array(ip, { maxLength: 4 }),
    ports: fc.uniqueArray(
      fc.record({ name: label, protocol, port, appProtocol: fc.constantFrom('', 'kubernetes.io/h2c') }),
      {
        selector: (item) => `${item.protocol}${item.port}`
      }
    ),
    headless: fc.constant(false),
    externalName: fc.constant(''),
    affinitySeconds: fc.integer({ min: 0, max: 86_400 }),
    publishNotReady: fc.boolean(),
    trafficDistribution: fc.constantFrom('PreferClose', 'PreferSomethingNew'),
    exportTo: fc.constantFrom(['east'], ['east', 'west']) as fc.Arbitrary<
      readonly string[]
    > as fc.Arbitrary<ExportTo>,
    balance: fc.constantFrom('nearest', 'only=east; weights=east:9', 'a term of a newer version!')
  }),
  fc.record({
    kind: fc.constant('endpointSlice' as const),
    namespace: label,
    name: label,
    service: label,
    ports: fc.uniqueArray(fc.record({ name: label, protocol, port }), {
      selector: (item) => `${item.protocol}${item.name}`
    }),
    endpoints: fc.array(
      fc.record(
        {
          addresses: fc.array(ip, { minLength: 1, maxLength: 3 }),
          ready: fc.boolean(),
          serving: fc.boolean(),
          terminating: fc.boolean(),
          hostname: fc.oneof(fc.constant(''), label),
          node: fc.oneof(fc.constant(''), label),
          zone,
          forZones: fc.uniqueArray(zone, { minLength: 1, maxLength: 8 })
        },
        { requiredKeys: ['addresses', 'ready', 'serving', 'terminating', 'hostname', 'node'] }
      )
    )
  })
)

// A newer peer's enum value, which the generated type cannot name.
const UNKNOWN_PROTOCOL: number = 7

describe('codec', () => {
  it('gives back every value as it was', () => {
    fc.assert(
      fc.property(value, (value) => {
        const decoded = decodeValue(keyOf(value), encodeValue(value))
        assert.equal(decoded.kind, 'value', JSON.stringify(decoded))
        assert.deepEqual(decoded.kind === 'value' && decoded.value, structuredClone(value))
      })
    )
  })

  it('refuses a list of clusters that is not in order, too long, or has another word', () => {
    const read = (exportTo: readonly string[]) =>
      decodeValue(
        'svc/shop/web',
        encodeMessage(wire.Value, { service: { namespace: 'shop', name: 'web', exportTo: [...exportTo] } })
      )
    assert.equal(read([]).kind, 'value')
    assert.equal(read(['east', 'west']).kind, 'value')
    const many = Array.from({ length: EXPORT_TO_MAX + 1 }, (_, n) => `c${String(n).padStart(3, '0')}`)
    for (const bad of [['west', 'east'], ['east', 'east'], ['East'], [''], ['all'], ['local'], many])
      assert.equal(read(bad).kind, 'invalid', bad.join())
  })

  it('never throws on bytes of a peer', () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.uint8Array({ maxLength: 300 }),
        (key, bytes) => void decodeValue(key, bytes)
      )
    )
    fc.assert(
      fc.property(value, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, flip) => {
        const bytes = encodeValue(value)
        bytes[at % bytes.length] = (bytes[at % bytes.length] ?? 0) ^ flip
        decodeValue(keyOf(value), bytes)
      }),
      { numRuns: 500 }
    )
  })

  const service = {
    namespace: 'shop',
    name: 'web',
    ports: [{ name: 'http', protocol: wire.Protocol.TCP, port: 80 }]
  }
  const tunnelKeys = [{ edKey: new Uint8Array(32).fill(3), proof: new Uint8Array(64).fill(1) }]
  const agent = { tunnelKeys, role: 'gateway' }
  const slice = { namespace: 'shop', name: 'web-1', service: 'web' }
  const cluster = { term: 1 }
  const here = { addresses: [Uint8Array.from([10, 1, 0, 1])] }
  const refusals: readonly [string, string, Parameters<typeof wire.Value.encode>[0], RegExp][] = [
    ['another key', 'svc/shop/api', { service }, /has the key svc\/shop\/web/],
    [
      'a name with a slash',
      'svc/shop/a/b',
      { service: { ...service, name: 'a/b' } },
      /name is not a DNS label/
    ],
    ['a name with upper case', 'svc/shop/Web', { service: { ...service, name: 'Web' } }, /name/],
    [
      'a name of 64 characters',
      `svc/shop/${'a'.repeat(64)}`,
      { service: { ...service, name: 'a'.repeat(64) } },
      /name/
    ],
    [
      'a name with a newline at its end',
      'svc/shop/web\n',
      { service: { ...service, name: 'web\n' } },
      /name/
    ],
    [
      'port 0',
      'svc/shop/web',
      { service: { ...service, ports: [{ protocol: 6, port: 0 }] } },
      /port outside/
    ],
    [
      'port 65536',
      'svc/shop/web',
      { service: { ...service, ports: [{ protocol: 6, port: 65_536 }] } },
      /port outside/
    ],
    [
      'an unknown protocol',
      'svc/shop/web',
      { service: { ...service, ports: [{ protocol: UNKNOWN_PROTOCOL, port: 1 }] } },
      /protocol/
    ],
    [
      'one port twice',
      'svc/shop/web',
      { service: { ...service, ports: [...service.ports, ...service.ports] } },
      /two items of ports have the same protocol and port/
    ],
    [
      '20,001 ports',
      'svc/shop/web',
      { service: { ...service, ports: Array.from({ length: 20_001 }, () => ({})) } },
      /20001 items/
    ],
    [
      'an address of 5 bytes',
      'svc/shop/web',
      { service: { ...service, clusterIps: [new Uint8Array(5)] } },
      /clusterIps/
    ],
    [
      'an IPv4-mapped address',
      'svc/shop/web',
      { service: { ...service, clusterIps: [mapped()] } },
      /clusterIps/
    ],
    [
      'an external name with a blank',
      'svc/shop/web',
      { service: { ...service, externalName: 'a b' } },
      /externalName/
    ],
    [
      'a headless service with an IP',
      'svc/shop/web',
      { service: { ...service, headless: true, clusterIps: [new Uint8Array(4)] } },
      /headless/
    ],
    [
      'affinity of a week',
      'svc/shop/web',
      { service: { ...service, affinitySeconds: 604_800 } },
      /affinitySeconds/
    ],
    [
      'host bits in a prefix',
      'cluster',
      { cluster: { ...cluster, podPrefixes: [{ address: Uint8Array.of(10, 0, 0, 1), length: 8 }] } },
      /podPrefixes/
    ],
    [
      'a prefix of 33 bits',
      'cluster',
      { cluster: { ...cluster, podPrefixes: [{ address: new Uint8Array(4), length: 33 }] } },
      /podPrefixes/
    ],
    ['term 0', 'cluster', { cluster: {} }, /term/],
    ['no tunnel key', 'agent', { agent: { ...agent, tunnelKeys: [] } }, /tunnelKeys is empty/],
    [
      'three tunnel keys',
      'agent',
      { agent: { ...agent, tunnelKeys: [0, 1, 2].flatMap(() => tunnelKeys) } },
      /tunnelKeys has 3 items, above the limit of 2/
    ],
    ...[
      ['31 bytes', new Uint8Array(31).fill(3)] as const,
      ['small order', new Uint8Array(32)] as const,
      [
        'small order, with a sign',
        Uint8Array.from({ length: 32 }, (_, at) => ({ 0: 1, 31: 0x80 })[at] ?? 0)
      ] as const,
      ['a second encoding', new Uint8Array(32).fill(0xff)] as const
    ].map(([what, edKey]): (typeof refusals)[number] => [
      `a tunnel key of ${what}`,
      'agent',
      { agent: { ...agent, tunnelKeys: [{ edKey, proof: new Uint8Array(64) }] } },
      /tunnelKeys has a malformed key or one of small order/
    ]),
    [
      'a proof of 63 bytes',
      'agent',
      { agent: { ...agent, tunnelKeys: [{ edKey: new Uint8Array(32).fill(3), proof: new Uint8Array(63) }] } },
      /tunnelKeys has a malformed proof/
    ],
    ['an unknown role', 'agent', { agent: { ...agent, role: 'admin' } }, /role/],
    [
      'a host name as peer address',
      'agent',
      { agent: { ...agent, wireguardAddresses: ['gw.example.com:51820'] } },
      /wireguardAddresses/
    ],
    [
      'a multiaddr with a blank',
      'agent',
      { agent: { ...agent, multiaddrs: ['/ip4/1.2.3.4/tcp/1 --x'] } },
      /multiaddrs/
    ],
    [
      '17 multiaddrs',
      'agent',
      { agent: { ...agent, multiaddrs: Array.from({ length: 17 }, () => '/ip4/1.2.3.4/tcp/1') } },
      /17 items/
    ],
    [
      'an endpoint without an address',
      'eps/shop/web-1',
      { endpointSlice: { ...slice, endpoints: [{}] } },
      /endpoint has no address/
    ],
    [
      '1,001 endpoints',
      'eps/shop/web-1',
      { endpointSlice: { ...slice, endpoints: Array.from({ length: 1001 }, () => ({})) } },
      /1001 items/
    ],
    [
      'a hostname with a dot',
      'eps/shop/web-1',
      { endpointSlice: { ...slice, endpoints: [{ addresses: [new Uint8Array(4)], hostname: 'a.b' }] } },
      /hostname/
    ],
    [
      'a number beyond the zones',
      'eps/shop/web-1',
      { endpointSlice: { ...slice, zones: ['a'], endpoints: [{ ...here, zone: 2 }] } },
      /zone or forZones of an endpoint/
    ],
    [
      'a hint without a name',
      'eps/shop/web-1',
      { endpointSlice: { ...slice, zones: ['a'], endpoints: [{ ...here, forZones: [0] }] } },
      /zone or forZones of an endpoint/
    ],
    [
      'a hint twice',
      'eps/shop/web-1',
      { endpointSlice: { ...slice, zones: ['a'], endpoints: [{ ...here, forZones: [1, 1] }] } },
      /zone or forZones of an endpoint/
    ],
    [
      'nine hints',
      'eps/shop/web-1',
      {
        endpointSlice: {
          ...slice,
          zones: 'abcdefghi'.split(''),
          endpoints: [{ ...here, forZones: [1, 2, 3, 4, 5, 6, 7, 8, 9] }]
        }
      },
      /zone or forZones of an endpoint/
    ],
    [
      'a zone of 64 characters',
      'eps/shop/web-1',
      { endpointSlice: { ...slice, zones: ['z'.repeat(64)] } },
      /zones has/
    ],
    ['a zone with a blank', 'eps/shop/web-1', { endpointSlice: { ...slice, zones: ['a b'] } }, /zones has/],
    ['an empty zone', 'eps/shop/web-1', { endpointSlice: { ...slice, zones: [''] } }, /zones has/],
    ['a zone twice', 'eps/shop/web-1', { endpointSlice: { ...slice, zones: ['a', 'a'] } }, /zones has/],
    [
      '65 zones',
      'eps/shop/web-1',
      { endpointSlice: { ...slice, zones: Array.from({ length: 65 }, (_, index) => `z${index}`) } },
      /zones has/
    ],
    [
      'a traffic distribution with a blank',
      'svc/shop/web',
      { service: { ...service, trafficDistribution: 'Prefer Close' } },
      /trafficDistribution/
    ],
    [
      'a rate of a relay above the range of the setting',
      'agent',
      { agent: { ...agent, relayRate: 10_001 } },
      /relayRate is 10001 Mbit/
    ],
    ['no kind', 'agent', {}, /does not know the kind/]
  ]
  for (const [name, key, message, reason] of refusals) {
    it(`refuses ${name}`, () => {
      const decoded = decodeValue(key, encodeMessage(wire.Value, message))
      assert.equal(decoded.kind, 'invalid')
      assert.match(decoded.kind === 'invalid' ? decoded.reason : '', reason)
    })
  }

  it('refuses a value above 64 KiB', () => {
    const bytes = new Uint8Array(65_537)
    assert.equal(decodeValue('agent', bytes).kind, 'invalid')
  })

  it('takes a peer address only in its canonical form', () => {
    for (const good of ['203.0.113.7:51820', '[2001:db8::1]:51820', '1.2.3.4:65535'])
      assert.equal(parsePeerAddress(good), good)
    const bad = [
      '1.2.3.4',
      '1.2.3.4:0',
      '1.2.3.4:65536',
      '1.2.3:1',
      '01.2.3.4:1',
      '2001:db8::1:1',
      '[2001:db8:0::1]:1',
      '[2001:DB8::1]:1',
      '[::1]:1\n'
    ]
    for (const text of bad) assert.equal(parsePeerAddress(text), undefined, text)
  })

  it('takes a reason to hand over that it does not know for a drain, and keeps the record', () => {
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 2 ** 31 - 1 }), (handOver) => {
        const edKey = Uint8Array.of(0x58, ...Array.from({ length: 31 }, () => 0x66)) // the base point
        const agent = { tunnelKeys: [{ edKey, proof: new Uint8Array(64) }], role: 'gateway', handOver }
        const decoded = decodeValue('agent', encodeMessage(wire.Value, { agent }))
        assert.equal(
          decoded.kind === 'value' && decoded.value.kind === 'agent' && decoded.value.handOver,
          'drained'
        )
      })
    )
  })

  it('agrees with the parsers of cidr.ts', () => {
    fc.assert(fc.property(ip, (ip) => assert.equal(parseIp(ip), ip)))
    fc.assert(fc.property(cidr, (cidr) => assert.deepEqual(parseCidr(cidr), { kind: 'cidr', cidr })))
  })
})

function masked(address: Uint8Array, length: number): Uint8Array {
  return address.map((byte, index) => byte & (0xff << (8 - Math.min(8, Math.max(0, length - index * 8)))))
}

function mapped(): Uint8Array {
  return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1)
}

function peerAddress(text: string) {
  const address = parsePeerAddress(text)
  assert.ok(address)
  return address
}
