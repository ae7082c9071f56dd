// Finds the address of the Kubernetes API and our credentials there, in a pod or in a kubeconfig. This is the only file
// that imports @kubernetes/client-node at run time. client.ts imports it when a client is opened, because it takes half
// a second and about 80 MB.
import { KubeConfig } from '@kubernetes/client-node'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { Agent as HttpAgent, type OutgoingHttpHeaders, type RequestOptions } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { KubeError } from './errors.ts'
import { kubeconfigFiles, readKubeconfig, type KubeContext } from './kubeconfig.ts'
import { httpProxyRoute, isLoopback, proxyOf, socksOptions, unbracketed, type RouteOptions } from './proxy.ts'

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
   * Returns what one request to this URL needs: options of node:http(s) with the certificate authorities and the shared
   * connections, and headers with credentials, their names in lower case. May run the login helper of a kubeconfig.
   * Errors: KubeError BAD_CONFIG, CredentialsError.
   */
  authorize(url: URL): Promise<{
    readonly options: RequestOptions
    readonly headers: OutgoingHttpHeaders
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
  let loaded: Loaded | undefined = first
  const server = new URL(first.server)
  const isTls = server.protocol === 'https:'
  const isSocks = first.proxy?.protocol.startsWith('socks') === true
  const proxy =
    first.proxy === undefined || isSocks ? undefined : httpProxyRoute(first.proxy, { server, sockets })
  // client-node has made an agent of its own for a SOCKS proxy, which must not be replaced.
  const routeTo = (url: URL): RouteOptions => {
    if (isSocks) return isTls ? socksOptions(url, first.serverName) : {}
    return proxy?.optionsFor(url) ?? { agent: agents[isTls ? 'https:' : 'http:'] }
  }

  return {
    server: first.server,
    namespace: first.namespace,
    authorize: async (url) => {
      loaded ??= load(options)
      const { config, tokenFile, token, impersonation } = loaded
      const request: RequestOptions = {}
      await config.applyToHTTPSOptions(request).catch((cause: unknown) => {
        throw new CredentialsError(cause)
      })
      const renewed = tokenFile === undefined ? undefined : await readToken(tokenFile, token)
      const route = routeTo(url)
      const { authorization, ...headers } = lowerCase(request.headers)
      const credentials = renewed === undefined ? authorization : `Bearer ${renewed}`
      // As with kubectl, no password and no token crosses a network in clear text. This host itself is no network.
      const mayShow = isTls || isLoopback(unbracketed(server.hostname))
      const { auth, ...withoutPassword } = request
      return {
        options: { ...withoutPassword, ...(mayShow && auth !== undefined && { auth }), ...route },
        headers: {
          ...headers,
          ...impersonation,
          // A token may end in a newline, which is not allowed in a header.
          ...(mayShow && credentials !== undefined && { authorization: credentials.trim() }),
          ...route.headers
        }
      }
    },
    forget: () => {
      loaded = undefined
    },
    close: () => {
      agents['http:'].destroy()
      agents['https:'].destroy()
      proxy?.close()
    }
  }
}

/** The token of a file. `otherwise`: that of the kubeconfig, which counts while the file is missing or empty. */
async function readToken(file: string, otherwise: string | undefined): Promise<string | undefined> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    if (otherwise !== undefined) return ''
    throw new CredentialsError(new Error(`the tokenFile cannot be read: ${String(cause)}`, { cause }))
  })
  return text.trim() === '' ? otherwise : text
}

/** A configuration that was read. */
interface Loaded {
  readonly config: KubeConfig
  readonly server: string
  readonly namespace: string
  /** The name in the certificate of the server, where it is not that of the URL. */
  readonly serverName: string | undefined
  readonly proxy: URL | undefined
  readonly tokenFile: string | undefined
  readonly token: string | undefined
  readonly impersonation: KubeContext['impersonation']
}

/** Reads the configuration. Errors: KubeError BAD_CONFIG, whose message names the file or the service account. */
function load(options: ConnectionOptions): Loaded {
  try {
    const isSearching = options.kubeconfig !== undefined || options.searches === true
    const read = isSearching ? readKubeconfig(filesOf(options), options.context) : undefined
    if (read !== undefined) return loadContext(read)
    if (options.kubeconfig !== undefined || (isSearching && !hasServiceAccount()))
      throw new Error(`there is no file ${filesOf(options).join(', ')}`)
    return loadFromPod()
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new KubeError({
      code: 'BAD_CONFIG',
      message: `${sourceOf(options)} cannot be used: ${reason}`,
      cause
    })
  }
}

function loadContext(read: KubeContext): Loaded {
  const { name, namespace, cluster, user, tokenFile, impersonation } = read
  const url = cluster.proxyUrl ?? proxyOf(cluster.server, process.env)
  const proxy = url === undefined ? undefined : proxyUrlOf(url)
  const { proxyUrl: _proxyUrl, ...direct } = cluster
  const config = new KubeConfig()
  config.loadFromOptions({
    // Only the proxies that are not ours (proxy.ts) are left to client-node.
    clusters: [proxy?.protocol.startsWith('socks') ? { ...direct, proxyUrl: proxy.href } : direct],
    users: [user],
    contexts: [
      { name, cluster: cluster.name, user: user.name, ...(namespace !== undefined && { namespace }) }
    ],
    currentContext: name
  })
  return {
    config,
    server: cluster.server,
    namespace: namespace ?? 'default',
    serverName: cluster.tlsServerName,
    proxy,
    tokenFile,
    token: user.token,
    impersonation
  }
}

/** The proxy of a URL. With socks5, Go lets the proxy look up the names, which client-node calls socks5h. */
function proxyUrlOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^(https?|socks5h?):$/.test(url.protocol))
    throw new Error('the URL of the proxy does not begin with http://, https:// or socks5://')
  return url.protocol === 'socks5:' ? new URL(url.href.replace('socks5:', 'socks5h:')) : url
}

function filesOf({ kubeconfig }: ConnectionOptions): string[] {
  return kubeconfig === undefined ? kubeconfigFiles(process.env) : [kubeconfig]
}

/** Names what `load` has read: the kubeconfig files that kubectl would read, or the service account of this pod. */
function sourceOf(options: ConnectionOptions): string {
  const pod = 'the service account of this pod'
  if (options.kubeconfig === undefined && options.searches !== true) return pod
  const files = filesOf(options)
  return files.some((file) => existsSync(file)) || !hasServiceAccount() ? files.join(', ') : pod
}

/** Loads the service account of this pod. client-node does not check whether there is one, so it is checked here. */
function loadFromPod(): Loaded {
  if (!hasServiceAccount()) throw new Error('KUBERNETES_SERVICE_HOST or the token is missing')
  const config = new KubeConfig()
  config.loadFromCluster()
  return {
    config,
    server: config.getCurrentCluster()?.server ?? '',
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? 'default',
    serverName: undefined,
    proxy: undefined,
    tokenFile: undefined,
    token: undefined,
    impersonation: {}
  }
}

function hasServiceAccount(): boolean {
  return Boolean(process.env['KUBERNETES_SERVICE_HOST']) && existsSync(TOKEN_FILE)
}

const TOKEN_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/token'

function lowerCase(headers: RequestOptions['headers']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)])
  )
}
