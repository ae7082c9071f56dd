// The Kubernetes API as a port, for the edges that write a few objects there (src/io/kube has the client), and
// the little that must be known of an object to name it. Everything here is data.
import { isFields, type Fields } from '../model/field-check.ts'

export interface KubeCall {
  /** Default GET. */
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** "/api/v1/services" */
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: unknown
  /** Of the body. Default application/json. */
  readonly contentType?: string
  readonly signal?: AbortSignal
}

export interface KubeApi {
  /** The parsed body of a 2xx answer. Errors: any Error; with the HTTP status as `status` when there was an answer. */
  request(call: KubeCall): Promise<unknown>
}

export const MERGE_PATCH = 'application/merge-patch+json'
export const STRATEGIC_MERGE_PATCH = 'application/strategic-merge-patch+json'
export const APPLY_PATCH = 'application/apply-patch+yaml'

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

/** Whether an error is the API server's answer with this status. */
export function hasStatus(error: unknown, status: number): boolean {
  return error instanceof Error && 'status' in error && error.status === status
}

/** The object, or undefined where there is none; `status` 404 is also that of an API group which this cluster lacks. */
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

export function fieldsAt(object: Fields | undefined, ...keys: readonly string[]): Fields {
  let value: unknown = object
  for (const key of keys) value = isFields(value) ? value[key] : undefined
  return isFields(value) ? value : {}
}

export function textAt(object: Fields | undefined, ...keys: readonly string[]): string | undefined {
  const last = keys.at(-1)
  const value = last === undefined ? undefined : fieldsAt(object, ...keys.slice(0, -1))[last]
  return typeof value === 'string' ? value : undefined
}
