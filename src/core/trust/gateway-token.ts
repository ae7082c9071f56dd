// Tokens for one more gateway of a cluster, which `meshctl invite --gateway` prints and `meshctl join` takes: "rzg2_", then
// the text form of token-text.ts. A token is a secret, so no error message quotes any part of it.
// Invariants
//   1. decodeGatewayToken never throws on any text.
//   2. A token holds no key of the cluster. Its own key gives the key of the cluster to one agent, at one gateway, once.
import { equalBytes } from '../model/bytes.ts'
import type { Crypto } from '../model/crypto.ts'
import { parseClusterName } from '../model/identity.ts'
import type { ClusterName } from '../model/values.ts'
import { decodeGatewayToken as decodeTokenMessage, encodeMessage, wire } from '../wire/messages.ts'
import { bytesOf, type KeyId, keyId } from './set/ids.ts'
import type { MeshRoots } from './set/mesh-roots.ts'
import {
  bodyOfToken,
  bootstrapFault,
  encodeTokenText,
  hasKind,
  malformedToken,
  type TokenRefused,
  tokenRoots
} from './token-text.ts'

/** A decoded token. */
export interface GatewayToken {
  readonly kind: 'token'
  readonly roots: MeshRoots
  readonly cluster: ClusterName
  readonly clusterKey: KeyId
  /** The Ed25519 seed of the token's key, 32 bytes; a secret. */
  readonly seed: Uint8Array
  /** Unix seconds, by the clock of the gateway that made it. Only that gateway decides on it. */
  readonly notAfter: number
  /** One to 16 multiaddrs of the gateway that made it, which end in /p2p/<PeerId>. */
  readonly bootstrap: readonly string[]
}

/** Whether a text begins like the token of a gateway, of any version. */
export function isGatewayToken(text: string): boolean {
  return hasKind('rzg', text)
}

/** Encodes a token as text. Throws RangeError when the bootstrap addresses are malformed or not 1 to 16. */
export function encodeGatewayToken(
  crypto: Crypto,
  token: Omit<GatewayToken, 'kind' | 'roots'> & { readonly roots: Pick<MeshRoots, 'k' | 'keys'> }
): string {
  const fault = bootstrapFault(token.bootstrap)
  if (fault !== undefined) throw new RangeError(fault)
  const body = encodeMessage<object>(wire.GatewayToken, {
    k: token.roots.k,
    rootKeys: token.roots.keys,
    clusterKey: bytesOf(token.clusterKey),
    cluster: token.cluster,
    seed: token.seed,
    notAfter: token.notAfter,
    bootstrap: [...token.bootstrap]
  })
  return encodeTokenText(crypto, 'rzg', body)
}

/** Decodes a token. White space around and inside it is ignored. Never throws. */
export function decodeGatewayToken(crypto: Crypto, text: string): GatewayToken | TokenRefused {
  const body = bodyOfToken(crypto, 'rzg', text)
  if (!(body instanceof Uint8Array)) return body
  const message = decodeTokenMessage(body)
  const isExact = message !== undefined && equalBytes(encodeMessage<object>(wire.GatewayToken, message), body)
  if (!isExact) return malformedToken('it cannot be decoded, or has fields that this version does not know')
  const { clusterKey, seed, notAfter, bootstrap } = message
  const roots = tokenRoots(crypto, message)
  if (roots === undefined) return malformedToken('its root keys are not those of a mesh')
  if (clusterKey.length !== KEY_BYTES) return malformedToken('its cluster key has not 32 bytes')
  if (seed.length !== KEY_BYTES) return malformedToken('its secret has not 32 bytes')
  const parsed = parseClusterName(message.cluster)
  if (parsed.kind === 'invalid') return malformedToken('its cluster has no valid name')
  const fault = bootstrapFault(bootstrap)
  if (fault !== undefined) return malformedToken(fault)
  return {
    kind: 'token',
    roots,
    cluster: parsed.clusterName,
    clusterKey: keyId(clusterKey),
    // A copy: the field is a view of the whole token.
    seed: new Uint8Array(seed),
    notAfter,
    bootstrap
  }
}

const KEY_BYTES = 32
