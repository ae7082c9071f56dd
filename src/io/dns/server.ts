// The DNS responder, made of its parts: the sockets (listeners.ts), the answers to queries (query-handler.ts), and the
// upstreams for names outside the mesh (upstream-watch.ts). It runs in a process of its own (process/responder.ts).
import type { Names } from '../../core/dns/names.ts'
import { createAccess } from './access.ts'
import { Listeners } from './listeners.ts'
import type { DnsProblem } from './problems.ts'
import { createQueryHandler, type QueryMetrics } from './query-handler.ts'
import { UpstreamWatch } from './upstream-watch.ts'
import type { SocketAddress } from './upstreams.ts'

export interface DnsServerOptions {
  /**
   * The addresses to listen on. Name each address: a wildcard (0.0.0.0, ::) works, but on a host with several addresses
   * UDP answers may then have another source address than the one that the client asked. With port 0 the kernel chooses
   * a free port, the same for UDP and TCP.
   */
  readonly listen: readonly SocketAddress[]
  /** Called for every query. Make new names for each view, not for each call. */
  readonly names: () => Names
  /**
   * The upstreams: addresses such as "10.0.0.2:53", or paths of files such as resolv.conf, which are read again each
   * second. Without upstreams, names outside the mesh are REFUSED, so that clients ask another server. Default: none.
   */
  readonly upstreams?: readonly string[] | undefined
  /** Prefixes of clients that are answered beside this host itself; others are REFUSED. undefined: all are answered. */
  readonly allow?: readonly string[] | undefined
  readonly onQuery?: (metrics: QueryMetrics) => void
  /** Called with a sentence for the log about an error after which the responder goes on. */
  readonly onWarning?: (message: string, error?: unknown) => void
  /** Called with all lasting problems of the upstreams, whenever they change. */
  readonly onProblems?: (problems: readonly DnsProblem[]) => void
  /** Milliseconds to wait for the reply of each upstream. Default 2000. */
  readonly upstreamTimeoutMs?: number
}

export interface DnsServer {
  /**
   * Binds all addresses, then reads the upstreams. Resolves when the responder answers queries. `shared` (default false):
   * another responder of this user, which is to end next, may have the addresses still. Errors: DnsError
   * PORT_IN_USE, PORT_FORBIDDEN, ADDRESS_NOT_LOCAL, BAD_ADDRESS, BAD_UPSTREAM, LISTEN_FAILED.
   */
  start(options?: { readonly shared?: boolean }): Promise<void>
  /** Ends sockets, connections and forwarded queries. It may be called at any time and more than once. */
  stop(): Promise<void>
  /** Replaces the option `allow`, from the next query on. */
  setAllow(prefixes: readonly string[] | undefined): void
  /** Replaces the option `upstreams`. Throws DnsError BAD_UPSTREAM and keeps the upstreams that were set before. */
  setUpstreams(upstreams: readonly string[]): void
  /** The bound addresses, with their real ports. Empty before `start` and after `stop`. */
  readonly listening: readonly SocketAddress[]
}

/** Makes a responder that does not listen yet. It may be started again after `stop`. */
export function createDnsServer(options: DnsServerOptions): DnsServer {
  const { names, onQuery, onWarning = () => undefined, onProblems = () => undefined } = options
  let isOpen = options.allow === undefined
  const access = createAccess()
  access.setPrefixes(options.allow ?? [])
  const upstreams: UpstreamWatch = new UpstreamWatch({
    upstreams: options.upstreams ?? [],
    listening: () => listeners.listening,
    timeoutMs: options.upstreamTimeoutMs,
    onWarning,
    onProblems
  })
  const handle = createQueryHandler({
    names,
    forwarder: () => upstreams.forwarder,
    allows: (client) => isOpen || access.allows(client),
    onQuery,
    onWarning
  })
  const listeners = new Listeners({ listen: options.listen, handle, onWarning })

  return {
    get listening() {
      return listeners.listening
    },

    async start({ shared = false } = {}) {
      // A malformed setting is an error before anything listens.
      upstreams.check()
      listeners.check()
      try {
        await listeners.start({ shared })
      } catch (error) {
        await stop()
        throw error
      }
      // The addresses that are bound decide which upstreams are this responder itself.
      upstreams.start()
    },

    setAllow(prefixes) {
      isOpen = prefixes === undefined
      access.setPrefixes(prefixes ?? [])
    },

    setUpstreams(next) {
      upstreams.set(next)
    },

    stop
  }

  async function stop(): Promise<void> {
    upstreams.stop()
    await listeners.stop()
  }
}
