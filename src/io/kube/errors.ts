// The errors of requests to a Kubernetes API, with a stable code for programs and a fix for people.
import { CodedError, codeOf } from '../../core/model/coded-error.ts'
import { isFields } from '../../core/model/field-check.ts'

type KubeErrorCode =
  /** There is no usable kubeconfig or service account. */
  | 'BAD_CONFIG'
  /** The answer is no JSON, or not the object or list that was requested. */
  | 'BAD_RESPONSE'
  /** Status 409: another client has written in between, or the object exists. */
  | 'CONFLICT'
  | 'FORBIDDEN'
  /** Status 410: the resource version or the continue token is older than the history that etcd keeps. */
  | 'GONE'
  /** There was no answer: the connection or the login failed. */
  | 'NETWORK'
  | 'NOT_IN_CLUSTER'
  /** Any other status below 500. */
  | 'REFUSED_BY_KUBERNETES'
  /** Status 429 or 500 and above, or watches that end at once. */
  | 'SERVER_FAILED'
  /** The server has an older state than it had before (reflector.ts, invariant 3). */
  | 'STALE'
  /** There was no answer within the deadline, or a watch was silent for too long. */
  | 'TIMEOUT'
  /** The body of an answer or a line of a watch exceeds its limit. */
  | 'TOO_LARGE'
  | 'UNAUTHORIZED'

interface KubeErrorDetails {
  readonly code: KubeErrorCode
  readonly message: string
  /** The HTTP status; undefined: there was no answer, or the error is not one of the server. */
  readonly status?: number
  /** The wait that the server asks for in Retry-After. */
  readonly retryAfterMs?: number
  readonly cause?: unknown
}

/**
 * The error of a failed request or of an unusable configuration. `hasStatus` of core/kube/kube-api.ts reads `status`.
 */
export class KubeError extends CodedError<KubeErrorCode> {
  override readonly name = 'KubeError'
  declare readonly fix: string
  readonly status: number | undefined
  readonly retryAfterMs: number | undefined

  constructor(details: KubeErrorDetails) {
    super({ ...details, fix: FIXES[details.code] })
    this.status = details.status
    this.retryAfterMs = details.retryAfterMs
  }
}

const FIXES: Readonly<Record<KubeErrorCode, string>> = {
  BAD_CONFIG: 'run in a pod with a service account, or set kubeconfig to the path of a kubeconfig file',
  BAD_RESPONSE: 'check that the address is that of a Kubernetes API server; the agent tries again',
  CONFLICT: 'no action is needed: the agent tries again',
  FORBIDDEN: 'give the service account the roles of the chart; the agent tries again',
  GONE: 'no action is needed: the agent lists all objects again',
  NETWORK: 'check the API server and the network to it; the agent tries again',
  NOT_IN_CLUSTER: 'check the name of the object, and that the version of Kubernetes has this API',
  REFUSED_BY_KUBERNETES: 'correct what the message of the API server names',
  SERVER_FAILED: 'check the API server; the agent tries again',
  STALE:
    'check the etcd of this API server; if it was restored from a backup, the agent accepts the older state after 60 s',
  TIMEOUT: 'check the API server and the network to it; the agent tries again',
  TOO_LARGE: 'make the objects smaller: one page of a list must fit into 64 MiB',
  UNAUTHORIZED: 'renew the token or certificate; the agent reads it again and tries again'
}

/**
 * Makes the error of an answer other than 2xx. The message has the text of the server's Status object (meta/v1 Status),
 * if `body` is one. `what` names the request, as in "GET /api/v1/nodes".
 */
export function errorOfStatus(
  status: number,
  answer: { readonly body: unknown; readonly what: string; readonly retryAfterMs?: number }
): KubeError {
  const { body, what, retryAfterMs = 0 } = answer
  const said = isFields(body) && typeof body['message'] === 'string' ? body['message'] : ''
  return new KubeError({
    code: codeOfStatus(status),
    message: `${what}: ${status}${said === '' ? '' : ` ${said.slice(0, MESSAGE_MAX)}`}`,
    status,
    ...(retryAfterMs > 0 ? { retryAfterMs } : {})
  })
}

/** Converts any thrown value to a KubeError. An error that this module did not make is treated as a network error. */
export function asKubeError(error: unknown, what: string): KubeError {
  if (error instanceof KubeError) return error
  // An AggregateError of a failed connection has a code and no message.
  const reason = error instanceof Error ? error.message || (codeOf(error) ?? error.name) : String(error)
  return new KubeError({ code: 'NETWORK', message: `${what}: ${reason}`, cause: error })
}

// Characters of a server's message that are shown. The messages of an API server are shorter.
const MESSAGE_MAX = 300

/** Sorts the statuses by what the caller can do about them. */
function codeOfStatus(status: number): KubeErrorCode {
  if (status === 401) return 'UNAUTHORIZED'
  if (status === 403) return 'FORBIDDEN'
  if (status === 404) return 'NOT_IN_CLUSTER'
  if (status === 409) return 'CONFLICT'
  if (status === 410) return 'GONE'
  return status === 429 || status >= 500 ? 'SERVER_FAILED' : 'REFUSED_BY_KUBERNETES'
}
