// To whom a gateway gives the key of its cluster, over any history of rotations, Bars and requests: the agents that a person
// kept at the last rotation, and nobody else.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { GatewayInvites } from '../../../src/app/enrolment/gateway-invites.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import type { GatewayInvite } from '../../../src/core/trust/door/judge-gateway.ts'
import { keyId } from '../../../src/core/trust/set/ids.ts'
import { look, type TestCluster, type TestSeat, World } from '../../core/trust/set/world.ts'

const NAMES = ['edge', 'away', 'revoked'] as const
type Name = (typeof NAMES)[number]

/** What happens to the cluster. `oldest`: a thief of its first key signs, or a gateway that has not heard of the rotation. */
type Act =
  | { readonly kind: 'rotate'; readonly keep: readonly Name[]; readonly isRefused: boolean }
  | { readonly kind: 'bar'; readonly agent: Name; readonly by: 'present' | 'oldest' | 'seat' }
  | { readonly kind: 'remove' }

const name = fc.constantFrom(...NAMES)
const acts = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('rotate' as const),
        keep: fc.subarray([...NAMES]),
        isRefused: fc.boolean()
      })
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('bar' as const),
        agent: name,
        by: fc.constantFrom('present', 'oldest', 'seat')
      })
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'remove' as const }) }
  ),
  { maxLength: 7 }
) as fc.Arbitrary<readonly Act[]>

/** A gateway of the cluster `west` that keeps invites in memory, with the agents of its site and one of another cluster. */
class Site {
  readonly world = new World()
  readonly agents = new Map<string, { readonly key: Uint8Array; readonly origin: Origin }>()
  readonly invites: GatewayInvites
  readonly #seat: TestSeat
  readonly #set
  readonly first: TestCluster
  present: TestCluster
  kept: readonly GatewayInvite[] = []
  /** Agents that may have the present key: what the tests expect. */
  heirs: readonly Name[] = []
  readonly barred = new Set<Name>()
  isRemoved = false
  #seen = 1

  constructor() {
    const { world } = this
    this.#seat = world.seat()
    this.first = this.present = world.found('west', ['10.1.0.0/16'])
    this.#set = world.set()
    this.#set.add(this.present.item)
    for (const each of [...NAMES, 'foreign', 'unknown']) {
      const key = world.crypto.publicKeyOf(world.crypto.random(32))
      this.agents.set(each, { key, origin: originOf(key) })
    }
    const current = Object.defineProperty({ required: () => this.#session() }, 'session', {
      get: () => this.#session()
    })
    const file = {
      warning: undefined,
      invites: () => this.kept,
      save: async (next: readonly GatewayInvite[]) => void (this.kept = next),
      clear: async () => void (this.kept = [])
    }
    const log = { info: () => undefined, error: () => undefined }
    const parts = { file, current, store: { identity: () => undefined }, crypto: world.crypto, log }
    this.invites = new GatewayInvites(parts as never)
  }

  async do(act: Act): Promise<void> {
    const { world } = this
    if (act.kind === 'rotate') {
      const invite = world.invite(this.#seat, 'west', { pods: ['10.1.0.0/16'], replaces: this.present })
      const next = world.admit(invite, this.present, this.#seen)
      await this.invites.keepHeirs(
        act.keep.map((each) => this.#agent(each).origin),
        next.key
      )
      if (act.isRefused || this.isRemoved) return
      this.#seen++
      this.#set.add(next.item)
      this.present = next
      this.heirs = act.keep
    } else if (act.kind === 'bar') {
      const by =
        act.by === 'seat'
          ? { seat: this.#seat }
          : { cluster: act.by === 'oldest' ? this.first : this.present }
      this.#set.add(world.bar(by, { agent: keyId(this.#agent(act.agent).key) }).item)
      this.barred.add(act.agent)
    } else {
      this.#set.add(world.bar({ seat: this.#seat }, this.present).item)
      this.isRemoved = true
    }
  }

  /** Who is given the key when each agent shows the key of each. */
  async given(): Promise<readonly string[]> {
    const found: string[] = []
    for (const [asks, { origin }] of this.agents)
      for (const [shown, { key }] of this.agents) {
        const isHeard = this.invites.knows(key, origin)
        assert.ok(!isHeard || asks === shown, `${asks} learns that the key of ${shown} is kept`)
        const answer = await this.invites.answer(origin, { kind: 'gatewayKnock', key, software: 'test' })
        if (answer.kind !== 'gateway') continue
        assert.ok(isHeard, `${asks} would not have got through the door`)
        assert.ok(this.invites.isFor(origin), `${asks} could not be revoked`)
        assert.deepEqual(answer.gift.clusterSeed, this.present.seed)
        found.push(asks)
      }
    return found
  }

  #agent(each: string) {
    return this.agents.get(each) ?? assert.fail()
  }

  #session() {
    const { seed, item } = this.present
    const standing = () => look(this.#set).standing
    return {
      membership: {
        clusterSeed: seed,
        stage: { kind: 'member', clusterItem: item },
        bootstrap: [],
        realPrefixes: []
      },
      control: {
        origin: this.#agent('unknown').origin,
        view: () => ({ self: 'west', clusters: new Map() }),
        members: { standing, generations: () => new Map() }
      },
      facts: { multiaddrs: [] }
    }
  }
}

describe('the key of a cluster after a rotation', () => {
  it('is given to the agents that a person kept at the last one, to none that a Bar of any of its keys names, and while it stands', async () => {
    await fc.assert(
      fc.asyncProperty(acts, async (history) => {
        const site = new Site()
        for (const act of history) {
          await site.do(act)
          const expected = site.isRemoved ? [] : site.heirs.filter((each) => !site.barred.has(each))
          assert.deepEqual(new Set(await site.given()), new Set(expected))
        }
      }),
      { numRuns: 60 }
    )
  })

  it('leaves nothing of earlier ones in the file, however often it is rotated', async () => {
    const site = new Site()
    for (let round = 0; round < 20; round++)
      await site.do({ kind: 'rotate', keep: NAMES, isRefused: round % 2 === 0 })
    assert.equal(new Set(site.kept.map(({ clusterKey }) => clusterKey)).size <= 2, true)
    assert.ok(site.kept.length <= 2 * NAMES.length, `${site.kept.length} invites`)
  })
})
