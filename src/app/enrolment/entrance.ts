// Starts the session of a membership, and makes it the current one.
import type { Crypto } from '../../core/model/crypto.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Store } from '../../io/store/store.ts'
import type { HandshakeOutcome } from '../control/control.ts'
import { bytes } from '../identity/encoding.ts'
import type { Membership } from '../identity/identity.ts'
import type { NodeIdentity } from '../identity/node-identity.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { VERSION } from '../observe/version.ts'
import type { CurrentSession } from '../session/current-session.ts'
import { Session } from '../session/session.ts'
import type { Settings } from '../settings/settings.ts'
import type { SourceFacts } from '../sources/source-facts.ts'
import type { Source } from '../sources/source.ts'

export interface EntranceOptions {
  readonly current: CurrentSession
  readonly node: NodeIdentity
  readonly crypto: Crypto
  readonly store: Store
  readonly host: LinuxHost | undefined
  readonly source: Source
  readonly facts: SourceFacts
  readonly settings: Settings
  readonly log: Log
  readonly metrics: Metrics
  readonly health: Health
}

export class Entrance {
  readonly #options: EntranceOptions
  /** What a newcomer waits for; called after each handshake of the session. */
  onHandshake: (outcome: HandshakeOutcome) => void = () => undefined

  constructor(options: EntranceOptions) {
    this.#options = options
  }

  /** `admitted` is false for a newcomer. Errors: of the transport; nothing is left running then. */
  async enter(membership: Membership, { admitted }: { readonly admitted: boolean }): Promise<Session> {
    const { current, node, store, facts, source } = this.#options
    const identity = store.identity()
    if (identity === undefined) throw new Error('no identity')
    const session = new Session({
      ...this.#options,
      membership,
      admitted,
      nodeSeed: bytes(identity.nodeSeed),
      wireguardKey: node.wireguardKey,
      software: VERSION,
      onHandshake: (outcome) => this.onHandshake(outcome)
    })
    try {
      await session.start()
    } catch (error) {
      await session.stop()
      throw error
    }
    current.set(session, membership)
    facts.tell(session)
    source.refresh()
    return session
  }
}
