import assert from 'node:assert/strict'
import { request, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { connect } from 'node:net'

import { createFeedServer, type FeedServer, type FeedServerOptions } from '../../../src/io/coredns/server.ts'
import type { ServiceView } from '../../../src/core/view/view.ts'
import { cluster, endpoint, meshOf, port, service, shopMesh, slice } from '../../core/dns/fixtures.ts'
import { eventually } from '../../eventually.ts'

const HTTP = [port('http', 80)]
const SERVICES = '/clusters/east/api/v1/services'
const DEADLINE_MS = 30_000
const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'

interface Body {
  readonly kind: string
  readonly code?: number
  readonly reason?: string
  readonly metadata: {
    readonly resourceVersion: string
    readonly continue?: string
    readonly remainingItemCount?: number
    readonly name?: string
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly items: readonly Body[]
  readonly rows?: readonly { readonly cells: readonly string[] }[]
  readonly [field: string]: unknown
}

interface Event {
  readonly type: string
  readonly object: Body
}

describe('feed server', () => {
  const running: { stop(): unknown }[] = []
  let feed: FeedServer

  beforeEach(async () => {
    feed = await start()
    feed.update({ view: shopMesh() })
  })

  afterEach(async () => {
    for (const each of running.splice(0).toReversed()) await each.stop()
  })

  describe('lists', () => {
    it('the services of a cluster, of all, of a namespace and of none', async () => {
      assert.deepEqual(names(await get(SERVICES)).slice(0, 3), ['cold', 'dangling', 'db'])
      assert.equal((await get('/clusters/west/api/v1/services')).items.length, 3)
      assert.equal((await get('/clusters/all/api/v1/services')).items.length, 15)
      assert.equal((await get('/clusters/west/api/v1/namespaces/shop/services')).items.length, 3)
      assert.equal((await get('/clusters/west/api/v1/namespaces/other/services')).items.length, 0)
      assert.deepEqual(names(await get('/clusters/east/api/v1/namespaces')), ['shop'])
    })

    it('endpoint slices under their group, with kind and version', async () => {
      const list = await get('/clusters/all/apis/discovery.k8s.io/v1/endpointslices')
      assert.equal(list.kind, 'EndpointSliceList')
      assert.equal(list['apiVersion'], 'discovery.k8s.io/v1')
      assert.ok(names(list).includes('db-0.west'))
    })

    it('by label and field', async () => {
      const slices = '/clusters/all/apis/discovery.k8s.io/v1/endpointslices'
      const selector = encodeURIComponent(
        'kubernetes.io/service-name=db,multicluster.kubernetes.io/source-cluster!=west'
      )
      assert.deepEqual(names(await get(`${slices}?labelSelector=${selector}`)), ['db-0.east', 'db-1.east'])
      assert.deepEqual(names(await get(`${SERVICES}?fieldSelector=metadata.name%3Dweb`)), ['web'])
      assert.deepEqual(names(await get(`${SERVICES}?fieldSelector=spec.type%3DX`)), [])
      assert.deepEqual(
        names(await get(`${SERVICES}?fieldSelector=spec.type%3DClusterIP,metadata.name%3Dweb`)),
        ['web']
      )
      const among = encodeURIComponent('kubernetes.io/service-name in (db, web),!none')
      assert.ok(names(await get(`${slices}?labelSelector=${among}`)).includes('db-0.east'))
      const headless = encodeURIComponent('service.kubernetes.io/headless')
      const marked = names(await get(`${slices}?labelSelector=${headless}`))
      const unmarked = names(await get(`${slices}?labelSelector=!${headless}`))
      assert.ok(marked.includes('db-0.east') && unmarked.length > 0)
      assert.deepEqual([...marked, ...unmarked].sort(), [...names(await get(slices))].sort())
      const refused = await get(`${SERVICES}?fieldSelector=spec.selector%3DX`)
      assert.equal(refused.code, 400)
      assert.equal(refused['message'], 'field label not supported: spec.selector')
    })

    it('no schema, and says so in a form that kubectl shows', async () => {
      const response = await fetch(`${feed.url}/clusters/east/openapi/v3`)
      assert.equal(response.status, 403)
      assert.equal(response.headers.get('content-type'), 'text/plain')
      assert.match(await response.text(), /no OpenAPI schema/)
    })

    it('single objects', async () => {
      const web = await get('/clusters/east/api/v1/namespaces/shop/services/web')
      assert.equal(web.kind, 'Service')
      assert.equal(web.metadata.name, 'web')
      assert.equal((await get('/clusters/east/api/v1/namespaces/shop')).kind, 'Namespace')
      const missing = await get('/clusters/east/api/v1/namespaces/shop/services/nosuch')
      assert.deepEqual([missing.kind, missing.code, missing.reason], ['Status', 404, 'NotFound'])
    })

    it('pages that, with a watch from the first, are the whole of what is', async () => {
      const first = await get(`${SERVICES}?limit=4`)
      assert.equal(first.items.length, 4)
      assert.equal(first.metadata.remainingItemCount, 11)
      const changed = shopMesh()
      const east = [...changed.clusters.values()].map((each) =>
        each.name === 'east'
          ? {
              ...each,
              services: new Map([
                ...[...each.services].filter(([key]) => key !== 'shop/cold' && key !== 'shop/web'),
                ['shop/aaa', service('shop/aaa', ['10.2.0.77'], { ports: HTTP })] as const
              ])
            }
          : each
      )
      feed.update({ view: meshOf(...east) })
      const held = new Set(names(first))
      let token = first.metadata.continue
      while (token !== undefined) {
        const page = await get(`${SERVICES}?limit=4&continue=${token}`)
        assert.equal(page.metadata.resourceVersion, first.metadata.resourceVersion)
        for (const name of names(page)) held.add(name)
        token = page.metadata.continue
      }
      const watch = await watching(`${SERVICES}?watch=true&resourceVersion=${first.metadata.resourceVersion}`)
      await eventually(() => watch.events.length >= 3, DEADLINE_MS)
      for (const { type, object } of watch.events) {
        if (type === 'DELETED') held.delete(object.metadata.name ?? '')
        else held.add(object.metadata.name ?? '')
      }
      assert.deepEqual([...held].sort(), names(await get(SERVICES)))
    })

    it('as a table for kubectl, and as metadata only', async () => {
      const table = await get(`${SERVICES}?fieldSelector=metadata.name%3Dweb`, {
        accept: TABLE
      })
      assert.equal(table.kind, 'Table')
      assert.deepEqual(
        table.rows?.map(({ cells }) => cells),
        [['web', 'ClusterIP', '10.2.0.1', '<none>', '80/TCP']]
      )
      const metadata = await get(`${SERVICES}?limit=1`, {
        accept: 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io'
      })
      assert.equal(metadata.kind, 'PartialObjectMetadataList')
      assert.equal(metadata.items[0]?.['spec'], undefined)
    })

    it('in JSON for a client that prefers protobuf, and not at all for one that takes nothing else', async () => {
      const both = await get(SERVICES, { accept: 'application/vnd.kubernetes.protobuf,application/json' })
      assert.equal(both.kind, 'ServiceList')
      const only = await get(SERVICES, { accept: 'application/vnd.kubernetes.protobuf' })
      assert.deepEqual([only.kind, only.code], ['Status', 406])
    })

    it('at versions that exist', async () => {
      const { resourceVersion } = (await get(SERVICES)).metadata
      assert.equal((await get(`${SERVICES}?resourceVersion=0`)).kind, 'ServiceList')
      assert.equal((await get(`${SERVICES}?resourceVersion=${resourceVersion}`)).kind, 'ServiceList')
      const exact = `${SERVICES}?resourceVersionMatch=Exact&resourceVersion=`
      assert.equal((await get(exact + resourceVersion)).kind, 'ServiceList')
      assert.equal((await get(exact + String(Number(resourceVersion) - 1))).code, 410)
      const future = await get(`${SERVICES}?resourceVersion=${Number(resourceVersion) + 1}`)
      assert.equal(future.code, 504)
      assert.match(JSON.stringify(future['details']), /ResourceVersionTooLarge/)
    })
  })

  describe('answers with a Status', () => {
    it('503 before the catalogue is whole, and 404 for a cluster that does not exist', async () => {
      const fresh = await start()
      const pending = await get(SERVICES, {}, fresh)
      assert.deepEqual([pending.code, pending.reason], [503, 'ServiceUnavailable'])
      fresh.update({ view: meshOf(cluster('east', { complete: false })) })
      assert.equal((await get(SERVICES, {}, fresh)).code, 503)
      assert.equal((await get(`${SERVICES}?watch=true`, {}, fresh)).code, 503)
      assert.equal((await get('/clusters/nosuch/api/v1/services', {}, fresh)).code, 404)
      fresh.update({ view: meshOf(cluster('east', {})) })
      assert.equal((await get(SERVICES, {}, fresh)).kind, 'ServiceList')
    })

    it('405 to every write', async () => {
      for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
        const refused = await get(SERVICES, { method })
        assert.deepEqual([refused.kind, refused.code, refused.reason], ['Status', 405, 'MethodNotAllowed'])
      }
    })

    it('400 or 404 to what it does not understand', async () => {
      const bad: readonly (readonly [string, number])[] = [
        ['/', 404],
        ['/api/v1/services', 404],
        ['/clusters/east/api/v1/pods', 404],
        ['/clusters/east/api/v1/endpointslices', 404],
        ['/clusters/east/apis/discovery.k8s.io/v1/services', 404],
        ['/clusters/east/api/v1/services/web', 404],
        ['/clusters/east/api/v1/namespaces/shop/services/web/status', 404],
        ['/clusters/east/api/v1/namespaces//services', 404],
        ['/clusters/%ff/api/v1/services', 404],
        [`${SERVICES}?limit=-1`, 400],
        [`${SERVICES}?resourceVersion=abc`, 400],
        [`${SERVICES}?resourceVersionMatch=Perhaps`, 400],
        [`${SERVICES}?continue=%7B%7D`, 400],
        [`${SERVICES}?watch=true&sendInitialEvents=true`, 400],
        [`${SERVICES}?labelSelector=${'a,'.repeat(4200)}`, 400]
      ]
      for (const [path, code] of bad) {
        const { kind, code: got } = await get(path)
        assert.deepEqual([kind, got], ['Status', code], path)
      }
    })

    it('400 to a browser that was led here by a name', async () => {
      assert.equal((await get(SERVICES, { host: 'evil.example.com:948' })).code, 400)
      assert.equal((await get(SERVICES, { host: 'localhost' })).kind, 'ServiceList')
      assert.equal((await get(SERVICES, { host: '[::1]:948' })).kind, 'ServiceList')
    })
  })

  it('has the version and discovery that clients ask for first', async () => {
    assert.match(String((await get('/clusters/east/version'))['gitVersion']), /^v1\./)
    assert.deepEqual((await get('/clusters/east/api'))['versions'], ['v1'])
    assert.equal((await get('/clusters/all/apis')).kind, 'APIGroupList')
    assert.equal((await get('/clusters/east/apis/discovery.k8s.io')).kind, 'APIGroup')
    const core = await get('/clusters/east/api/v1')
    assert.deepEqual(
      (core['resources'] as Body[]).map(({ name }) => name),
      ['namespaces', 'services']
    )
    assert.equal((await get('/clusters/east/apis/discovery.k8s.io/v1')).kind, 'APIResourceList')
    assert.equal((await get('/clusters/nosuch/version')).code, 404)
    const rows = (await get('/clusters'))['clusters'] as { name: string; state: string }[]
    assert.deepEqual(
      rows.map(({ name, state }) => `${name} ${state}`),
      ['all serving', 'east serving', 'west serving']
    )
  })

  describe('watches', () => {
    it('send what changes, in the order of its versions, once', async () => {
      const { resourceVersion } = (await get(SERVICES)).metadata
      const watch = await watching(`${SERVICES}?watch=1&resourceVersion=${resourceVersion}`)
      show(service('shop/new', ['10.2.0.50'], { ports: HTTP }))
      show(service('shop/new', ['10.2.0.51'], { ports: HTTP }))
      show()
      await eventually(() => watch.events.length === 3, DEADLINE_MS)
      assert.deepEqual(
        watch.events.map(({ type }) => type),
        ['ADDED', 'MODIFIED', 'DELETED']
      )
      const versions = watch.events.map(({ object }) => Number(object.metadata.resourceVersion))
      assert.deepEqual(
        versions,
        versions.toSorted((left, right) => left - right)
      )
      assert.ok((versions[0] ?? 0) > Number(resourceVersion))
    })

    it('stream what there is and mark its end, for clients that ask so', async () => {
      const query =
        'watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true'
      const watch = await watching(`/clusters/west/api/v1/services?${query}`)
      await eventually(() => watch.events.length === 4, DEADLINE_MS)
      assert.deepEqual(
        watch.events.map(({ type }) => type),
        ['ADDED', 'ADDED', 'ADDED', 'BOOKMARK']
      )
      const { metadata } = watch.events[3]?.object ?? assert.fail()
      assert.deepEqual(metadata.annotations, { 'k8s.io/initial-events-end': 'true' })
      assert.equal(metadata.resourceVersion, (await get(SERVICES)).metadata.resourceVersion)
    })

    it('stream it and mark its end for one that comes back, too, however old its version', async () => {
      const version = Number((await get(SERVICES)).metadata.resourceVersion)
      for (const known of [version, 1]) {
        const query = `watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=${known}`
        const watch = await watching(`/clusters/west/api/v1/services?${query}`)
        await eventually(() => watch.events.length === 4, DEADLINE_MS)
        const { metadata } = watch.events[3]?.object ?? assert.fail()
        assert.deepEqual(metadata.annotations, { 'k8s.io/initial-events-end': 'true' })
      }
    })

    it('begin with what there is when no version is given, and do not when told so', async () => {
      const plain = await watching('/clusters/west/api/v1/services?watch=1')
      await eventually(() => plain.events.length === 3, DEADLINE_MS)
      const later = await watching(
        '/clusters/west/api/v1/services?watch=1&sendInitialEvents=false&timeoutSeconds=1'
      )
      await later.ended
      assert.deepEqual(later.events, [])
    })

    it('are tables, event by event, for kubectl', async () => {
      const watch = await watching(`${SERVICES}?watch=1&fieldSelector=metadata.name%3Dweb`, feed, TABLE)
      await eventually(() => watch.events.length === 1, DEADLINE_MS)
      show(service('shop/web', ['10.2.0.2'], { ports: HTTP }))
      await eventually(() => watch.events.length === 2, DEADLINE_MS)
      assert.deepEqual(
        watch.events.map(({ type, object }) => [type, object.kind, object.rows?.[0]?.cells[2]]),
        [
          ['ADDED', 'Table', '10.2.0.1'],
          ['MODIFIED', 'Table', '10.2.0.2']
        ]
      )
    })

    it('send bookmarks on their own, and one more at the end', async () => {
      const server = await start({ bookmarkMs: 50 })
      server.update({ view: shopMesh() })
      const path = `${SERVICES}?watch=1&sendInitialEvents=false&allowWatchBookmarks=true&timeoutSeconds=1`
      const watch = await watching(path, server)
      await watch.ended
      assert.ok(watch.events.length >= 3, `${watch.events.length} bookmarks`)
      assert.ok(watch.events.every(({ type }) => type === 'BOOKMARK'))
    })

    it('show an object that begins or ceases to match as added or deleted', async () => {
      const path = '/clusters/east/apis/discovery.k8s.io/v1/endpointslices'
      const selector = encodeURIComponent('kubernetes.io/service-name=new')
      const watch = await watching(`${path}?watch=1&sendInitialEvents=false&labelSelector=${selector}`)
      const pods = slice([endpoint('10.1.0.50')], HTTP)
      const named = (key: string): ServiceView => {
        const view = service(key, ['10.2.0.50'], { ports: HTTP }, pods)
        return { ...view, slices: view.slices.map((each) => ({ ...each, name: 'moving' })) }
      }
      show(named('shop/other'))
      show(named('shop/new'))
      show(named('shop/other'))
      await eventually(() => watch.events.length === 2, DEADLINE_MS)
      assert.deepEqual(
        watch.events.map(({ type }) => type),
        ['ADDED', 'DELETED']
      )
    })

    it('are refused below the log and beyond the present', async () => {
      const version = Number((await get(SERVICES)).metadata.resourceVersion)
      const old = await get(`${SERVICES}?watch=1&resourceVersion=1`)
      assert.deepEqual([old.code, old.reason], [410, 'Expired'])
      assert.equal((await get(`${SERVICES}?watch=1&resourceVersion=${version + 1}`)).code, 504)
    })

    it('do not age while other clusters change', async () => {
      const server = await start({ log: { eventsMax: 4, textMax: 1e6 } })
      server.update({ view: meshOf(cluster('east', {}), cluster('west', {})) })
      const watch = await watching('/clusters/west/api/v1/services?watch=1&sendInitialEvents=false', server)
      const view = (n: number, late: boolean) => {
        const web = service('shop/web', [`10.2.0.${n}`], { ports: HTTP })
        const added = service('shop/late', ['10.12.0.9'], { ports: HTTP })
        return meshOf(
          cluster('east', { services: [web] }),
          cluster('west', { services: late ? [added] : [] })
        )
      }
      for (let n = 1; n <= 50; n++) server.update({ view: view(n, false) })
      server.update({ view: view(50, true) })
      await eventually(() => watch.events.length === 1, DEADLINE_MS)
      assert.equal(watch.events[0]?.type, 'ADDED')
    })

    it('cut a reader that does not read, and hold next to nothing for it', async () => {
      const server = await start({ log: { eventsMax: 200, textMax: 1e7 } })
      const slices = (n: number) =>
        slice(
          Array.from({ length: 500 }, (_, i) => endpoint(`10.1.${(i + n) % 250}.${i % 250}`, `pod-${i}`)),
          HTTP
        )
      const view = (n: number) =>
        meshOf(cluster('east', { services: [service('shop/big', [], { headless: true }, slices(n))] }))
      server.update({ view: view(0) })
      const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
      running.push({ stop: () => socket.destroy() })
      socket.on('error', () => undefined)
      socket.pause()
      const path = '/clusters/east/apis/discovery.k8s.io/v1/endpointslices?watch=1'
      socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)
      await eventually(() => server.watches === 1, DEADLINE_MS)
      let queuedMax = 0
      // 40 MB of events, of which the sockets take a few.
      for (let n = 1; n <= 700; n++) {
        server.update({ view: view(n) })
        queuedMax = Math.max(queuedMax, server.queuedBytes)
        if (n % 20 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      await eventually(() => server.watches === 0, DEADLINE_MS)
      assert.ok(queuedMax > 0 && queuedMax < 512 * 1024, `${queuedMax} bytes queued`)
    })

    it('are bounded in number', async () => {
      const server = await start({ watchesMax: 2 })
      server.update({ view: shopMesh() })
      await watching(`${SERVICES}?watch=1`, server)
      const second = await watching(`${SERVICES}?watch=1`, server)
      assert.equal((await get(`${SERVICES}?watch=1`, {}, server)).code, 429)
      second.stop()
      await eventually(() => server.watches === 1, DEADLINE_MS)
      await watching(`${SERVICES}?watch=1`, server)
    })

    it('end with the server', async () => {
      const watch = await watching(`${SERVICES}?watch=1`)
      await feed.stop()
      await watch.ended
      assert.equal(feed.watches, 0)
    })
  })

  it('says which port is in use and what to do', async () => {
    const port = Number(new URL(feed.url).port)
    const second = createFeedServer({ listen: { address: '127.0.0.1', port } })
    await assert.rejects(second.start(), { name: 'FeedError', code: 'PORT_IN_USE', fix: /feed-listen/ })
    const named = createFeedServer({ listen: { address: 'localhost', port: 0 } })
    await assert.rejects(named.start(), { code: 'BAD_ADDRESS' })
  })

  async function start(limits: FeedServerOptions['limits'] = {}): Promise<FeedServer> {
    const server = createFeedServer({ listen: { address: '127.0.0.1', port: 0 }, limits })
    await server.start()
    running.push(server)
    return server
  }

  /** The mesh of the shop, with these services more in east. */
  function show(...added: readonly ServiceView[]): void {
    const clusters = [...shopMesh().clusters.values()].map((each) =>
      each.name === 'east'
        ? {
            ...each,
            services: new Map([
              ...each.services,
              ...added.map((view) => [`${view.service.namespace}/${view.service.name}`, view] as const)
            ])
          }
        : each
    )
    feed.update({ view: meshOf(...clusters) })
  }

  function open(
    path: string,
    options: { accept?: string; method?: string; host?: string } = {},
    server = feed
  ): Promise<IncomingMessage> {
    const { accept, method = 'GET', host } = options
    const headers = { ...(accept === undefined ? {} : { accept }), ...(host === undefined ? {} : { host }) }
    return new Promise((resolve, reject) => {
      const asked = request(`${server.url}${path}`, { method, headers, agent: false }, resolve)
      asked.on('error', reject)
      asked.setTimeout(DEADLINE_MS, () => asked.destroy(new Error(`no answer to ${path}`)))
      asked.end()
    })
  }

  async function get(path: string, options: Parameters<typeof open>[1] = {}, server = feed): Promise<Body> {
    const response = await open(path, options, server)
    let text = ''
    for await (const chunk of response) text += String(chunk)
    const body = JSON.parse(text) as Body
    if (body.kind === 'Status') assert.equal(response.statusCode, body.code)
    return body
  }

  async function watching(path: string, server = feed, accept = 'application/json') {
    const response = await open(path, { accept }, server)
    assert.equal(response.statusCode, 200)
    const events: Event[] = []
    let rest = ''
    response.setEncoding('utf8')
    response.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) events.push(JSON.parse(line) as Event)
    })
    response.on('error', () => undefined)
    const ended = once(response, 'close', { signal: AbortSignal.timeout(DEADLINE_MS) })
    ended.catch(() => undefined)
    const stop = (): void => void response.destroy()
    running.push({ stop })
    return { events, ended, stop }
  }
})

function names(list: Body): readonly string[] {
  return list.items.map(({ metadata }) => metadata.name ?? '')
}
