// Converts the PeerIds of libp2p and of multiaddrs to origins. An origin is the PeerId of an Ed25519 key as text.
import type { Origin } from '../../core/model/values.ts'
import { parseOrigin } from '../../core/model/identity.ts'

/** Returns the origin; undefined for a PeerId of another key type than Ed25519, whose peer cannot be a member. */
export function originOf(peerId: { toString(): string }): Origin | undefined {
  return parseOrigin(peerId.toString())
}

/** Returns the text after /p2p/ at the end of a multiaddr, unchecked; undefined when there is none. */
export function peerIdIn(address: string): string | undefined {
  return /\/p2p\/([^/]+)$/.exec(address)?.[1]
}
