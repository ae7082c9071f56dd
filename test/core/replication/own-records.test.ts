import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { decodeValue } from '../../../src/core/wire/value-codec.ts'
import { RECORD_BYTES_MAX } from '../../../src/core/wire/limits.ts'
import {
  keyOf,
  type AgentValue,
  type ClusterValue,
  type EndpointSliceValue,
  type Ip,
  type ServiceValue,
  type Value
} from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { TunnelKeys, tunnelKeyOf } from '../../../src/core/trust/tunnel-key.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { fairLevel, OwnRecords, type LeftOut } from '../../../src/core/replication/own-records.ts'
import type { StoredRecord, ValueChange } from '../../../src/core/replication/record.ts'

const RESERVED_BYTES = 2 * (RECORD_BYTES_MAX + 16)

function slice(namespace: string, name: string, endpoints: number): EndpointSliceValue {
  return {
    kind: 'endpointSlice',
    namespace,
    name,
    service: 'web',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: Array.from({ length: endpoints }, (_, index) => ({
      addresses: [`10.1.${index >> 8}.${index & 255}` as Ip],
      ready: true,
      serving: true,
      terminating: false,
      hostname: '',
      node: 'a-node-with-a-name'
    }))
  }
}

function service(namespace: string, name: string): ServiceValue {
  return {
    kind: 'service',
    namespace,
    name,
    clusterIps: ['10.101.0.1' as Ip],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
    headless: false,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady: false
  }
}

/** An agent's records as a replica would hold them. */
class World {
  readonly held = new Map<string, Uint8Array>()
  readonly own: OwnRecords
  leftOut: LeftOut = { refused: [], namespaces: [] }

  constructor(
    limits: { bytes: number; keys?: number },
    published: ReadonlyMap<string, Uint8Array> = new Map()
  ) {
    for (const [key, value] of published) this.held.set(key, value)
    this.own = new OwnRecords({
      limits: {
        bytesPerOriginMax: RESERVED_BYTES + limits.bytes,
        keysPerOriginMax: 2 + (limits.keys ?? 100_000)
      },
      read: (key) => this.held.get(key),
      refusalOf: (value) => TUNNEL_KEYS.refusalOf(SELF, value),
      published: [...published].map(([key, value], seq): StoredRecord => ({ key, value, seq }))
    })
  }

  apply(changes: readonly ValueChange[]): void {
    for (const { key, value } of this.own.apply(changes)) {
      if (value === undefined) this.held.delete(key)
      else this.held.set(key, value)
    }
    this.leftOut = this.own.takeNews() ?? this.leftOut
  }

  put(...values: readonly Value[]): void {
    this.apply(values.map((value) => ({ key: keyOf(value), value })))
  }

  get keys(): readonly string[] {
    return [...this.held.keys()].sort()
  }

  get bytes(): number {
    return [...this.held].reduce((sum, [key, value]) => sum + key.length + value.length, 0)
  }
}

const crypto = createCrypto()
const [SEED, MESH] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
const SELF = originOf(crypto.publicKeyOf(SEED))
const TUNNEL_KEYS = new TunnelKeys({ crypto, meshId: MESH })
const TUNNEL_KEY = tunnelKeyOf({
  crypto,
  meshId: MESH,
  agentKey: crypto.publicKeyOf(SEED),
  seed: new Uint8Array(32).fill(3)
})

const AGENT: AgentValue = {
  kind: 'agent',
  tunnelKeys: [TUNNEL_KEY],
  wireguardAddresses: [],
  multiaddrs: [],
  tunnelAddress: '10.1.0.1' as Ip,
  node: 'gw-1',
  role: 'gateway',
  version: '0.1.0',
  probePort: 7947
}

describe('own records', () => {
  describe('pass the decoder of the others', () => {
    const text = fc.oneof(
      fc.string({ maxLength: 300 }),
      fc.constantFrom('', 'Gateway-East', 'a_b', 'web', 'x'.repeat(64), '10.1.0.1', 'über', '\u0000', 'a b')
    )
    const odd = fc.oneof(text, fc.integer(), fc.constant(undefined), fc.constant(null), fc.double())
    const list = (of: fc.Arbitrary<unknown>) => fc.array(of, { maxLength: 40 })
    const address = fc.oneof(
      fc.ipV4(),
      fc.ipV4().map((ip) => `${ip}:51820`),
      fc.constantFrom('gw.example.com:51820', '[::1]', '203.0.113.7:0', '[2001:db8::1]:51820'),
      odd
    )
    const values = fc.oneof(
      fc.record({
        kind: fc.constant('agent'),
        tunnelKeys: fc.constantFrom(
          [TUNNEL_KEY],
          [{ ...TUNNEL_KEY, proof: 'AAAA' }],
          [],
          [TUNNEL_KEY, TUNNEL_KEY]
        ),
        wireguardAddresses: list(address),
        multiaddrs: list(fc.oneof(fc.constantFrom('/ip4/1.2.3.4/tcp/1', '/dns4/gw_1/tcp/1'), odd)),
        tunnelAddress: fc.oneof(fc.ipV4(), odd),
        node: odd,
        role: fc.constantFrom('gateway', 'node', 'king'),
        version: odd,
        probePort: fc.oneof(fc.nat(70_000), odd),
        nodePrefixes: list(fc.oneof(fc.constantFrom('10.1.0.0/24', '10.1.0.1/24', 'fd00::/64'), odd))
      }),
      fc.record({
        kind: fc.constant('cluster'),
        podPrefixes: list(fc.oneof(fc.constantFrom('10.1.0.0/16', '10.1.0.1/16'), odd)),
        servicePrefixes: list(odd),
        term: fc.oneof(fc.nat(), odd),
        complete: fc.boolean()
      }),
      fc.record({
        kind: fc.constant('service'),
        namespace: text,
        name: text,
        clusterIps: list(fc.oneof(fc.ipV4(), fc.ipV6(), odd)),
        ports: list(
          fc.record({
            name: text,
            protocol: fc.constantFrom('TCP', 'ICMP'),
            port: fc.oneof(fc.nat(), odd),
            appProtocol: text
          })
        ),
        headless: fc.boolean(),
        externalName: odd,
        affinitySeconds: odd,
        publishNotReady: odd
      }),
      fc.record({
        kind: fc.constant('endpointSlice'),
        namespace: text,
        name: text,
        service: text,
        ports: list(fc.record({ name: odd, protocol: fc.constant('TCP'), port: odd })),
        endpoints: list(
          fc.record({ addresses: list(fc.oneof(fc.ipV4(), odd)), ready: odd, hostname: odd, node: odd })
        )
      })
    )

    it('whatever the source and the host say: the rest is left out, and named', () => {
      fc.assert(
        fc.property(fc.array(values, { maxLength: 6 }), (some) => {
          const world = new World({ bytes: 10_000_000 })
          // What the types forbid is what this is about.
          const changes = (some as unknown as Value[]).map((value) => ({ key: keyOf(value), value }))
          world.apply(changes)
          for (const [key, bytes] of world.held) assert.equal(decodeValue(key, bytes).kind, 'value', key)
          const last = new Map(changes.map((change) => [change.key, change.value]))
          const refused = new Set(world.leftOut.refused.map(({ key }) => key))
          for (const key of last.keys()) assert.ok(world.held.has(key) || refused.has(key), key)
        }),
        { numRuns: 300 }
      )
    })

    it('and one that does not pass hides no other, until it is corrected', () => {
      const world = new World({ bytes: 1_000_000 })
      const bad: ServiceValue = { ...service('shop', 'web'), affinitySeconds: 90_000 }
      world.put(service('shop', 'cart'), bad)
      assert.deepEqual(world.keys, ['svc/shop/cart'])
      assert.deepEqual(world.leftOut.refused, [
        { key: 'svc/shop/web', reason: 'affinitySeconds is above 86400 (one day)', reduced: false }
      ])
      world.put(service('shop', 'web'))
      assert.deepEqual(world.keys, ['svc/shop/cart', 'svc/shop/web'])
      assert.deepEqual(world.leftOut.refused, [])
      world.put(bad)
      assert.deepEqual(world.keys, ['svc/shop/cart'], 'what it said before is not true any more')
      world.apply([{ key: 'svc/shop/web', value: undefined }])
      assert.deepEqual(world.leftOut.refused, [])
    })

    it('and an agent with twenty addresses and a name in capitals stays, with the first that pass', () => {
      const world = new World({ bytes: 1_000_000 })
      const addresses = Array.from({ length: 20 }, (_, n) => `203.0.113.${n}:51820`)
      world.put({
        ...AGENT,
        node: 'Gateway-East',
        wireguardAddresses: [
          'gw.example.com:51820',
          ...addresses
        ] as unknown as AgentValue['wireguardAddresses'],
        multiaddrs: addresses.map((_, n) => `/ip4/203.0.113.${n}/tcp/7946`)
      })
      const decoded = decodeValue('agent', world.held.get('agent') ?? assert.fail())
      const agent = decoded.kind === 'value' && decoded.value.kind === 'agent' ? decoded.value : assert.fail()
      assert.equal(agent.node, '')
      assert.deepEqual(agent.wireguardAddresses, addresses.slice(0, 16))
      assert.equal(agent.multiaddrs.length, 16)
      assert.equal(agent.tunnelAddress, '10.1.0.1')
      assert.deepEqual(
        world.leftOut.refused.map(({ key, reduced }) => [key, reduced]),
        [['agent', true]]
      )
      world.put(AGENT)
      assert.deepEqual(world.leftOut.refused, [])
    })

    it('and a cluster with an odd prefix or too many announces the others', () => {
      const world = new World({ bytes: 1_000_000 })
      const many = Array.from({ length: 300 }, (_, n) => `10.${n >> 8}.${n & 255}.0/24`)
      world.put({
        kind: 'cluster',
        podPrefixes: ['10.0.0.1/8', ...many] as unknown as ClusterValue['podPrefixes'],
        servicePrefixes: [],
        term: 1,
        complete: true
      })
      const decoded = decodeValue('cluster', world.held.get('cluster') ?? assert.fail())
      assert.deepEqual(
        decoded.kind === 'value' && decoded.value.kind === 'cluster' && decoded.value.podPrefixes,
        many.slice(0, 256)
      )
    })

    it('and an agent record of which nothing passes leaves the last one standing', () => {
      const world = new World({ bytes: 1_000_000 })
      world.put(AGENT)
      const before = world.held.get('agent')
      world.put({ ...AGENT, tunnelKeys: [{ ...TUNNEL_KEY, edKey: 'AAAA' }] })
      assert.equal(world.held.get('agent'), before)
      assert.deepEqual(
        world.leftOut.refused.map(({ key, reduced }) => [key, reduced]),
        [['agent', false]]
      )
    })
  })

  it('never carry a tunnel key whose proof other agents would refuse', () => {
    const world = new World({ bytes: 1_000_000 })
    const of = { crypto, meshId: MESH, agentKey: crypto.publicKeyOf(SEED), seed: new Uint8Array(32).fill(4) }
    const foreign = [
      { ...TUNNEL_KEY, proof: tunnelKeyOf(of).proof },
      tunnelKeyOf({ ...of, meshId: SEED }),
      tunnelKeyOf({ ...of, agentKey: crypto.publicKeyOf(MESH) })
    ]
    for (const each of foreign) {
      world.put({ ...AGENT, tunnelKeys: [TUNNEL_KEY, each] })
      assert.deepEqual(world.keys, [])
      assert.match(world.leftOut.refused[0]?.reason ?? '', /has not proved that it holds the seed/)
    }
    world.put({ ...AGENT, tunnelKeys: [TUNNEL_KEY, tunnelKeyOf(of)] })
    assert.deepEqual([world.keys, world.leftOut.refused], [['agent'], []])
  })

  describe('above what the mesh takes of one cluster', () => {
    const small = service('small', 'web')
    const big = Array.from({ length: 30 }, (_, n) => slice('big', `web-${String(n).padStart(2, '0')}`, 40))

    it('are published by fair shares of the namespaces, services first, and what is left out is named', () => {
      const world = new World({ bytes: 20_000 })
      world.put(...big, service('big', 'web'), small, slice('small', 'web-1', 5), AGENT)
      assert.ok(world.bytes <= 20_000 + RESERVED_BYTES)
      const of = (namespace: string) => world.keys.filter((key) => key.includes(`/${namespace}/`))
      assert.deepEqual(of('small'), ['eps/small/web-1', 'svc/small/web'])
      assert.ok(of('big').includes('svc/big/web'))
      assert.ok(of('big').length > 5 && of('big').length < 31)
      const [left] = world.leftOut.namespaces
      assert.equal(world.leftOut.namespaces.length, 1)
      assert.equal(left?.namespace, 'big')
      assert.equal(left?.endpointSlices, 31 - of('big').length)
      assert.equal(left?.services, 0)
    })

    it('leave nobody out who wants less than its share', () => {
      const world = new World({ bytes: 12_000 })
      for (const namespace of ['a', 'b', 'c']) world.put(...big.map((value) => ({ ...value, namespace })))
      world.put(small)
      const counts = ['a', 'b', 'c'].map((ns) => world.keys.filter((key) => key.includes(`/${ns}/`)).length)
      assert.ok(world.keys.includes('svc/small/web'))
      assert.equal(new Set(counts).size, 1, `equal shares: ${counts.join()}`)
      assert.ok((counts[0] ?? 0) > 0)
    })

    it('are published as soon as there is room', () => {
      const world = new World({ bytes: 20_000 })
      world.put(...big)
      assert.ok(world.keys.length < 30)
      world.apply(big.slice(0, 25).map((value) => ({ key: keyOf(value), value: undefined })))
      assert.deepEqual(world.keys, big.slice(25).map(keyOf))
      assert.deepEqual(world.leftOut.namespaces, [])
    })

    it('are bounded by their number, too', () => {
      const world = new World({ bytes: 10_000_000, keys: 10 })
      world.put(...big, small)
      assert.equal(world.keys.length, 10)
      assert.ok(world.keys.includes('svc/small/web'))
    })

    it('are the same in whatever order they came, and after a restart', () => {
      const change = fc.record({
        namespace: fc.constantFrom('a', 'b', 'c'),
        name: fc.constantFrom('w-1', 'w-2', 'w-3', 'w-4', 'w-5'),
        endpoints: fc.option(fc.integer({ min: 0, max: 120 }), { nil: undefined })
      })
      const limits = fc.record({
        bytes: fc.integer({ min: 0, max: 30_000 }),
        keys: fc.integer({ min: 0, max: 16 })
      })
      fc.assert(
        fc.property(
          fc.array(fc.array(change, { maxLength: 6 }), { maxLength: 12 }),
          limits,
          (batches, limit) => {
            const world = new World(limit)
            const wanted = new Map<string, Value>()
            for (const batch of batches) {
              const changes = batch.map(({ namespace, name, endpoints }) => {
                const value = slice(namespace, name, endpoints ?? 0)
                return { key: keyOf(value), value: endpoints === undefined ? undefined : value }
              })
              for (const { key, value } of changes) {
                if (value === undefined) wanted.delete(key)
                else wanted.set(key, value)
              }
              world.apply(changes)
              assert.ok(world.bytes <= limit.bytes && world.keys.length <= limit.keys)
            }
            const fresh = new World(limit)
            fresh.put(...[...wanted.values()].toReversed())
            assert.deepEqual(world.held, fresh.held)
            assert.deepEqual(world.own.keys().toSorted(), [...wanted.keys()].sort())
            const restarted = new World(limit, world.held)
            restarted.put(AGENT)
            restarted.put(...wanted.values())
            restarted.held.delete('agent')
            assert.deepEqual(restarted.held, fresh.held)
          }
        ),
        { numRuns: 200 }
      )
    })
  })

  it('have fair levels: who wants less has it, the others the same', () => {
    assert.equal(fairLevel([1, 2, 3], 6, 1), Infinity)
    assert.equal(fairLevel([1, 10, 10], 11, 1), 5)
    assert.equal(fairLevel([10, 10, 10], 3, 1), 1)
    assert.equal(fairLevel([10_000, 1], 5_300, 1000), 5000)
    assert.equal(fairLevel([], 0, 1), Infinity)
  })
})
