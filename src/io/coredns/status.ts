// Failures as Kubernetes says them: meta.k8s.io/v1 Status objects, by whose `code` and `reason` client-go decides what to do.

export interface Failure {
  readonly code: number
  readonly reason: string
  readonly message: string
  /** Seconds after which to ask again. */
  readonly retryAfter?: number
  readonly causes?: readonly { readonly reason: string; readonly message: string }[]
}

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

/** client-go lists again. */
export function expired(message: string): Failure {
  return { code: 410, reason: 'Expired', message }
}

/** Not known as a whole yet: client-go asks again with backoff, and CoreDNS answers SERVFAIL meanwhile. */
export function notYet(collection: string): Failure {
  return {
    code: 503,
    reason: 'ServiceUnavailable',
    message: `the catalogue of ${collection} is not whole yet`,
    retryAfter: 1
  }
}

/**
 * After the clock went back over a restart: client-go recognises the cause and lists from what there is. No `retryAfter`: the
 * version would not come, and client-go would wait for it ten times before it looks at the cause.
 */
export function tooLarge(asked: number, current: number): Failure {
  return {
    code: 504,
    reason: 'Timeout',
    message: `Too large resource version: ${asked}, current: ${current}`,
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }]
  }
}

export const READ_ONLY: Failure = {
  code: 405,
  reason: 'MethodNotAllowed',
  message: 'this API is read-only: change the services in their own clusters'
}

export const NOT_ACCEPTABLE: Failure = {
  code: 406,
  reason: 'NotAcceptable',
  message: 'only the following media types are accepted: application/json'
}

export const TOO_MANY_WATCHES: Failure = {
  code: 429,
  reason: 'TooManyRequests',
  message: 'too many watches',
  retryAfter: 5
}
