// Where the Kubernetes API is and who we are there: the one file that knows @kubernetes/client-node. It is imported when it
// is needed only, for it costs half a second and some 80 MB.
import { KubeConfig } from '@kubernetes/client-node'
import { existsSync } from 'node:fs'
import { Agent as HttpAgent, type RequestOptions } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { KubeError } from './errors.ts'
import { readAsKubectl } from './kubeconfig.ts'

export interface ConnectionOptions {
  /** A kubeconfig file; undefined: the service account of the pod we run in, unless `searches` is set. */
  readonly kubeconfig?: string | undefined
  /** Without `kubeconfig`, look as kubectl does: KUBECONFIG, ~/.kube/config, the service account of this pod. */
  readonly searches?: boolean
  /** A context of that file; undefined: its current one. */
  readonly context?: string | undefined
}

export interface Connection {
  /** "https://10.0.0.1:6443", without a slash at its end. */
  readonly server: string
  /** The namespace of the pod or context. */
  readonly namespace: string
  /**
   * For one request: options of node:http(s) with authorities and the shared connections, and headers with credentials.
   * Errors: KubeError BAD_CONFIG, CredentialsError.
   */
  authorize(): Promise<{
    readonly options: RequestOptions
    readonly headers: Readonly<Record<string, string>>
  }>
  /** Reads credentials anew with the next request. */
  forget(): void
  close(): void
}

// A watch occupies one connection; four watches, their lists and a lease fit twice.
const SOCKETS_MAX = 16
const KEEP_ALIVE_MS = 30_000

/** A login helper that failed, a certificate that cannot be read, or TLS options for a server without TLS. Its message is that of the cause. */
class CredentialsError extends Error {
  override readonly name = 'CredentialsError'

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
  }
}

/** Errors: KubeError BAD_CONFIG. */
export function openConnection(options: ConnectionOptions): Connection {
  // One set of connections for all requests. It has no TLS options of its own: those of the agent would win over those of
  // the request, and a renewed certificate would never be used.
  const sockets = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxSockets: SOCKETS_MAX }
  const agents = { 'http:': new HttpAgent(sockets), 'https:': new HttpsAgent(sockets) }
  const first = load(options)
  const { server } = first
  let config: KubeConfig | undefined = first.config

  return {
    server,
    namespace: first.config.getContextObject(first.config.getCurrentContext())?.namespace ?? 'default',
    authorize: async () => {
      config ??= load(options).config
      const request: RequestOptions = {}
      await config.applyToHTTPSOptions(request).catch((cause: unknown) => {
        throw new CredentialsError(cause)
      })
      const proxied = config.getCurrentCluster()?.proxyUrl !== undefined
      const { authorization, ...headers } = lowerCase(request.headers)
      return {
        options: {
          ...request,
          ...(proxied ? {} : { agent: agents[server.startsWith('https:') ? 'https:' : 'http:'] })
        },
        // A token file may end in a newline, which no header can carry.
        headers: { ...headers, ...(authorization !== undefined && { authorization: authorization.trim() }) }
      }
    },
    forget: () => {
      config = undefined
    },
    close: () => {
      agents['http:'].destroy()
      agents['https:'].destroy()
    }
  }
}

function load(options: ConnectionOptions): { readonly config: KubeConfig; readonly server: string } {
  const config = new KubeConfig()
  try {
    if (options.kubeconfig !== undefined) config.loadFromFile(options.kubeconfig)
    else if (options.searches === true) config.loadFromDefault()
    else loadFromPod(config)
    if (options.kubeconfig !== undefined || options.searches === true)
      readAsKubectl(config, { file: options.kubeconfig, env: process.env })
    if (options.context !== undefined) config.setCurrentContext(options.context)
    const context = config.getCurrentContext()
    if (config.getCurrentCluster() === null) throw new Error(`it has no context ${context}`)
    const server = config.getCurrentCluster()?.server
    if (server === undefined || !/^https?:$/.test(new URL(server).protocol)) {
      throw new Error(`no server for the context ${JSON.stringify(context)}`)
    }
    return { config, server: server.replace(/\/+$/, '') }
  } catch (cause) {
    const source = options.kubeconfig ?? 'the service account of this pod'
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new KubeError({ code: 'BAD_CONFIG', message: `${source} cannot be used: ${reason}`, cause })
  }
}

function loadFromPod(config: KubeConfig): void {
  if (!process.env['KUBERNETES_SERVICE_HOST'] || !existsSync(TOKEN_FILE)) {
    throw new Error('KUBERNETES_SERVICE_HOST or the token is missing')
  }
  config.loadFromCluster()
}

const TOKEN_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/token'

function lowerCase(headers: RequestOptions['headers']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)])
  )
}
