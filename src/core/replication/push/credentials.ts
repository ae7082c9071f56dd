// Tells the neighbours of a new credential of an origin whose records they hold already. A credential otherwise travels
// with the answer to a pull, and nothing is pulled while the records stay as they are. So a new cluster key, and a higher
// generation by which the copy of a certificate ends, are known on all members within seconds.
// Invariants
//   C1. A credential is passed on by the first one that brought it here: one that is held already is not.
//   C2. Of one origin at most RELAYS_MAX credentials are passed on in WINDOW_MS. A further one is told to the neighbours
//       of its origin, and comes to the others with the next pull.
import type { Origin } from '../../model/values.ts'
import type { Admission } from '../../trust/admission.ts'
import { deltaFrames } from '../delta-frames.ts'
import type { ProtocolLimits } from '../limits.ts'
import type { Neighbour } from '../neighbour.ts'
import type { Outbox } from '../outbox.ts'
import type { Replica } from '../replica.ts'

/**
 * Two renewals and a new cluster key may come at once. A hostile origin makes each member send four frames of 3 KB to
 * each neighbour in ten seconds.
 */
const RELAYS_MAX = 4
const WINDOW_MS = 10_000

interface CredentialsOptions {
  readonly self: Origin
  readonly admission: Pick<Admission, 'credentialOf'>
  readonly limits: Pick<ProtocolLimits, 'partBytes' | 'originsMax'>
  readonly replicas: { readonly own: Replica }
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
  readonly outbox: Outbox
}

/** See the head of this file. One for each protocol instance. */
export class Credentials {
  readonly #options: CredentialsOptions
  /** How many credentials of each origin were passed on since the beginning of its window. */
  readonly #told = new Map<Origin, { readonly sinceMs: number; count: number }>()

  constructor(options: CredentialsOptions) {
    this.#options = options
  }

  /** Sends the credential that this agent has now to all neighbours. */
  tellOwn(nowMs: number): void {
    const { self, admission, replicas } = this.#options
    const credential = admission.credentialOf(self)
    if (credential) this.tell(replicas.own, credential, { from: self, nowMs })
  }

  /**
   * Sends the credential of an origin to all neighbours but `from` and the origin itself, as a delta without operations.
   * Without a state there is nothing that a credential could be for.
   */
  tell(replica: Replica, credential: Uint8Array, { from, nowMs }: { from: Origin; nowMs: number }): void {
    const { self, limits, neighbours, outbox } = this.#options
    const { origin, head } = replica
    if (head === undefined) return
    if (origin !== self && !this.#mayTell(origin, nowMs)) return // C2
    const [frame] = deltaFrames({
      head,
      fromSeq: head.seq,
      operations: [],
      credential,
      partBytes: limits.partBytes
    })
    if (frame === undefined) return
    for (const peer of neighbours.keys()) if (peer !== from && peer !== origin) outbox.send(peer, frame)
  }

  /** Counts one more credential of this origin; false when it has had its number. */
  #mayTell(origin: Origin, nowMs: number): boolean {
    const known = this.#told.get(origin)
    if (known !== undefined && nowMs - known.sinceMs < WINDOW_MS) return known.count++ < RELAYS_MAX
    if (this.#told.size >= this.#options.limits.originsMax) this.#told.clear()
    this.#told.set(origin, { sinceMs: nowMs, count: 1 })
    return true
  }
}
