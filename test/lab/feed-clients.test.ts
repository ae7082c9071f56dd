// The clients that Kubernetes itself has, reading the feed: kubectl, and informers of client-go.
import assert from 'node:assert/strict'
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { MeshView, ServiceView } from '../../src/core/view/view.ts'
import {
  createFeedServer,
  type FeedRequestMetrics,
  type FeedServer,
  type FeedServerLimits
} from '../../src/io/coredns/server.ts'
import { endpoint, port, service, slice } from '../core/dns/fixtures.ts'
import { eventually, slowness } from '../eventually.ts'
import { labProgram } from './support/coredns.ts'
import { threeClusters, withServices } from './support/coredns-mesh.ts'
import { startFeedLine, type FeedLine } from './support/feed-line.ts'
import { startInformers, type Caches, type Informers } from './support/informers.ts'
import { KUBE_LAB_BUILD_MS } from './support/kube-api.ts'

const HTTP = [port('http', 80)]
// Client-go waits up to this long before it tries a broken watch again.
const BACKOFF_MS = 45_000
/** Some ten times as many events as fit into a log of SMALL. */
const MANY = Array.from({ length: 100 }, (_, index) => `lab/probe-${index}`)
const SMALL = { eventsMax: 40, textMax: 1e6 }

describe('clients of the feed', () => {
  let view: MeshView
  const running: { stop(): unknown }[] = []

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    await labProgram('informers')
  })

  beforeEach(() => {
    view = threeClusters()
  })

  afterEach(async () => {
    for (const each of running.splice(0).toReversed()) await each.stop()
  })

  describe('kubectl on the feed', function () {
    let home: string
    let program: string
    let feed: FeedServer

    before(async () => {
      home = mkdtempSync(join(tmpdir(), 'rhizome-kubectl-'))
      program = await labProgram('kubectl')
    })

    after(() => rmSync(home, { recursive: true, force: true }))

    beforeEach(async () => {
      feed = await startFeed()
    })

    it('gets every kind, in all namespaces, in one and by label', async () => {
      const all = await kubectl('get', 'ns,svc,endpointslices', '--all-namespaces')
      assert.match(all, /^namespace\/shop +Active$/m)
      assert.match(all, /^shop +service\/web +ClusterIP +10\.2\.0\.1 +<none> +80\/TCP$/m)
      assert.match(all, /^shop +service\/pay +ExternalName +<none> +pay\.example\.com +<none>$/m)
      assert.match(all, /^shop +endpointslice\.discovery\.k8s\.io\/web-0 +IPv4 +80 +10\.1\.0\.1$/m)
      assert.match(await kubectl('get', 'all', '-n', 'shop'), /^web +ClusterIP/m)
      const label = 'kubernetes.io/service-name=db'
      assert.deepEqual(
        (await kubectl('get', 'endpointslices', '-A', '-l', label, '-o', 'name')).trim().split('\n').length,
        2
      )
      assert.match(await kubectl('get', 'svc', '-n', 'nosuch'), /No resources found/)
    })

    it('shows and describes single objects', async () => {
      const yaml = await kubectl('get', 'svc', 'web', '-n', 'shop', '-o', 'yaml')
      assert.match(yaml, /^kind: Service$[\s\S]*^ {2}clusterIP: 10\.2\.0\.1$/m)
      const described = await kubectl('describe', 'svc', 'web', '-n', 'shop')
      assert.match(described, /^IP: +10\.2\.0\.1$[\s\S]*^Endpoints: +10\.1\.0\.1:80$/m)
      assert.match(described, /^Session Affinity: +None$/m)
      assert.match(await kubectl('describe', 'ns', 'shop'), /^Status: +Active$/m)
      await assert.rejects(kubectl('get', 'svc', 'nosuch', '-n', 'shop'), /services "nosuch" not found/)
    })

    it('watches: a line for each change, as rows and as objects', async () => {
      const rows = watching('get', 'svc', '-n', 'shop', '--watch-only', '--output-watch-events')
      const objects = watching('get', 'svc', '-n', 'shop', '--watch-only', '-o', 'json')
      await eventually(() => feed.watches === 2, 20_000)
      const changes: readonly (readonly [ServiceView | undefined, string])[] = [
        [probe('10.2.9.1', { key: 'shop/probe' }), 'ADDED +probe +ClusterIP +10\\.2\\.9\\.1 +<none> +80/TCP'],
        [
          probe('10.2.9.2', { key: 'shop/probe' }),
          'MODIFIED +probe +ClusterIP +10\\.2\\.9\\.2 +<none> +80/TCP'
        ],
        [undefined, 'DELETED +probe +ClusterIP +10\\.2\\.9\\.2 +<none> +80/TCP']
      ]
      for (const [value, expected] of changes) {
        view = withServices(view, 'east', { 'shop/probe': value })
        feed.update({ view })
        await eventually(() => new RegExp(`^${expected}$`, 'm').test(rows())).catch((error: unknown) => {
          throw new Error(`no ${expected} in:\n${rows()}`, { cause: error })
        })
      }
      await eventually(() => [...objects().matchAll(/"name": "probe"/g)].length === 3)
      assert.equal([...rows().matchAll(/^EVENT /gm)].length, 1)
    })

    it('lists the resources and their verbs', async () => {
      const rows = (await kubectl('api-resources', '-o', 'wide', '--no-headers')).trim().split('\n')
      assert.deepEqual(
        rows.map((row) => row.split(/ +/)[0]),
        ['namespaces', 'services', 'endpointslices']
      )
      for (const row of rows) assert.match(row, / get,list,watch\b/)
    })

    it('is told that nothing can be written, and that there is no schema to explain', async () => {
      const file = join(home, 'service.yaml')
      writeFileSync(
        file,
        'apiVersion: v1\nkind: Service\nmetadata: {name: mine}\nspec: {ports: [{port: 80}]}\n'
      )
      const refused = [
        ['create', 'namespace', 'mine'],
        ['create', '-f', file],
        ['apply', '-f', file],
        ['apply', '--server-side', '-f', file],
        ['delete', 'svc', 'web', '-n', 'shop'],
        ['delete', 'svc', '--all', '-n', 'shop'],
        ['patch', 'svc', 'web', '-n', 'shop', '-p', '{}'],
        ['label', 'svc', 'web', '-n', 'shop', 'a=b']
      ]
      for (const argv of refused) await assert.rejects(kubectl(...argv), /read-only/, argv.join(' '))
      await assert.rejects(kubectl('explain', 'svc'), /no OpenAPI schema/)
      assert.match(await kubectl('get', 'svc', 'web', '-n', 'shop'), /10\.2\.0\.1/)
    })

    const argvOf = (argv: readonly string[]): string[] => [`--server=${feed.url}/clusters/east`, ...argv]
    const environment = (): NodeJS.ProcessEnv => ({ HOME: home, KUBECONFIG: '/dev/null' })

    /** Both outputs; rejects with them. */
    function kubectl(...argv: readonly string[]): Promise<string> {
      return new Promise((resolve, reject) => {
        execFile(
          program,
          argvOf(argv),
          { env: environment(), timeout: 30_000 * slowness() },
          (error, stdout, stderr) => (error === null ? resolve(stdout + stderr) : reject(new Error(stderr)))
        )
      })
    }

    function watching(...argv: readonly string[]): () => string {
      const child: ChildProcess = spawn(program, argvOf(argv), { env: environment() })
      running.push({ stop: () => child.kill('SIGKILL') })
      let text = ''
      for (const stream of [child.stdout, child.stderr])
        stream?.on('data', (chunk) => (text += String(chunk)))
      return () => text
    }
  })

  for (const watchList of [true, false]) {
    describe(`informers of client-go on the feed, ${watchList ? 'with streamed lists' : 'with lists'}`, function () {
      let feed: FeedServer
      let line: FeedLine
      let informers: Informers
      const asked: FeedRequestMetrics[] = []

      async function begin(limits: Partial<FeedServerLimits> = {}): Promise<void> {
        feed = await startFeed(limits, asked)
        line = await startFeedLine(feed.url)
        running.push(line)
        asked.length = 0
        informers = await startInformers(`${line.url}/clusters/east`, { watchList })
        running.push(informers)
        await eventually(() => informers.synced, 30_000)
        // A watch that ends within a second and without an event is a fault to client-go, which then lists anew.
        change({ 'lab/first': probe('10.2.9.9', { key: 'lab/first' }) })
        await agrees()
      }

      it('fill their caches, and follow what changes', async () => {
        await begin()
        assert.equal(asked.filter(({ verb }) => verb === 'list').length, watchList ? 0 : 3)
        change({ 'lab/probe': probe('10.2.9.1') })
        await agrees()
        change({ 'lab/probe': probe('10.2.9.2', { pod: '10.1.9.2' }) })
        await agrees()
        change({ 'lab/probe': probe('10.2.9.2', { pod: '10.1.9.3' }), 'shop/web': undefined })
        await agrees()
        change({ 'lab/probe': undefined, 'lab/first': undefined })
        await agrees()
        await told('Namespace', 'lab', ['ADDED', 'DELETED'])
        await told('Service', 'lab/probe', ['ADDED', 'MODIFIED', 'DELETED'])
        assert.deepEqual(eventsOf('EndpointSlice', 'lab/probe-0'), [
          'ADDED',
          'MODIFIED',
          'MODIFIED',
          'DELETED'
        ])
        assert.deepEqual(eventsOf('Service', 'shop/web').slice(-1), ['DELETED'])
      })

      it('go on where they were after a broken connection, without a list', async () => {
        await begin()
        asked.length = 0
        line.cut()
        change({ 'lab/probe': probe('10.2.9.1'), 'shop/web': undefined })
        line.mend(feed.url)
        await agrees()
        assert.deepEqual(
          asked.filter(({ verb, code }) => verb !== 'watch' || code !== 200),
          []
        )
        await told('Service', 'shop/pay', ['ADDED'])
      })

      it('list again after a watch that broke as soon as it began', async () => {
        await begin()
        for (let times = 0; times < 2; times++) {
          asked.length = 0
          line.cut()
          line.mend(feed.url)
          await eventually(() => asked.length >= 3)
        }
        change({ 'lab/probe': probe('10.2.9.1'), 'shop/web': undefined })
        await agrees()
        // What a new list brings again is told again. The cache changes a moment before the event is told.
        await eventually(() => {
          const events = eventsOf('Service', 'shop/web').filter((event) => event !== 'MODIFIED')
          assert.deepEqual(events, ['ADDED', 'DELETED'])
          return true
        })
      })

      it('list again where the feed has forgotten what they missed', async () => {
        await begin({ log: SMALL })
        line.cut()
        for (const key of MANY) change({ [key]: probe('10.2.9.1', { key }) })
        change({ 'shop/web': undefined, 'lab/probe-0': undefined })
        line.mend(feed.url)
        await agrees()
        assert.ok(asked.some(({ verb, code }) => verb === 'watch' && code === 410))
        assert.deepEqual(eventsOf('Service', 'lab/probe-0'), [])
        await told('Service', 'shop/web', ['ADDED', 'DELETED'])
      })

      it('need no new list after a long silence: bookmarks keep their version young', async () => {
        await begin({ log: SMALL, bookmarkMs: 50 })
        for (const key of MANY) {
          view = withServices(view, 'west', { [key]: probe('10.12.9.1', { key }) })
          feed.update({ view })
        }
        const list = await fetch(`${feed.url}/clusters/east/api/v1/services`)
        const { metadata } = (await list.json()) as { metadata: { resourceVersion: string } }
        await eventually(async () =>
          versions(await informers.caches()).every((version) => version >= Number(metadata.resourceVersion))
        )
        asked.length = 0
        line.cut()
        line.mend(feed.url)
        change({ 'lab/probe': probe('10.2.9.1') })
        await agrees()
        assert.deepEqual(
          asked.filter(({ verb, code }) => verb !== 'watch' || code !== 200),
          []
        )
      })

      it('follow the next run of the agent, which knows none of their versions', async () => {
        await begin()
        line.cut()
        await feed.stop()
        view = withServices(view, 'east', {
          'shop/web': undefined,
          'shop/multi': service('shop/multi', ['10.2.0.99'], { ports: HTTP }),
          'lab/probe': probe('10.2.9.1')
        })
        feed = await startFeed({}, asked)
        line.mend(feed.url)
        await agrees()
        await told('Service', 'shop/web', ['ADDED', 'DELETED'])
        change({ 'lab/probe': undefined })
        await agrees()
      })

      it('follow a run whose clock is behind the one before', async () => {
        // Versions begin at the clock: a feed that was started first is the one behind.
        const behind = await startFeed({}, asked)
        const startedMs = Date.now()
        await eventually(() => Date.now() > startedMs)
        await begin()
        asked.length = 0
        line.cut()
        view = withServices(view, 'east', { 'shop/web': undefined })
        behind.update({ view })
        line.mend(behind.url)
        feed = behind
        await agrees()
        assert.ok(asked.some(({ code }) => code === 504))
        change({ 'lab/probe': probe('10.2.9.1') })
        await agrees()
      })

      function change(services: Readonly<Record<string, ServiceView | undefined>>): void {
        view = withServices(view, 'east', services)
        feed.update({ view })
      }

      async function agrees(): Promise<void> {
        await eventually(async () => {
          assert.deepEqual(cached(await informers.caches()), spoken(view))
          return true
        }, BACKOFF_MS).catch((error: unknown) => {
          throw new Error(`${String(error)}\n${informers.log()}`, { cause: error })
        })
      }

      /** Waits for exactly these events: the cache changes a moment before the event is told. */
      function told(kind: string, key: string, events: readonly string[]): Promise<void> {
        return eventually(() => {
          assert.deepEqual(eventsOf(kind, key), events)
          return true
        })
      }

      function eventsOf(kind: string, key: string): readonly string[] {
        return informers.events
          .filter((each) => each.kind === kind && each.key === key)
          .map(({ event }) => event)
      }
    })
  }

  async function startFeed(
    limits: Partial<FeedServerLimits> = {},
    asked: FeedRequestMetrics[] = []
  ): Promise<FeedServer> {
    const feed = createFeedServer({
      listen: { address: '127.0.0.1', port: 0 },
      limits,
      onRequest: (metrics) => asked.push(metrics)
    })
    running.push(feed)
    await feed.start()
    feed.update({ view })
    return feed
  }
})

function probe(vip: string, { key = 'lab/probe', pod = '10.1.9.1' } = {}): ServiceView {
  return service(key, [vip], { ports: HTTP }, slice([endpoint(pod)], HTTP))
}

/** What a path of the feed says, service by service. */
interface Said {
  readonly namespaces: readonly string[]
  /** Service IPs, "None", or the target of an ExternalName. */
  readonly services: Readonly<Record<string, string>>
  /** Addresses of endpoints, by service. */
  readonly endpoints: Readonly<Record<string, readonly string[]>>
}

/** Taken from the view itself, not from the feed. */
function spoken(view: MeshView): Said {
  const east = [...view.clusters.values()].find(({ name }) => name === 'east')
  // An alias that is an address is no name, so nothing is said of it.
  const services = [...(east?.services ?? [])].filter(([, { service }]) => isIP(service.externalName) === 0)
  return {
    namespaces: [...new Set(services.map(([, each]) => each.service.namespace))].sort(),
    services: Object.fromEntries(
      services.map(
        ([
          key,
          {
            service: { headless, externalName, clusterIps }
          }
        ]) => [
          key,
          headless ? 'None' : externalName === '' ? clusterIps.join(' ') : externalName.replace(/\.$/, '')
        ]
      )
    ),
    endpoints: byService(
      services.flatMap(([key, { slices }]) =>
        slices.flatMap(({ endpoints }) =>
          endpoints.flatMap(({ addresses }) => addresses.map((ip) => [key, ip] as const))
        )
      )
    )
  }
}

function cached({ Namespace, Service, EndpointSlice }: Caches): Said {
  return {
    namespaces: Object.keys(Namespace.objects).sort(),
    services: Object.fromEntries(
      Object.entries(Service.objects).map(([key, { spec }]) => [
        key,
        spec?.externalName ?? spec?.clusterIPs?.join(' ') ?? ''
      ])
    ),
    endpoints: byService(
      Object.entries(EndpointSlice.objects).flatMap(([key, { metadata, endpoints = [] }]) => {
        const owner = `${key.split('/')[0]}/${metadata.labels?.['kubernetes.io/service-name']}`
        return endpoints.flatMap(({ addresses }) => addresses.map((ip) => [owner, ip] as const))
      })
    )
  }
}

function byService(pairs: readonly (readonly [string, string])[]): Record<string, readonly string[]> {
  const found: Record<string, string[]> = {}
  for (const [key, address] of pairs) (found[key] ??= []).push(address)
  for (const addresses of Object.values(found)) addresses.sort()
  return found
}

function versions({ Namespace, Service, EndpointSlice }: Caches): readonly number[] {
  return [Namespace, Service, EndpointSlice].map(({ version }) => Number(version))
}
