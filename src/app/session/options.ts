// The options of a session.
import type { Crypto } from '../../core/model/crypto.ts'
import type { WireguardKey } from '../../core/model/values.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Store } from '../../io/store/store.ts'
import type { HandshakeOutcome } from '../control/control.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Settings } from '../settings/settings.ts'
import type { Membership } from '../identity/identity.ts'

export interface SessionOptions {
  readonly membership: Membership
  /** False for a newcomer: the host is left alone until `admit()`. */
  readonly admitted: boolean
  readonly nodeSeed: Uint8Array
  readonly wireguardKey: WireguardKey
  readonly crypto: Crypto
  readonly store: Store
  /** undefined: no data plane on this machine; the plan is still made. */
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  readonly software: string
  readonly log: Log
  readonly metrics: Metrics
  readonly health: Health
  readonly onHandshake: (outcome: HandshakeOutcome) => void
}
