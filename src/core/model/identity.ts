// Identities as text: an agent's PeerId, a cluster's name, a mesh's id. Settings, tokens, certificates and the admin
// API read and write them through these functions.
import { base58btc } from 'multiformats/bases/base58'
import { base32 } from 'multiformats/bases/base32'
import type { ClusterName, Origin } from './values.ts'
import { clusterZone, RESERVED_CLUSTER_NAMES } from './zones.ts'

/**
 * The libp2p PeerId of a raw 32-byte Ed25519 public key: base58btc of its identity multihash (libp2p peer-ids spec).
 * Throws a RangeError for another length.
 */
export function originOf(publicKey: Uint8Array): Origin {
  if (publicKey.length !== KEY_BYTES)
    throw new RangeError(`an Ed25519 public key has 32 bytes, not ${publicKey.length}`)
  const multihash = new Uint8Array(MULTIHASH_HEADER.length + KEY_BYTES)
  multihash.set(MULTIHASH_HEADER)
  multihash.set(publicKey, MULTIHASH_HEADER.length)
  return base58btc.encoder.baseEncode(multihash) as Origin
}

/** The raw 32-byte public key inside a PeerId; undefined when the text is no Ed25519 PeerId. */
export function publicKeyOf(origin: string): Uint8Array | undefined {
  if (origin.length !== ORIGIN_CHARACTERS) return undefined
  let multihash: Uint8Array
  try {
    multihash = base58btc.decoder.baseDecode(origin)
  } catch {
    return undefined // not base58
  }
  if (multihash.length !== MULTIHASH_HEADER.length + KEY_BYTES) return undefined
  if (!MULTIHASH_HEADER.every((byte, index) => multihash[index] === byte)) return undefined
  return multihash.subarray(MULTIHASH_HEADER.length)
}

/** The text as an Origin; undefined when it is no Ed25519 PeerId. */
export function parseOrigin(text: string): Origin | undefined {
  return publicKeyOf(text) === undefined ? undefined : (text as Origin)
}

type ParsedClusterName =
  | { readonly kind: 'clusterName'; readonly clusterName: ClusterName }
  | { readonly kind: 'invalid'; readonly reason: string }

/**
 * A cluster's name: an RFC 1123 DNS label, neither "all" nor "local", because `cluster.all` is the merged zone and
 * `cluster.local` is Kubernetes' own.
 */
export function parseClusterName(text: string): ParsedClusterName {
  const shown = JSON.stringify(text.slice(0, LABEL_CHARACTERS_MAX + 1))
  if (text.length === 0) return invalid('the cluster name is empty')
  if (text.length > LABEL_CHARACTERS_MAX)
    return invalid(`${shown} is longer than ${LABEL_CHARACTERS_MAX} characters`)
  if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(text)) {
    return invalid(`${shown} is not a DNS label: use lower-case letters and digits, and hyphens between them`)
  }
  if (RESERVED_CLUSTER_NAMES.has(text))
    return invalid(`${shown} is reserved, because the zone ${clusterZone(text)} already exists`)
  return { kind: 'clusterName', clusterName: text as ClusterName }
}

/** A mesh id for people: "mesh-" and the first 16 characters (80 bits) of its base32. */
export function meshIdText(meshId: Uint8Array): string {
  return `mesh-${base32.encoder.baseEncode(meshId).slice(0, 16)}`
}

const KEY_BYTES = 32
// identity multihash (0x00), 36 bytes (0x24) of protobuf: key type Ed25519 (0x08 0x01), data of 32 bytes (0x12 0x20).
const MULTIHASH_HEADER = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20)
// 38 bytes that start with 0x00 0x24 are always 52 characters of base58: "12D3KooW…".
const ORIGIN_CHARACTERS = 52
const LABEL_CHARACTERS_MAX = 63

function invalid(reason: string): ParsedClusterName {
  return { kind: 'invalid', reason }
}
