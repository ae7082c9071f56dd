import assert from 'node:assert/strict'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Change, Problem } from '../../../src/core/catalog/catalog.ts'
import type { Snapshot } from '../../../src/core/model/values.ts'
import {
  createKubeSource,
  type KubeSource,
  type KubeSourceOptions
} from '../../../src/io/kube/kube-source.ts'
import { eventually } from '../../eventually.ts'
import {
  FakeApi,
  type Fault,
  NAMESPACES,
  NODES,
  refuse,
  service,
  SERVICES,
  slice,
  SLICES
} from './fake-api.ts'

interface Seen {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
  readonly whole: boolean
  readonly changes: readonly Change[]
}

const QUICK = { backoffMinMs: 5, backoffMaxMs: 40, staleAcceptMs: 250, provenMs: 20 }

describe('a Kubernetes source', () => {
  let api: FakeApi
  let source: KubeSource | undefined
  let seen: Seen[]

  beforeEach(async () => {
    api = await FakeApi.start()
    seen = []
    api.put(NAMESPACES, { metadata: { name: 'shop' } })
    api.put(SERVICES, service('web', '10.96.0.10'))
    api.put(SLICES, slice('web-1', 'web', ['10.1.0.1']))
  })

  afterEach(async () => {
    await source?.stop()
    await api.close()
  })

  async function start(more: Partial<KubeSourceOptions> = {}): Promise<void> {
    source = createKubeSource({
      client: api.client,
      onSnapshot: (snapshot, problems, { whole, changes }) => {
        seen.push({ snapshot, problems, whole, changes })
      },
      ...more,
      timing: { ...QUICK, ...more.timing }
    })
    await source.start()
  }

  async function startWatching(more: Partial<KubeSourceOptions> = {}): Promise<void> {
    await start(more)
    await eventually(() => watching())
    await eventually(() => last().whole && last().problems.length === 0)
  }

  const watching = (): boolean =>
    [SERVICES, SLICES, NAMESPACES, NODES].every((path) => api.watches(path) === 1)
  const last = (): Seen => seen.at(-1) ?? assert.fail('nothing was told')
  const names = (): readonly string[] => last().snapshot.services.map(({ name }) => name)
  const addresses = (): readonly string[] =>
    last().snapshot.endpointSlices.flatMap(({ endpoints }) => endpoints.flatMap((each) => each.addresses))

  it('tells the whole first, then each change with only what differs', async () => {
    await startWatching()
    assert.deepEqual(names(), ['web'])
    assert.deepEqual(addresses(), ['10.1.0.1'])
    const [web] = last().snapshot.services
    api.put(SLICES, slice('web-1', 'web', ['10.1.0.1', '10.1.0.2']))
    await eventually(() => addresses().length === 2)
    assert.deepEqual(
      last().changes.map(({ key }) => key),
      ['eps/shop/web-1']
    )
    assert.equal(last().snapshot.services[0], web, 'what did not change is the same object')
    api.delete(SERVICES, 'shop/web')
    await eventually(() => names().length === 0)
    assert.deepEqual(last().changes, [
      { key: 'svc/shop/web', value: undefined },
      { key: 'eps/shop/web-1', value: undefined }
    ])
  })

  it('makes one snapshot of a burst that arrives together', async () => {
    await startWatching()
    const before = seen.length
    const lines = Array.from({ length: 200 }, (_, n) =>
      JSON.stringify({
        type: 'ADDED',
        object: {
          ...service(`s${n}`, `10.96.1.${n}`),
          metadata: { name: `s${n}`, namespace: 'shop', resourceVersion: `${1000 + n}` }
        }
      })
    )
    api.sendRaw(SERVICES, `${lines.join('\n')}\n`)
    await eventually(() => names().length === 201)
    assert.ok(seen.length - before <= 5, `${seen.length - before} snapshots`)
  })

  it('asks for pages and for a consistent list, and watches from where the list ended', async () => {
    for (let n = 0; n < 1200; n += 1) api.put(SERVICES, service(`s${n}`, `10.97.${n >> 8}.${n & 255}`))
    const { version } = api
    await startWatching()
    assert.equal(names().length, 1201)
    assert.equal(api.count(`list ${SERVICES}`), 3)
    assert.ok(
      api.requests.some(
        (each) => each.startsWith(`watch ${SERVICES}`) && each.includes(`resourceVersion=${version}`)
      )
    )
    assert.ok(!api.requests.some((each) => each.startsWith('list') && each.includes('resourceVersion')))
  })

  it('resumes an ended watch from its last bookmark, without a list', async () => {
    await startWatching()
    api.version = 5000
    api.send(SERVICES, { type: 'BOOKMARK', object: { metadata: { resourceVersion: '5000' } } })
    const lists = api.count(`list ${SERVICES}`)
    await new Promise((resolve) => {
      setImmediate(resolve)
    })
    api.endWatches('end')
    await eventually(() =>
      api.requests.some(
        (each) => each.startsWith(`watch ${SERVICES}`) && each.includes('resourceVersion=5000')
      )
    )
    await eventually(watching)
    assert.equal(api.count(`list ${SERVICES}`), lists)
    assert.deepEqual(last().problems, [])
  })

  it('finds out what was deleted while the watch was lost, once its version is gone', async () => {
    api.put(SERVICES, service('cart', '10.96.0.11'))
    await startWatching()
    api.forget(SERVICES, 'shop/web')
    api.fail('watch', SERVICES, refuse(410, 'too old resource version'))
    api.endWatches('end')
    await eventually(() => names().join() === 'cart')
    assert.ok(!seen.some(({ problems }) => problems.length > 0), 'compacted history is no problem')
  })

  it('takes a 410 inside the stream for the same', async () => {
    await startWatching()
    api.forget(SERVICES, 'shop/web')
    api.send(SERVICES, { type: 'ERROR', object: { kind: 'Status', code: 410, message: 'too old' } })
    await eventually(() => names().length === 0)
  })

  it('fetches the whole in one answer when the pages of a list expire, however often they do', async () => {
    for (let n = 0; n < 600; n += 1) api.put(SERVICES, service(`s${n}`, `10.97.${n >> 8}.${n & 255}`))
    api.fail('page', SERVICES, refuse(410, 'The provided continue parameter is too old'), 1000)
    await start()
    await eventually(() => last().whole && names().length === 601)
    assert.deepEqual(
      api.requests
        .filter((each) => each.startsWith(`list ${SERVICES}`))
        .map((each) => /limit|continue/.test(each)),
      [true, true, false]
    )
  })

  it('asks for smaller pages with more time when a page is late', async () => {
    for (let n = 0; n < 600; n += 1) api.put(SERVICES, service(`s${n}`, `10.97.${n >> 8}.${n & 255}`))
    api.fail('list', SERVICES, () => undefined, 2)
    await start({ timing: { requestMs: 60 } })
    await eventually(() => last().whole && names().length === 601)
    const limits = api.requests.flatMap(
      (each) => /^list \/api\/v1\/services\?limit=(\d+)/.exec(each)?.[1] ?? []
    )
    assert.deepEqual(limits.slice(0, 3), ['500', '125', '31'])
  })

  const ends: Readonly<Record<string, Fault>> = {
    'in order at once': (_request, response) => response.writeHead(200).end(),
    'with a 410 in the stream': (_request, response) =>
      response
        .writeHead(200)
        .end(`${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 410 } })}\n`),
    'after a bookmark': (_request, response) =>
      response
        .writeHead(200)
        .end(
          `${JSON.stringify({ type: 'BOOKMARK', object: { metadata: { resourceVersion: '100000' } } })}\n`
        ),
    'without a word': (_request, response) => response.destroy()
  }
  for (const [how, fault] of Object.entries(ends)) {
    it(`shows a watch that ends ${how} each time as a problem, asks ever less often though it is woken, and lists anew`, async () => {
      const backoffMaxMs = 2000
      await startWatching({ timing: { backoffMaxMs } })
      const lists = api.count(`list ${SERVICES}`)
      const watches = api.count(`watch ${SERVICES}`)
      // What changes now is told by no event: only a list shows it.
      api.put(SERVICES, service('cart', '10.96.0.11'))
      await eventually(() => names().length === 2)
      api.fail('watch', SERVICES, fault, 1_000_000)
      api.forget(SERVICES, 'shop/web')
      api.version = 200_000
      api.endWatches('end')
      await eventually(() => {
        source?.refresh()
        return last().problems.length > 0 && names().join() === 'cart'
      })
      // Each pause is twice as long as the one before (at least half of it is fixed), so the number of tries is its logarithm.
      const tries = api.count(`watch ${SERVICES}`) - watches
      assert.ok(tries <= 14, `${tries} watches`)
      assert.ok(api.count(`list ${SERVICES}`) > lists)
      api.heal()
      await eventually(() => last().problems.length === 0, 30_000)
    })
  }

  for (const { title, status, code } of [
    { title: 'an expired token', status: 401, code: /401 Unauthorized/ },
    { title: 'missing rights', status: 403, code: /403 services is forbidden/ },
    { title: 'a failing server', status: 500, code: /500 etcd/ }
  ]) {
    it(`keeps what it knows through ${title}, says so with a fix, and recovers`, async () => {
      await startWatching()
      const message = { 401: 'Unauthorized', 403: 'services is forbidden', 500: 'etcd is gone' }[status] ?? ''
      api.fail('any', SERVICES, refuse(status, message), 1000)
      api.endWatches('destroy')
      await eventually(() => last().problems.some((problem) => code.test(problem.message)))
      assert.deepEqual([last().whole, names()], [true, ['web']])
      assert.ok(last().problems[0]?.fix)
      assert.ok(!JSON.stringify(seen).includes('secret-token'))
      api.forget(SERVICES, 'shop/web')
      api.put(SERVICES, service('cart', '10.96.0.11'))
      api.forget(SLICES, 'shop/web-1')
      api.heal()
      // The watch is resumed where it was; this API has no history, so it says so.
      api.fail('watch', SERVICES, refuse(410, 'gone'))
      await eventually(() => names().join() === 'cart' && last().problems.length === 0)
    })
  }

  it('starts when the API refuses at first, and is not whole until it answers', async () => {
    api.fail('any', '*', refuse(401, 'Unauthorized'), 1000)
    await start()
    assert.deepEqual([last().whole, names(), last().problems[0]?.level], [false, [], 'error'])
    api.heal()
    await eventually(() => last().whole && names().length === 1)
  })

  it('waits as long as the server asks', async () => {
    api.fail('list', SERVICES, refuse(429, 'slow down', { 'retry-after': '1' }))
    const began = performance.now()
    await start({ timing: { backoffMaxMs: 300 } })
    await eventually(() => last().whole)
    assert.ok(performance.now() - began >= 300, 'bounded by our own longest pause')
  })

  it('survives a line that is torn, one that is no event, and an object without a name', async () => {
    await startWatching()
    for (const text of [
      '{"type":"ADDED","object":{"meta',
      '[1,2]\n',
      '{"type":"ADDED","object":{"metadata":{"name":7}}}\n'
    ]) {
      const watches = api.count(`watch ${SERVICES}`)
      api.sendRaw(SERVICES, text)
      if (!text.endsWith('\n')) api.endWatches('end')
      await eventually(() => api.count(`watch ${SERVICES}`) > watches)
      await eventually(watching)
      await eventually(() => last().problems.length === 0)
      assert.deepEqual(names(), ['web'])
    }
    api.put(SERVICES, service('cart', '10.96.0.11'))
    await eventually(() => names().join() === 'cart,web')
  })

  it('gives up a connection that went silent, and resumes', async () => {
    await startWatching({ timing: { silenceMs: 60 } })
    const watches = api.count(`watch ${SERVICES}`)
    await eventually(() => api.count(`watch ${SERVICES}`) > watches)
    assert.deepEqual(names(), ['web'])
  })

  it('does not go back in time: an event of an older version changes nothing', async () => {
    await startWatching()
    api.put(SLICES, slice('web-1', 'web', ['10.1.0.9']))
    await eventually(() => addresses().join() === '10.1.0.9')
    const old = slice('web-1', 'web', ['10.1.0.1'])
    api.send(SLICES, {
      type: 'MODIFIED',
      object: { ...old, metadata: { ...old.metadata, resourceVersion: '3' } }
    })
    const watches = api.count(`watch ${SLICES}`)
    await eventually(() => api.count(`watch ${SLICES}`) > watches)
    assert.deepEqual(addresses(), ['10.1.0.9'])
  })

  it('refuses an older list for a while, then believes it: etcd was restored from a backup', async () => {
    api.version = 9000
    await startWatching()
    api.version = 200
    api.forget(SERVICES, 'shop/web')
    api.put(SERVICES, service('cart', '10.96.0.11'))
    api.endWatches('destroy')
    await eventually(() => last().problems.some(({ message }) => /older than version 9000/.test(message)))
    assert.deepEqual(names(), ['web'], 'the old state is not believed at once')
    await eventually(() => names().join() === 'cart' && last().problems.length === 0)
  })

  it('has a problem, and no service less, for an object that it cannot tell of', async () => {
    await startWatching()
    api.put(SERVICES, service('odd', '127.0.0.1'))
    await eventually(() => last().problems.length === 1)
    assert.match(last().problems[0]?.where ?? '', /Service shop\/odd/)
    assert.deepEqual(names(), ['web'])
  })

  it('has no namespace that is being deleted, as the API server takes no object into it', async () => {
    await startWatching()
    const has = (): boolean => source?.multicluster.hasNamespace('shop') === true
    assert.equal(has(), true)
    api.put(NAMESPACES, { metadata: { name: 'shop', deletionTimestamp: '2026-01-01T00:00:00Z' } })
    await eventually(() => !has())
    assert.deepEqual(names(), ['web'])
  })

  it('exports by policy, namespace annotation and service annotation, live', async () => {
    await startWatching({
      policy: { unmarked: 'keep', namespaces: [], exceptNamespaces: [], selector: [] }
    })
    assert.deepEqual(names(), [])
    api.put(NAMESPACES, { metadata: { name: 'shop', annotations: { 'rhizome.io/export': 'true' } } })
    await eventually(() => names().join() === 'web')
    api.put(
      SERVICES,
      service('web', '10.96.0.10', { metadata: { annotations: { 'rhizome.io/export': 'false' } } })
    )
    await eventually(() => names().length === 0)
    assert.deepEqual(addresses(), [], 'its endpoints leave with it')
  })

  it('follows changed prefixes on refresh', async () => {
    let podPrefixes: NonNullable<
      ReturnType<NonNullable<KubeSourceOptions['catalogOptions']>>['podPrefixes']
    > = []
    await start({ catalogOptions: () => ({ podPrefixes }) })
    await eventually(() => last().whole)
    assert.deepEqual(addresses(), [])
    podPrefixes = ['10.1.0.0/16'] as never
    source?.refresh()
    await eventually(() => addresses().join() === '10.1.0.1')
  })

  it('tells of nodes', async () => {
    let nodes: readonly { readonly name: string }[] = []
    await startWatching({
      onNodes: (all) => {
        nodes = all
      }
    })
    api.put(NODES, { metadata: { name: 'n1' }, spec: { podCIDRs: ['10.1.0.0/24'] } })
    await eventually(() => nodes.length === 1)
    api.delete(NODES, '/n1')
    await eventually(() => nodes.length === 0)
  })

  it('stops at once, whatever it waits for, and says no more', async () => {
    api.fail('any', '*', () => undefined, 5000)
    const starting = start()
    await eventually(() => api.requests.length >= 4)
    const began = performance.now()
    await source?.stop()
    await starting
    assert.ok(performance.now() - began < 5000) // before anything was answered
    assert.equal(seen.length, 0)
  })

  it('holds 10,000 slices in little memory', async function () {
    const noise = {
      managedFields: Array.from({ length: 3 }, () => ({ manager: 'x', fieldsV1: { f: 'y'.repeat(400) } }))
    }
    for (let n = 0; n < 10_000; n += 1) {
      const ip = `10.${100 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`
      const of = slice(`s${n}-1`, `s${n}`, [ip])
      api.put(SERVICES, service(`s${n}`, `10.96.${n >> 8}.${n & 255}`))
      api.put(SLICES, { ...of, metadata: { ...of.metadata, ...noise } })
    }
    const before = heapBytes()
    const listing = performance.now()
    await startWatching()
    const listedMs = performance.now() - listing
    const after = heapBytes()
    assert.equal(last().snapshot.endpointSlices.length, 10_001)
    const mebibytes = (after - before) / 2 ** 20
    // 10,000 services, slices and their names: some 3 kB for each pair.
    assert.ok(mebibytes < 45, `${mebibytes.toFixed(1)} MiB`)
    const told = seen.length
    const began = performance.now()
    api.put(SLICES, slice('s5000-1', 's5000', ['10.1.0.77']))
    await eventually(() => seen.length > told)
    assert.ok(
      performance.now() - began < listedMs / 4,
      'the cost of an event does not grow with the catalogue'
    )
  })
})

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function heapBytes(): number {
  collect()
  collect()
  return process.memoryUsage().heapUsed
}
