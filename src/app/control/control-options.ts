// What the control plane of one agent needs: its identity, its store, and what to call when something has happened.
import type { Crypto } from '../../core/model/crypto.ts'
import type { ClusterName, Ip } from '../../core/model/values.ts'
import type { LeftOut } from '../../core/replication/own-records.ts'
import type { Store } from '../../io/store/store.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { HandshakeOutcome } from './handshakes.ts'

/** The options of control.ts. */
export interface ControlOptions {
  readonly crypto: Crypto
  readonly store: Store
  readonly log: Log
  readonly metrics: Metrics
  readonly nodeSeed: Uint8Array
  readonly meshId: Uint8Array
  readonly cluster: ClusterName
  /** Encoded Chain down to this agent's certificate; `renewed` replaces it. */
  readonly chain: Uint8Array
  readonly listen: readonly string[]
  /** Returns the addresses of this host; the same object while they are the same. Default: none are known. */
  readonly hostAddresses?: () => ReadonlySet<Ip>
  readonly software: string
  /** Called when the view may have changed. */
  readonly onChange: () => void
  /** Called with all records given to `publish` that cannot be published, whenever this list changes. */
  readonly onLeftOut: (leftOut: LeftOut) => void
  /** Called after each handshake. `join` learns here whether a member has accepted the cluster. */
  readonly onHandshake: (outcome: HandshakeOutcome) => void
}
