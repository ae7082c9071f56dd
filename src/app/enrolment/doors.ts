// The members at which a newcomer knocks, and when it gives up. One member that answers wrongly, or an address behind which
// is none, must not end a join that another member would let through.
import type { Origin } from '../../core/model/values.ts'
import { RETRY_CODES, type HandshakeCode } from '../../core/trust/door/codes.ts'
import type { HandshakeOutcome } from '../control/control.ts'

type Refused = Extract<HandshakeOutcome, { kind: 'refused' }>

/** The doors of one join. */
export class Doors {
  /** PeerIds of the members that the token names. */
  readonly #all: ReadonlySet<string>
  readonly #refused = new Set<Origin>()

  /** `bootstrap`: multiaddrs that end in /p2p/<PeerId>. */
  constructor(bootstrap: readonly string[]) {
    this.#all = new Set(bootstrap.map((address) => address.split('/p2p/').at(-1) ?? address))
  }

  /**
   * Returns whether a refusal ends the join: a proved member refuses for a reason that no other member would see in
   * another way, or every member that the token names has refused for good.
   */
  isOver({ peer, code, byPeer, proved }: Refused): boolean {
    if (RETRY_CODES.has(code as HandshakeCode)) return false
    if (proved && byPeer) return true
    this.#refused.add(peer)
    return this.#refused.size >= this.#all.size
  }
}
