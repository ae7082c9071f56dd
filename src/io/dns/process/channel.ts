// The agent's end of the unix socket to a responder process: the handshake, messages in both directions, and the end of
// the connection. client.ts decides what is sent; spawn.ts starts and ends the process.
import { connect, type Socket } from 'node:net'

import { encodeFrame, FrameReader, type ToAgent, type ToResponder } from './protocol.ts'

type Welcome = Extract<ToAgent, { readonly kind: 'welcome' }>

/** An open connection whose handshake has succeeded. */
export interface Channel {
  /** The first message of the responder: its version, process id and addresses. */
  readonly welcome: Welcome
  /** Queues a message. Does nothing when the channel is closed; `onClosed` tells that. */
  send(message: ToResponder): void
  /** Resolves when all queued messages have been sent, or when the channel is closed. */
  drained(): Promise<void>
  /**
   * Resolves with the first result of `pick` that is not undefined. Rejects when the channel closes or after
   * `timeoutMs`.
   */
  next<T>(pick: (message: ToAgent) => T | undefined, timeoutMs: number): Promise<T>
  /** Calls the listener for each message, also for one that `next` picks. */
  onMessage(listener: (message: ToAgent) => void): void
  /** Calls the listener once when the channel closes, or at once if it is already closed. */
  onClosed(listener: () => void): void
  /** Closes at once; queued messages may be lost. */
  close(): void
}

/**
 * Connects to the control socket at `path`. Resolves with undefined if no process listens there. Rejects if the process
 * there does not answer as a responder does: with `welcome` within 5 s. `version` is the agent's. A responder of
 * another version answers `welcome`, too; nothing but `stop` may be sent to it (protocol.ts).
 */
export async function openChannel(path: string, version: string): Promise<Channel | undefined> {
  const socket = connect(path)
  const isOpen = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
  })
  if (!isOpen) return undefined
  const channel = channelOf(socket)
  channel.send({ kind: 'hello', version })
  try {
    const welcome = await channel.next(
      (message) => (message.kind === 'welcome' ? message : undefined),
      WELCOME_MS
    )
    return { ...channel, welcome }
  } catch (error) {
    socket.destroy()
    throw error
  }
}

function channelOf(socket: Socket): Omit<Channel, 'welcome'> {
  const listeners = new Set<(message: ToAgent) => void>()
  const closed = new Set<() => void>()
  const reader = new FrameReader()
  socket.on('error', () => socket.destroy())
  socket.on('close', () => {
    for (const listener of closed) listener()
  })
  socket.on('data', (chunk) => {
    try {
      reader.push(chunk)
      for (let message = reader.next(); message !== undefined; message = reader.next())
        for (const listener of listeners) listener(message as ToAgent)
    } catch {
      // A malformed frame: the other side is no responder of this version.
      socket.destroy()
    }
  })
  return {
    send(message) {
      if (socket.writable) socket.write(encodeFrame(message))
    },
    drained() {
      if (!socket.writableNeedDrain || socket.destroyed) return Promise.resolve()
      return new Promise((resolve) => {
        const end = (): void => {
          socket.off('drain', end)
          socket.off('close', end)
          resolve()
        }
        socket.on('drain', end)
        socket.on('close', end)
      })
    },
    next(pick, timeoutMs) {
      return new Promise((resolve, reject) => {
        const end = (): void => {
          clearTimeout(timer)
          listeners.delete(listen)
          closed.delete(fail)
        }
        const fail = (): void => {
          end()
          reject(new Error('the DNS responder has closed the connection'))
        }
        const listen = (message: ToAgent): void => {
          const found = pick(message)
          if (found === undefined) return
          end()
          resolve(found)
        }
        const timer = setTimeout(() => {
          end()
          reject(new Error(`the DNS responder did not answer within ${timeoutMs / 1000} s`))
        }, timeoutMs)
        listeners.add(listen)
        if (socket.destroyed) fail()
        else closed.add(fail)
      })
    },
    onMessage: (listener) => void listeners.add(listener),
    onClosed(listener) {
      if (socket.destroyed) listener()
      else closed.add(listener)
    },
    close: () => void socket.destroy()
  }
}

/** A responder answers at once, but a busy host may delay the answer by some seconds. */
const WELCOME_MS = 5000
