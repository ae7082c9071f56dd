// The feed for CoreDNS: a read-only Kubernetes list/watch API over HTTP. CoreDNS's kubernetes plugin reads the services
// of the mesh from it, with one path for each cluster and one for all clusters:
//   /clusters/<name>/api/v1/services, …/namespaces/<ns>/services/<name>, …/apis/discovery.k8s.io/v1/endpointslices
//   /clusters/all/…
// HTTP without TLS is enough: by default the server listens on loopback, on a port that only root can bind
// (docs/decisions/0047); it tells only what the mesh's DNS tells anyway, and no credentials of a cluster are involved.
// The state is in core/coredns/feed.ts; app/session/feed-service.ts starts and updates the server.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { isIP, isIPv6 } from 'node:net'

import type { Entry } from '../../core/coredns/collection.ts'
import type { EventLogLimits } from '../../core/coredns/event-log.ts'
import { Feed, type CollectionRow, type FeedInput } from '../../core/coredns/feed.ts'
import { objectText } from '../../core/coredns/objects.ts'
import { discoveryDocument } from './discovery.ts'
import { FeedError, listenError } from './errors.ts'
import { formatted, listFrame, singleText } from './format.ts'
import {
  encodeContinue,
  readRequest,
  type Asked,
  type Format,
  type ListOptions,
  type Target
} from './request.ts'
import { fail, JSON_TYPE, send, sendText, write } from './respond.ts'
import {
  badRequest,
  expired,
  notFound,
  notYet,
  READ_ONLY,
  TOO_MANY_WATCHES,
  tooLarge,
  type Failure
} from './status.ts'
import { isWanted, Watch } from './watch.ts'

export interface FeedServerOptions {
  /** One IP address. Port 0: the kernel chooses a free one. */
  readonly listen: { readonly address: string; readonly port: number }
  /** Called once for each request: when its answer was handed to the connection; for a watch, when it has begun. */
  readonly onRequest?: (metrics: FeedRequestMetrics) => void
  /** Tests replace limits. */
  readonly limits?: Partial<FeedServerLimits>
}

/** One request, for metrics. */
export interface FeedRequestMetrics {
  /** "other": /clusters, health, version, discovery, and requests that were refused before they were understood. */
  readonly verb: 'list' | 'watch' | 'get' | 'other'
  /** The HTTP status. */
  readonly code: number
  readonly seconds: number
}

export interface FeedServerLimits {
  /** Limits of the log of changes; undefined: EVENT_LOG_LIMITS of core/coredns/event-log.ts. */
  readonly log: EventLogLimits | undefined
  /**
   * Open watches. A CoreDNS has three for each cluster, so the default is enough for two CoreDNS in a mesh of 1,000
   * clusters.
   */
  readonly watchesMax: number
  /** Milliseconds between the bookmarks of each watch. */
  readonly bookmarkMs: number
  /**
   * Seconds after which a watch that asks for no timeout ends: a random value from this to twice this, so that not all
   * clients come back at once.
   */
  readonly watchSeconds: number
}

export interface FeedServer {
  /**
   * Resolves when the server listens. Call once. Errors: FeedError PORT_IN_USE, PORT_FORBIDDEN, ADDRESS_NOT_LOCAL,
   * BAD_ADDRESS, LISTEN_FAILED.
   */
  start(): Promise<void>
  /** Ends every watch and connection, and resolves when the port is closed. May be called again. */
  stop(): Promise<void>
  /**
   * Takes a new view and sends its changes to the watches. Takes little time for clusters that did not change. Before
   * the first call every list is answered with 503.
   */
  update(input: Omit<FeedInput, 'nowMs'>): void
  /** The URL of the server after `start`, for example "http://127.0.0.1:948"; '' before. */
  readonly url: string
  /** The number of open watches. */
  readonly watches: number
  /** Bytes that Node holds for clients that have not read them, of all watches together. */
  readonly queuedBytes: number
  /** The collections with their states and numbers of services. */
  rows(): readonly CollectionRow[]
}

/** Returns a server that does not listen before `start`. */
export function createFeedServer(options: FeedServerOptions): FeedServer {
  const limits = { ...LIMITS, ...options.limits }
  const feed = new Feed({ nowMs: Date.now(), ...(limits.log === undefined ? {} : { log: limits.log }) })
  const watches = new Map<Watch, string>()
  const server = createServer({ keepAliveTimeout: 90_000, requestTimeout: 30_000 }, handle)
  // Each watch holds a connection; as many others are for lists.
  server.maxConnections = limits.watchesMax * 2
  let bookmarks: NodeJS.Timeout | undefined
  let url = ''

  return {
    get url() {
      return url
    },

    get watches() {
      return watches.size
    },

    get queuedBytes() {
      return watches.keys().reduce((sum, watch) => sum + watch.queuedBytes, 0)
    },

    rows: () => feed.rows(Date.now()),

    update(input) {
      const changed = feed.update({ ...input, nowMs: Date.now() })
      for (const [watch, collection] of watches) watch.wake(changed.has(collection))
    },

    async start() {
      const { address, port } = options.listen
      const host = isIPv6(address) ? `[${address}]` : address
      if (isIP(address) === 0) {
        throw new FeedError('BAD_ADDRESS', {
          message: `feed-listen: ${JSON.stringify(address)} is not an IP address`,
          fix: 'Use 127.0.0.1:948 or [::1]:948.'
        })
      }
      try {
        server.listen(port, address)
        await once(server, 'listening')
        server.on('error', () => undefined) // an error after the bind concerns one connection; the server goes on
      } catch (error) {
        throw listenError(error, `${host}:${port}`)
      }
      const bound = server.address()
      url = `http://${host}:${typeof bound === 'object' ? bound?.port : port}`
      bookmarks = setInterval(() => {
        for (const watch of watches.keys()) watch.bookmark()
      }, limits.bookmarkMs)
    },

    async stop() {
      clearInterval(bookmarks)
      for (const watch of watches.keys()) watch.stop()
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    }
  }

  function handle(request: IncomingMessage, response: ServerResponse): void {
    const began = performance.now()
    const asked = readRequest(request.url ?? '', request.headers.accept)
    response.on('error', () => response.destroy())
    void answer(request, asked, response)
      .catch(() => response.destroy())
      .finally(() =>
        options.onRequest?.({
          verb: VERBS[asked.kind] ?? 'other',
          code: response.statusCode,
          seconds: (performance.now() - began) / 1000
        })
      )
  }

  /** Checks what all requests have in common, then answers. Rejects when the connection fails. */
  async function answer(request: IncomingMessage, asked: Asked, response: ServerResponse): Promise<void> {
    if (request.method !== 'GET') return fail(response, READ_ONLY)
    if (!isOwnName(request.headers.host)) return fail(response, FOREIGN_HOST)
    switch (asked.kind) {
      case 'failure':
        return fail(response, asked.failure)
      case 'clusters':
        return send(response, 200, { clusters: feed.rows(Date.now()) })
      case 'health': {
        const failure = unavailable(asked.collection)
        return failure === undefined ? sendText(response, 'ok') : fail(response, failure)
      }
      case 'document': {
        if (feed.state(asked.collection, Date.now()) === 'unknown')
          return fail(response, noCollection(asked.collection))
        if (asked.path.startsWith('openapi/')) return sendText(response, NO_SCHEMA, { code: 403 })
        const document = discoveryDocument(asked.path)
        return document === undefined ? fail(response, NO_RESOURCE) : send(response, 200, document)
      }
      case 'object':
      case 'list':
      case 'watch': {
        const failure = unavailable(asked.target.collection)
        return failure === undefined ? answerResource(asked, response) : fail(response, failure)
      }
      default:
        return asked satisfies never
    }
  }

  /** Answers a GET of one object, a list or a watch of a collection that is serving. */
  async function answerResource(
    asked: Asked & { readonly kind: 'object' | 'list' | 'watch' },
    response: ServerResponse
  ): Promise<void> {
    const { target, format } = asked
    if (asked.kind === 'list') return list(target, asked.list, format, response)
    if (asked.kind === 'object') {
      const key = target.namespace === '' ? asked.name : `${target.namespace}/${asked.name}`
      const entry = feed.entry(target.collection, target.resource, key)
      if (entry === undefined) return fail(response, notFound(`${target.resource} "${asked.name}" not found`))
      return sendText(response, `${singleText(textOf(entry), target.resource, format)}\n`, {
        headers: JSON_TYPE
      })
    }
    const { version, initialEvents, timeoutSeconds = limits.watchSeconds * (1 + Math.random()) } = asked.watch
    if (watches.size >= limits.watchesMax) return fail(response, TOO_MANY_WATCHES)
    if (version !== undefined && version > feed.resourceVersion)
      return fail(response, tooLarge(version, feed.resourceVersion))
    // A client that is sent all present objects first needs no earlier events, so its version may be too old.
    if (version !== undefined && !initialEvents && !feed.resumable(target.collection, version))
      return fail(response, expired(`too old resource version: ${version}`))
    const watch: Watch = new Watch({
      feed,
      target,
      watch: asked.watch,
      format,
      response,
      timeoutMs: Math.min(Math.max(1, timeoutSeconds), WATCH_SECONDS_MAX) * 1000,
      onEnd: () => watches.delete(watch)
    })
    watches.set(watch, target.collection)
    watch.start()
  }

  async function list(
    target: Target,
    options: ListOptions,
    format: Format,
    response: ServerResponse
  ): Promise<void> {
    const current = feed.resourceVersion
    const { version, exact, limit } = options
    if (version !== undefined && version > current) return fail(response, tooLarge(version, current))
    if (exact && version !== undefined && version !== current)
      return fail(response, expired(`the server does not keep resource version ${version}`))
    const from = options.continue
    // Later pages show the present objects under the version of the first page. This is sound, because the client
    // watches from that version afterwards and so sees all changes in between, some of them twice.
    if (from !== undefined && !feed.resumable(target.collection, from.version))
      return fail(response, expired('the continue token is too old'))
    // The keys are sorted, so the last key of a page tells where the next one begins.
    const found: Entry[] = []
    for (const entry of feed.entries(target.collection, target.resource)) {
      if (from !== undefined && entry.key <= from.after) continue
      if (isWanted(entry, target, options.matches)) found.push(entry)
    }
    const page = limit > 0 ? found.slice(0, limit) : found
    const last = page.at(-1)
    const isCut = last !== undefined && page.length < found.length
    const begun = from?.version ?? current
    const [head, tail] = listFrame(target.resource, format, {
      resourceVersion: String(begun),
      ...(isCut
        ? {
            continue: encodeContinue({ version: begun, after: last.key }),
            remainingItemCount: found.length - page.length
          }
        : {})
    })
    response.writeHead(200, JSON_TYPE)
    await write(response, head)
    let chunk = ''
    for (const [index, entry] of page.entries()) {
      chunk += (index === 0 ? '' : ',') + formatted(textOf(entry), target.resource, format)
      if (chunk.length > CHUNK_CHARACTERS) {
        await write(response, chunk)
        chunk = ''
      }
    }
    response.end(`${chunk}${tail}\n`)
  }

  /** The failure of a collection that is not serving: 503 while its catalogue is not complete, 404 if there is none. */
  function unavailable(collection: string): Failure | undefined {
    const state = feed.state(collection, Date.now())
    if (state === 'serving') return undefined
    return state === 'pending' ? notYet(collection) : noCollection(collection)
  }
}

const LIMITS: FeedServerLimits = {
  log: undefined,
  watchesMax: 6144,
  bookmarkMs: 30_000,
  watchSeconds: 1800
}
/** A client may ask for a longer watch, but gets no more than a day. */
const WATCH_SECONDS_MAX = 24 * 3600
/** The size of the writes of a list: fewer system calls, and little to hold for a slow client. */
const CHUNK_CHARACTERS = 64 * 1024
const VERBS: Readonly<Record<string, FeedRequestMetrics['verb']>> = {
  list: 'list',
  watch: 'watch',
  object: 'get'
}

function textOf({ source, resourceVersion }: Entry): string {
  return objectText(source, resourceVersion)
}

/**
 * Says whether the Host header is an address or localhost. Other names are refused: a web page could make a browser
 * read this server under a name of the page's own, which it points to 127.0.0.1 (DNS rebinding).
 */
function isOwnName(host: string | undefined): boolean {
  if (host === undefined) return false
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  return name === 'localhost' || isIP(name) !== 0
}

/**
 * kubectl requests the OpenAPI schema before it sends a write, which would be refused. If the schema is refused with
 * 403 and a plain text, kubectl shows the text; after any other answer it shows the status only (docs/decisions/0020).
 */
const NO_SCHEMA = 'this API is read-only and has no OpenAPI schema'
const NO_RESOURCE = notFound('the server could not find the requested resource')
const FOREIGN_HOST = badRequest('use an IP address or localhost as the host of the URL')

function noCollection(name: string): Failure {
  return notFound(`the mesh has no cluster ${JSON.stringify(name.slice(0, 64))}`)
}
