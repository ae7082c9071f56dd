// Finds the address of the Kubernetes API and our credentials there, in a pod or in a kubeconfig. This is the only file
// that imports @kubernetes/client-node at run time. client.ts imports it when a client is opened, because it takes half
// a second and about 80 MB.
import { KubeConfig } from '@kubernetes/client-node'
import { existsSync } from 'node:fs'
import { Agent as HttpAgent, type RequestOptions } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { KubeError } from './errors.ts'
import { kubeconfigFiles, readAsKubectl } from './kubeconfig.ts'

export interface ConnectionOptions {
  /** The path of a kubeconfig file. undefined: the service account of this pod, unless `searches` is set. */
  readonly kubeconfig?: string | undefined
  /** Without `kubeconfig`, search as kubectl does: KUBECONFIG, ~/.kube/config, the service account of this pod. */
  readonly searches?: boolean
  /** The context of that file to use; undefined: its current context. */
  readonly context?: string | undefined
}

/** The server and the credentials; client.ts sends the requests. */
export interface Connection {
  /** "https://10.0.0.1:6443", without a slash at its end. */
  readonly server: string
  /** The namespace of the pod or context; "default" if neither has one. */
  readonly namespace: string
  /**
   * Returns what one request needs: options of node:http(s) with the certificate authorities and the shared
   * connections, and headers with credentials, their names in lower case. May run the login helper of a kubeconfig.
   * Errors: KubeError BAD_CONFIG, CredentialsError.
   */
  authorize(): Promise<{
    readonly options: RequestOptions
    readonly headers: Readonly<Record<string, string>>
  }>
  /** Makes the next request read the kubeconfig and the credentials again. */
  forget(): void
  /** Closes the shared connections. */
  close(): void
}

// A watch occupies one connection. Four watches, their lists and a Lease need at most nine.
const SOCKETS_MAX = 16
// Milliseconds after which the kernel begins to probe an idle connection (SO_KEEPALIVE).
const KEEP_ALIVE_MS = 30_000

/**
 * A login helper has failed, a certificate cannot be read, or there are TLS options for a server without TLS. The
 * message is that of the cause. meshctl recognises the error by its name (cli/kube/kube.ts).
 */
class CredentialsError extends Error {
  override readonly name = 'CredentialsError'

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
  }
}

/** Reads the configuration at once, and opens no connection. Errors: KubeError BAD_CONFIG. */
export function openConnection(options: ConnectionOptions): Connection {
  // All requests share one pool of connections. It has no TLS options of its own, because they would win over those of
  // a request, and a renewed certificate would never be used.
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
      // client-node has made an agent of its own for the proxy, which must not be replaced.
      const proxied = config.getCurrentCluster()?.proxyUrl !== undefined
      const { authorization, ...headers } = lowerCase(request.headers)
      return {
        options: {
          ...request,
          ...(proxied ? {} : { agent: agents[server.startsWith('https:') ? 'https:' : 'http:'] })
        },
        // A token file may end in a newline, which is not allowed in a header.
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

/** Reads the configuration. Errors: KubeError BAD_CONFIG, whose message names the file or the service account. */
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
    if (config.getCurrentCluster() === null) throw new Error(`it has no context ${JSON.stringify(context)}`)
    const server = config.getCurrentCluster()?.server
    if (server === undefined || !/^https?:$/.test(new URL(server).protocol)) {
      throw new Error(`the context ${JSON.stringify(context)} has no server with http or https`)
    }
    return { config, server: server.replace(/\/+$/, '') }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new KubeError({
      code: 'BAD_CONFIG',
      message: `${sourceOf(options)} cannot be used: ${reason}`,
      cause
    })
  }
}

/** Names what `load` has read: the kubeconfig files that kubectl would read, or the service account of this pod. */
function sourceOf({ kubeconfig, searches }: ConnectionOptions): string {
  if (kubeconfig !== undefined) return kubeconfig
  const pod = 'the service account of this pod'
  if (searches !== true) return pod
  const files = kubeconfigFiles(process.env)
  // client-node takes the service account where KUBECONFIG is not set and ~/.kube/config does not exist.
  return process.env['KUBECONFIG'] || files.some((file) => existsSync(file)) ? files.join(', ') : pod
}

/** Loads the service account of this pod. client-node does not check whether there is one, so it is checked here. */
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
