// Starts the session of a membership and makes it the current one, so that all parts of the process that reach the
// session through `CurrentSession` see it. Enrolment uses it for init, for join and after a restart.
import type { Crypto } from '../../core/model/crypto.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Store } from '../../io/store/store.ts'
import type { GatewayDoor } from '../control/control-options.ts'
import type { HandshakeOutcome } from '../control/control.ts'
import { bytes } from '../identity/encoding.ts'
import type { Membership } from '../identity/identity.ts'
import type { NodeIdentity } from '../identity/node-identity.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { VERSION } from '../observe/version.ts'
import type { CurrentSession } from '../session/current-session.ts'
import { OwnCertificate } from '../session/own-certificate.ts'
import { Session } from '../session/session.ts'
import type { Settings } from '../settings/settings.ts'
import type { SourceFacts } from '../sources/source-facts.ts'
import type { Source } from '../sources/source.ts'
import { roleOf } from '../settings/role.ts'

/**
 * The parts of the process from which each session is built; they live longer than a session. `host` is undefined
 * without a data plane.
 */
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
  /** The invites of further gateways of this cluster. */
  readonly gateways: GatewayDoor
}

/** Creates sessions, one at a time. The callers in Enrolment make sure that no other session runs. */
export class Entrance {
  readonly #options: EntranceOptions
  /**
   * Called after each handshake of the session, accepted or refused. Enrolment sets it while a join waits for the first
   * member.
   */
  onHandshake: (outcome: HandshakeOutcome) => void = () => undefined
  /** Called when a member has admitted this newcomer. Enrolment sets it, and saves the item. */
  onAdmitted: (clusterItem: Uint8Array) => Promise<void> = async () => undefined

  constructor(options: EntranceOptions) {
    this.#options = options
  }

  /**
   * Starts a session, gives it what the source has told so far, and makes the source read again, because its objects
   * must lie in the prefixes of the new membership. The session of a newcomer connects, but does not program the host.
   * `restored`: items of a backup, which the caller has saved; those on disk are read when the store is opened.
   * Errors: StoreError; TransportError, for example for a port in use. The session is then stopped and not made the current one.
   */
  async enter(membership: Membership, restored: readonly Uint8Array[] = []): Promise<Session> {
    const { current, node, store, facts, source, settings } = this.#options
    const identity = store.identity()
    if (identity === undefined) throw new Error('no identity')
    const nodeSeed = bytes(identity.nodeSeed)
    const certificate = new OwnCertificate({
      ...this.#options,
      ...membership,
      nodeSeed,
      node: settings['node-name'],
      role: roleOf(settings)
    })
    await certificate.settle(0)
    const session = new Session({
      ...this.#options,
      membership,
      // The stored set may have lost the seats; what was restored is stored, but the store was read before.
      keeps: [...(identity.seats ?? []).map(({ seatItem }) => bytes(seatItem)), ...restored],
      certificate,
      nodeSeed,
      wireguardKey: () => node.wireguardKey,
      software: VERSION,
      onHandshake: (outcome) => this.onHandshake(outcome),
      onAdmitted: (clusterItem) => this.onAdmitted(clusterItem),
      onPrefixes: () => source.refresh(),
      onView: () => current.onView()
    })
    try {
      await session.start()
    } catch (error) {
      await session.stop()
      throw error
    }
    current.set(session)
    facts.tell(session)
    source.refresh()
    return session
  }
}
