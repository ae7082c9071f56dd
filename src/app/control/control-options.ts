// What the control plane of one agent needs: its identity, its store, and what to call when something has happened.
import type { Crypto } from '../../core/model/crypto.ts'
import type { ClusterName, Ip } from '../../core/model/values.ts'
import type { LeftOut } from '../../core/replication/own-records.ts'
import type { TransportOptions } from '../../io/p2p/transport.ts'
import type { Store } from '../../io/store/store.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Invite } from '../../core/trust/set/statement.ts'
import type { OwnSide } from '../../core/view/own-side.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Origin } from '../../core/model/values.ts'
import type { GatewayAnswer, HandshakeOutcome as DoorOutcome } from '../../core/trust/door/port.ts'
import type { HandshakeOutcome } from './handshakes.ts'

/** What an agent shows of itself in a handshake. Bytes are encoded TrustItems. */
export type Shows =
  | { readonly kind: 'member'; readonly credential: Uint8Array }
  | { readonly kind: 'newcomer'; readonly certItem: Uint8Array }

/** The invites of further gateways of this cluster. */
export interface GatewayDoor {
  /** Whether an invite with this public key (32 bytes) is kept. */
  readonly knows: (key: Uint8Array, peer: Origin) => boolean
  /** Answers an agent that has proved the secret of an invite. Never rejects. */
  readonly answer: (
    peer: Origin,
    knock: Extract<DoorOutcome, { kind: 'gatewayKnock' }>
  ) => Promise<GatewayAnswer>
}

/** The options of control.ts. */
export interface ControlOptions {
  readonly crypto: Crypto
  readonly store: Store
  readonly log: Log
  readonly metrics: Metrics
  readonly nodeSeed: Uint8Array
  readonly roots: MeshRoots
  readonly cluster: ClusterName
  /** Ed25519 seed of the cluster key, 32 bytes: it signs the admissions of newcomers. */
  readonly clusterSeed: Uint8Array
  /** What this agent shows of itself at the start: its credential, or as a newcomer its certificate; `renewed` replaces it. */
  readonly shows: Shows
  /** Items that this agent keeps in its identity, such as its seats, in case the stored set has lost them. */
  readonly keeps?: readonly Uint8Array[]
  readonly listen: readonly string[]
  /** Returns the addresses of this host; the same object while they are the same. Default: none are known. */
  readonly hostAddresses?: () => ReadonlySet<Ip>
  /** Shows the own cluster with its real addresses. Default: its addresses in the mesh are its real ones. */
  readonly ownSide?: OwnSide
  readonly software: string
  /** Called when the view may have changed. */
  readonly onChange: () => void
  /** Called with all records given to `publish` that cannot be published, whenever this list changes. */
  readonly onLeftOut: (leftOut: LeftOut) => void
  /** Why the prefixes of a newcomer's invite cannot be used beside the networks of hosts; undefined when they can. */
  readonly underlayFault: (invite: Invite) => Promise<string | undefined>
  /**
   * Called on a newcomer that a member has admitted, with the encoded item that ends in the admission. Resolves when the
   * item is on disk, with the credential that this agent shows from now on.
   */
  readonly onAdmitted: (clusterItem: Uint8Array) => Promise<Uint8Array>
  /** The invites of further gateways. When left out, this agent keeps none. */
  readonly gateways?: GatewayDoor
  /** Takes the datagrams that neighbours carry for their tunnels. When left out, this agent carries none. */
  readonly datagrams?: TransportOptions['datagrams']
  /** The same for the frames of relays. */
  readonly relayed?: TransportOptions['relayed']
  /** Called after each handshake. `join` learns here whether a member has accepted the cluster. */
  readonly onHandshake: (outcome: HandshakeOutcome) => void
}
