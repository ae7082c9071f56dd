// Both ends of a tunnel choose by the same facts: properties over networks that change at random.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { rankedRelays } from '../../../src/core/host/relay-choice.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import { RELAYS, RelayWorld, type Network } from './relay-world.ts'

const relay = fc.record({ offers: fc.boolean(), links: fc.tuple(fc.boolean(), fc.boolean()) })
const relays = fc.array(relay, { minLength: RELAYS.length, maxLength: RELAYS.length })
const network: fc.Arbitrary<Network> = fc.record({ udp: fc.boolean(), tcp: fc.boolean(), relays })
const costs = fc.array(fc.integer({ min: 0, max: 20 }), {
  minLength: RELAYS.length,
  maxLength: RELAYS.length
})
const past = fc.array(fc.tuple(network, fc.integer({ min: 1, max: 120 })), { maxLength: 5 })

function lived(cost: readonly number[], stretches: readonly (readonly [Network, number])[]): RelayWorld {
  const world = new RelayWorld(cost)
  for (const [each, seconds] of stretches) world.run(each, seconds)
  return world
}

/** The relays that offer, and to which both ends are connected. */
function common({ relays: all }: Network): Origin[] {
  return RELAYS.filter((_, index) => all[index]?.offers === true && all[index].links.every(Boolean))
}

describe('the relay of a tunnel', () => {
  it('is the same at both ends, offers, and reaches both, whatever was before; where there is none, neither uses one', () => {
    fc.assert(
      fc.property(costs, past, relays, (cost, stretches, all) => {
        const now: Network = { udp: false, tcp: false, relays: all }
        const world = lived(cost, stretches).run(now, 25)
        world.used.clear()
        world.run(now, 20)
        const reaching = common(now)
        if (reaching.length === 0) {
          assert.deepEqual(
            [...world.used].filter((way) => RELAYS.includes(way as Origin)),
            []
          )
          return
        }
        assert.ok(reaching.includes(world.agreed as Origin), `${world.way(0)} and ${world.way(1)}`)
        assert.ok(world.isAnswered(2))
      })
    )
  })

  it('has the shortest way of those that reach both, within a step of 4 ms', () => {
    fc.assert(
      fc.property(costs, relays, (cost, all) => {
        const now: Network = { udp: false, tcp: false, relays: all }
        const reaching = common(now)
        fc.pre(reaching.length > 0 && all.every(({ offers, links }) => !offers || links[0] === links[1]))
        const world = lived(cost, [[now, 30]])
        const of = (each: Origin) => cost[RELAYS.indexOf(each)] ?? Infinity
        assert.ok(of(world.agreed as Origin) < Math.min(...reaching.map(of)) + 4)
      })
    )
  })

  it('is left for TCP within 5 s, and for UDP within 300 s, once these work; and none is asked while UDP is answered', () => {
    fc.assert(
      fc.property(costs, past, relays, (cost, stretches, all) => {
        const world = lived(cost, stretches).run({ udp: false, tcp: false, relays: all }, 30)
        world.run({ udp: false, tcp: true, relays: all }, 20)
        assert.equal(world.agreed, 'tcp')
        world.run({ udp: true, tcp: true, relays: all }, 305)
        assert.equal(world.agreed, 'direct')
        world.used.clear()
        const { asks } = world
        for (let second = 0; second < 120; second++)
          world.run({ udp: true, tcp: second % 7 > 3, relays: all }, 1)
        assert.deepEqual([[...world.used], world.asks], [['direct'], asks])
      }),
      { numRuns: 50 }
    )
  })

  it('takes over less than 6 s after UDP and TCP were cut at once, and the tunnel changes its path once', () => {
    fc.assert(
      fc.property(costs, relays, fc.integer({ min: 10, max: 300 }), (cost, all, seconds) => {
        const open: Network = { udp: true, tcp: true, relays: all }
        fc.pre(common(open).length > 0)
        const world = lived(cost, [[open, seconds]])
        world.run({ ...open, udp: false, tcp: false }, 6)
        assert.ok(world.isAnswered(2), `${world.way(0)} and ${world.way(1)}`)
        assert.equal(world.changes, 2)
      })
    )
  })

  it('takes over from TCP less than 5 s after that ended', () => {
    fc.assert(
      fc.property(costs, relays, (cost, all) => {
        const blocked: Network = { udp: false, tcp: true, relays: all }
        fc.pre(common(blocked).length > 0)
        const world = lived(cost, [[blocked, 60]])
        assert.equal(world.agreed, 'tcp')
        world.run({ ...blocked, tcp: false }, 5)
        assert.ok(world.isAnswered(2), `${world.way(0)} and ${world.way(1)}`)
      })
    )
  })

  it('is replaced when it says that it is ready and passes nothing on, also where three do so', () => {
    fc.assert(
      fc.property(costs, fc.integer({ min: 0, max: 3 }), (cost, count) => {
        const good = RELAYS.map(() => ({ offers: true, links: [true, true] as const }))
        const first = lived(cost, [[{ udp: false, tcp: false, relays: good }, 30]]).agreed
        const ranked = rankedRelays(['west-gw', 'east-gw'] as [Origin, Origin], RELAYS).slice(0, 4)
        // The best one, and so many others of those that are asked.
        const dropping = new Set([
          first,
          ...ranked.filter((each) => each !== first).slice(0, Math.min(count, 2))
        ])
        const all = RELAYS.map((each, index) => ({ ...good[index]!, drops: dropping.has(each) }))
        const world = lived(cost, [[{ udp: false, tcp: false, relays: all }, 90]])
        assert.ok(world.isAnswered(2), `${world.way(0)} and ${world.way(1)}`)
        assert.ok(!dropping.has(world.agreed))
      })
    )
  })
})
