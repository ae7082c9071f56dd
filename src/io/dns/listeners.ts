// The sockets of the responder: UDP and TCP on one port of each address. Messages go to `handle`; its answers go back
// to the client. An error of one socket, one connection or one answer is a warning, and the others go on.
// All sockets have SO_REUSEPORT (socket(7)), so that the process that takes over can bind before this one has closed, and the
// port is closed at no moment. The kernel lets processes of one user share a port in this way only.
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, isIP, isIPv6, type ListenOptions, type Server, type Socket } from 'node:net'

import { shareOf } from '../../core/model/client-share.ts'
import { codeOf } from '../../core/model/coded-error.ts'
import { DnsError, listenError } from './errors.ts'
import { LastQueries } from './last-queries.ts'
import type { HandleQuery } from './query-handler.ts'
import { Shares } from './shares.ts'
import { serveConnection, TCP_LIMITS, type Connection } from './tcp-connection.ts'
import type { SocketAddress } from './upstreams.ts'

interface ListenersOptions {
  /** The option `listen` of server.ts. */
  readonly listen: readonly SocketAddress[]
  readonly handle: HandleQuery
  /** Called for errors after the start, which the responder survives. */
  readonly onWarning: (message: string, error: unknown) => void
}

/** All sockets of one responder. Before `start` and after `stop` there are none. */
export class Listeners {
  readonly #options: ListenersOptions
  #listening: SocketAddress[] = []
  #udp: UdpSocket[] = []
  /** Sockets that answer what they have got, and are closed then. */
  readonly #ending = new Map<UdpSocket, LastQueries>()
  #tcp: Server[] = []
  /** The open TCP connections. */
  #open = new Set<Connection>()
  /** Shared among clients, so that one client with many connections cannot keep the others out. */
  readonly #places = new Shares<Connection>({
    placesMax: TCP_LIMITS.connectionsMax,
    isIdle: ({ isIdle }) => isIdle,
    onEvicted: (connection) => connection.destroy()
  })

  constructor(options: ListenersOptions) {
    this.#options = options
  }

  /** The bound addresses, with their real ports where the option says 0. */
  get listening(): readonly SocketAddress[] {
    return this.#listening
  }

  /** Throws DnsError BAD_ADDRESS if the option has a text that is no IP address. */
  check(): void {
    for (const { address } of this.#options.listen) if (isIP(address) === 0) throw badAddress(address)
  }

  /**
   * Binds all addresses. After an error some may be bound: call `stop`. `shared`: the process that is to be replaced may
   * have them still. Otherwise an address that any other process has is an error.
   * Errors: DnsError PORT_IN_USE, PORT_FORBIDDEN, ADDRESS_NOT_LOCAL, LISTEN_FAILED.
   */
  async start({ shared }: { readonly shared: boolean }): Promise<void> {
    for (const wanted of this.#options.listen) {
      if (!shared && wanted.port !== 0) await checkFree(wanted)
      await this.#listen(wanted)
    }
  }

  /**
   * Answers the queries that the UDP sockets have got, then closes all sockets and ends the connections. Answers that come later are
   * dropped.
   */
  async stop(): Promise<void> {
    await Promise.all(this.#udp.map((socket) => this.#answerLast(socket)))
    const closing = [...this.#udp, ...this.#tcp].map(closed)
    for (const connection of this.#open) connection.destroy()
    for (const socket of this.#udp) this.#ending.delete(socket)
    this.#udp = []
    this.#tcp = []
    this.#listening = []
    this.#open = new Set()
    await Promise.all(closing)
  }

  /**
   * Binds one address for UDP and TCP. With port 0 the kernel chooses a free UDP port; if it is taken on TCP, another
   * one is tried.
   */
  async #listen({ address, port: wanted }: SocketAddress): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const port = await this.#listenUdp(address, wanted)
      try {
        await this.#listenTcp(address, port)
        this.#listening.push({ address, port })
        return
      } catch (error) {
        const isRetried = wanted === 0 && attempt < FREE_PORT_ATTEMPTS && codeOf(error) === 'PORT_IN_USE'
        if (!isRetried) throw error
        this.#udp.pop()?.close()
      }
    }
  }

  /** Binds a UDP socket and returns its port, which the kernel has chosen if `port` is 0. */
  async #listenUdp(address: string, port: number): Promise<number> {
    const socket = udpSocket(address, true)
    socket.bind({ port, address, exclusive: true })
    await bound(socket, 'UDP', address, port)
    this.#udp.push(socket)
    enlargeBuffer(socket)
    socket.on('error', (error) => {
      // A client that is gone makes an error of the socket that is connected to it.
      if (!this.#ending.has(socket)) this.#options.onWarning('DNS over UDP', error)
    })
    socket.on('message', (message, client) => this.#receive(socket, message, client))
    return socket.address().port
  }

  async #listenTcp(address: string, port: number): Promise<void> {
    // Half-open: a client may close its side after its last query and still read the answers.
    const server = createServer({ allowHalfOpen: true })
    server.listen(tcpOptions(address, port, true))
    await bound(server, 'TCP', address, port)
    this.#tcp.push(server)
    server.on('error', (error) => this.#options.onWarning('DNS over TCP', error))
    server.on('connection', (socket) => this.#accept(socket))
  }

  /**
   * Serves a connection, or closes it at once if its client has its share of the places. A client is one IPv4 address
   * or one /64 of IPv6.
   */
  #accept(socket: Socket): void {
    const client = socket.remoteAddress ?? ''
    const share = shareOf(client)
    // `stop` replaces the set, so the present one is kept for 'close'.
    const open = this.#open
    const connection = serveConnection(socket, (message) => this.#options.handle(message, 'tcp', client))
    if (!this.#places.take(share, connection)) return connection.destroy()
    open.add(connection)
    socket.on('close', () => {
      open.delete(connection)
      this.#places.release(share, connection)
    })
  }

  #receive(socket: UdpSocket, message: Uint8Array, client: RemoteInfo): void {
    // No client can receive at port 0, and Node throws when it should send there.
    if (client.port === 0) return
    const last = this.#ending.get(socket)
    if (last !== undefined) return last.take({ message, client })
    const response = this.#options.handle(message, 'udp', client.address)
    if (response instanceof Promise) void response.then((late) => late && this.#send(socket, late, client))
    else if (response !== undefined) this.#send(socket, response, client)
  }

  async #answerLast(socket: UdpSocket): Promise<void> {
    if (this.#ending.has(socket)) return
    const last = new LastQueries()
    this.#ending.set(socket, last)
    const answer = ({ message, client }: { readonly message: Uint8Array; readonly client: RemoteInfo }) => {
      const response = this.#options.handle(message, 'udp', client.address)
      return response instanceof Promise ? undefined : response
    }
    // Where the socket cannot be connected, it is closed with what is in its queue.
    await last.answer(socket, answer).catch(() => undefined)
  }

  /** Sends an answer over UDP. An error costs its client one answer and does not affect other clients. */
  #send(socket: UdpSocket, response: Uint8Array, client: RemoteInfo): void {
    // After `stop` the socket is closed, and sending would throw.
    if (!this.#udp.includes(socket)) return
    try {
      // An error of one answer, for example no route to its client, concerns that client only.
      socket.send(response, client.port, client.address, ignoreError)
    } catch (error) {
      this.#options.onWarning('a DNS answer could not be sent', error)
    }
  }
}

/**
 * Binds an address without SO_REUSEPORT and closes it again, which the kernel refuses while any other process has it.
 * Errors: those of `bound`.
 */
async function checkFree({ address, port }: SocketAddress): Promise<void> {
  const socket = udpSocket(address, false)
  const server = createServer()
  socket.bind({ port, address, exclusive: true })
  await bound(socket, 'UDP', address, port)
  try {
    server.listen(tcpOptions(address, port, false))
    await bound(server, 'TCP', address, port)
  } finally {
    await closed(socket)
  }
  await closed(server)
}

function udpSocket(address: string, reusePort: boolean): UdpSocket {
  return createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', ipv6Only: address === '::', reusePort })
}

function tcpOptions(address: string, port: number, reusePort: boolean): ListenOptions {
  return { port, host: address, ipv6Only: address === '::', exclusive: true, reusePort }
}

/**
 * Waits until the socket is bound. It closes the socket after an error: DnsError PORT_IN_USE, PORT_FORBIDDEN,
 * ADDRESS_NOT_LOCAL or LISTEN_FAILED.
 */
async function bound(
  socket: UdpSocket | Server,
  protocol: string,
  address: string,
  port: number
): Promise<void> {
  try {
    // Rejects on 'error'. The kernel answers a bind at once; the deadline is for causes that we do not know of.
    await once(socket, 'listening', { signal: AbortSignal.timeout(LISTEN_MS) })
  } catch (error) {
    socket.on('error', ignoreError)
    socket.close()
    throw listenError(error, `${protocol} ${isIPv6(address) ? `[${address}]` : address}:${port}`)
  }
}

/**
 * Asks the kernel for a receive buffer of UDP_BUFFER_BYTES, because a burst of queries would overrun the default of 200
 * KiB. The kernel may grant less (net.core.rmem_max); that is no error.
 */
function enlargeBuffer(socket: UdpSocket): void {
  try {
    socket.setRecvBufferSize(UDP_BUFFER_BYTES)
  } catch {
    // If the call fails, the socket keeps the kernel's default size.
  }
}

function closed(socket: UdpSocket | Server): Promise<void> {
  return new Promise((resolve) => {
    socket.close(() => resolve())
  })
}

function badAddress(address: string): DnsError {
  return new DnsError('BAD_ADDRESS', {
    message: `${JSON.stringify(address)} is not an IP address, so DNS cannot listen on it`,
    fix: 'set dns-listen to an IPv4 or IPv6 address of this host'
  })
}

function ignoreError(): void {}

/** A free UDP port is rarely taken on TCP, so ten attempts fail only when TCP ports are exhausted. */
const FREE_PORT_ATTEMPTS = 10
/** Deadline of one bind in milliseconds. */
const LISTEN_MS = 5000
/** The kernel doubles this for its own bookkeeping (socket(7), SO_RCVBUF). */
const UDP_BUFFER_BYTES = 1024 * 1024
