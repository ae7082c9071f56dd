// The responder on its sockets: UDP and TCP on one port of one or more addresses.
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, isIP, isIPv6, type Server } from 'node:net'

import { codeOf } from '../../core/model/coded-error.ts'
import type { Names } from '../../core/dns/names.ts'
import { createAccess } from './access.ts'
import { chase } from './chase.ts'
import { DnsError, listenError } from './errors.ts'
import { fitted, forClient, rcodeName } from './forwarded.ts'
import { createForwarder } from './forwarder.ts'
import { fileProblem, loopProblem, ownProblem, type DnsProblem } from './problems.ts'
import { parseQuery, type Query } from './query.ts'
import { outcomeOf, typeName, type Outcome } from './responder.ts'
import { bare, respond, type Encoded } from './response.ts'
import { Shares, shareOf } from './shares.ts'
import { serveConnection, TCP_LIMITS, type Connection } from './tcp-connection.ts'
import { questionOf } from './upstream-message.ts'
import { findUpstreams, isOwnAddress, sameAddress, type SocketAddress } from './upstreams.ts'

export interface DnsServerOptions {
  /**
   * Where to listen. Name each address: a wildcard (0.0.0.0, ::) works, but on a host with several addresses UDP answers may
   * then leave with another source than the client asked. Port 0 is any that is free, the same for UDP and TCP.
   */
  readonly listen: readonly SocketAddress[]
  /** Read for every query: make new ones per view, not per call. */
  readonly names: () => Names
  /**
   * "10.0.0.2:53" or the path of a resolv.conf, which is read again when it changes. Without any, names that are not ours are REFUSED, so
   * that clients ask elsewhere.
   */
  readonly upstreams?: readonly string[] | undefined
  /** Prefixes of clients that are answered beside this host itself; others are refused. undefined: all are answered. */
  readonly allow?: readonly string[] | undefined
  readonly onQuery?: (metrics: QueryMetrics) => void
  /** What an operator should know and the server survives. */
  readonly onWarning?: (message: string, error?: unknown) => void
  /** All that is wrong and lasting, whenever it changes. */
  readonly onProblems?: (problems: readonly DnsProblem[]) => void
  readonly upstreamTimeoutMs?: number
}

export interface QueryMetrics {
  readonly transport: 'udp' | 'tcp'
  /** "cluster.east", "cluster.all", "reverse", "unknown" (no such cluster), "upstream", "stranger" (a client that is not allowed), or "none" (rejected): a bounded set. */
  readonly zone: string
  /** "A", "SRV", …, or "other": few enough for a label. */
  readonly type: string
  readonly rcode: string
  readonly outcome: 'answered' | 'forwarded' | 'rejected' | 'dropped'
  readonly seconds: number
}

export interface DnsServer {
  /** Errors: DnsError PORT_IN_USE, PORT_FORBIDDEN, ADDRESS_NOT_LOCAL, BAD_ADDRESS, BAD_UPSTREAM, LISTEN_FAILED. */
  start(): Promise<void>
  /** Ends sockets, connections and forwarded queries. May be called at any time, and again. */
  stop(): Promise<void>
  /** As the option; from the next query on. */
  setAllow(prefixes: readonly string[] | undefined): void
  /** As the option. Throws DnsError BAD_UPSTREAM and keeps what was set before. */
  setUpstreams(upstreams: readonly string[]): void
  /** What is bound, after start. */
  readonly listening: readonly SocketAddress[]
}

export function createDnsServer(options: DnsServerOptions): DnsServer {
  const { names, onQuery, onWarning = () => undefined, onProblems = () => undefined } = options
  let listening: SocketAddress[] = []
  let upstreamSettings = options.upstreams ?? []
  let upstreamProblems: readonly DnsProblem[] = []
  let loopProblems: readonly DnsProblem[] = []
  let look: NodeJS.Timeout | undefined
  let isOpen = options.allow === undefined
  const access = createAccess()
  access.setPrefixes(options.allow ?? [])
  let forwarder = newForwarder()
  let udp: UdpSocket[] = []
  let tcp: Server[] = []
  const connections = new Shares<Connection>({
    placesMax: TCP_LIMITS.connectionsMax,
    isIdle: ({ isIdle }) => isIdle,
    onEvicted: (connection) => connection.destroy()
  })
  let open = new Set<Connection>()

  return {
    get listening() {
      return listening
    },

    async start() {
      findUpstreams(upstreamSettings) // a setting that cannot be is an error before anything listens
      for (const { address } of options.listen) if (isIP(address) === 0) throw badAddress(address)
      try {
        await listenAll()
      } catch (error) {
        await stop()
        throw error
      }
      lookForUpstreams()
      look = setInterval(lookForUpstreams, UPSTREAM_LOOK_MS)
    },

    setAllow(prefixes) {
      isOpen = prefixes === undefined
      access.setPrefixes(prefixes ?? [])
    },

    setUpstreams(upstreams) {
      findUpstreams(upstreams)
      upstreamSettings = upstreams
      if (look !== undefined) lookForUpstreams()
    },

    stop
  }

  function newForwarder() {
    const { upstreamTimeoutMs: timeoutMs } = options
    return createForwarder({
      upstreams: [],
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      onLoops: (upstreams) => {
        loopProblems = upstreams.map(loopProblem)
        onProblems([...upstreamProblems, ...loopProblems])
      }
    })
  }

  /** Files are read, not watched: resolv.conf may be a link, replaced, mounted over or written in place. */
  function lookForUpstreams(): void {
    const { upstreams, problems } = findUpstreams(upstreamSettings)
    const own = upstreams.filter((upstream) => isOwnAddress(upstream, listening))
    const next = upstreams.filter((upstream) => !own.includes(upstream))
    const found = [...problems.map(fileProblem), ...own.map(ownProblem)]
    const isNew =
      found.map(({ message }) => message).join() !== upstreamProblems.map(({ message }) => message).join()
    upstreamProblems = found
    if (isNew) for (const { message } of found) onWarning(message)
    const known = forwarder.upstreams
    const isSame =
      next.length === known.length && next.every((each, index) => sameAddress(each, known[index] ?? each))
    if (!isSame) forwarder.setUpstreams(next)
    if (isNew) onProblems([...upstreamProblems, ...loopProblems])
  }

  async function stop(): Promise<void> {
    clearInterval(look)
    look = undefined
    forwarder.stop()
    const closing = [...udp, ...tcp].map(closed)
    for (const connection of open) connection.destroy()
    ;[udp, tcp, listening, open] = [[], [], [], new Set()]
    forwarder = newForwarder()
    await Promise.all(closing)
  }

  async function listenAll(): Promise<void> {
    for (const wanted of options.listen) {
      // A UDP port that is free may be taken on TCP: of free ones, others are tried.
      for (let attempt = 1; ; attempt++) {
        const port = await listenUdp(wanted.address, wanted.port)
        try {
          await listenTcp(wanted.address, port)
          listening.push({ address: wanted.address, port })
          break
        } catch (error) {
          const isRetried =
            wanted.port === 0 && attempt < FREE_PORT_ATTEMPTS && codeOf(error) === 'PORT_IN_USE'
          if (!isRetried) throw error
          udp.pop()?.close()
        }
      }
    }
  }

  async function listenUdp(address: string, port: number): Promise<number> {
    const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', ipv6Only: address === '::' })
    socket.bind({ port, address, exclusive: true })
    await bound(socket, 'UDP', address, port)
    udp.push(socket)
    // A burst must not overrun the default of 200 KiB; the kernel may grant less.
    enlargeBuffer(socket)
    socket.on('error', (error) => onWarning('DNS over UDP', error))
    socket.on('message', (message, client) => onDatagram(socket, message, client))
    return socket.address().port
  }

  async function listenTcp(address: string, port: number): Promise<void> {
    const server = createServer({ allowHalfOpen: true })
    server.listen({ port, host: address, ipv6Only: address === '::', exclusive: true })
    await bound(server, 'TCP', address, port)
    tcp.push(server)
    server.on('error', (error) => onWarning('DNS over TCP', error))
    server.on('connection', (socket) => {
      const client = socket.remoteAddress ?? ''
      const share = shareOf(client)
      const all = open
      const connection = serveConnection(socket, (message) => handle(message, 'tcp', client))
      if (!connections.take(share, connection)) return connection.destroy()
      all.add(connection)
      socket.on('close', () => {
        all.delete(connection)
        connections.release(share, connection)
      })
    })
  }

  function onDatagram(socket: UdpSocket, message: Uint8Array, client: RemoteInfo): void {
    // Nobody listens on port 0, and Node throws when asked to send there.
    if (client.port === 0) return
    const send = (response: Uint8Array): void => {
      // Not after stop().
      if (!udp.includes(socket)) return
      try {
        // An error of one answer, as for a client that has no route any more, is that client's alone.
        socket.send(response, client.port, client.address, ignoreError)
      } catch (error) {
        onWarning('a DNS answer could not be sent', error)
      }
    }
    const response = handle(message, 'udp', client.address)
    if (response instanceof Promise) {
      void response.then((late) => late && send(late))
    } else if (response !== undefined) send(response)
  }

  /** A name that cannot be answered or encoded spoils itself alone. */
  function safeOutcome(query: Query, rotation: number): Outcome {
    try {
      return outcomeOf(names(), query, rotation)
    } catch (error) {
      onWarning(`the DNS question for ${query.name} could not be answered`, error)
      return { kind: 'answer', encoded: bare('SERVFAIL') }
    }
  }

  /** An error of ours is a SERVFAIL for one client (or silence, where there is no query), never the end of the process. */
  function handle(
    message: Uint8Array,
    transport: 'udp' | 'tcp',
    client: string
  ): Uint8Array | undefined | Promise<Uint8Array | undefined> {
    const failed = (error: unknown): Uint8Array | undefined => {
      onWarning('a DNS query could not be handled', error)
      const parsed = parseQuery(message)
      if (parsed.kind === 'drop') return undefined
      return respond(parsed.query, bare('SERVFAIL'), { transport, rotation: 0, recursionAvailable: false })
    }
    try {
      const response = answer(message, transport, client)
      return response instanceof Promise ? response.catch(failed) : response
    } catch (error) {
      return failed(error)
    }
  }

  /** At once what the mesh knows, later what an upstream is asked; undefined: not to be answered. */
  function answer(
    message: Uint8Array,
    transport: 'udp' | 'tcp',
    client: string
  ): Uint8Array | undefined | Promise<Uint8Array> {
    const started = performance.now()
    const report = (about: Pick<QueryMetrics, 'outcome' | 'rcode' | 'zone'>, query?: Query) => {
      onQuery?.({
        ...about,
        transport,
        type: metricType(query),
        seconds: (performance.now() - started) / 1000
      })
    }
    // At random: of a counter, a client that asks A and AAAA in turn would see every second place.
    const rotation = Math.floor(Math.random() * 0x10000)
    const reply = (query: Query, outcome: QueryMetrics['outcome'], encoded: Encoded) => {
      const recursionAvailable = forwarder.upstreams.length > 0
      const response = respond(query, encoded, { transport, rotation, recursionAvailable })
      report({ outcome, rcode: encoded.rcode, zone: encoded.zone }, query)
      return response
    }

    const parsed = parseQuery(message)
    if (parsed.kind === 'drop') {
      report({ outcome: 'dropped', rcode: 'NONE', zone: 'none' })
      return undefined
    }
    const { query } = parsed
    if (!isOpen && !access.allows(client)) return reply(query, 'rejected', STRANGER)
    if (parsed.kind === 'reject') return reply(query, 'rejected', bare(parsed.rcode))
    if (forwarder.isProbe(query.key)) return reply(query, 'answered', bare('NXDOMAIN'))
    const outcome = safeOutcome(query, rotation)
    const canForward = forwarder.upstreams.length > 0
    switch (outcome.kind) {
      case 'answer':
        return reply(query, 'answered', outcome.encoded)
      case 'chase':
        if (!canForward) return reply(query, 'answered', outcome.encoded)
        return chase(forwarder, query, { ...outcome, client }).then((encoded) =>
          reply(query, 'forwarded', encoded)
        )
      case 'forward':
        if (!canForward) return reply(query, 'rejected', bare('REFUSED'))
        return forwarder.exchange(questionOf(query, transport), client).then((found) => {
          if (found === undefined) return reply(query, 'forwarded', NO_UPSTREAM)
          const response = forClient(found.message, query)
          report({ outcome: 'forwarded', rcode: rcodeName(response), zone: 'upstream' }, query)
          return fitted(response, query, transport)
        })
      default:
        return outcome satisfies never
    }
  }
}

function metricType(query: Query | undefined): string {
  const name = query === undefined ? '' : typeName(query.type)
  return name === '' || name.startsWith('TYPE') ? 'other' : name
}

async function bound(
  socket: UdpSocket | Server,
  protocol: string,
  address: string,
  port: number
): Promise<void> {
  try {
    // Rejects on 'error'. The kernel answers a bind at once; the deadline is for what we do not foresee.
    await once(socket, 'listening', { signal: AbortSignal.timeout(LISTEN_MS) })
  } catch (error) {
    socket.on('error', () => undefined)
    socket.close()
    throw listenError(error, `${protocol} ${isIPv6(address) ? `[${address}]` : address}:${port}`)
  }
}

/** Without it a burst may be lost, and nothing else. */
function enlargeBuffer(socket: UdpSocket): void {
  try {
    socket.setRecvBufferSize(UDP_BUFFER_BYTES)
  } catch {
    // The kernel's default stays.
  }
}

function closed(socket: UdpSocket | Server): Promise<void> {
  return new Promise((resolve) => {
    socket.close(() => resolve())
  })
}

function badAddress(address: string): DnsError {
  return new DnsError('BAD_ADDRESS', {
    message: `${JSON.stringify(address)} is not an address that DNS can listen on`,
    fix: 'Give an IPv4 or IPv6 address of this host, without a port.'
  })
}

function ignoreError(): void {}

const STRANGER: Encoded = { ...bare('REFUSED'), zone: 'stranger' }
const NO_UPSTREAM: Encoded = { ...bare('SERVFAIL'), zone: 'upstream' }
const FREE_PORT_ATTEMPTS = 10
const LISTEN_MS = 5000
/** A changed resolv.conf counts after a second; a look costs some 20 µs. */
export const UPSTREAM_LOOK_MS = 1000
const UDP_BUFFER_BYTES = 1024 * 1024
