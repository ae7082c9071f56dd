// Finds members on the same link that moved while this host moved, or while this agent was down (io/p2p/beacon.ts).
import type { Origin } from '../../core/model/values.ts'
import { startBeacon, type Beacon } from '../../io/p2p/beacon.ts'
import type { Control } from '../control/control.ts'
import type { Log } from '../observe/log.ts'

export interface LinkCallsOptions {
  /** Multiaddrs; the first TCP port among them is the UDP port of the calls. */
  readonly listen: readonly string[]
  readonly control: Pick<Control, 'origin' | 'neighbour'>
  /** Own multiaddrs, best first. */
  readonly addresses: () => readonly string[]
  /** All agents of the view but this one. */
  readonly others: () => readonly { readonly origin: Origin }[]
  /** A member that is no neighbour called from this multiaddr. */
  readonly onCall: (origin: Origin, address: string) => void
  readonly log: Log
}

export class LinkCalls {
  readonly #options: LinkCallsOptions
  /** undefined: no port is listened on that others could know. */
  #beacon: Beacon | undefined

  constructor(options: LinkCallsOptions) {
    this.#options = options
  }

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

  /** Begins a series of calls: this host has moved. */
  call(): void {
    this.#beacon?.call()
  }
}
