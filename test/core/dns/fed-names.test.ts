// A responder that is told of a view answers as that view's own names do, whatever the way there.
import assert from 'node:assert/strict'

import fc from 'fast-check'

import { FedNames } from '../../../src/core/dns/fed-names.ts'
import { createNames } from '../../../src/core/dns/names.ts'
import { NamesFeed } from '../../../src/core/dns/names-feed.ts'
import type { Reply } from '../../../src/core/dns/record.ts'
import { SortedMap } from '../../../src/core/model/sorted-map.ts'
import type { ClusterName, Ip } from '../../../src/core/model/values.ts'
import type { ClusterView, MeshView, ServiceView } from '../../../src/core/view/view.ts'
import { cluster, endpoint, meshOf, port, service, shopMesh, slice } from './fixtures.ts'

const HTTP = [port('http', 80)]

/** The number of the SOA is each process's own. */
function said(reply: Reply): unknown {
  return JSON.parse(JSON.stringify(reply, (key: string, value: unknown) => (key === 'serial' ? 0 : value)))
}

const QUESTIONS = ['east', 'west', 'south', 'all'].flatMap((zone) => [
  { name: `cluster.${zone}`, type: 'SOA' },
  { name: `cluster.${zone}`, type: 'NS' },
  { name: `nosuch.shop.svc.cluster.${zone}`, type: 'A' },
  ...['shop', 'data'].flatMap((namespace) => [
    { name: `${namespace}.svc.cluster.${zone}`, type: 'A' },
    ...['web', 'db', 'pay'].flatMap((name) =>
      ['A', 'SRV', 'TXT'].map((type) => ({ name: `${name}.${namespace}.svc.cluster.${zone}`, type }))
    ),
    { name: `_http._tcp.web.${namespace}.svc.cluster.${zone}`, type: 'SRV' },
    { name: `p-0.db.${namespace}.svc.cluster.${zone}`, type: 'A' }
  ])
])
/** Names that exist without records, because there are names below them. */
const EMPTY_NAMES = QUESTIONS.filter(({ name }) => /^(shop|data)\.svc\./.test(name))
const REVERSE = ['10.1.0', '10.2.0', '10.11.0', '10.12.0'].flatMap((net) =>
  [1, 2, 3].map((last) => ({
    name: `${[last, ...net.split('.').toReversed()].join('.')}.in-addr.arpa`,
    type: 'PTR'
  }))
)

function agree(fed: FedNames, view: MeshView, withdrawn: ReadonlySet<ClusterName> = new Set()): void {
  const names = createNames({
    view,
    withdrawn: (name) => withdrawn.has(name),
    serverAddresses: ['10.1.0.9' as Ip]
  })
  for (const question of [...QUESTIONS, ...REVERSE])
    assert.deepEqual(
      said(fed.names().answer(question)),
      said(names.answer(question)),
      JSON.stringify(question)
    )
}

function tell(
  fed: FedNames,
  feed: NamesFeed,
  view: MeshView,
  { withdrawn = new Set<ClusterName>(), isWhole = true } = {}
): number {
  let count = 0
  for (const message of feed.messages({ view, withdrawn, serverAddresses: ['10.1.0.9' as Ip], isWhole })) {
    fed.apply(structuredClone(message))
    count++
  }
  return count
}

function fresh(fed: FedNames): NamesFeed {
  fed.begin()
  return new NamesFeed(fed.complete())
}

const aService = fc.record({
  name: fc.constantFrom('web', 'db', 'pay'),
  namespace: fc.constantFrom('shop', 'data'),
  kind: fc.constantFrom('vip', 'headless', 'external'),
  last: fc.integer({ min: 1, max: 3 }),
  ready: fc.boolean()
})
type AService = typeof aService extends fc.Arbitrary<infer T> ? T : never

function serviceOf({ name, namespace, kind, last, ready }: AService, net: number): ServiceView {
  const pods = slice([{ ...endpoint(`10.${net + 1}.0.${last}`, 'p-0'), ready }], HTTP)
  const key = `${namespace}/${name}`
  if (kind === 'external') return service(key, [], { externalName: 'pay.example.com' })
  if (kind === 'headless') return service(key, [], { headless: true, ports: HTTP }, pods)
  return service(key, [`10.${net + 2}.0.${last}`], { ports: HTTP }, pods)
}

const aCluster = fc.record({
  name: fc.constantFrom('east', 'west'),
  complete: fc.boolean(),
  services: fc.array(aService, { maxLength: 5 })
})

function viewOf(clusters: readonly (typeof aCluster extends fc.Arbitrary<infer T> ? T : never)[]): MeshView {
  return meshOf(
    ...clusters.map(({ name, complete, services }): ClusterView => {
      const net = name === 'west' ? 10 : 0
      const base = cluster(name, { complete, services: services.map((each) => serviceOf(each, net)) })
      return { ...base, services: SortedMap.from(base.services) }
    })
  )
}

describe('names that a responder is told', () => {
  it('are those of the view, for every kind of service', () => {
    const fed = new FedNames()
    const view = shopMesh()
    tell(fed, fresh(fed), view)
    const names = createNames({ view, serverAddresses: ['10.1.0.9' as Ip] })
    for (const { name, services } of view.clusters.values())
      for (const { service: value } of services.values())
        for (const type of ['A', 'AAAA', 'SRV', 'TXT', 'CNAME'])
          for (const zone of [name, 'all']) {
            const question = { name: `${value.name}.${value.namespace}.svc.cluster.${zone}`, type }
            assert.deepEqual(said(fed.names().answer(question)), said(names.answer(question)))
          }
    assert.deepEqual(
      [...fed.names().zones()].sort((a, b) => a.zone.localeCompare(b.zone)),
      [...names.zones()].sort((a, b) => a.zone.localeCompare(b.zone))
    )
  })

  it('follow any sequence of views', () => {
    const web: AService = { name: 'web', namespace: 'data', kind: 'vip', last: 1, ready: false }
    const shop: AService = { ...web, name: 'db', namespace: 'shop' }
    const db = { name: 'east' as const, complete: false, services: [shop] }
    const step = fc.uniqueArray(aCluster, { maxLength: 2, selector: ({ name }) => name })
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 6 }),
        fc.array(fc.boolean()),
        (steps, restarts) => {
          const fed = new FedNames()
          let feed = fresh(fed)
          for (const [index, clusters] of steps.entries()) {
            const view = viewOf(clusters)
            // An agent that has restarted knows from the start what it has on disk; what it cannot be sure of, it does not take away.
            if (restarts[index] === true) feed = fresh(fed)
            feed.forgetKept()
            const withdrawn = new Set(clusters.slice(1).map(({ name }) => name as ClusterName))
            tell(fed, feed, view, { withdrawn })
            // What an answer has remembered of this view must not stand after the next one.
            for (const question of EMPTY_NAMES) fed.names().answer(question)
            if (restarts[index] !== true) continue
            // The same feed once more: of a cluster that is not complete the old answers stood until now.
            tell(
              fed,
              feed,
              { ...view, clusters: new Map([...view.clusters].map(([name, each]) => [name, { ...each }])) },
              { withdrawn }
            )
          }
          const last = steps.at(-1) ?? []
          agree(fed, viewOf(last), new Set(last.slice(1).map(({ name }) => name as ClusterName)))
        }
      ),
      {
        numRuns: 300,
        // Two services of one address, the second by name first.
        examples: [[[[db], [{ ...db, complete: true, services: [...db.services, web] }]], []]]
      }
    )
  })

  it('an unchanged view is told in no message, a changed slice in one', () => {
    const fed = new FedNames()
    const feed = fresh(fed)
    const base = cluster('east', {
      services: [
        service(
          'shop/web',
          ['10.2.0.1'],
          { ports: HTTP },
          slice([endpoint('10.1.0.1')], HTTP),
          slice([endpoint('10.1.0.2')], HTTP)
        )
      ]
    })
    const east = { ...base, services: SortedMap.from(base.services) }
    tell(fed, feed, meshOf(east))
    assert.equal(tell(fed, feed, meshOf(east)), 0)
    const web = east.services.get('shop/web')
    assert.ok(web !== undefined)
    const changed = {
      ...web,
      slices: [
        web.slices[0] ?? assert.fail(),
        { ...(web.slices[1] ?? assert.fail()), endpoints: [endpoint('10.1.0.3')] }
      ]
    }
    const next = { ...east, services: east.services.with(new Map([['shop/web', changed]])) }
    const messages = [
      ...feed.messages({
        view: meshOf(next),
        withdrawn: new Set(),
        serverAddresses: ['10.1.0.9' as Ip],
        isWhole: true
      })
    ]
    assert.equal(messages.length, 1)
    const [message] = messages
    assert.ok(message?.kind === 'service')
    assert.equal(message.service, undefined)
    assert.deepEqual(
      message.slices.map(({ bytes }) => bytes !== undefined),
      [false, true]
    )
    for (const each of messages) fed.apply(each)
    agree(fed, meshOf(next))
  })

  it('of a restarted agent that does not have a catalogue yet, the old answers stand until it has, or gives up', () => {
    const fed = new FedNames()
    const east = (ip: string, complete = true) =>
      cluster('east', { complete, services: [service('shop/web', [ip], { ports: HTTP })] })
    tell(fed, fresh(fed), meshOf(east('10.2.0.1')))
    const addresses = () => {
      const reply = fed.names().answer({ name: 'web.shop.svc.cluster.east', type: 'A' })
      return reply.kind === 'answer' ? reply.answers.map(({ data }) => data) : []
    }
    const feed = fresh(fed)
    tell(fed, feed, meshOf(), { isWhole: false })
    tell(fed, feed, meshOf(cluster('east', { complete: false })), { isWhole: false })
    tell(fed, feed, meshOf(east('10.2.0.2', false)), { isWhole: true })
    assert.deepEqual(addresses(), ['10.2.0.1'])
    assert.ok(feed.isCatchingUp)
    tell(fed, feed, meshOf(east('10.2.0.2')))
    assert.deepEqual(addresses(), ['10.2.0.2'])
    assert.ok(!feed.isCatchingUp)
    const later = fresh(fed)
    tell(fed, later, meshOf(), { isWhole: true })
    assert.deepEqual(addresses(), ['10.2.0.2'])
    later.forgetKept()
    tell(fed, later, meshOf(), { isWhole: true })
    assert.deepEqual(addresses(), [])
  })

  it('reverse names follow a service whose endpoints change four thousand times', () => {
    const fed = new FedNames()
    const feed = fresh(fed)
    let view = meshOf(cluster('east', {}))
    for (let round = 0; round < 4000; round++) {
      const last = 1 + (round % 200)
      view = meshOf(
        cluster('east', {
          services: [
            service('shop/db', [], { headless: true }, slice([endpoint(`10.1.0.${last}`, `p-${last}`)], HTTP))
          ]
        })
      )
      tell(fed, feed, view)
    }
    const names = createNames({ view })
    for (let last = 1; last <= 200; last++) {
      const question = { name: `${last}.0.1.10.in-addr.arpa`, type: 'PTR' }
      assert.deepEqual(said(fed.names().answer(question)), {
        ...(said(names.answer(question)) as object),
        ...nsFree(fed, question)
      })
    }
  })
})

/** Without the authority section, where one side has a name server more. */
function nsFree(fed: FedNames, question: { readonly name: string; readonly type: string }): object {
  const reply = said(fed.names().answer(question)) as { authority?: unknown }
  return reply.authority === undefined ? {} : { authority: reply.authority }
}

describe('a responder that is told of balanced services', () => {
  const told = (
    feed: NamesFeed,
    fed: FedNames,
    balanced: ReadonlyMap<string, Ip>,
    isWhole = true
  ): number => {
    const state = {
      view: shopMesh(),
      withdrawn: new Set<ClusterName>(),
      serverAddresses: [],
      balanced,
      isWhole
    }
    const messages = [...feed.messages(state)]
    for (const message of messages) fed.apply(message)
    return messages.filter(({ kind }) => kind === 'balanced').length
  }
  const addresses = (fed: FedNames) => {
    const reply = fed.names().answer({ name: 'web.shop.svc.cluster.all', type: 'A' })
    return reply.kind === 'answer' ? reply.answers.map(({ data }) => data) : []
  }
  const one = new Map([['shop/web', '240.240.0.9' as Ip]])

  it('answers with their address, hears of a change once, and forgets them when the policy ends', () => {
    const [feed, fed] = [new NamesFeed([]), new FedNames()]
    assert.equal(told(feed, fed, one), 1)
    assert.deepEqual(addresses(fed), ['240.240.0.9'])
    assert.equal(told(feed, fed, one), 0)
    told(feed, fed, new Map())
    assert.equal(addresses(fed).length, 2)
  })

  it('keeps the addresses of an earlier agent until the next one knows its catalogues', () => {
    const fed = new FedNames()
    told(new NamesFeed([]), fed, one)
    fed.begin()
    const next = new NamesFeed([])
    told(next, fed, new Map(), false)
    assert.deepEqual(addresses(fed), ['240.240.0.9'])
    told(next, fed, new Map())
    assert.equal(addresses(fed).length, 2)
  })
})
