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
