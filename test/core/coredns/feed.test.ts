import assert from 'node:assert/strict'
import fc from 'fast-check'

import { Feed, GRACE_MS } from '../../../src/core/coredns/feed.ts'
import { objectText, type ResourceName } from '../../../src/core/coredns/objects.ts'
import type { ClusterName, Ip } from '../../../src/core/model/values.ts'
import type { MeshView, ServiceView } from '../../../src/core/view/view.ts'
import { cluster, endpoint, meshOf, port, service, shopMesh, slice } from '../dns/fixtures.ts'

const HTTP = [port('http', 80)]
const START = 1_700_000_000_000
const RESOURCES: readonly ResourceName[] = ['namespaces', 'services', 'endpointslices']

describe('feed', () => {
  it('begins above every version of an earlier run', () => {
    const first = newFeed()
    first.update({ view: shopMesh(), nowMs: START })
    const next = new Feed({ nowMs: START + 5000 })
    assert.ok(next.resourceVersion > first.resourceVersion)
    next.update({ view: shopMesh(), nowMs: START + 5000 })
    assert.equal(next.resumable('east', first.resourceVersion), false)
  })

  it('is pending before the first view, and for a cluster whose catalogue is not whole', () => {
    const feed = newFeed()
    assert.equal(feed.state('east', START), 'pending')
    assert.equal(feed.state('anything', START), 'pending')
    feed.update({ view: meshOf(cluster('east', { complete: false })), nowMs: START })
    assert.equal(feed.state('east', START), 'pending')
    assert.equal(feed.state('anything', START), 'unknown')
  })

  it('serves all when every live cluster is whole, or after a grace when one is', () => {
    const [east, west] = [cluster('east', {}), cluster('west', { complete: false })]
    const feed = newFeed()
    feed.update({ view: meshOf(east, west), nowMs: START })
    assert.equal(feed.state('all', START + GRACE_MS - 1), 'pending')
    assert.equal(feed.state('all', START + GRACE_MS), 'serving')
    const other = newFeed()
    other.update({ view: meshOf(east, west), withdrawn: (name) => name === 'west', nowMs: START })
    assert.equal(other.state('all', START), 'serving')
    const none = newFeed()
    none.update({ view: meshOf(west), nowMs: START })
    assert.equal(none.state('all', START + 10 * GRACE_MS), 'pending')
  })

  it('has the one address of a balanced service in all, and one event when a policy begins or ends', () => {
    const feed = newFeed()
    const at = (balanced: ReadonlyMap<string, Ip>) => {
      const before = feed.resourceVersion
      feed.update({ view: shopMesh(), balanced, nowMs: START })
      const entry = feed.entry('all', 'services', 'shop/web')
      assert.ok(entry)
      const { spec } = JSON.parse(objectText(entry.source, 1)) as { spec: { clusterIPs: readonly string[] } }
      return { ips: spec.clusterIPs, events: feed.resourceVersion - before }
    }
    const one = new Map([['shop/web', '240.240.0.9' as Ip]])
    assert.deepEqual(at(new Map()).ips, ['10.2.0.1', '10.12.0.1'])
    assert.deepEqual(at(one), { ips: ['240.240.0.9'], events: 1 })
    assert.deepEqual(at(one), { ips: ['240.240.0.9'], events: 0 })
    assert.deepEqual(at(new Map()), { ips: ['10.2.0.1', '10.12.0.1'], events: 1 })
    const own = feed.entry('east', 'services', 'shop/web')
    assert.ok(own && objectText(own.source, 1).includes('10.2.0.1'))
  })

  it('keeps what it served while a catalogue is not whole', () => {
    const feed = newFeed()
    const web = service('shop/web', ['10.2.0.1'], { ports: HTTP })
    feed.update({ view: meshOf(cluster('east', { services: [web] })), nowMs: START })
    feed.update({ view: meshOf(cluster('east', { complete: false })), nowMs: START })
    assert.deepEqual(keys(feed, 'east', 'services'), ['shop/web'])
    assert.deepEqual(keys(feed, 'all', 'services'), ['shop/web'])
  })

  it('empties a cluster that left, and lets it come back only when it is whole', () => {
    const feed = newFeed()
    const [east, west] = [cluster('east', {}), shopMesh().clusters.get('west' as ClusterName)]
    assert.ok(west)
    feed.update({ view: meshOf(east, west), nowMs: START })
    const version = feed.resourceVersion
    feed.update({ view: meshOf(east), nowMs: START })
    assert.equal(feed.state('west', START), 'serving')
    assert.deepEqual(keys(feed, 'west', 'services'), [])
    assert.deepEqual(keys(feed, 'all', 'services'), [])
    assert.ok(feed.resumable('west', version), 'readers are told of the deletes')
    feed.update({ view: meshOf(east, { ...west, complete: false }), nowMs: START })
    assert.equal(feed.state('west', START), 'pending')
    feed.update({ view: meshOf(east, west), nowMs: START })
    assert.equal(feed.state('west', START), 'serving')
    assert.equal(keys(feed, 'west', 'services').length, west.services.size)
  })

  it('leaves a withdrawn cluster out of all, not out of its own', () => {
    const feed = newFeed()
    feed.update({ view: shopMesh(), nowMs: START })
    const before = versions(feed, 'west')
    const changed = feed.update({ view: shopMesh(), withdrawn: (name) => name === 'west', nowMs: START })
    assert.ok(changed.has('all'))
    assert.deepEqual(versions(feed, 'west').size, before.size)
    const web = feed.entry('all', 'services', 'shop/web')
    assert.ok(web)
    assert.match(objectText(web.source, 1), /"clusterIPs":\["10\.2\.0\.1"\]/)
  })

  it('touches nothing when nothing changed', () => {
    const feed = newFeed()
    const view = shopMesh()
    feed.update({ view, nowMs: START })
    const version = feed.resourceVersion
    assert.equal(feed.update({ view, nowMs: START }).size, 0)
    // Equal values of another view are no change either.
    assert.equal(feed.update({ view: shopMesh(), nowMs: START }).size, 0)
    assert.equal(feed.resourceVersion, version)
  })

  it('expires versions that its log no longer reaches, by number and by size', () => {
    for (const log of [
      { eventsMax: 4, textMax: 1e6 },
      { eventsMax: 1000, textMax: 1500 }
    ]) {
      const feed = new Feed({ nowMs: START, log })
      feed.update({ view: meshOf(cluster('east', {})), nowMs: START })
      const version = feed.resourceVersion
      assert.ok(feed.resumable('east', version))
      for (let round = 1; round <= 20; round++) {
        const web = service('shop/web', [`10.2.0.${round}`], { ports: HTTP })
        feed.update({ view: meshOf(cluster('east', { services: [web] })), nowMs: START })
      }
      assert.equal(feed.resumable('east', version), false)
      assert.ok(feed.resumable('east', feed.resourceVersion))
    }
  })

  it('gives a reader who lists once and follows the events what a later list has', () => {
    fc.assert(
      fc.property(fc.array(meshes, { minLength: 2, maxLength: 12 }), (steps) => {
        const feed = newFeed()
        const [first, ...rest] = steps
        assert.ok(first)
        feed.update({ ...first, nowMs: START })
        feed.state('all', START + GRACE_MS)
        const readers = ['east', 'west', 'all'].map((name) => new Reader(feed, name))
        for (const step of rest) {
          feed.update({ ...step, nowMs: START + GRACE_MS })
          for (const reader of readers) reader.follow()
        }
        for (const reader of readers) reader.check()
      }),
      { numRuns: 300 }
    )
  })
})

/** What an informer holds: objects by key, from one list and the events after it. */
class Reader {
  readonly #feed: Feed
  readonly #name: string
  #held = new Map<string, string>()
  #version = 0

  constructor(feed: Feed, name: string) {
    this.#feed = feed
    this.#name = name
    this.#list()
  }

  follow(): void {
    if (this.#feed.state(this.#name, START + GRACE_MS) !== 'serving') return
    if (!this.#feed.resumable(this.#name, this.#version)) return this.#list()
    let event = this.#feed.eventAfter(this.#version)
    for (; event !== undefined; event = this.#feed.eventAfter(this.#version)) {
      assert.ok(event.resourceVersion > this.#version)
      this.#version = event.resourceVersion
      if (event.collection !== this.#name) continue
      const key = `${event.resource} ${event.namespace === '' ? '' : `${event.namespace}/`}${event.name}`
      assert.equal(this.#held.has(key), event.type !== 'ADDED', `${event.type} ${key}`)
      if (event.type === 'DELETED') this.#held.delete(key)
      else this.#held.set(key, event.text)
    }
  }

  check(): void {
    if (this.#feed.state(this.#name, START + GRACE_MS) !== 'serving') return
    assert.deepEqual(this.#held, listed(this.#feed, this.#name))
    const populated = Array.from(this.#feed.entries(this.#name, 'services'), ({ namespace }) => namespace)
    assert.deepEqual(keys(this.#feed, this.#name, 'namespaces'), [...new Set(populated)])
  }

  #list(): void {
    this.#held = listed(this.#feed, this.#name)
    this.#version = this.#feed.resourceVersion
  }
}

function listed(feed: Feed, name: string): Map<string, string> {
  return new Map(
    RESOURCES.flatMap((resource) =>
      Array.from(feed.entries(name, resource), (entry) => [
        `${resource} ${entry.key}`,
        objectText(entry.source, entry.resourceVersion)
      ])
    )
  )
}

const kinds = fc.oneof(
  fc.constant(undefined),
  fc.nat({ max: 3 }).map((n) => ({ kind: 'vip' as const, n })),
  fc.nat({ max: 3 }).map((n) => ({ kind: 'headless' as const, n })),
  fc.nat({ max: 1 }).map((n) => ({ kind: 'alias' as const, n }))
)
const KEYS = ['shop/web', 'shop/db', 'lab/web'] as const
const services = fc
  .record({ 'shop/web': kinds, 'shop/db': kinds, 'lab/web': kinds })
  .map((byKey) => KEYS.flatMap((key) => viewOf(key, byKey[key])))
const clusters = fc.option(fc.record({ services, complete: fc.boolean() }), { nil: undefined })
const meshes = fc
  .record({ east: clusters, west: clusters, dead: fc.boolean() })
  .map(({ east, west, dead }): { view: MeshView; withdrawn: (name: ClusterName) => boolean } => ({
    view: meshOf(
      ...[east && cluster('east', east), west && cluster('west', west)].filter((each) => each !== undefined)
    ),
    withdrawn: (name) => dead && name === 'west'
  }))

function viewOf(
  key: string,
  what: { readonly kind: 'vip' | 'headless' | 'alias'; readonly n: number } | undefined
): readonly ServiceView[] {
  if (what === undefined) return []
  if (what.kind === 'alias') return [service(key, [], { externalName: `x${what.n}.example.com` })]
  const pods = slice(
    Array.from({ length: what.n }, (_, i) => endpoint(`10.1.0.${i + 1}`)),
    HTTP
  )
  if (what.kind === 'headless') return [service(key, [], { headless: true }, pods)]
  return [service(key, [`10.2.0.${what.n + 1}`], { ports: HTTP }, pods)]
}

function newFeed(): Feed {
  return new Feed({ nowMs: START })
}

function keys(feed: Feed, name: string, resource: ResourceName): readonly string[] {
  return Array.from(feed.entries(name, resource), ({ key }) => key)
}

function versions(feed: Feed, name: string): ReadonlyMap<string, number> {
  return new Map(Array.from(feed.entries(name, 'services'), (entry) => [entry.key, entry.resourceVersion]))
}
