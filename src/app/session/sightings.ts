// Where each member was last seen: the address of its control connection, its round trip, and the address on a link
// of this host from which its beacon came. dialer.ts uses it to find a member that no longer has the addresses that
// it publishes.
import type { Origin } from '../../core/model/values.ts'
import type { Neighbour } from '../control/control.ts'
import type { Sighting } from './dial-targets.ts'

/** The sightings of one session. Bounded by the members: only they are recorded. */
export class Sightings {
  readonly #seen = new Map<Origin, Sighting>()

  /** Returns what is known; an empty object for a member that was never seen. */
  of(origin: Origin): Sighting {
    return this.#seen.get(origin) ?? {}
  }

  /** Records the control connection of a neighbour. What it does not tell now stays as it was. */
  connected({ origin, address, rttMs }: Neighbour): void {
    const known = this.of(origin)
    this.#seen.set(origin, {
      host: /^\/ip[46]\/[^/]+/.exec(address)?.[0] ?? known.host,
      called: known.called,
      rttMs: rttMs ?? known.rttMs
    })
  }

  /** Records a beacon. Returns whether it came from another address than the one before. */
  called(origin: Origin, address: string): boolean {
    const known = this.of(origin)
    if (known.called === address) return false
    this.#seen.set(origin, { ...known, called: address })
    return true
  }
}
