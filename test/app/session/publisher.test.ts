import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { Publisher } from '../../../src/app/session/publisher.ts'
import { changes, type Change } from '../../../src/core/catalog/catalog.ts'
import { keyOf, type ServiceValue, type Snapshot, type Value } from '../../../src/core/model/values.ts'

const EMPTY: Snapshot = { services: [], endpointSlices: [] }

const service = (name: string, affinitySeconds = 0): ServiceValue => ({
  kind: 'service',
  namespace: name === 'd' ? 'bank' : 'shop',
  name,
  clusterIps: [],
  ports: [],
  headless: true,
  externalName: '',
  affinitySeconds,
  publishNotReady: false
})

/** A source, and a replica that takes what is published. */
class World {
  readonly replica = new Map<string, Value>()
  readonly batches: (readonly Change[])[] = []
  readonly faults: unknown[] = []
  failing = false
  namespaces: readonly string[] = []
  leftOut: readonly string[] = []
  snapshot = EMPTY
  #nowMs = 0
  readonly publisher = new Publisher({
    publish: async (batch) => {
      await Promise.resolve()
      if (this.failing) throw new Error('no room')
      this.batches.push(batch)
      for (const { key, value } of batch) {
        if (value === undefined) this.replica.delete(key)
        else this.replica.set(key, value)
      }
    },
    ownKeys: () => [...this.replica.keys()],
    prefixes: () => ({ podPrefixes: [], servicePrefixes: [] }),
    namespaces: () => this.namespaces,
    onLeftOut: (namespaces) => (this.leftOut = namespaces),
    onFault: (error) => this.faults.push(error)
  })

  tell(services: readonly ServiceValue[], whole = true): void {
    const before = this.snapshot
    this.snapshot = { services, endpointSlices: [] }
    this.publisher.setSnapshot(this.snapshot, { whole, changes: changes(before, this.snapshot) })
  }

  tick(): Promise<void> {
    this.#nowMs += 20_000
    this.publisher.tick(this.#nowMs, () => true)
    return this.publisher.idle
  }

  get services(): readonly Value[] {
    return [...this.replica.values()].filter(({ kind }) => kind === 'service').sort(byKey)
  }
}

const byKey = (left: Value, right: Value): number => (keyOf(left) < keyOf(right) ? -1 : 1)

type Step =
  | { readonly kind: 'tell'; readonly services: readonly ServiceValue[] }
  | { readonly kind: 'lead'; readonly leader: boolean }
  | { readonly kind: 'fail'; readonly failing: boolean }
  | { readonly kind: 'tick' }
  | { readonly kind: 'wait' }

const services = fc
  .uniqueArray(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.nat(2)), { selector: ([name]) => name })
  .map((list) => list.map(([name, seconds]) => service(name, seconds)).sort(byKey))
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: services.map((list): Step => ({ kind: 'tell', services: list })) },
  fc.boolean().map((leader): Step => ({ kind: 'lead', leader })),
  fc.boolean().map((failing): Step => ({ kind: 'fail', failing })),
  fc.constant<Step>({ kind: 'tick' }),
  fc.constant<Step>({ kind: 'wait' })
)

describe('a publisher', () => {
  it('has published what the source said last in the namespaces of its invite, after any changes, terms, copies and failures', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.boolean(), async (steps, all) => {
        const world = new World()
        world.namespaces = all ? [] : ['shop']
        for (const each of steps) {
          if (each.kind === 'tell') world.tell(each.services)
          else if (each.kind === 'fail') world.failing = each.failing
          else if (each.kind === 'tick') void world.tick()
          else if (each.kind === 'wait') await world.publisher.idle
          else world.publisher.setLeadership(each.leader ? { leader: true, term: 2 } : { leader: false })
        }
        world.failing = false
        world.tell([service('d'), service('z')])
        world.publisher.setLeadership({ leader: true, term: 3 })
        await world.publisher.idle
        await world.tick()
        const [d, z] = world.snapshot.services
        assert.deepEqual(world.services, all ? [d, z] : [z])
        assert.deepEqual(world.leftOut, all ? [] : ['bank'])
        assert.equal(world.faults.at(-1), undefined)
      }),
      { numRuns: 300 }
    )
  })

  it('publishes of a change what changed, and of ten while it stood by their sum', async () => {
    const world = new World()
    const all = Array.from({ length: 500 }, (_, n) => service(`svc-${n}`))
    world.publisher.setLeadership({ leader: true, term: 2 })
    world.tell(all)
    world.tell(all.with(7, service('svc-7', 60)))
    await world.publisher.idle
    assert.deepEqual(
      world.batches.map((batch) => batch.length),
      [501, 2]
    )
    world.publisher.setLeadership({ leader: false })
    world.tell(all)
    await world.tick()
    for (let n = 0; n < 10; n++) world.tell(all.with(n % 3, service(`svc-${n % 3}`, 1 + n)))
    await world.tick()
    assert.deepEqual(
      world.batches.slice(2).map((batch) => batch.length),
      [501, 4]
    )
  })

  it('says that a publication failed, and publishes all of it once it can', async () => {
    const world = new World()
    world.publisher.setLeadership({ leader: true, term: 2 })
    world.tell([service('a')])
    await world.publisher.idle
    world.failing = true
    world.tell([service('a'), service('b')])
    await world.publisher.idle
    assert.match(String(world.faults.at(-1)), /no room/)
    world.failing = false
    await world.tick()
    assert.equal(world.faults.at(-1), undefined)
    assert.deepEqual(world.services, [service('a'), service('b')])
  })

  it('publishes the record of this agent each second until that succeeds, also when it is not the speaker', async () => {
    const world = new World()
    world.failing = true
    await world.publisher.put(service('own'))
    await world.tick()
    assert.match(String(world.faults.at(-1)), /no room/)
    world.failing = false
    await world.tick()
    assert.deepEqual(world.services, [service('own')])
    assert.equal(world.faults.at(-1), undefined)
    const { length } = world.batches
    await world.tick()
    assert.equal(world.batches.length, length)
  })

  it('has no fault any more once other gateways are the speaker and the standby', async () => {
    const world = new World()
    world.publisher.setLeadership({ leader: true, term: 2 })
    world.failing = true
    world.tell([service('a')])
    await world.publisher.idle
    world.publisher.setLeadership({ leader: false })
    world.publisher.tick(1000, () => true)
    assert.match(String(world.faults.at(-1)), /no room/)
    world.publisher.tick(2000, () => false)
    assert.equal(world.faults.at(-1), undefined)
  })

  it('publishes nothing after it withdrew', async () => {
    const world = new World()
    world.publisher.setLeadership({ leader: true, term: 2 })
    world.tell([service('a')])
    await world.publisher.idle
    const withdrawn = world.publisher.withdraw()
    world.tell([service('b')])
    await withdrawn
    await world.tick()
    assert.deepEqual([...world.replica], [])
  })

  it('takes nothing back while the source has not been read whole', async () => {
    const world = new World()
    world.replica.set('svc/shop/old', service('old'))
    world.publisher.setLeadership({ leader: true, term: 2 })
    world.tell([service('a')], false)
    await world.publisher.idle
    assert.deepEqual(world.services, [service('a'), service('old')])
    world.tell([service('a')], true)
    await world.publisher.idle
    assert.deepEqual(world.services, [service('a')])
  })
})
