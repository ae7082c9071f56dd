// What a request asks for: path and query of the Kubernetes API, read once. Source: Kubernetes API conventions; KEP-3157 for
// sendInitialEvents.
import type { ResourceName } from '../../core/coredns/objects.ts'
import {
  parseFieldSelector,
  parseLabelSelector,
  type Selector,
  type SelectorReading
} from '../../core/coredns/selector.ts'
import { badRequest, NOT_ACCEPTABLE, notFound, type Failure } from './status.ts'

export type Asked =
  | { readonly kind: 'failure'; readonly failure: Failure }
  /** Names of the collections: not part of the Kubernetes API. */
  | { readonly kind: 'clusters' }
  | { readonly kind: 'health'; readonly collection: string }
  /** Version and discovery, the same for every collection. */
  | { readonly kind: 'document'; readonly collection: string; readonly path: string }
  | { readonly kind: 'object'; readonly target: Target; readonly name: string; readonly format: Format }
  | { readonly kind: 'list'; readonly target: Target; readonly list: ListOptions; readonly format: Format }
  | { readonly kind: 'watch'; readonly target: Target; readonly watch: WatchOptions; readonly format: Format }

export interface Target {
  readonly collection: string
  readonly resource: ResourceName
  /** '': all. */
  readonly namespace: string
}

export type Format = 'object' | 'metadata' | 'table'

export interface ListOptions {
  readonly matches: Selector
  /** 0: no limit. */
  readonly limit: number
  readonly continue: Continue | undefined
  readonly version: number | undefined
  readonly exact: boolean
}

/** Where a paged list goes on: the version it began with, from which the client will watch, and the last key it was given. */
interface Continue {
  readonly version: number
  readonly after: string
}

export interface WatchOptions {
  readonly matches: Selector
  /** undefined: from now on, after what there is. */
  readonly version: number | undefined
  readonly initialEvents: boolean
  readonly bookmarks: boolean
  readonly timeoutSeconds: number | undefined
}

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
  readonly group: string
  readonly apiVersion: string
  readonly kind: string
  readonly singular: string
  readonly short: readonly string[]
}

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

/** A URL with selectors and a continue token is a few hundred characters. */
const URL_MAX = 8192

interface Place {
  readonly target: { readonly resource: ResourceName; readonly namespace: string }
  readonly name: string | undefined
}

function readResource(path: readonly string[]): Place | undefined {
  const depth = path[0] === 'api' ? 2 : 3
  const group = path.slice(0, depth).join('/')
  const rest = path.slice(depth)
  if (rest.length === 0 || rest.includes('')) return undefined
  // namespaces/<ns>/<resource>[/<name>], else <resource> of all namespaces, or namespaces/<name>
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
    const from = version === 0 ? undefined : version
    const asksNothing = version === undefined && query.get('sendInitialEvents') === 'false'
    const watch = {
      matches: matches.matches,
      version: from,
      // Without a version, a watch begins with what there is, unless told otherwise.
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

function readSelectors(query: URLSearchParams, resource: ResourceName): SelectorReading {
  const fields = parseFieldSelector(query.get('fieldSelector') ?? '', resource)
  if (fields.kind === 'invalid') return fields
  const labels = parseLabelSelector(query.get('labelSelector') ?? '')
  if (labels.kind === 'invalid') return labels
  return { kind: 'selector', matches: (object) => fields.matches(object) && labels.matches(object) }
}

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
    // Not ours.
    return undefined
  }
}

/**
 * Returns the first accepted media type that this server can write. client-go prefers protobuf, but every client that prefers it also
 * accepts JSON.
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

function decodePath(path: string): readonly string[] | undefined {
  try {
    return path.replace(/\/$/, '').split('/').map(decodeURIComponent)
  } catch {
    // A broken escape.
    return undefined
  }
}

function failure(failure: Failure): Asked {
  return { kind: 'failure', failure }
}
