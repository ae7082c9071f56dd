// The Kubernetes API as a port, for code that reads and writes a few objects. src/io/kube implements it for the agent
// and meshctl; the webhook, the wiring of the cluster's DNS and the install commands call it. Requests and objects
// are plain data.
import { isFields, type Fields } from '../model/field-check.ts'

/** One request to the API server. */
export interface KubeCall {
  /** Default: GET. */
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** The path without a query: "/api/v1/services". */
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: unknown
  /** The content type of the body. Default: application/json. */
  readonly contentType?: string
  readonly signal?: AbortSignal
}

/** A client that is authenticated at one API server. */
export interface KubeApi {
  /**
   * Resolves to the parsed body of a 2xx answer. Rejects with an Error, which has the HTTP status as `status` when
   * the server answered.
   */
  request(call: KubeCall): Promise<unknown>
}

/** Content types of patches: RFC 7396, Kubernetes' strategic merge, and server-side apply. */
export const MERGE_PATCH = 'application/merge-patch+json'
export const STRATEGIC_MERGE_PATCH = 'application/strategic-merge-patch+json'
export const APPLY_PATCH = 'application/apply-patch+yaml'

/** The fields that every object of the Kubernetes API has. */
export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: KubeMetadata
  readonly [field: string]: unknown
}

interface KubeMetadata {
  readonly name: string
  readonly namespace?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly [field: string]: unknown
}

/** Whether an error is an answer of the API server with this HTTP status. */
export function hasStatus(error: unknown, status: number): boolean {
  return error instanceof Error && 'status' in error && error.status === status
}

/**
 * Resolves to the object, or to undefined when the server answers 404, which it also does for an API group that the
 * cluster does not have. Other errors of the request are passed on.
 */
export async function getObject(
  api: KubeApi,
  path: string,
  signal?: AbortSignal
): Promise<Fields | undefined> {
  try {
    const found = await api.request(signal === undefined ? { path } : { path, signal })
    return isFields(found) ? found : undefined
  } catch (error) {
    if (hasStatus(error, 404)) return undefined
    throw error
  }
}

// A page of the largest objects that are listed, Nodes with 50 images and many annotations, has less than 10 MB.
const PAGE_OBJECTS = 100
// The token of the next page expires after some minutes. A list that is begun again so often is no accident any more.
const LIST_TRIES = 3

/**
 * Lists all objects of a collection, page by page, and resolves to what `read` returns for each of them; so a list of
 * large objects needs little memory. undefined: the server answers 404, as for an API group that the cluster does not
 * have. When the token of the next page has expired (410), the list is begun again. Other errors of a request are
 * passed on.
 */
export async function listObjects<T>(
  api: KubeApi,
  call: Pick<KubeCall, 'path' | 'query' | 'signal'>,
  read: (item: Fields) => T
): Promise<readonly T[] | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await listOnce(api, call, read)
    } catch (error) {
      if (hasStatus(error, 404)) return undefined
      if (!hasStatus(error, 410) || attempt === LIST_TRIES) throw error
    }
  }
}

async function listOnce<T>(
  api: KubeApi,
  call: Pick<KubeCall, 'path' | 'query' | 'signal'>,
  read: (item: Fields) => T
): Promise<readonly T[]> {
  const found: T[] = []
  for (let next: string | undefined = ''; next !== undefined;) {
    const page = await api.request({
      ...call,
      query: { ...call.query, limit: String(PAGE_OBJECTS), ...(next === '' ? {} : { continue: next }) }
    })
    const list = isFields(page) ? page : {}
    if (Array.isArray(list['items'])) found.push(...list['items'].filter(isFields).map(read))
    // The last page has no token, or an empty one.
    next = textAt(list, 'metadata', 'continue') || undefined
  }
  return found
}

/** The mapping under a path of keys; {} when one of them is missing or no mapping. It never throws. */
export function fieldsAt(object: Fields | undefined, ...keys: readonly string[]): Fields {
  let value: unknown = object
  for (const key of keys) value = isFields(value) ? value[key] : undefined
  return isFields(value) ? value : {}
}

/** The string under a path of keys; undefined when it is missing or not a string. */
export function textAt(object: Fields | undefined, ...keys: readonly string[]): string | undefined {
  const last = keys.at(-1)
  const value = last === undefined ? undefined : fieldsAt(object, ...keys.slice(0, -1))[last]
  return typeof value === 'string' ? value : undefined
}
