// One collection of a Kubernetes API, followed for ever: a paged list, then a watch from where the list ended.
// Source: Kubernetes API concepts, "Efficient detection of changes", and client-go's reflector, whose behaviour this has.
// Invariants
//   1. What the API holds is told, in its order, and every deletion with it: a watch that ended in order is resumed, after
//      anything else the whole is listed anew and what is missing from the list is gone.
//   2. No error ends it. What was told stays told while the API cannot be asked (fail static).
//   3. It never goes back in time: a list or event older than what was seen changes nothing. Only when the API insists on an
//      older state for `staleAcceptMs` is that believed: its etcd was restored from a backup.
//   4. It keeps no object, only names and versions.
//   5. A watch is believed once it brought an object or lived for `provenMs`; a bookmark proves nothing. Watches that end before that are
//      paused after with growing patience, which no wake cuts short, are shown as trouble, and after EMPTY_WATCHES_MAX of them in a
//      row the whole is listed anew.
//   6. A list ends: a page that is late is asked for with fewer objects and more time; a list whose continuation expires is fetched
//      whole in one answer, as client-go's pager does.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import type { ObjectName } from '../../core/catalog/live-catalog.ts'
import { Backoff } from './backoff.ts'
import type { KubeClient } from './client.ts'
import { asKubeError, errorOfStatus, KubeError } from './errors.ts'

interface ReflectorOptions {
  readonly client: KubeClient
  /** "/api/v1/services" */
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly onPut: (name: ObjectName, object: Fields) => void
  readonly onDelete: (name: ObjectName) => void
  /** After every whole list. */
  readonly onListed: () => void
  /** The error while it lasts; undefined once the watch stands. */
  readonly onTrouble: (trouble: KubeError | undefined) => void
  readonly timing?: Partial<ReflectorTiming>
  readonly random?: () => number
}

export interface ReflectorTiming {
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
  readonly requestMs: number
  /** How long the server keeps a watch at least; at most 1.5 times that, so that watches do not end together. */
  readonly watchSeconds: number
  /** The server sends a bookmark about once a minute. */
  readonly silenceMs: number
  readonly staleAcceptMs: number
  /** Objects of one page. */
  readonly pageObjects: number
  /** A watch that lived this many milliseconds counts as a success, even if it ended with an error. */
  readonly provenMs: number
}

const REFLECTOR_TIMING: ReflectorTiming = {
  backoffMinMs: 200,
  backoffMaxMs: 30_000,
  requestMs: 60_000,
  watchSeconds: 300,
  silenceMs: 150_000,
  staleAcceptMs: 60_000,
  pageObjects: 500,
  provenMs: 1000
}

export interface Reflector {
  start(): void
  /** Ends a pause after an error. */
  wake(): void
  stop(): Promise<void>
}

// The API server ends its watches together when it restarts, and a proxy may do so again while it comes up.
const EMPTY_WATCHES_MAX = 5
// Of a page: below it the requests cost more than the objects.
const PAGE_OBJECTS_MIN = 20
// A page gets at most this many times `requestMs`, and so does a list in one answer.
const PATIENCE_MAX = 8
// 100,000 slices at 4 KiB each. A list in one answer is asked for only where its pages expire.
const WHOLE_LIST_BYTES_MAX = 400 * 1024 * 1024
// Another part of the agent may wake us again and again while the same thing stays wrong.
const WAKE_INTERVAL_MS = 5000

export function createReflector(options: ReflectorOptions): Reflector {
  const { client, path, random = Math.random } = options
  const timing = { ...REFLECTOR_TIMING, ...options.timing }
  const backoff = new Backoff({ minMs: timing.backoffMinMs, maxMs: timing.backoffMaxMs }, random)
  const stopping = new AbortController()
  /** The version of each object that was told, by "namespace/name". */
  const known = new Map<string, string>()
  /** The version up to which all is known; undefined: list first. */
  let resume: string | undefined
  let newest = ''
  let staleSinceMs: number | undefined
  /** The next list is taken whole, for its versions mean something else than those before. */
  let rewound = false
  /** The last failure was compacted history. */
  let gone = false
  /** Watches in a row that proved nothing (invariant 5). */
  let emptyWatches = 0
  let pageObjects = timing.pageObjects
  /** Of a request of a list, in multiples of `requestMs`. */
  let patience = 1
  let wokenMs = -Infinity
  let running: Promise<void> | undefined
  /** While a pause that may be cut short lasts. */
  let pause: AbortController | undefined

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        if (resume === undefined) await list()
        else await watch(resume)
      } catch (error) {
        // A server that comes back may hold another state under versions that we have passed already: a watch from there
        // would skip it. Only a list tells.
        resume = undefined
        if (!stopping.signal.aborted) await recover(asKubeError(error, path))
      }
    }
  }

  async function recover(error: KubeError): Promise<void> {
    if (error.code === 'GONE') {
      // Compacted history is an ordinary event; only one after another is trouble.
      if (!gone) {
        gone = true
        return
      }
    }
    if (error.code === 'TOO_LARGE') pageObjects = Math.max(1, pageObjects >> 1)
    options.onTrouble(error)
    pause = new AbortController()
    await backoff.wait(AbortSignal.any([stopping.signal, pause.signal]), error.retryAfterMs)
    pause = undefined
  }

  async function list(): Promise<void> {
    const listed = new Set<string>()
    let version: string | undefined
    let next: string | undefined
    do {
      const page: Page = await fetchPage(next).catch((error: unknown) => {
        if (next === undefined || asKubeError(error, path).code !== 'GONE') throw error
        // What was told of the pages before stays true; the whole list tells of it again.
        listed.clear()
        version = undefined
        return fetchWhole()
      })
      if (version === undefined) refuseStale(page.version)
      version ??= page.version
      for (const item of page.items) {
        const { id, name, version: itemVersion } = identify(item)
        listed.add(id)
        if (known.get(id) === itemVersion && !rewound) continue
        known.set(id, itemVersion)
        options.onPut(name, item)
      }
      next = page.next
      // A long list must not hold up the pings of the neighbours.
      await nextTurn()
    } while (next !== undefined)
    for (const id of known.keys()) if (!listed.has(id)) forget(id)
    newest = version
    resume = version
    rewound = false
    patience = 1
    pageObjects = Math.min(timing.pageObjects, pageObjects * 2)
    options.onListed()
  }

  async function fetchPage(next: string | undefined): Promise<Page> {
    // Without a resourceVersion the list is consistent: the server asks etcd for it, not its cache.
    try {
      const body = await client.request({
        path,
        query: {
          ...options.query,
          limit: String(pageObjects),
          ...(next === undefined ? {} : { continue: next })
        },
        deadlineMs: timing.requestMs * patience,
        signal: stopping.signal
      })
      return readPage(body)
    } catch (error) {
      if (asKubeError(error, path).code === 'TIMEOUT') {
        pageObjects = Math.max(Math.min(PAGE_OBJECTS_MIN, pageObjects), pageObjects >> 2)
        patience = Math.min(PATIENCE_MAX, patience * 2)
      }
      throw error
    }
  }

  async function fetchWhole(): Promise<Page> {
    const body = await client.request({
      path,
      query: { ...options.query },
      deadlineMs: timing.requestMs * PATIENCE_MAX,
      bytesMax: WHOLE_LIST_BYTES_MAX,
      signal: stopping.signal
    })
    return readPage(body)
  }

  /** Errors: KubeError STALE. After `staleAcceptMs` of insistence the older state is taken instead. */
  function refuseStale(version: string): void {
    if (rewound) return
    if (!isOlder(version, newest)) {
      staleSinceMs = undefined
      return
    }
    const now = performance.now()
    staleSinceMs ??= now
    if (now - staleSinceMs < timing.staleAcceptMs) throw stale(version)
    staleSinceMs = undefined
    rewound = true
  }

  function stale(version: string): KubeError {
    const message = `${path}: the server is at version ${version}, behind ${newest} which it had before`
    return new KubeError({ code: 'STALE', message })
  }

  async function watch(from: string): Promise<void> {
    let isProven = false
    let timer: NodeJS.Timeout | undefined
    const prove = (): void => {
      if (isProven) return
      isProven = true
      gone = false
      emptyWatches = 0
      backoff.reset()
      options.onTrouble(undefined)
    }
    try {
      await client.watch({
        path,
        query: {
          ...options.query,
          watch: '1',
          allowWatchBookmarks: 'true',
          resourceVersion: from,
          timeoutSeconds: String(Math.ceil(timing.watchSeconds * (1 + random() / 2)))
        },
        silenceMs: timing.silenceMs,
        signal: stopping.signal,
        onOpen: () => {
          timer = setTimeout(prove, timing.provenMs)
        },
        onEvent: (event) => {
          if (take(event)) prove()
        }
      })
    } finally {
      clearTimeout(timer)
    }
    if (!isProven) await afterEmptyWatch()
  }

  /** It was taken and ended in order at once: no error, but no reason for a busy loop either (invariant 5). */
  async function afterEmptyWatch(): Promise<void> {
    emptyWatches += 1
    if (emptyWatches % EMPTY_WATCHES_MAX === 0) {
      resume = undefined
      const message = `watch ${path}: the server ended ${emptyWatches} watches in a row at once`
      options.onTrouble(new KubeError({ code: 'SERVER_FAILED', message }))
    }
    await backoff.wait(stopping.signal)
  }

  /** Whether it told of an object. */
  function take(event: unknown): boolean {
    const { type, object } = readEvent(event)
    if (type === 'ERROR') {
      const status = typeof object['code'] === 'number' ? object['code'] : 500
      throw errorOfStatus(status, { body: object, what: `watch ${path}` })
    }
    const { id, name, version } = identify(object)
    if (isOlder(version, newest)) throw stale(version)
    const isChange = type === 'ADDED' || type === 'MODIFIED'
    if (isChange) {
      known.set(id, version)
      options.onPut(name, object)
    } else if (type === 'DELETED') forget(id)
    newest = version
    resume = version
    return isChange || type === 'DELETED'
  }

  function forget(id: string): void {
    if (known.delete(id)) options.onDelete(nameOf(id))
  }

  return {
    start: () => {
      running ??= run()
    },
    wake: () => {
      if (pause === undefined || performance.now() - wokenMs < WAKE_INTERVAL_MS) return
      wokenMs = performance.now()
      pause.abort()
    },
    stop: async () => {
      stopping.abort()
      await running
    }
  }
}

interface Page {
  readonly version: string
  readonly next: string | undefined
  readonly items: readonly Fields[]
}

function readPage(body: unknown): Page {
  const metadata = isFields(body) && isFields(body['metadata']) ? body['metadata'] : {}
  const items = isFields(body) ? (body['items'] ?? []) : undefined
  const version = metadata['resourceVersion']
  const next = metadata['continue']
  if (typeof version !== 'string' || version === '' || !Array.isArray(items) || !items.every(isFields)) {
    throw new KubeError({ code: 'BAD_RESPONSE', message: 'the answer is no list of objects' })
  }
  return { version, next: typeof next === 'string' && next !== '' ? next : undefined, items }
}

function readEvent(event: unknown): { readonly type: string; readonly object: Fields } {
  if (isFields(event) && typeof event['type'] === 'string' && isFields(event['object'])) {
    return { type: event['type'], object: event['object'] }
  }
  throw new KubeError({ code: 'BAD_RESPONSE', message: 'a line of the watch is no event' })
}

function identify(object: Fields): {
  readonly id: string
  readonly name: ObjectName
  readonly version: string
} {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const { namespace = '', name = '', resourceVersion } = metadata
  if (typeof namespace !== 'string' || typeof name !== 'string' || typeof resourceVersion !== 'string') {
    throw new KubeError({ code: 'BAD_RESPONSE', message: 'an object has no name or no version' })
  }
  return { id: `${namespace}/${name}`, name: { namespace, name }, version: resourceVersion }
}

function nameOf(id: string): ObjectName {
  const slash = id.indexOf('/')
  return { namespace: id.slice(0, slash), name: id.slice(slash + 1) }
}

/** Versions are decimal numbers of any length, comparable since Kubernetes 1.35 (KEP-5504); others are never older. */
function isOlder(version: string, than: string): boolean {
  if (!/^\d+$/.test(version) || !/^\d+$/.test(than)) return false
  return version.length === than.length ? version < than : version.length < than.length
}
