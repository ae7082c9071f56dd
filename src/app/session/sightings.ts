// Where each member was last seen: the address of its control connection, its round trip, and from where it called on a link of this
// host. Bounded by the members.
import type { Origin } from '../../core/model/values.ts'
import type { Neighbour } from '../control/control.ts'
import type { Sighting } from './dial-targets.ts'

export class Sightings {
  readonly #seen = new Map<Origin, Sighting>()

  of(origin: Origin): Sighting {
    return this.#seen.get(origin) ?? {}
  }

  /** What a control connection shows; what is not known now stays as it was. */
  connected({ origin, address, rttMs }: Neighbour): void {
    const known = this.of(origin)
    this.#seen.set(origin, {
      host: /^\/ip[46]\/[^/]+/.exec(address)?.[0] ?? known.host,
      called: known.called,
      rttMs: rttMs ?? known.rttMs
    })
  }

  /** Returns whether the address is another than before. */
  called(origin: Origin, address: string): boolean {
    const known = this.of(origin)
    if (known.called === address) return false
    this.#seen.set(origin, { ...known, called: address })
    return true
  }
}
