// The proxy on the way to a Kubernetes API: which one a Go program takes from the environment, and connections through it.
// Sources: golang.org/x/net/http/httpproxy; RFC 9110, 9.3.6 (CONNECT) and 7.1 (absolute form of a target).
import { Agent as HttpAgent, request as httpRequest, type AgentOptions, type RequestOptions } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { BlockList, isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import { checkServerIdentity, connect as tlsConnect } from 'node:tls'

/**
 * Returns the URL of the proxy that Go programs take from the environment for this URL; undefined: none. The variables
 * are HTTPS_PROXY or HTTP_PROXY, and NO_PROXY for exceptions; each may be in lower case.
 */
export function proxyOf(url: string, env: Readonly<Record<string, string | undefined>>): string | undefined {
  if (!URL.canParse(url)) return undefined
  const { protocol, hostname, port } = new URL(url)
  const name = protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY'
  const proxy = env[name] || env[name.toLowerCase()]
  if (!proxy) return undefined
  const host = unbracketed(hostname).toLowerCase()
  const isBypassed = noProxy(env['NO_PROXY'] || env['no_proxy'] || '', {
    host,
    port: port === '' ? (protocol === 'https:' ? '443' : '80') : port
  })
  if (isBypassed) return undefined
  return /^[a-z0-9+]+:\/\//i.test(proxy) ? proxy : `http://${proxy}`
}

/**
 * Says whether a host is reached without a proxy. An entry of the list is "*", an address, a prefix, or a domain; an
 * address and a domain may have a port. Loopback addresses and localhost never use a proxy.
 */
function noProxy(list: string, { host, port }: { host: string; port: string }): boolean {
  if (isLoopback(host)) return true
  const family = isIP(host) === 6 ? 'ipv6' : 'ipv4'
  return list
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .some((entry) => {
      if (entry === '') return false
      if (entry === '*') return true
      const [, address = '', length] = /^([0-9a-f.:]+)\/(\d{1,3})$/.exec(entry) ?? []
      if (isIP(address) !== 0) {
        const prefix = new BlockList()
        const width = isIP(address) === 6 ? 128 : 32
        if (Number(length) > width) return false
        prefix.addSubnet(address, Number(length), isIP(address) === 6 ? 'ipv6' : 'ipv4')
        return isIP(host) !== 0 && prefix.check(host, family)
      }
      const [, name = entry, onlyPort] = isIP(entry) === 6 ? [] : (/^(.*?):(\d+)$/.exec(entry) ?? [])
      if (onlyPort !== undefined && onlyPort !== port) return false
      const bare = unbracketed(name.replace(/^\*?\./, ''))
      if (isIP(bare) !== 0 || isIP(host) !== 0) return bare === host
      // "example.org" means the name and all names below it, ".example.org" only the names below it.
      return host.endsWith(`.${bare}`) || (bare === host && bare === name)
    })
}

/** Says whether a host name or an address, without brackets, is this host itself. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost') return true
  const loopback = new BlockList()
  loopback.addSubnet('127.0.0.0', 8, 'ipv4')
  loopback.addAddress('::1', 'ipv6')
  return isIP(host) !== 0 && loopback.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4')
}

/** "[::1]" as "::1"; any other text as it is. */
export function unbracketed(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1')
}

/** Options of node:http(s) for one request, with headers by their names in lower case. */
export type RouteOptions = Omit<RequestOptions, 'headers'> & {
  readonly headers?: Readonly<Record<string, string>>
}

/** What is different in requests to a server behind a proxy. */
interface ProxyRoute {
  optionsFor(url: URL): RouteOptions
  close(): void
}

/**
 * The way through a proxy with http or https. Servers with TLS are reached by CONNECT, so that only the client and the
 * server see the requests. A server without TLS gets its requests from the proxy, as from Go programs: many proxies refuse
 * CONNECT to port 80.
 */
export function httpProxyRoute(
  proxy: URL,
  { server, sockets }: { readonly server: URL; readonly sockets: AgentOptions }
): ProxyRoute {
  if (server.protocol === 'https:') {
    const agent = new TunnelAgent(proxy, sockets)
    return { optionsFor: () => ({ agent }), close: () => agent.destroy() }
  }
  const agent = proxy.protocol === 'https:' ? new TlsProxyAgent(proxy, sockets) : new HttpAgent(sockets)
  return {
    optionsFor: (url) => ({
      agent,
      host: unbracketed(proxy.hostname),
      hostname: unbracketed(proxy.hostname),
      port: portOf(proxy),
      path: url.href,
      headers: { host: url.host, ...authorizationOf(proxy) }
    }),
    close: () => agent.destroy()
  }
}

/**
 * Options for a server with TLS behind a SOCKS proxy, whose agent is client-node's. It checks the certificate of a server
 * without a name against "localhost", so the check is made here.
 */
export function socksOptions({ hostname }: URL, serverName: string | undefined): RouteOptions {
  const expected = serverName ?? unbracketed(hostname)
  return {
    checkServerIdentity: (_host: string, certificate: Parameters<typeof checkServerIdentity>[1]) =>
      checkServerIdentity(expected, certificate)
  } as RouteOptions
}

type Connected = (error: Error | null, stream: Duplex) => void

/** Opens TLS connections through CONNECT. */
class TunnelAgent extends HttpsAgent {
  readonly #proxy: URL

  constructor(proxy: URL, options: AgentOptions) {
    super(options)
    this.#proxy = proxy
  }

  override createConnection(options: RequestOptions, callback?: Connected): undefined {
    const { port = 443 } = options
    const host = options.host ?? ''
    const target = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`
    const open = this.#proxy.protocol === 'https:' ? httpsRequest : httpRequest
    const failed = (reason: string, cause?: unknown): void =>
      callback?.(
        new Error(`the proxy ${this.#proxy.host} ${reason}`, { cause }),
        undefined as unknown as Duplex
      )
    open({
      host: unbracketed(this.#proxy.hostname),
      port: portOf(this.#proxy),
      method: 'CONNECT',
      path: target,
      headers: { host: target, ...authorizationOf(this.#proxy) },
      agent: false,
      timeout: CONNECT_MS
    })
      .once('connect', ({ statusCode = 0 }, socket) => {
        if (statusCode >= 200 && statusCode < 300)
          return callback?.(null, super.createConnection({ ...options, socket } as RequestOptions) as Duplex)
        socket.destroy()
        failed(`answers CONNECT ${target} with status ${statusCode}`)
      })
      .once('timeout', function timeout(this: { destroy(error: Error): void }) {
        this.destroy(new Error(`no answer in ${CONNECT_MS} ms`))
      })
      .once('response', (response) => {
        response.destroy()
        failed(`answers CONNECT ${target} with status ${response.statusCode}`)
      })
      .on('error', (error) => failed(`cannot be asked: ${error.message}`, error))
      .end()
    return undefined
  }
}

// The deadline of a request (client.ts) ends the wait of its caller; this one ends the connection to a proxy that is silent.
const CONNECT_MS = 30_000

/** Opens TLS connections to the proxy itself, for requests that the proxy sends on without TLS. */
class TlsProxyAgent extends HttpAgent {
  readonly #proxy: URL

  constructor(proxy: URL, options: AgentOptions) {
    super(options)
    this.#proxy = proxy
  }

  override createConnection(): Duplex {
    const host = unbracketed(this.#proxy.hostname)
    return tlsConnect({ host, port: portOf(this.#proxy), ...(isIP(host) === 0 && { servername: host }) })
  }
}

function portOf({ port, protocol }: URL): number {
  return port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port)
}

function authorizationOf({ username, password }: URL): Readonly<Record<string, string>> {
  if (username === '' && password === '') return {}
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { 'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}` }
}
