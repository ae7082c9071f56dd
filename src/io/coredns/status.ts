// The failures of the feed as meta.k8s.io/v1 Status objects. Their `code` and `reason` are those of the Kubernetes API,
// because client-go decides by them whether it asks again, lists again or gives up
// (k8s.io/apimachinery/pkg/api/errors).

export interface Failure {
  /** The HTTP status. */
  readonly code: number
  /** A word for programs, such as "Expired" (meta/v1 StatusReason). */
  readonly reason: string
  /** A text for people. */
  readonly message: string
  /** Seconds after which the client should ask again; undefined: the client decides. */
  readonly retryAfter?: number
  /** Details for programs; the reasons are meta/v1 CauseTypes. */
  readonly causes?: readonly { readonly reason: string; readonly message: string }[]
}

/** Returns the Status object, for the body of an answer or for an ERROR event. */
export function statusBody({ code, reason, message, retryAfter, causes }: Failure): object {
  const details = {
    ...(retryAfter === undefined ? {} : { retryAfterSeconds: retryAfter }),
    ...(causes === undefined ? {} : { causes })
  }
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason,
    ...(Object.keys(details).length === 0 ? {} : { details }),
    code
  }
}

export function badRequest(message: string): Failure {
  return { code: 400, reason: 'BadRequest', message }
}

export function notFound(message: string): Failure {
  return { code: 404, reason: 'NotFound', message }
}

/** The answer when the resource version is older than the log of changes, or is not in it. client-go lists again. */
export function expired(message: string): Failure {
  return { code: 410, reason: 'Expired', message }
}

/**
 * The answer while the collection is not completely known. client-go asks again with backoff, and CoreDNS answers
 * SERVFAIL until then.
 */
export function notYet(collection: string): Failure {
  return {
    code: 503,
    reason: 'ServiceUnavailable',
    message: `the agent does not have all services of ${collection} yet`,
    retryAfter: 1
  }
}

/**
 * The answer when the resource version is higher than the newest one, because the clock went back between two runs of
 * the agent (versions begin at the time of the start, core/coredns/feed.ts). client-go recognises the cause and lists
 * without a version. `retryAfter` is left out: with it, client-go would ask ten times before it looks at the cause.
 */
export function tooLarge(asked: number, current: number): Failure {
  return {
    code: 504,
    reason: 'Timeout',
    message: `Too large resource version: ${asked}, current: ${current}`,
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }]
  }
}

/** The answer to a request with another method than GET. */
export const READ_ONLY: Failure = {
  code: 405,
  reason: 'MethodNotAllowed',
  message: 'this API is read-only: change a service in the cluster that exports it'
}

/** The answer when the server can write no media type of the Accept header (request.ts). */
export const NOT_ACCEPTABLE: Failure = {
  code: 406,
  reason: 'NotAcceptable',
  message: 'only the following media types are accepted: application/json'
}

/** The answer to a watch when `watchesMax` of server.ts are open. */
export const TOO_MANY_WATCHES: Failure = {
  code: 429,
  reason: 'TooManyRequests',
  message: 'the server has too many open watches',
  retryAfter: 5
}
