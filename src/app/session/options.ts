// The options of a session. enrolment/entrance.ts makes them from the parts that live as long as the process.
import type { Crypto } from '../../core/model/crypto.ts'
import type { WireguardKey } from '../../core/model/values.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Store } from '../../io/store/store.ts'
import type { GatewayDoor } from '../control/control-options.ts'
import type { HandshakeOutcome } from '../control/control.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Settings } from '../settings/settings.ts'
import type { Membership } from '../identity/identity.ts'
import type { OwnCertificate } from './own-certificate.ts'

/** The membership, the identity of the agent, and the parts of the process that the session uses. */
export interface SessionOptions {
  /** Of a newcomer the host is left alone until a member has admitted it (`admit()`). */
  readonly membership: Membership
  /** Encoded items that the trust set begins with, besides those of the store. */
  readonly keeps: readonly Uint8Array[]
  /** Certifies this agent; settled already. */
  readonly certificate: OwnCertificate
  /** Ed25519 seed of this agent's key, 32 bytes. The PeerId follows from it. */
  readonly nodeSeed: Uint8Array
  /** Returns the WireGuard key of the identity, which the tunnel device is to have. */
  readonly wireguardKey: () => WireguardKey
  readonly crypto: Crypto
  readonly store: Store
  /** undefined: no data plane on this machine; plans are still made. */
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  /** Version of the agent, which it announces to peers. */
  readonly software: string
  readonly log: Log
  readonly metrics: Metrics
  readonly health: Health
  /** The invites of further gateways of this cluster. */
  readonly gateways: GatewayDoor
  /** Called on a newcomer that a member has admitted; resolves when the item is on disk. */
  readonly onAdmitted: (clusterItem: Uint8Array) => Promise<void>
  /** Called when the trust set gives this cluster other prefixes: the source has to judge its objects again. */
  readonly onPrefixes: () => void
  /** Called once for all changes of a turn of the event loop, when the view has them. */
  readonly onView: () => void
  /** Called after each handshake with a peer. `join` learns here whether a member has accepted this cluster. */
  readonly onHandshake: (outcome: HandshakeOutcome) => void
}
