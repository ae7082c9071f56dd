// What the signatures of the door cover. A signature is valid on one connection only: it covers both Hellos as they were
// sent (with both nonces, the versions and what each side showed) and both PeerIds, the signer's first. So it cannot be
// replayed on another connection, relayed to a third agent, reflected, or kept while a Hello is changed.
// Invariant: every part but the last has a fixed length (a PeerId has 52 characters), so the signed bytes can be divided
// in one way only.
import { utf8 } from '../../model/bytes.ts'
import type { Crypto } from '../../model/crypto.ts'
import type { Origin } from '../../model/values.ts'

/** One side of the connection. */
interface Side {
  readonly origin: Origin
  /** The frame of its Hello, as it was sent. */
  readonly hello: Uint8Array
}

/** The two sides as the signer sees them. */
export interface Transcript {
  readonly meshId: Uint8Array
  readonly signer: Side
  readonly verifier: Side
}

/** The bytes that the agent key signs in a Proof. */
export function proofParts(crypto: Crypto, of: Transcript): readonly Uint8Array[] {
  return [PROOF_DOMAIN, ...commonParts(crypto, of)]
}

/** The bytes that the cluster key signs in a Knock. `clusterCert` is the encoded Statement. */
export function knockParts(crypto: Crypto, of: Transcript, clusterCert: Uint8Array): readonly Uint8Array[] {
  return [KNOCK_DOMAIN, ...commonParts(crypto, of), crypto.sha256(clusterCert)]
}

/** The bytes that the key of a gateway's token signs in a GatewayKnock. */
export function gatewayKnockParts(crypto: Crypto, of: Transcript): readonly Uint8Array[] {
  return [GATEWAY_DOMAIN, ...commonParts(crypto, of)]
}

const PROOF_DOMAIN = utf8('rhizome/proof/2\0')
const KNOCK_DOMAIN = utf8('rhizome/knock/2\0')
const GATEWAY_DOMAIN = utf8('rhizome/gateway-knock/2\0')

function commonParts(crypto: Crypto, { meshId, signer, verifier }: Transcript): readonly Uint8Array[] {
  return [
    meshId,
    crypto.sha256(signer.hello),
    crypto.sha256(verifier.hello),
    utf8(signer.origin),
    utf8(verifier.origin)
  ]
}
