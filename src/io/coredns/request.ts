// Reads a request once: the path, the query and the accepted media types become an `Asked`, which server.ts answers. A
// request that cannot be answered becomes a `failure`.
// Source: Kubernetes API concepts; KEP-3157 for sendInitialEvents.
import type { ResourceName } from '../../core/coredns/objects.ts'
import {
  parseFieldSelector,
  parseLabelSelector,
  type Selector,
  type SelectorReading
} from '../../core/coredns/selector.ts'
import { badRequest, NOT_ACCEPTABLE, notFound, type Failure } from './status.ts'

/** A request after reading, by kind. */
export type Asked =
  | { readonly kind: 'failure'; readonly failure: Failure }
  /** The list of the collections, at /clusters. Not part of the Kubernetes API. */
  | { readonly kind: 'clusters' }
  /** /healthz, /livez and /readyz of a collection. */
  | { readonly kind: 'health'; readonly collection: string }
  /** Any other path below a collection: /version, API discovery (discovery.ts), or a path that does not exist. */
  | { readonly kind: 'document'; readonly collection: string; readonly path: string }
  | { readonly kind: 'object'; readonly target: Target; readonly name: string; readonly format: Format }
  | { readonly kind: 'list'; readonly target: Target; readonly list: ListOptions; readonly format: Format }
  | { readonly kind: 'watch'; readonly target: Target; readonly watch: WatchOptions; readonly format: Format }

/** The objects that a request is about. */
export interface Target {
  /** The name of a cluster, or "all" (core/coredns/feed.ts). */
  readonly collection: string
  readonly resource: ResourceName
  /** '' means all namespaces. */
  readonly namespace: string
}

/** The form of the objects in the answer (format.ts). */
export type Format = 'object' | 'metadata' | 'table'

/** The query of a list. */
export interface ListOptions {
  /** Label and field selector in one. */
  readonly matches: Selector
  /** The most objects of the answer; 0: no limit. */
  readonly limit: number
  /** undefined: the first page. */
  readonly continue: Continue | undefined
  /** resourceVersion; undefined: any version, which a client writes as '' or 0. */
  readonly version: number | undefined
  /** resourceVersionMatch=Exact: the list must be as of `version`. */
  readonly exact: boolean
}

/**
 * The place at which a paged list goes on. The client gets it as a token, so the server keeps nothing between pages.
 */
interface Continue {
  /** The version with which the list began; the client watches from it after the last page. */
  readonly version: number
  /** The key of the last object that was sent (`Entry.key`). */
  readonly after: string
}

/** The query of a watch. */
export interface WatchOptions {
  /** Label and field selector in one. */
  readonly matches: Selector
  /** The version after which events are sent; undefined: the present one. */
  readonly version: number | undefined
  /** The present objects are sent first, as ADDED events. */
  readonly initialEvents: boolean
  /** The client accepts BOOKMARK events. */
  readonly bookmarks: boolean
  /** Seconds after which the server ends the watch; undefined: the server chooses. */
  readonly timeoutSeconds: number | undefined
}

/** The resources of the feed, by the name in their paths. */
export const RESOURCES: Readonly<Record<ResourceName, Resource>> = {
  namespaces: { group: 'api/v1', apiVersion: 'v1', kind: 'Namespace', singular: 'namespace', short: ['ns'] },
  services: { group: 'api/v1', apiVersion: 'v1', kind: 'Service', singular: 'service', short: ['svc'] },
  endpointslices: {
    group: 'apis/discovery.k8s.io/v1',
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    singular: 'endpointslice',
    short: []
  }
}

interface Resource {
  /** The path of the group version below a collection. */
  readonly group: string
  readonly apiVersion: string
  readonly kind: string
  readonly singular: string
  /** Names that kubectl accepts instead, such as "svc". */
  readonly short: readonly string[]
}

/**
 * `url` is the path with the query, `accept` the header of that name. Never throws: what cannot be answered is a
 * `failure` with status 400, 404 or 406. Whether the collection exists is not checked here.
 */
export function readRequest(url: string, accept: string | undefined): Asked {
  const parsed = URL.parse(url, 'http://feed')
  if (parsed === null || url.length > URL_MAX) return failure(badRequest('the URL is malformed'))
  const [, root, collection = '', ...rest] = decodePath(parsed.pathname) ?? []
  if (root !== 'clusters') return failure(notFound(`try /clusters/<name>/api/v1/services`))
  if (collection === '') return { kind: 'clusters' }
  const path = rest.join('/')
  if (path === 'healthz' || path === 'livez' || path === 'readyz') return { kind: 'health', collection }
  const place = readResource(rest)
  if (place === undefined) return { kind: 'document', collection, path }
  const format = formatOf(accept)
  if (format === undefined) return failure(NOT_ACCEPTABLE)
  const target: Target = { collection, ...place.target }
  if (place.name !== undefined) return { kind: 'object', target, name: place.name, format }
  return readQuery(target, parsed.searchParams, format)
}

/** In characters. A URL with selectors and a continue token has a few hundred. */
const URL_MAX = 8192

/** A resource in a path, without its collection. `name` is set for a single object. */
interface Place {
  readonly target: { readonly resource: ResourceName; readonly namespace: string }
  readonly name: string | undefined
}

/** Returns undefined for a path that names no resource of the feed. */
function readResource(path: readonly string[]): Place | undefined {
  // The core group is at /api/v1, all other groups at /apis/<group>/<version>.
  const depth = path[0] === 'api' ? 2 : 3
  const group = path.slice(0, depth).join('/')
  const rest = path.slice(depth)
  if (rest.length === 0 || rest.includes('')) return undefined
  // The path is namespaces/<ns>/<resource>[/<name>], or <resource> for all namespaces, or namespaces/<name>.
  const isNested = rest[0] === 'namespaces' && rest.length > 2
  const [resource = '', name, ...more] = isNested ? rest.slice(2) : rest
  if (!isResource(resource) || RESOURCES[resource].group !== group || more.length > 0) return undefined
  if (isNested && resource === 'namespaces') return undefined
  if (!isNested && name !== undefined && resource !== 'namespaces') return undefined
  return { target: { resource, namespace: isNested ? (rest[1] ?? '') : '' }, name }
}

function isResource(text: string): text is ResourceName {
  return Object.hasOwn(RESOURCES, text)
}

function readQuery(target: Target, query: URLSearchParams, format: Format): Asked {
  const matches = readSelectors(query, target.resource)
  if (matches.kind === 'invalid') return failure(badRequest(matches.reason))
  // undefined: not given. NaN: given, but no number of at most 16 digits.
  const number = (key: string): number | undefined => {
    const text = query.get(key)
    return text === null || text === '' ? undefined : /^\d{1,16}$/.test(text) ? Number(text) : NaN
  }
  const numbers = {
    version: number('resourceVersion'),
    limit: number('limit'),
    timeout: number('timeoutSeconds')
  }
  const bad = Object.entries(numbers).find(([, value]) => Number.isNaN(value))
  if (bad !== undefined) return failure(badRequest(`${bad[0]}: not a number`))
  const match = query.get('resourceVersionMatch') ?? ''
  if (!['', 'Exact', 'NotOlderThan'].includes(match))
    return failure(badRequest(`resourceVersionMatch: ${match} is not supported`))
  const { version, limit = 0, timeout: timeoutSeconds } = numbers
  if (isTrue(query.get('watch'))) {
    const initialEvents = isTrue(query.get('sendInitialEvents'))
    if (initialEvents && match !== 'NotOlderThan')
      return failure(badRequest('sendInitialEvents requires resourceVersionMatch=NotOlderThan'))
    const bookmarks = isTrue(query.get('allowWatchBookmarks'))
    // To a watch, version 0 means "begin with any state", as no version does.
    const from = version === 0 ? undefined : version
    const asksNothing = version === undefined && query.get('sendInitialEvents') === 'false'
    const watch = {
      matches: matches.matches,
      version: from,
      // Without a version, a watch begins with the present objects, unless sendInitialEvents is false.
      initialEvents: initialEvents || (from === undefined && !asksNothing),
      bookmarks,
      timeoutSeconds
    }
    return { kind: 'watch', target, watch, format }
  }
  const token = query.get('continue') ?? ''
  const position = token === '' ? undefined : decodeContinue(token)
  if (token !== '' && position === undefined)
    return failure(badRequest('continue: not a token of this server'))
  const list: ListOptions = {
    matches: matches.matches,
    limit,
    continue: position,
    version: version === 0 ? undefined : version,
    exact: match === 'Exact'
  }
  return { kind: 'list', target, list, format }
}

/** Joins fieldSelector and labelSelector: an object must match both. */
function readSelectors(query: URLSearchParams, resource: ResourceName): SelectorReading {
  const fields = parseFieldSelector(query.get('fieldSelector') ?? '', resource)
  if (fields.kind === 'invalid') return fields
  const labels = parseLabelSelector(query.get('labelSelector') ?? '')
  if (labels.kind === 'invalid') return labels
  return { kind: 'selector', matches: (object) => fields.matches(object) && labels.matches(object) }
}

/** Returns the token for the next page: base64url of a JSON array. Clients treat it as opaque. */
export function encodeContinue({ version, after }: Continue): string {
  return Buffer.from(JSON.stringify([version, after])).toString('base64url')
}

function decodeContinue(token: string): Continue | undefined {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(token, 'base64url').toString())
    if (!Array.isArray(parsed)) return undefined
    const [version, after]: unknown[] = parsed
    return typeof version === 'number' && typeof after === 'string' ? { version, after } : undefined
  } catch {
    // The token was not made by this server.
    return undefined
  }
}

/**
 * Returns the first accepted media type that this server can write. client-go prefers protobuf, but every client that
 * prefers it also accepts JSON.
 */
function formatOf(accept: string | undefined): Format | undefined {
  if (accept === undefined || accept === '') return 'object'
  for (const range of accept.split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim())
    if (!['application/json', 'application/*', '*/*'].includes(type)) continue
    const as = parameters.find((parameter) => parameter.startsWith('as='))?.slice(3)
    if (as === undefined) return 'object'
    if (as === 'Table') return 'table'
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') return 'metadata'
  }
  return undefined
}

function isTrue(text: string | null): boolean {
  return text === 'true' || text === '1'
}

/** The decoded segments of a path, the first of which is ''; undefined for a malformed escape. */
function decodePath(path: string): readonly string[] | undefined {
  try {
    return path.replace(/\/$/, '').split('/').map(decodeURIComponent)
  } catch {
    // URIError: a "%" without two hexadecimal digits.
    return undefined
  }
}

function failure(failure: Failure): Asked {
  return { kind: 'failure', failure }
}
