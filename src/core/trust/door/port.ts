// What the handshake asks of the trust set, and what it ends with. The app implements DoorPort over Members; a newcomer
// has one, too, made of the roots of its token, which knows no cluster at first.
import type { Origin } from '../../model/values.ts'
import type { Credential } from '../members/credential.ts'
import type { MemberVerdict } from '../members/members.ts'
import type { OpenedItem } from '../set/form.ts'
import type { Refusal } from '../set/statement.ts'
import type { HandshakeCode } from './codes.ts'
import type { GatewayGift, TrustHead } from './frames.ts'

/** The trust set, as far as the handshake needs it. No function throws on any bytes. */
export interface DoorPort {
  /** Form, rights and signatures of a credential; not its standing. */
  openCredential(bytes: Uint8Array): Credential | Refusal
  /** The same of any other item. */
  openItem(bytes: Uint8Array): OpenedItem | Refusal
  /** What this agent's set says of the agent that shows the credential. */
  verdictOn(credential: Credential): MemberVerdict
  /** Whether this agent keeps the invite of a gateway with this public key (32 bytes) that `peer` may show. O(invites). */
  knowsGateway(key: Uint8Array, peer: Origin): boolean
}

/** How a handshake goes on or ends. */
export type HandshakeOutcome =
  | {
      readonly kind: 'accepted'
      readonly credential: Credential
      /**
       * By this agent's set at this moment. An agent that does not stand is accepted, too: the sets are exchanged first,
       * since the peer may bring the statement by which it stands. The caller judges after that.
       */
      readonly standing: MemberVerdict['kind']
      /** The protocol version that both sides speak. */
      readonly version: number
      /** The name and version of the peer's program, as it says; safe to print. */
      readonly software: string
      readonly trustHead: TrustHead | undefined
      /** How far the peer's clock is ahead of this agent's, in seconds. */
      readonly clockSkewSeconds: number
    }
  | {
      readonly kind: 'refused'
      readonly code: HandshakeCode
      /** Reason and remedy for the operator; safe to print. */
      readonly detail: string
      /** True when the peer refused this agent; false when this agent refused the peer. */
      readonly byPeer: boolean
      /**
       * True when the peer had proved before that it is a member. A final code ends a join only then: an agent of no
       * mesh can answer `used` to any token.
       */
      readonly proved: boolean
      /** Statements by which the peer explains it, with valid signatures; for the trust set. */
      readonly explain: readonly OpenedItem[]
    }
  /** A newcomer knocks. The caller decides (judgeDoor), writes and floods the admission, and then calls `answer`. */
  | {
      readonly kind: 'knock'
      /** Seats, invite and cluster certificate. */
      readonly item: OpenedItem
      /** The same, encoded: what the admission is signed onto. */
      readonly bytes: Uint8Array
      readonly software: string
      /** The newcomer's clock, for the text of a refusal only. */
      readonly peerSeconds: number
    }
  /** An agent with the secret of a gateway's token asks for the key of this cluster. The caller decides (judgeGateway). */
  | {
      readonly kind: 'gatewayKnock'
      /** The public key of the token, 32 bytes. */
      readonly key: Uint8Array
      readonly software: string
    }
  /** This agent is a newcomer and was admitted. The caller writes the item and begins again, as a member. */
  | {
      readonly kind: 'admitted'
      /** The encoded item that ends in the admission, and the same checked. */
      readonly bytes: Uint8Array
      readonly item: OpenedItem
      /** The sponsor as it proved itself. */
      readonly sponsor: Credential
      /** What made the admission's signer a cluster, where that is not the sponsor's cluster. */
      readonly sponsorItem: OpenedItem | undefined
      readonly clockSkewSeconds: number
    }

/** The decision of the caller on a knock. */
export type Answer =
  | {
      readonly kind: 'admitted'
      readonly item: Uint8Array
      /** Where another cluster signed the admission: the item that made that one a cluster. */
      readonly sponsor?: Uint8Array | undefined
    }
  | RejectAnswer

/** A refusal of a knock. */
export interface RejectAnswer {
  readonly kind: 'reject'
  readonly code: HandshakeCode
  /** The whole text, with its remedy (codes.ts). */
  readonly detail: string
  /** Encoded items. */
  readonly explain: readonly Uint8Array[]
}

/** The decision of the caller on the knock of a gateway. */
export type GatewayAnswer = { readonly kind: 'gateway'; readonly gift: GatewayGift } | RejectAnswer

/** The answer to one frame. */
export interface HandshakeStep {
  /** Encoded frames, to be sent in order. After a refusal they are sent before the connection is closed. */
  readonly send: readonly Uint8Array[]
  readonly outcome?: HandshakeOutcome
}
