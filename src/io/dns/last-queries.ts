// The end of a UDP socket whose port another process shares by now (listeners.ts). A socket that is closed loses the queries in
// its queue, and while it answers one, its clients send the next ones: so it must first take no new ones. A connected socket
// gets datagrams of its peer only (connect(2)), and the kernel gives all others to the other process. So the socket is
// connected to itself, which sends nothing, until its queue is empty, and to each client while it gets its answer.
// Invariant: a query that this socket has got is answered, if its answer is there at once. A client that sends from the same
// port while it gets its answer is served in the next round.
import type { RemoteInfo, Socket } from 'node:dgram'
import { setImmediate as nextTurn } from 'node:timers/promises'

/** A query, and the client that sent it. */
interface Query {
  readonly message: Uint8Array
  readonly client: RemoteInfo
}

// Almost always the second round finds nothing.
const ROUNDS_MAX = 10
// The kernel's queue of a socket is empty after two turns of the event loop without a message.
const SILENT_TURNS = 2
const TURNS_MAX = 100

/** Gets the queries of one socket from the moment at which it is to end. */
export class LastQueries {
  #held: Query[] = []

  /** Takes a query that the socket has received. */
  take(query: Query): void {
    this.#held.push(query)
  }

  /**
   * Resolves when all queries of the socket have their answers; it may be closed then. `answer` returns undefined for a query
   * that gets no answer now. Rejects where the socket cannot be connected.
   */
  async answer(socket: Socket, answer: (query: Query) => Uint8Array | undefined): Promise<void> {
    const { address, port } = socket.address()
    for (let round = 0; round < ROUNDS_MAX; round++) {
      await limitTo(socket, port, address)
      await this.#silence()
      const due = this.#held.splice(0)
      if (due.length === 0) return
      socket.disconnect()
      for (const query of due) {
        const response = answer(query)
        if (response === undefined) continue
        await limitTo(socket, query.client.port, query.client.address)
        await send(socket, response)
        socket.disconnect()
      }
    }
  }

  async #silence(): Promise<void> {
    let silent = 0
    for (let turn = 0; turn < TURNS_MAX && silent < SILENT_TURNS; turn++) {
      const before = this.#held.length
      await nextTurn()
      silent = this.#held.length === before ? silent + 1 : 0
    }
  }
}

/** Connects the socket, so that it gets datagrams of this peer only; the unspecified address stands for loopback, as in connect(2). */
function limitTo(socket: Socket, port: number, address: string): Promise<void> {
  const host = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address
  return new Promise((resolve, reject) => {
    socket.connect(port, host, ((error?: Error) => (error ? reject(error) : resolve())) as () => void)
  })
}

/** An answer that cannot be sent, for example because there is no route to its client, is lost for that client only. */
function send(socket: Socket, response: Uint8Array): Promise<void> {
  return new Promise((resolve) => socket.send(response, () => resolve()))
}
