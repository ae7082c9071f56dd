// The responder on its sockets: UDP and TCP on one port of one or more addresses.
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, isIP, isIPv6, type Server } from 'node:net'

import type { Names } from '../../core/dns/names.ts'
import { chase } from './chase.ts'
import { DnsError, listenError } from './errors.ts'
import { createForwarder, type Forwarder } from './forwarder.ts'
import { FLAG, HEADER_BYTES, parseQuery, RCODE, u16, type Query, type RcodeName } from './query.ts'
import { outcomeOf, typeName, type Outcome } from './responder.ts'
import { bare, bytesMax, respond, type Encoded } from './response.ts'
import { serveConnection, TCP_LIMITS } from './tcp-connection.ts'
import { isOwnAddress, parseUpstreams, type SocketAddress } from './upstreams.ts'

export interface DnsServerOptions {
  /**
   * Where to listen. Name each address: a wildcard (0.0.0.0, ::) works, but on a host with several addresses UDP answers may
   * then leave with another source than the client asked. Port 0 is any that is free, the same for UDP and TCP.
   */
  readonly listen: readonly SocketAddress[]
  /** Read for every query: make new ones per view, not per call. */
  readonly names: () => Names
  /** "10.0.0.2:53" or the path of a resolv.conf. Without any, names that are not ours are REFUSED, so that clients ask elsewhere. */
  readonly upstreams?: readonly string[] | undefined
  readonly onQuery?: (metrics: QueryMetrics) => void
  /** What an operator should know and the server survives. */
  readonly onWarning?: (message: string, error?: unknown) => void
  readonly upstreamTimeoutMs?: number
}

export interface QueryMetrics {
  readonly transport: 'udp' | 'tcp'
  /** "cluster.east", "cluster.all", "reverse", "unknown" (no such cluster), "upstream", or "none" (rejected): a bounded set. */
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
  /** What is bound, after start. */
  readonly listening: readonly SocketAddress[]
}

export function createDnsServer(options: DnsServerOptions): DnsServer {
  const { names, onQuery, onWarning = () => undefined } = options
  let listening: SocketAddress[] = []
  let forwarder: Forwarder | undefined
  let udp: UdpSocket[] = []
  let tcp: Server[] = []
  let connections = new Set<{ destroy(): unknown }>()

  return {
    get listening() {
      return listening
    },

    async start() {
      const upstreams = parseUpstreams(options.upstreams ?? [])
      for (const { address } of options.listen) if (isIP(address) === 0) throw badAddress(address)
      try {
        await listenAll()
      } catch (error) {
        await stop()
        throw error
      }
      const own = upstreams.filter((upstream) => isOwnAddress(upstream, listening))
      for (const { address, port } of own) {
        onWarning(`the DNS upstream ${address}:${port} is this responder itself: left out`)
      }
      const others = upstreams.filter((upstream) => !own.includes(upstream))
      if (others.length > 0) forwarder = createForwarder(forwarderOptions(others))
    },

    stop
  }

  function forwarderOptions(upstreams: readonly SocketAddress[]) {
    const timeoutMs = options.upstreamTimeoutMs
    return timeoutMs === undefined ? { upstreams } : { upstreams, timeoutMs }
  }

  async function stop(): Promise<void> {
    forwarder?.stop()
    const closing = [...udp, ...tcp].map(closed)
    for (const connection of connections) connection.destroy()
    ;[udp, tcp, listening, connections, forwarder] = [[], [], [], new Set(), undefined]
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
    socket.setRecvBufferSize(UDP_BUFFER_BYTES)
    socket.on('error', (error) => onWarning('DNS over UDP', error))
    socket.on('message', (message, client) => onDatagram(socket, message, client))
    return socket.address().port
  }

  async function listenTcp(address: string, port: number): Promise<void> {
    const server = createServer({ allowHalfOpen: true })
    server.maxConnections = TCP_LIMITS.connectionsMax
    server.listen({ port, host: address, ipv6Only: address === '::', exclusive: true })
    await bound(server, 'TCP', address, port)
    tcp.push(server)
    server.on('error', (error) => onWarning('DNS over TCP', error))
    server.on('connection', (socket) => {
      const all = connections
      all.add(socket)
      socket.on('close', () => all.delete(socket))
      serveConnection(socket, (message) => handle(message, 'tcp'))
    })
  }

  function onDatagram(socket: UdpSocket, message: Uint8Array, client: RemoteInfo): void {
    // Nobody listens on port 0, and Node throws when asked to send there.
    if (client.port === 0) return
    const response = handle(message, 'udp')
    if (response instanceof Promise) {
      response.then(
        (late) => {
          // Not after stop().
          if (late !== undefined && udp.includes(socket)) socket.send(late, client.port, client.address)
        },
        (error: unknown) => onWarning('a forwarded query failed', error)
      )
    } else if (response !== undefined) socket.send(response, client.port, client.address)
  }

  /** Whatever a stranger asks, the process lives: a name that cannot be answered or encoded spoils itself alone. */
  function safeOutcome(query: Query): Outcome {
    const latest = names()
    try {
      return outcomeOf(latest, query)
    } catch (error) {
      onWarning(`the DNS question for ${query.name} could not be answered`, error)
      return { kind: 'answer', encoded: bare('SERVFAIL') }
    }
  }

  /** At once what the mesh knows, later what an upstream is asked; undefined: not to be answered. */
  function handle(
    message: Uint8Array,
    transport: 'udp' | 'tcp'
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
    const reply = (query: Query, outcome: QueryMetrics['outcome'], encoded: Encoded) => {
      // At random: of a counter, a client that asks A and AAAA in turn would see every second place.
      const rotation = Math.floor(Math.random() * 0x10000)
      const response = respond(query, encoded, {
        transport,
        rotation,
        recursionAvailable: forwarder !== undefined
      })
      report({ outcome, rcode: encoded.rcode, zone: encoded.zone }, query)
      return response
    }

    const parsed = parseQuery(message)
    switch (parsed.kind) {
      case 'drop':
        report({ outcome: 'dropped', rcode: 'NONE', zone: 'none' })
        return undefined
      case 'reject':
        return reply(parsed.query, 'rejected', bare(parsed.rcode))
      case 'query':
        break
      default:
        return parsed satisfies never
    }
    const { query } = parsed
    const outcome = safeOutcome(query)
    const upstream = forwarder
    switch (outcome.kind) {
      case 'answer':
        return reply(query, 'answered', outcome.encoded)
      case 'chase':
        if (upstream === undefined) return reply(query, 'answered', outcome.encoded)
        return chase(upstream, query, outcome).then((encoded) => reply(query, 'forwarded', encoded))
      case 'forward':
        if (upstream === undefined) return reply(query, 'rejected', bare('REFUSED'))
        return upstream.exchange(message, query.questionEnd, transport).then((response) => {
          if (response === undefined) return reply(query, 'forwarded', NO_UPSTREAM)
          report({ outcome: 'forwarded', rcode: rcodeName(response), zone: 'upstream' }, query)
          return fitted(response, query, transport)
        })
      default:
        return outcome satisfies never
    }
  }
}

/** An upstream that says more over UDP than this client takes: the client is told to come over TCP. */
function fitted(response: Uint8Array, query: Query, transport: 'udp' | 'tcp'): Uint8Array {
  const limit = transport === 'tcp' ? Infinity : Math.max(bytesMax(query, 'udp'), query.edns?.udpBytes ?? 0)
  if (response.length <= limit) return response
  const cut = Buffer.from(response.subarray(0, query.questionEnd))
  cut.writeUInt16BE(u16(cut, 2) | FLAG.TC, 2)
  cut.fill(0, 6, HEADER_BYTES)
  return cut
}

function metricType(query: Query | undefined): string {
  const name = query === undefined ? '' : typeName(query.type)
  return name === '' || name.startsWith('TYPE') ? 'other' : name
}

function rcodeName(response: Uint8Array): string {
  const rcode = u16(response, 2) & 15
  const names: readonly RcodeName[] = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED']
  return names.find((name) => RCODE[name] === rcode) ?? 'OTHER'
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

function codeOf(error: unknown): string | undefined {
  return error instanceof DnsError ? error.code : undefined
}

const NO_UPSTREAM: Encoded = { ...bare('SERVFAIL'), zone: 'upstream' }
const FREE_PORT_ATTEMPTS = 10
const LISTEN_MS = 5000
const UDP_BUFFER_BYTES = 1024 * 1024
