// Asks the kernel of another host whether the tunnel to it works, while the agent there does not answer: an agent that is
// stopped or busy still has a kernel that carries traffic. The question is a UDP packet to a port on which no program
// listens; the kernel refuses it by ICMP (RFC 1122, 3.2.2.1), at most once a second for each asker (icmp(7)).
import { createSocket, type Socket } from 'node:dgram'
import type { Ip } from '../../core/model/values.ts'

/** The first port of traceroute. */
const UNUSED_PORT = 33_434

interface KernelProbeOptions {
  /** The tunnel address of this host. */
  readonly from: Ip
  readonly to: Ip
  readonly onRefused: () => void
}

/** The questions to one kernel. There is a socket from the first question until `leave`. */
export class KernelProbe {
  readonly #options: KernelProbeOptions
  #socket: Socket | undefined

  constructor(options: KernelProbeOptions) {
    this.#options = options
  }

  /** Asks once. A failure means nothing: the next question has a new socket. */
  ask(): void {
    if (this.#socket !== undefined) return send(this.#socket)
    const { from, to, onRefused } = this.#options
    const socket = createSocket(to.includes(':') ? 'udp6' : 'udp4')
    this.#socket = socket
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (this.#socket !== socket) return
      if (error.code === 'ECONNREFUSED') onRefused()
      else this.leave()
    })
    socket.bind({ address: from, port: 0, exclusive: true }, () => {
      if (this.#socket !== socket) return
      socket.connect(UNUSED_PORT, to, (error?: Error | null) => {
        if (this.#socket !== socket) return
        if (error) return this.leave()
        send(socket)
      })
    })
  }

  /** Closes the socket. */
  leave(): void {
    const socket = this.#socket
    this.#socket = undefined
    try {
      socket?.close()
    } catch {
      // The socket was closed already.
    }
  }
}

/** The packet is none that a prober answers. */
function send(socket: Socket): void {
  try {
    socket.send('rzp?', () => undefined)
  } catch {
    // The socket is not connected yet; the first packet follows once it is.
  }
}
