// Asks one upstream one question, over UDP or TCP. Every failure (no route, no free descriptor, a refused port, a broken stream, silence)
// resolves with `undefined`. No error is thrown, and every socket event has a listener.
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'

import { frame, Framer } from './framing.ts'
import type { SocketAddress } from './upstreams.ts'

interface AskOptions {
  readonly upstream: SocketAddress
  /** The encoded query, with its id. */
  readonly message: Uint8Array
  readonly transport: 'udp' | 'tcp'
  readonly isReply: (reply: Uint8Array) => boolean
  readonly timeoutMs: number
  readonly signals: readonly AbortSignal[]
}

/**
 * Sends one query and waits for its reply. Each query has its own connected socket as a defence against forged replies: the kernel picks a
 * random source port, accepts packets from this upstream only, and reports a refused port at once.
 */
export function ask(options: AskOptions): Promise<Uint8Array | undefined> {
  const { transport, timeoutMs, signals } = options
  return new Promise((resolve) => {
    let close: (() => void) | undefined
    let isDone = false
    const finish = (reply?: Uint8Array): void => {
      if (isDone) return
      isDone = true
      clearTimeout(timer)
      for (const signal of signals) signal.removeEventListener('abort', abandon)
      try {
        close?.()
      } catch {
        // The socket failed before it was bound: there is nothing to close.
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
    if (isDone) close()
  })
}

type Finish = (reply?: Uint8Array) => void

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
