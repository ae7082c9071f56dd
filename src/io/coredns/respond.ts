// How an answer is written: JSON, text, a Status, or a long list in chunks.
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'

import { READ_ONLY, statusBody, type Failure } from './status.ts'

export const JSON_TYPE = { 'content-type': 'application/json' }
/** A reader of a list that takes nothing for so long is gone. */
const DRAIN_MS = 30_000

/** Lets others run between chunks, whether the reader is fast or not. */
export async function write(response: ServerResponse, chunk: string): Promise<void> {
  if (response.destroyed) throw new Error('the reader has gone')
  if (response.write(chunk)) await new Promise((resolve) => setImmediate(resolve))
  else await once(response, 'drain', { signal: AbortSignal.timeout(DRAIN_MS) })
}

export function fail(response: ServerResponse, failure: Failure): void {
  if (failure.retryAfter !== undefined) response.setHeader('retry-after', String(failure.retryAfter))
  if (failure === READ_ONLY) response.setHeader('allow', 'GET')
  send(response, failure.code, statusBody(failure))
}

export function send(response: ServerResponse, code: number, body: object): void {
  response.writeHead(code, JSON_TYPE)
  response.end(`${JSON.stringify(body)}\n`)
}

export function sendText(
  response: ServerResponse,
  text: string,
  { code = 200, headers = { 'content-type': 'text/plain' } } = {}
): void {
  response.writeHead(code, headers)
  response.end(text)
}
