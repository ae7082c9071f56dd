// The UDP socket on loopback that stands for one carried peer: WireGuard sends its datagrams for the peer there, and takes
// those that came by the carrier from there. It works with WireGuard of the kernel and with wireguard-go alike, because
// both see an ordinary endpoint.
// Invariant: it sends to this host's WireGuard port on loopback only, and takes datagrams only from there. So no peer can
// make this agent send anything to a third party.
import { createSocket, type Socket } from 'node:dgram'
import { CARRIER_HOST } from '../../core/host/tunnel-path.ts'
import type { PeerAddress } from '../../core/model/values.ts'

const LOOPBACK = '127.0.0.1'

/** The kernel gives at most net.core.rmem_max. WireGuard sends in bursts, while the event loop may do something else. */
const RECEIVE_BUFFER_BYTES = 1024 * 1024

interface CarrierSocketOptions {
  /** UDP port of WireGuard on this host. */
  readonly wireguardPort: number
  /** Called with each datagram of WireGuard. The bytes belong to the receiver. */
  readonly onDatagram: (datagram: Uint8Array) => void
  /** Called when the address is known, and when the socket has failed. */
  readonly onChange: (error?: Error) => void
}

/** See the head of this file. */
export class CarrierSocket {
  readonly #options: CarrierSocketOptions
  readonly #socket: Socket
  #address: PeerAddress | undefined
  #isClosed = false

  constructor(options: CarrierSocketOptions) {
    this.#options = options
    this.#socket = createSocket({ type: 'udp4', recvBufferSize: RECEIVE_BUFFER_BYTES })
    this.#socket.on('message', (datagram, from) => {
      if (from.port === options.wireguardPort && from.address.startsWith('127.')) options.onDatagram(datagram)
    })
    this.#socket.on('error', (error) => {
      this.close()
      options.onChange(error)
    })
    this.#socket.bind({ address: CARRIER_HOST, port: 0, exclusive: true }, () => {
      if (this.#isClosed) return
      this.#address = `${CARRIER_HOST}:${this.#socket.address().port}` as PeerAddress
      options.onChange()
    })
  }

  /** The endpoint of the peer for WireGuard; undefined: the socket is not bound yet, or is closed. */
  get address(): PeerAddress | undefined {
    return this.#isClosed ? undefined : this.#address
  }

  /** Hands a datagram of the peer to WireGuard. Before the socket is bound it waits, and after `close` it is dropped. */
  deliver(datagram: Uint8Array): void {
    // An error means that WireGuard does not listen, as while its device is made anew: the datagram is lost as on a line.
    if (!this.#isClosed) this.#socket.send(datagram, this.#options.wireguardPort, LOOPBACK, () => undefined)
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#socket.close()
  }
}
