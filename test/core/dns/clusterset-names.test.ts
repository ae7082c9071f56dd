// The names of clusterset.local: of the view itself, and of a responder that is told of the view in messages.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { FedNames } from '../../../src/core/dns/fed-names.ts'
import { createNames, type Names } from '../../../src/core/dns/names.ts'
import { NamesFeed } from '../../../src/core/dns/names-feed.ts'
import type { ClusterName, Ip } from '../../../src/core/model/values.ts'
import { clustersetKey } from '../../../src/core/model/zones.ts'
import type { MeshView, ServiceView } from '../../../src/core/view/view.ts'
import { cluster, endpoint, meshOf, port, service, slice } from './fixtures.ts'

const HTTP = [port('http', 80)]
const addresses = new Map([[clustersetKey('shop/web'), '240.240.0.7' as Ip]])

function exported(made: ServiceView, exportedAt = 1000): ServiceView {
  const clusterset = {
    exportedAt,
    ipFamilies: [],
    internalTrafficPolicy: '' as const,
    trafficDistribution: '',
    labels: [],
    annotations: []
  }
  return { ...made, service: { ...made.service, clusterset } }
}

const web = (net: number) =>
  service('shop/web', [`10.${net}.0.1`], { ports: HTTP }, slice([endpoint(`10.${net}.1.1`, 'web-0')], HTTP))
const db = (net: number) =>
  service('shop/db', [], { headless: true, ports: HTTP }, slice([endpoint(`10.${net}.1.9`, 'db-0')], HTTP))

/** "<rcode> <data> …" for "<name> <type>" below shop.svc.clusterset.local. */
function ask(names: Names, question: string): string {
  const [name = '', type = ''] = question.split(' ')
  const reply = names.answer({ name: `${name}${name === '' ? '' : '.'}svc.clusterset.local`, type })
  if (reply.kind === 'forward') return 'forward'
  const texts = reply.answers.map((record) => {
    const { data } = record
    if (typeof data === 'string') return data
    return 'target' in data ? `${data.target}:${data.port}` : record.type
  })
  return [reply.rcode, ...texts].join(' ')
}

const mesh = meshOf(
  cluster('east', {
    services: [exported(web(2)), exported(db(2)), service('shop/kept', ['10.2.0.5'], { ports: HTTP })]
  }),
  cluster('west', { services: [exported(web(12)), exported(db(12))] })
)

describe('clusterset.local', () => {
  const names = createNames({ view: mesh, balanced: addresses })

  for (const [question, answer] of [
    ['web.shop A', 'NOERROR 240.240.0.7'],
    ['web.shop AAAA', 'NOERROR'],
    ['web.shop SRV', 'NOERROR web.shop.svc.clusterset.local:80'],
    ['_http._tcp.web.shop SRV', 'NOERROR web.shop.svc.clusterset.local:80'],
    ['_dns._udp.web.shop SRV', 'NXDOMAIN'],
    ['web-0.east.web.shop A', 'NXDOMAIN'],
    ['web-0.web.shop A', 'NXDOMAIN'],
    ['db.shop A', 'NOERROR 10.2.1.9 10.12.1.9'],
    ['db-0.west.db.shop A', 'NOERROR 10.12.1.9'],
    ['db-0.edge.db.shop A', 'NXDOMAIN'],
    ['west.db.shop A', 'NOERROR'],
    ['edge.db.shop A', 'NXDOMAIN'],
    ['x.db-0.west.db.shop A', 'NXDOMAIN'],
    [
      '_http._tcp.db.shop SRV',
      'NOERROR db-0.east.db.shop.svc.clusterset.local:80 db-0.west.db.shop.svc.clusterset.local:80'
    ],
    ['kept.shop A', 'NXDOMAIN'],
    ['shop A', 'NOERROR'],
    ['other A', 'NXDOMAIN'],
    [' A', 'NOERROR']
  ] as const)
    it(`answers ${question} with ${answer}`, () => {
      assert.equal(ask(names, question), answer)
    })

  it('leaves out endpoints of a withdrawn cluster, and keeps type, ports and clusterset IP', () => {
    const view = meshOf(
      cluster('east', { services: [exported(db(2), 2000)] }),
      cluster('west', { services: [exported(web(12)), exported(db(12))] })
    )
    const dead = createNames({ view, balanced: addresses, withdrawn: (name) => name === 'west' })
    assert.equal(ask(dead, 'web.shop A'), 'NOERROR 240.240.0.7')
    assert.equal(ask(dead, 'db.shop A'), 'NOERROR 10.2.1.9')
  })

  it('has the type of the oldest export: endpoints of all, or one address for all', () => {
    const view = (webAt: number) =>
      meshOf(
        cluster('east', { services: [exported(web(2), webAt)] }),
        cluster('west', {
          services: [exported({ ...db(12), service: { ...db(12).service, name: 'web' } }, 1000)]
        })
      )
    const of = (webAt: number) => createNames({ view: view(webAt), balanced: addresses })
    assert.equal(ask(of(500), 'web.shop A'), 'NOERROR 240.240.0.7')
    assert.equal(ask(of(1500), 'web.shop A'), 'NOERROR 10.12.1.9 10.2.1.1')
    assert.equal(ask(of(1500), 'web-0.east.web.shop A'), 'NOERROR 10.2.1.1')
  })

  it('has a name without records while no address is free, and SERVFAIL while a catalogue may bring a name', () => {
    assert.equal(ask(createNames({ view: mesh }), 'web.shop A'), 'NOERROR')
    const part = meshOf(
      cluster('east', { services: [exported(web(2))] }),
      cluster('west', { complete: false })
    )
    assert.equal(ask(createNames({ view: part, balanced: addresses }), 'web.shop A'), 'NOERROR 240.240.0.7')
    assert.equal(ask(createNames({ view: part }), 'db.shop A'), 'SERVFAIL')
    assert.equal(
      ask(createNames({ view: part, withdrawn: (name) => name === 'west' }), 'db.shop A'),
      'NXDOMAIN'
    )
  })

  it('is answered alike by a responder that is told of any sequence of exports', () => {
    const aService = fc.record({
      name: fc.constantFrom('web', 'db'),
      headless: fc.boolean(),
      exportedAt: fc.option(fc.constantFrom(1000, 2000), { nil: undefined }),
      last: fc.integer({ min: 1, max: 2 })
    })
    const aView = fc
      .tuple(...[2, 12].map(() => fc.uniqueArray(aService, { selector: ({ name }) => name, maxLength: 2 })))
      .map((lists) =>
        meshOf(
          ...lists.map((list, at) =>
            cluster(at === 0 ? 'east' : 'west', {
              services: list.map(({ name, headless, exportedAt, last }) => {
                const pods = slice([endpoint(`10.${at}.1.${last}`, 'p-0')], HTTP)
                const made = service(
                  `shop/${name}`,
                  headless ? [] : [`10.${at}.0.${last}`],
                  { headless, ports: HTTP },
                  pods
                )
                return exportedAt === undefined ? made : exported(made, exportedAt)
              })
            })
          )
        )
      )
    const questions = [
      'shop',
      'web.shop',
      'db.shop',
      'p-0.east.db.shop',
      'p-0.west.web.shop',
      '_http._tcp.db.shop'
    ]
    fc.assert(
      fc.property(fc.array(aView, { minLength: 1, maxLength: 5 }), (views) => {
        const fed = new FedNames()
        fed.begin()
        const feed = new NamesFeed(fed.complete())
        for (const view of views as readonly MeshView[]) {
          const state = {
            view,
            withdrawn: new Set<ClusterName>(),
            serverAddresses: [],
            balanced: addresses,
            isWhole: true
          }
          for (const message of feed.messages(state)) fed.apply(structuredClone(message))
          const own = createNames({ view, balanced: addresses })
          for (const name of questions)
            for (const type of ['A', 'SRV'])
              assert.equal(ask(fed.names(), `${name} ${type}`), ask(own, `${name} ${type}`), name)
        }
      })
    )
  })
})
