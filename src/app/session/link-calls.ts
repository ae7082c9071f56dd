// Finds members on the same link that have moved together with this host, or while this agent was down, with beacons
// (io/p2p/beacon.ts). After such a move neither side knows the other's address.
import type { Origin } from '../../core/model/values.ts'
import { startBeacon, type Beacon } from '../../io/p2p/beacon.ts'
import type { Control } from '../control/control.ts'
import type { Log } from '../observe/log.ts'

/** The identity and addresses of this agent, and the members of the mesh. */
interface LinkCallsOptions {
  /** Multiaddrs of the setting listen. The first TCP port among them is the UDP port of the beacons. */
  readonly listen: readonly string[]
  readonly control: Pick<Control, 'origin' | 'neighbour'>
  /** Returns this agent's multiaddrs, best first. */
  readonly addresses: () => readonly string[]
  /** Returns all agents of the view except this one. */
  readonly others: () => readonly { readonly origin: Origin }[]
  /**
   * Called when a member without a control connection has sent a beacon from this multiaddr. A beacon proves nothing:
   * the connection proves the PeerId.
   */
  readonly onCall: (origin: Origin, address: string) => void
  readonly log: Log
}

/** The beacons of one session. */
export class LinkCalls {
  readonly #options: LinkCallsOptions
  /** undefined: the settings name no port on which others could listen for beacons. */
  #beacon: Beacon | undefined

  constructor(options: LinkCallsOptions) {
    this.#options = options
  }

  /** Starts to listen for beacons, and sends the first series. */
  start(): void {
    const { listen, control, addresses, others, onCall, log } = this.#options
    const port = listen.map((address) => Number(/\d+$/.exec(address)?.[0])).find((each) => each > 0)
    if (port === undefined) return
    this.#beacon = startBeacon({
      origin: control.origin,
      port,
      addresses,
      isNeeded: () => others().some(({ origin }) => control.neighbour(origin) === undefined),
      onCall: (origin, address) => {
        const isMember = others().some((other) => other.origin === origin)
        if (isMember && control.neighbour(origin) === undefined) onCall(origin, address)
      },
      log: (event, fields) => log.debug(fields, event)
    })
    this.call()
  }

  /** Sends a series of beacons: this host has moved. The series ends when no member is missed. */
  call(): void {
    this.#beacon?.call()
  }
}
