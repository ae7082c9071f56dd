// Serves one client's TCP connection. A client may send further queries before the answers to earlier ones have come;
// each answer is sent as soon as it is ready, perhaps in another order (RFC 7766, 6.2.1.1 and 7). The connections of
// all clients share a number of places (shares.ts).
import type { Socket } from 'node:net'

import { frame, Framer } from './framing.ts'

/** Answers one query, now or later. undefined: the message must not be answered. */
type Handle = (message: Uint8Array) => Uint8Array | undefined | Promise<Uint8Array | undefined>

/** The first limit is kept by listeners.ts, the others by each connection. */
export const TCP_LIMITS = {
  /** Connections of all clients together; each takes about 30 KB. A node's resolver needs only a few. */
  connectionsMax: 200,
  /**
   * Milliseconds between whole messages. Neither silence nor single bytes hold a connection for longer; RFC 7766, 6.2.3
   * recommends some seconds.
   */
  idleMs: 10_000,
  /**
   * Queries of one connection that wait for an upstream. More are read only when one of them is answered, so one
   * connection cannot fill the forwarder.
   */
  inFlightMax: 32,
  /** Bytes of answers that the client has not read. Above this, no further query is read. */
  unsentBytesMax: 256 * 1024
}

/** A connection as listeners.ts sees it. */
export interface Connection {
  /** No query is under way and all answers are sent. A query that has come in part only does not count. */
  readonly isIdle: boolean
  destroy(): void
}

/** Reads queries from the socket until the client or a limit ends it. Owns the socket from here on. */
export function serveConnection(socket: Socket, handle: Handle, limits = TCP_LIMITS): Connection {
  const framer = new Framer()
  let inFlight = 0
  let ended = false
  let idle = setTimeout(() => socket.destroy(), limits.idleMs)

  socket.setNoDelay(true)
  socket.on('error', () => socket.destroy())
  socket.on('close', () => clearTimeout(idle))
  socket.on('drain', work)
  socket.on('end', () => {
    // The client sends nothing more, but it may still read: its open queries are answered first.
    ended = true
    work()
  })
  socket.on('data', (chunk) => {
    framer.push(chunk)
    work()
  })

  return {
    get isIdle() {
      return inFlight === 0 && socket.writableLength === 0
    },
    destroy: () => void socket.destroy()
  }

  /** Handles messages while the limits allow it. The socket is read again only when no whole message is left. */
  function work(): void {
    while (inFlight < limits.inFlightMax && socket.writableLength < limits.unsentBytesMax) {
      const message = framer.next()
      if (message === undefined) {
        if (ended && inFlight === 0) socket.end()
        else socket.resume()
        return
      }
      clearTimeout(idle)
      idle = setTimeout(() => socket.destroy(), limits.idleMs)
      const response = handle(message)
      if (response instanceof Promise) answerLater(response)
      else send(response)
    }
    socket.pause()
  }

  function answerLater(response: Promise<Uint8Array | undefined>): void {
    inFlight++
    response
      .then(send)
      .catch(() => socket.destroy())
      .finally(() => {
        inFlight--
        if (!socket.destroyed) work()
      })
  }

  /** Sends an answer. A client whose message must not be answered is disconnected, since it does not speak DNS. */
  function send(response: Uint8Array | undefined): void {
    if (response === undefined) socket.destroy()
    else if (socket.writable) socket.write(frame(response))
  }
}
