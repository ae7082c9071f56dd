// PeerIds as libp2p and multiaddrs carry them.
import type { Origin } from '../../core/model/values.ts'
import { parseOrigin } from '../../core/model/identity.ts'

/** Undefined for a PeerId of another key type than Ed25519: such a peer cannot be a member. */
export function originOf(peerId: { toString(): string }): Origin | undefined {
  return parseOrigin(peerId.toString())
}

/** The PeerId at the end of a multiaddr, if it has one. */
export function peerIdIn(address: string): string | undefined {
  return /\/p2p\/([^/]+)$/.exec(address)?.[1]
}
