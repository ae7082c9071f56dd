// Asks one upstream one question, over UDP or TCP. Every failure (no route, no free descriptor, a refused port, a
// broken stream, silence) resolves with `undefined`. No error is thrown, and every socket event has a listener.
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'

import { frame, Framer } from './framing.ts'
import type { SocketAddress } from './upstreams.ts'

interface AskOptions {
  readonly upstream: SocketAddress
  /** The encoded query, with its id. */
  readonly message: Uint8Array
  readonly transport: 'udp' | 'tcp'
  /**
   * Says whether a received message is the reply to this query. Over UDP other messages are ignored; over TCP another
   * message ends the query without a reply.
   */
  readonly isReply: (reply: Uint8Array) => boolean
  /** Milliseconds for the whole query, with the TCP handshake. */
  readonly timeoutMs: number
  /** The query ends without a reply when one of these is aborted. */
  readonly signals: readonly AbortSignal[]
}

/**
 * Sends one query and waits for its reply. Each query has its own connected socket as a defence against forged replies:
 * the kernel picks a random source port, accepts packets from this upstream only, and reports a refused port at once
 * (RFC 5452, 9.2). Resolves with the reply as received, or with undefined after a failure. Never rejects. Called by
 * forwarder.ts.
 */
export function ask(options: AskOptions): Promise<Uint8Array | undefined> {
  const { transport, timeoutMs, signals } = options
  return new Promise((resolve) => {
    let close: (() => void) | undefined
    let isDone = false
    // Ends the query. Later calls do nothing, because an error, the timer and a reply may come at the same time.
    const finish = (reply?: Uint8Array): void => {
      if (isDone) return
      isDone = true
      clearTimeout(timer)
      for (const signal of signals) signal.removeEventListener('abort', abandon)
      try {
        close?.()
      } catch {
        // The socket failed before it was bound, so there is nothing to close.
      }
      resolve(reply)
    }
    const abandon = (): void => finish()
    const timer = setTimeout(abandon, timeoutMs)
    for (const signal of signals) signal.addEventListener('abort', abandon)
    if (signals.some(({ aborted }) => aborted)) return finish()
    try {
      close = transport === 'udp' ? openUdp(options, finish) : openTcp(options, finish)
    } catch {
      // Node throws what it refuses to open by itself; an error of the kernel arrives as an event.
      return finish()
    }
    // `finish` may have been called while the socket was being opened, before `close` was set.
    if (isDone) close()
  })
}

/** Ends the query with its reply; without an argument, as a failure. */
type Finish = (reply?: Uint8Array) => void

/** Sends the query over UDP and returns the function that closes the socket. Throws when Node refuses the address. */
function openUdp({ upstream, message, isReply }: AskOptions, finish: Finish): () => void {
  const socket = createSocket(isIPv6(upstream.address) ? 'udp6' : 'udp4')
  const fail = (error: unknown): void => {
    if (error !== undefined && error !== null) finish()
  }
  socket.on('error', fail)
  // A packet that is no reply to this query is forged or late, so the socket goes on waiting.
  socket.on('message', (reply) => {
    if (isReply(reply)) finish(reply)
  })
  // Node types this callback without the error that it passes when the kernel has no route.
  const onConnected = (error?: unknown): void => {
    if (error !== undefined && error !== null) return finish()
    try {
      socket.send(message, fail)
    } catch {
      finish()
    }
  }
  socket.connect(upstream.port, upstream.address, onConnected)
  return () => socket.close()
}

/**
 * Sends the query over a new TCP connection; the first whole message decides. Returns the function that closes the
 * socket.
 */
function openTcp({ upstream, message, isReply }: AskOptions, finish: Finish): () => void {
  const socket = connect({ host: upstream.address, port: upstream.port })
  const framer = new Framer()
  socket.on('error', () => finish())
  socket.on('close', () => finish())
  socket.on('data', (chunk) => {
    framer.push(chunk)
    const reply = framer.next()
    if (reply !== undefined) finish(isReply(reply) ? reply : undefined)
  })
  socket.write(frame(message))
  return () => socket.destroy()
}
