// Follows one collection of a Kubernetes API until it is stopped: a list in pages, then a watch from where the list
// ended. kube-source.ts has one reflector for each collection.
// Source: Kubernetes API concepts, "Efficient detection of changes", and client-go's reflector, whose behaviour this
// has.
// Invariants
//   1. All objects that the API has are reported, in its order, and all deletions. A watch that ended in order is
//      resumed. After any other end everything is listed again, and objects that are missing in the list are reported
//      as deleted (docs/decisions/0010).
//   2. No error ends it. What was reported is not withdrawn while the API cannot be asked (fail static).
//   3. It never goes back in time: a list or event that is older than what was seen changes nothing. Only when the
//      server insists on an older state for `staleAcceptMs` is that state taken: its etcd was restored from a backup.
//   4. It keeps no objects, only their names and versions.
//   5. A watch is a success once it brought an object or lived for `provenMs`; a bookmark proves nothing. After a watch
//      that ends before that there is a wait, which grows and which `wake` does not end. After EMPTY_WATCHES_MAX such
//      watches in a row there is an error in `onTrouble`, and everything is listed again.
//   6. A list ends: a page that is late is requested again with fewer objects and a longer deadline; a list whose
//      continue token expires is requested whole in one answer, as client-go's pager does.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import type { ObjectName } from '../../core/catalog/live-catalog.ts'
import { Backoff } from './backoff.ts'
import type { KubeClient } from './client.ts'
import { asKubeError, errorOfStatus, KubeError } from './errors.ts'

interface ReflectorOptions {
  readonly client: KubeClient
  /** The path of the collection, for example "/api/v1/services". */
  readonly path: string
  /** Added to the query of each list and watch, for example a labelSelector. */
  readonly query?: Readonly<Record<string, string>>
  /** Called with each object that is new or has another version than before. */
  readonly onPut: (name: ObjectName, object: Fields) => void
  /** Called once for each object that is gone. */
  readonly onDelete: (name: ObjectName) => void
  /** Called after each complete list. */
  readonly onListed: () => void
  /** Called with each error, and with undefined when a watch is a success (invariant 5). */
  readonly onTrouble: (trouble: KubeError | undefined) => void
  readonly timing?: Partial<ReflectorTiming>
  /** Returns a number in [0, 1). Tests replace it. */
  readonly random?: () => number
}

export interface ReflectorTiming {
  /** The shortest and the longest wait after an error. All fields that end in `Ms` are milliseconds. */
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
  /** The deadline of a page of a list. */
  readonly requestMs: number
  /** Seconds after which the server ends a watch: from this to 1.5 times this, so that watches do not end together. */
  readonly watchSeconds: number
  /** A watch without a byte for so long is broken. The server sends a bookmark about once a minute. */
  readonly silenceMs: number
  /** The time after which an older state is taken (invariant 3). */
  readonly staleAcceptMs: number
  /** The most objects of one page. */
  readonly pageObjects: number
  /** A watch that lived for so long is a success, even if it ended with an error. */
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
  /** Begins with a list. A second call does nothing. */
  start(): void
  /** Ends the wait after an error, at most once in 5 s. */
  wake(): void
  /** Ends the open request and resolves when nothing is called any more. */
  stop(): Promise<void>
}

// The API server ends its watches together when it restarts, and a proxy may do so again while it comes up.
const EMPTY_WATCHES_MAX = 5
// Objects of a page. With fewer, the requests take more time than the objects.
const PAGE_OBJECTS_MIN = 20
// A page gets at most this many times `requestMs`, and so does a list in one answer.
const PATIENCE_MAX = 8
// 100,000 slices of 4 KiB each. A list is requested in one answer only when its continue token has expired.
const WHOLE_LIST_BYTES_MAX = 400 * 1024 * 1024
// Callers may call `wake` again and again while the API stays out of reach; that must not defeat the backoff.
const WAKE_INTERVAL_MS = 5000

export function createReflector(options: ReflectorOptions): Reflector {
  const { client, path, random = Math.random } = options
  const timing = { ...REFLECTOR_TIMING, ...options.timing }
  const backoff = new Backoff({ minMs: timing.backoffMinMs, maxMs: timing.backoffMaxMs }, random)
  const stopping = new AbortController()
  /** The version of each object that was reported, by "namespace/name". */
  const known = new Map<string, string>()
  /** The version from which to watch; undefined: list first. */
  let resume: string | undefined
  /** The newest version that was seen, for invariant 3. */
  let newest = ''
  let staleSinceMs: number | undefined
  /**
   * The older state is taken: all objects of the next list are reported, because its versions do not compare with ours.
   */
  let rewound = false
  /** The last failure was status 410: etcd has compacted the history behind our version. */
  let gone = false
  /** Watches in a row that were no success (invariant 5). */
  let emptyWatches = 0
  let pageObjects = timing.pageObjects
  /** The deadline of the next page, in multiples of `requestMs`. */
  let patience = 1
  let wokenMs = -Infinity
  let running: Promise<void> | undefined
  /** Ends the wait after an error; undefined: there is none. */
  let pause: AbortController | undefined

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        if (resume === undefined) await list()
        else await watch(resume)
      } catch (error) {
        // A server that was restored from a backup soon has another state under the version that we saw last. A watch
        // from there would skip that state, so everything is listed again.
        resume = undefined
        if (!stopping.signal.aborted) await recover(asKubeError(error, path))
      }
    }
  }

  async function recover(error: KubeError): Promise<void> {
    if (error.code === 'GONE') {
      // Compacted history is an ordinary event, so one is not reported and needs no wait; two in a row are an error.
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
        // The objects of earlier pages were reported already; the whole list has them again, or they are deleted below.
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
      // A long list must not delay other work of the event loop, such as the pings of neighbours.
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

  /** Throws KubeError STALE for an older list, until the server has insisted on it for `staleAcceptMs`. */
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
    const message = `${path}: the server has version ${version}, which is older than version ${newest} that it had before`
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

  /** Waits after a watch that the server accepted and ended in order at once, to avoid a busy loop (invariant 5). */
  async function afterEmptyWatch(): Promise<void> {
    emptyWatches += 1
    if (emptyWatches % EMPTY_WATCHES_MAX === 0) {
      resume = undefined
      const message = `watch ${path}: the server ended the last ${emptyWatches} watches immediately`
      options.onTrouble(new KubeError({ code: 'SERVER_FAILED', message }))
    }
    await backoff.wait(stopping.signal)
  }

  /**
   * Reports an event. Returns true if it was about an object, and so no bookmark. Throws KubeError for ERROR events.
   */
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

/** One answer to a list. `next` is the continue token; undefined: it is the last page. */
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
    throw new KubeError({ code: 'BAD_RESPONSE', message: 'the answer is not a list of objects' })
  }
  return { version, next: typeof next === 'string' && next !== '' ? next : undefined, items }
}

function readEvent(event: unknown): { readonly type: string; readonly object: Fields } {
  if (isFields(event) && typeof event['type'] === 'string' && isFields(event['object'])) {
    return { type: event['type'], object: event['object'] }
  }
  throw new KubeError({ code: 'BAD_RESPONSE', message: 'a line of the watch is not an event' })
}

/**
 * Reads the name and the version of an object. `id` is "namespace/name", or "/name" for an object without a namespace.
 * Errors: KubeError BAD_RESPONSE.
 */
function identify(object: Fields): {
  readonly id: string
  readonly name: ObjectName
  readonly version: string
} {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const { namespace = '', name = '', resourceVersion } = metadata
  if (typeof namespace !== 'string' || typeof name !== 'string' || typeof resourceVersion !== 'string') {
    throw new KubeError({ code: 'BAD_RESPONSE', message: 'an object has no name or no resourceVersion' })
  }
  return { id: `${namespace}/${name}`, name: { namespace, name }, version: resourceVersion }
}

function nameOf(id: string): ObjectName {
  const slash = id.indexOf('/')
  return { namespace: id.slice(0, slash), name: id.slice(slash + 1) }
}

/**
 * Compares resource versions. They are decimal numbers of any length, which clients may compare since Kubernetes 1.35
 * (KEP-5504). A version in another form is never older.
 */
function isOlder(version: string, than: string): boolean {
  if (!/^\d+$/.test(version) || !/^\d+$/.test(than)) return false
  return version.length === than.length ? version < than : version.length < than.length
}
