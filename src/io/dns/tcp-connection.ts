// One client's TCP connection: pipelined queries, answered as they are ready (RFC 7766).
import type { Socket } from 'node:net'

import { frame, Framer } from './framing.ts'

type Handle = (message: Uint8Array) => Uint8Array | undefined | Promise<Uint8Array | undefined>

export const TCP_LIMITS = {
  /** Of all clients together; about 30 KB each. A node's resolver needs a few. */
  connectionsMax: 200,
  /** Between whole messages, so neither silence nor single bytes hold a connection (RFC 7766 6.2.3: seconds). */
  idleMs: 10_000,
  /** Queries under way for one client: one client cannot take all places at the upstream. */
  inFlightMax: 32,
  /** Answers that the client does not read. */
  unsentBytesMax: 256 * 1024
}

export interface Connection {
  /** No query of it is under way, whatever part of one has come. */
  readonly isIdle: boolean
  destroy(): void
}

/** Owns the socket from here on. */
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

  /** Takes messages while there is room, and reads on only when all that came is under way. */
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

  /** No answer is a message that must not be answered: nothing more is expected of such a client. */
  function send(response: Uint8Array | undefined): void {
    if (response === undefined) socket.destroy()
    else if (socket.writable) socket.write(frame(response))
  }
}
