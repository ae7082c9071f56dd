// The Kubernetes API for `install` and `uninstall`: a kubeconfig as kubectl takes it (or, in a pod, its service account) and single
// requests. The agent's own client (src/io/kube) follows watches over days; this one lives for a command.
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isFields } from '../../core/model/field-check.ts'
import type { KubeApi, KubeCall } from '../../core/kube/kube-api.ts'
import { CliError } from '../output/errors.ts'

export interface KubeOptions {
  readonly kubeconfig: string | undefined
  readonly context: string | undefined
  /** For one request. */
  readonly timeoutMs: number
}

export interface KubeTarget extends KubeApi {
  /** "https://10.0.0.1:6443" */
  readonly server: string
}

/** An answer of the API server other than 2xx. */
class KubeStatusError extends CliError {
  readonly status: number

  constructor(status: number, call: KubeCall, said: string) {
    const [code, fix] = EXPLAINED[status] ?? ['REFUSED_BY_KUBERNETES', 'see what the API server says']
    super(code, `${call.method ?? 'GET'} ${call.path}: ${status} ${said}`.trimEnd(), fix)
    this.status = status
  }
}

const EXPLAINED: Readonly<Record<number, readonly [code: string, fix: string]>> = {
  401: ['UNAUTHORIZED', 'log in again: the credentials of the kubeconfig are not accepted'],
  403: [
    'FORBIDDEN',
    'use an account that may make cluster-wide objects, such as cluster-admin; or render with --dry-run and have it applied'
  ],
  404: ['NOT_IN_CLUSTER', 'check the name, and the version of Kubernetes'],
  409: ['CONFLICT', 'somebody else changed it at the same time: run the command again']
}
// Lists of our own objects are small; somebody else's answer is not worth more.
const ANSWER_BYTES_MAX = 16 * 1024 * 1024

/** Errors: CliError BAD_KUBECONFIG. */
export async function openKube(options: KubeOptions): Promise<KubeTarget> {
  // Half a second and 80 MB, which the other commands need not pay.
  const { KubeConfig } = await import('@kubernetes/client-node')
  const { readAsKubectl } = await import('../../io/kube/kubeconfig.ts')
  const config = new KubeConfig()
  let server: string | undefined
  try {
    if (options.kubeconfig === undefined) config.loadFromDefault()
    else config.loadFromFile(options.kubeconfig)
    readAsKubectl(config, { file: options.kubeconfig, env: process.env })
    if (options.context !== undefined) config.setCurrentContext(options.context)
    server = config.getCurrentCluster()?.server.replace(/\/+$/, '')
  } catch (error) {
    throw badKubeconfig(error instanceof Error ? error.message : String(error), error)
  }
  if (server === undefined)
    throw badKubeconfig(`it has no context ${options.context ?? config.getCurrentContext()}`)
  const base = server
  return {
    server: base,
    async request(call) {
      const authorized: RequestOptions = {}
      try {
        await config.applyToHTTPSOptions(authorized)
      } catch (error) {
        // A login helper that failed, a certificate that cannot be read, http without TLS.
        throw badKubeconfig(error instanceof Error ? error.message : String(error), error)
      }
      return exchange(base, authorized, { ...call, signal: deadline(call, options.timeoutMs) })
    }
  }
}

async function exchange(server: string, authorized: RequestOptions, call: KubeCall): Promise<unknown> {
  let status: number
  let text: string
  try {
    const response = await send(server, authorized, call)
    status = response.statusCode ?? 0
    text = await readText(response)
  } catch (error) {
    if (error instanceof CliError) throw error
    const reason = error instanceof Error ? error.message || error.name : String(error)
    throw new CliError(
      'KUBERNETES_UNREACHABLE',
      `cannot ask ${server}: ${reason}`,
      'check the kubeconfig (--kubeconfig, --context) and the network',
      {
        cause: error
      }
    )
  }
  const body = parse(text)
  if (status >= 200 && status < 300) return body
  throw new KubeStatusError(
    status,
    call,
    isFields(body) && typeof body['message'] === 'string' ? body['message'] : ''
  )
}

function send(server: string, authorized: RequestOptions, call: KubeCall): Promise<IncomingMessage> {
  const url = new URL(server + call.path)
  for (const [key, value] of Object.entries(call.query ?? {})) url.searchParams.set(key, value)
  const payload = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body))
  const headers: Record<string, unknown> = {
    ...(authorized.headers as Record<string, unknown> | undefined),
    accept: 'application/json'
  }
  if (payload !== undefined) {
    headers['content-type'] = call.contentType ?? 'application/json'
    headers['content-length'] = payload.length
  }
  const request = url.protocol === 'http:' ? httpRequest : httpsRequest
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      ...authorized,
      method: call.method ?? 'GET',
      headers: headers as Record<string, string>,
      ...(call.signal === undefined ? {} : { signal: call.signal })
    })
    outgoing.once('response', resolve)
    outgoing.once('error', reject)
    outgoing.end(payload)
  })
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > ANSWER_BYTES_MAX) throw new Error(`an answer of over ${ANSWER_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** undefined: no JSON, which is then some proxy's page. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function deadline(call: KubeCall, timeoutMs: number): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs)
  return call.signal === undefined ? timeout : AbortSignal.any([timeout, call.signal])
}

function badKubeconfig(reason: string, cause?: unknown): CliError {
  return new CliError(
    'BAD_KUBECONFIG',
    `the kubeconfig cannot be used: ${reason}`,
    'name one with --kubeconfig FILE (or KUBECONFIG), and a context of it with --context NAME',
    { cause }
  )
}
