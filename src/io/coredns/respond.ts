// Writes answers to HTTP responses: JSON, text, a Status object, or the chunks of a long list.
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'

import { READ_ONLY, statusBody, type Failure } from './status.ts'

export const JSON_TYPE = { 'content-type': 'application/json' }
/** A client that reads nothing of a list for so many milliseconds is disconnected. */
const DRAIN_MS = 30_000

/**
 * Writes one chunk and waits until the client may be sent the next. Waits one turn of the event loop even for a fast
 * client, so that a long list does not delay other requests. Throws an Error when the connection is closed or blocked
 * for 30 s.
 */
export async function write(response: ServerResponse, chunk: string): Promise<void> {
  if (response.destroyed) throw new Error('the client has closed the connection')
  if (response.write(chunk)) await new Promise((resolve) => setImmediate(resolve))
  else await once(response, 'drain', { signal: AbortSignal.timeout(DRAIN_MS) })
}

/** Sends a failure as a Status object with its HTTP status and headers. */
export function fail(response: ServerResponse, failure: Failure): void {
  if (failure.retryAfter !== undefined) response.setHeader('retry-after', String(failure.retryAfter))
  // RFC 9110, 15.5.6: a 405 names the methods that are allowed.
  if (failure === READ_ONLY) response.setHeader('allow', 'GET')
  send(response, failure.code, statusBody(failure))
}

/** Sends a JSON document with this HTTP status. */
export function send(response: ServerResponse, code: number, body: object): void {
  response.writeHead(code, JSON_TYPE)
  response.end(`${JSON.stringify(body)}\n`)
}

/** Sends a text; default status 200 and type text/plain. */
export function sendText(
  response: ServerResponse,
  text: string,
  { code = 200, headers = { 'content-type': 'text/plain' } } = {}
): void {
  response.writeHead(code, headers)
  response.end(text)
}
