import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { catalog, toValue, type Change, type Item } from '../../../src/core/catalog/catalog.ts'
import { EXPORT_ALL, exportFacts } from '../../../src/core/catalog/export-policy.ts'
import { LiveCatalog } from '../../../src/core/catalog/live-catalog.ts'
import { keyOf, type Cidr, type Snapshot } from '../../../src/core/model/values.ts'

const NAMES = ['a', 'b', 'c'] as const

interface Edit {
  readonly kind: 'service' | 'slice' | 'namespace'
  readonly name: string
  /** undefined: gone. */
  readonly variant: number | undefined
  /** Of a slice. */
  readonly service: string
}

const edit: fc.Arbitrary<Edit> = fc.record({
  kind: fc.constantFrom('service', 'service', 'slice', 'slice', 'slice', 'namespace'),
  name: fc.constantFrom(...NAMES),
  variant: fc.option(fc.nat(3), { nil: undefined }),
  service: fc.constantFrom(...NAMES)
})

const service = (name: string, variant: number) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: {
    name,
    namespace: 'shop',
    ...(variant === 3 ? { annotations: { 'rhizome.io/export': 'true' } } : {})
  },
  spec: {
    // Of the variants one is malformed, one outside the prefixes.
    clusterIP: ['10.96.0.1', '127.0.0.1', '10.9.0.1', '10.96.0.2'][variant],
    ports: [{ port: 80 }]
  }
})

const slice = (name: string, of: string, variant: number) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': of } },
  addressType: 'IPv4',
  ports: [{ name: '', port: 8080 }],
  endpoints: [{ addresses: [['10.1.0.1', '10.1.0.2', '10.9.0.2', 'nonsense'][variant]] }]
})

const item = (object: unknown): Item => ({ file: 'kubernetes', reading: toValue(object) })
const prefixes = { podPrefixes: ['10.1.0.0/16' as Cidr], servicePrefixes: ['10.96.0.0/16' as Cidr] }

/** The same edits, told to the live catalog and kept as plain maps. */
function apply(live: LiveCatalog, world: World, { kind, name, variant, service: of }: Edit): void {
  const id = { namespace: 'shop', name }
  if (kind === 'namespace') {
    world.asked = variant === undefined ? undefined : variant % 2 === 0
    live.setNamespace('shop', world.asked)
  } else if (kind === 'service') {
    const object = variant === undefined ? undefined : service(name, variant)
    world.services.set(name, object)
    live.setService(id, object && { item: item(object), facts: exportFacts(object, EXPORT_ALL) })
  } else {
    const object = variant === undefined ? undefined : slice(name, of, variant)
    world.slices.set(name, object && { object, of })
    live.setSlice(id, object && { item: item(object), service: of })
  }
}

interface World {
  asked: boolean | undefined
  readonly services: Map<string, ReturnType<typeof service> | undefined>
  readonly slices: Map<string, { readonly object: object; readonly of: string } | undefined>
}

/** The slow way: everything anew. */
function expected(world: World): Snapshot {
  const services = [...world.services.values()].filter((object) => object !== undefined)
  const leaving = services.filter((object) =>
    'annotations' in object.metadata ? true : (world.asked ?? true)
  )
  const names = new Set(leaving.map(({ metadata }) => metadata.name))
  const slices = [...world.slices.values()].flatMap((each) =>
    each && names.has(each.of) ? [each.object] : []
  )
  return catalog([...leaving, ...slices].map(item), prefixes).snapshot
}

function patched(before: Snapshot, changes: readonly Change[]): Snapshot {
  const values = new Map([...before.services, ...before.endpointSlices].map((value) => [keyOf(value), value]))
  for (const { key, value } of changes) {
    if (value === undefined) assert.ok(values.delete(key), `${key} is withdrawn, but was not there`)
    else if (value.kind === 'service' || value.kind === 'endpointSlice') values.set(key, value)
  }
  const all = [...values].sort(([left], [right]) => (left < right ? -1 : 1)).map(([, value]) => value)
  return {
    services: all.filter((value) => value.kind === 'service'),
    endpointSlices: all.filter((value) => value.kind === 'endpointSlice')
  }
}

describe('a live catalog', () => {
  it('says at every step what a catalog of everything would, and its changes lead there', () => {
    fc.assert(
      fc.property(fc.array(fc.array(edit, { maxLength: 4 }), { maxLength: 12 }), (steps) => {
        const live = new LiveCatalog()
        live.setOptions(prefixes)
        const world: World = { asked: undefined, services: new Map(), slices: new Map() }
        let before = live.settle()
        for (const step of steps) {
          for (const each of step) apply(live, world, each)
          const after = live.settle()
          assert.deepEqual(after.snapshot, expected(world))
          if (after !== before) assert.deepEqual(patched(before.snapshot, after.changes), after.snapshot)
          before = after
        }
      }),
      { numRuns: 400 }
    )
  })

  it('publishes an ExternalName that names a service of the cluster as others must ask, while that service is there', () => {
    const live = new LiveCatalog()
    live.setOptions({ ...prefixes, cluster: 'west' })
    const put = (name: string, spec: object | undefined): void => {
      const object = { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'shop' }, spec }
      live.setService(
        { namespace: 'shop', name },
        spec && { item: item(object), facts: exportFacts(object, EXPORT_ALL) }
      )
    }
    const target = () => live.settle().snapshot.services.find(({ name }) => name === 'alias')?.externalName
    put('alias', { type: 'ExternalName', externalName: 'db.shop' })
    assert.equal(target(), 'db.shop', 'a host elsewhere, for all that is known')
    put('db', { clusterIP: 'None' })
    assert.equal(target(), 'db.shop.svc.cluster.west')
    put('db', undefined)
    assert.equal(target(), 'db.shop')
    put('alias', { type: 'ExternalName', externalName: 'api.shop.' })
    put('db', { clusterIP: 'None' })
    assert.equal(target(), 'api.shop')
    put('api', { clusterIP: 'None' })
    assert.equal(target(), 'api.shop.svc.cluster.west')
  })

  it('keeps the very object of what did not change, also when it is told of again', () => {
    const live = new LiveCatalog()
    const put = (): void => {
      for (const name of NAMES) {
        const object = service(name, 0)
        live.setService(
          { namespace: 'shop', name },
          { item: item(object), facts: exportFacts(object, EXPORT_ALL) }
        )
      }
    }
    put()
    const before = live.settle()
    put()
    assert.equal(live.settle(), before)
    live.setSlice({ namespace: 'shop', name: 's' }, { item: item(slice('s', 'a', 0)), service: 'a' })
    const after = live.settle()
    assert.equal(after.snapshot.services[0], before.snapshot.services[0])
    assert.deepEqual(
      after.changes.map(({ key }) => key),
      ['eps/shop/s']
    )
  })

  it('sorts many edits at once as it does few', () => {
    const live = new LiveCatalog()
    for (let n = 0; n < 500; n += 1) {
      const object = service(`s${n}`, 0)
      live.setService(
        { namespace: 'shop', name: `s${n}` },
        { item: item(object), facts: exportFacts(object, EXPORT_ALL) }
      )
    }
    const keys = live.settle().snapshot.services.map(keyOf)
    assert.deepEqual(keys, keys.toSorted())
    assert.equal(keys.length, 500)
  })

  it('names a hundred problems at most', () => {
    const live = new LiveCatalog()
    for (let n = 0; n < 150; n += 1) {
      const object = service(`s${n}`, 1)
      live.setService(
        { namespace: 'shop', name: `s${n}` },
        { item: item(object), facts: exportFacts(object, EXPORT_ALL) }
      )
    }
    const { problems } = live.settle()
    assert.equal(problems.length, 101)
    assert.match(problems.at(-1)?.message ?? '', /50 more/)
  })
})
