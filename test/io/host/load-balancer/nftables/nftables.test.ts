import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { RealServer, VirtualServer } from '../../../../../src/core/host/host-state.ts'
import type { Ip } from '../../../../../src/core/model/values.ts'
import { HASH_SIZES, RANDOM_SIZES, slotTable } from '../../../../../src/core/host/slots.ts'
import {
  elementCommands,
  elementSteps,
  elementsOf,
  IRREGULAR_AFFINITY,
  parseTable,
  serverOf,
  skeleton,
  type ElementStep
} from '../../../../../src/io/host/load-balancer/nftables/table.ts'
import { netChanges } from '../../../../../src/io/host/load-balancer/order.ts'

const reals = (weights: readonly number[]): readonly RealServer[] =>
  weights.map((weight, index) => ({ ip: `10.1.${index >> 8}.${index & 255}` as Ip, port: 8080, weight }))

const server = (more: Partial<VirtualServer> = {}): VirtualServer => ({
  vip: '10.96.0.1' as Ip,
  protocol: 'TCP',
  port: 80,
  scheduler: 'rr',
  affinitySeconds: 0,
  realServers: reals([1, 1]),
  ...more
})

const servers = fc
  .record({
    scheduler: fc.constantFrom('rr', 'wrr', 'mh', 'lc' as const),
    affinitySeconds: fc.constantFrom(0, 60, 10_800),
    protocol: fc.constantFrom('TCP', 'UDP', 'SCTP' as const),
    port: fc.integer({ min: 1, max: 65_535 }),
    vip: fc.constantFrom('10.96.0.1', 'fd96::1') as fc.Arbitrary<Ip>,
    weights: fc.array(fc.constantFrom(0, 1, 1, 1, 2, 100, 65_535), { maxLength: 9 })
  })
  .map(({ weights, ...rest }): VirtualServer => {
    const prefix = rest.vip.includes(':') ? 'fd01::' : '10.1.0.'
    const realServers = weights.map((weight, index) => ({
      ip: `${prefix}${index + 1}` as Ip,
      port: 8080,
      weight
    }))
    return Object.assign(rest, { realServers })
  })

describe('slots', () => {
  it('give each backend with a weight a slot, the others none, in a table of a known size', () => {
    fc.assert(
      fc.property(servers, (desired) => {
        const { draw, slots } = slotTable(desired)
        const active = desired.realServers.filter((real) => real.weight > 0)
        if (active.length === 0) return assert.equal(slots.length, 0)
        assert.ok((draw === 'hash' ? HASH_SIZES : RANDOM_SIZES).includes(slots.length))
        assert.ok(slots.every((real) => active.includes(real)))
        // A hashed table of 65535 : 1 gives the light one none; a random one always does.
        if (draw === 'random') assert.equal(new Set(slots).size, active.length)
      }),
      { numRuns: 200 }
    )
  })

  it('share by weight, to an eighth', () => {
    for (const count of [3, 16, 17, 40, 129]) {
      const { slots } = slotTable(server({ realServers: reals(Array<number>(count).fill(100)) }))
      const shares = Map.groupBy(slots, (real) => real.ip)
      for (const share of shares.values()) {
        assert.ok(
          share.length * count <= slots.length * 1.125 && share.length * count >= slots.length * 0.875
        )
      }
    }
    const { slots } = slotTable(server({ realServers: reals([1, 3]) }))
    assert.equal(slots.filter((real) => real.weight === 3).length, 3)
  })

  it('move only a removed backend’s clients under affinity', () => {
    const before = server({ affinitySeconds: 60, realServers: reals([1, 1, 1, 1, 1]) })
    const after = { ...before, realServers: before.realServers.slice(1) }
    const [a, b] = [slotTable(before).slots, slotTable(after).slots]
    const moved = a.filter((real, slot) => real.ip !== b[slot]?.ip)
    assert.ok(moved.length > 0 && moved.every((real) => real === before.realServers[0]))
    const counts = Map.groupBy(a, (real) => real.ip)
    for (const share of counts.values()) assert.ok(share.length > a.length / 5 / 2)
  })
})

describe('elements', () => {
  it('say all of a virtual server: reading them back gives it', () => {
    fc.assert(
      fc.property(servers, (desired) => {
        assert.deepEqual(serverOf(elementsOf(desired)), desired)
      }),
      { numRuns: 200 }
    )
  })

  it('that no desired state makes are shown as irregular, and the difference repairs them', () => {
    const desired = server()
    const elements = elementsOf(desired)
    for (const broken of [elements.slice(1), elements.slice(0, -1)]) {
      const seen = serverOf(broken)
      assert.equal(seen?.affinitySeconds, IRREGULAR_AFFINITY)
      assert.equal(elementCommands('t', broken, elements).length, 1)
    }
  })

  it('are unpublished first and published last', () => {
    const commands = elementCommands(
      't',
      elementsOf(server()),
      elementsOf(server({ realServers: reals([1, 1, 1]) }))
    )
    assert.match(commands[0] ?? '', /^delete element inet t services4 \{ 10\.96\.0\.1 \. 6 \. 80 \}$/)
    assert.match(commands.at(-1) ?? '', /^add element inet t services4 \{ .* : goto r3 \}$/)
    assert.deepEqual(elementCommands('t', elementsOf(server()), elementsOf(server())), [])
  })

  it('that a server loses are deleted in a second step: a packet may have drawn one of them just before the first', () => {
    const sets = (step: ElementStep | undefined, kind: 'gone' | 'fresh') =>
      step?.[kind].map(({ set, key }) => [set, key])
    const [three, two] = [elementsOf(server({ realServers: reals([1, 1, 1]) })), elementsOf(server())]
    const [first, second, ...others] = elementSteps(three, two)
    assert.deepEqual(sets(first, 'gone'), [['services4', '10.96.0.1 . 6 . 80']])
    assert.deepEqual(sets(first, 'fresh'), [['services4', '10.96.0.1 . 6 . 80']])
    assert.deepEqual(sets(second, 'gone'), [['slots4', '10.96.0.1 . 6 . 80 . 2']])
    assert.deepEqual([sets(second, 'fresh'), others], [[], []])
    // One transaction where slots come, and where the whole server goes.
    assert.equal(elementSteps(two, three).length, 1)
    assert.equal(elementSteps(three, []).length, 1)
  })

  it('at each step and for any two states, leave every drawn slot with a backend', () => {
    fc.assert(
      fc.property(servers, servers, (a, b) => {
        const [before, after] = [
          elementsOf(a),
          elementsOf({ ...b, vip: a.vip, protocol: a.protocol, port: a.port })
        ]
        let have = new Map(before.map((element) => [`${element.set} ${element.key}`, element]))
        for (const { gone, fresh } of elementSteps(before, after)) {
          const drawn = [...have.values()].filter(({ set }) => set.startsWith('slots'))
          const isLast = fresh.length === 0
          have = new Map(have)
          for (const { set, key } of gone) have.delete(`${set} ${key}`)
          for (const element of fresh) have.set(`${element.set} ${element.key}`, element)
          if (!isLast) for (const { set, key } of drawn) assert.ok(have.has(`${set} ${key}`), key)
        }
        assert.deepEqual(
          [...have.values()].map(({ key, tail }) => key + tail).sort(),
          after.map(({ key, tail }) => key + tail).sort()
        )
      }),
      { numRuns: 40 }
    )
  })

  it('are read from nft’s JSON, whether protocols are names or numbers', () => {
    const row = (protocol: unknown) => [
      { elem: { val: { concat: ['10.96.0.1', protocol, 80] }, comment: 'rr 0' } },
      { goto: { target: 'refuse' } }
    ]
    const listing = (rows: readonly unknown[]) =>
      JSON.stringify({ nftables: [{ metainfo: {} }, { map: { name: 'services4', handle: 1, elem: rows } }] })
    for (const protocol of ['tcp', 6]) {
      const { elements, foreign } = parseTable(listing([row(protocol)]))
      assert.equal(foreign, 0)
      assert.deepEqual(serverOf(elements), server({ realServers: [] }))
    }
    assert.equal(parseTable(listing([row('icmp')])).foreign, 1)
    assert.equal(parseTable(listing([row('tcp')])).shape, parseTable(listing([])).shape)
  })

  it('need a constant number of chains', () => {
    const chains = skeleton('t').match(/^ {2}chain /gm)
    assert.equal(chains?.length, RANDOM_SIZES.length + HASH_SIZES.length + 3)
  })
})

describe('changes of one virtual server', () => {
  it('fold to the first have and the last want', () => {
    const [a, b] = [server(), server({ scheduler: 'lc' })]
    assert.deepEqual(
      netChanges([
        { want: undefined, have: a },
        { want: b, have: undefined }
      ]),
      [{ want: b, have: a }]
    )
  })
})
