// The messages of the door, as bytes and as values. The decoder checks the form only; what a credential or an invite
// is worth is judged by hello.ts and admitted.ts.
// Invariants
//   1. A frame of a peer that dialled has at most DOOR_FRAME_BYTES_MAX bytes, and the answer of a peer that this agent
//      dialled at most ANSWER_FRAME_BYTES_MAX. The bound is checked before a byte is decoded.
//   2. decodeDoorFrame never throws on any bytes, and every length that it returns is bounded.
import { parseRealPrefix, realPrefixText, type RealPrefix } from '../../model/translation.ts'
import { printable } from '../../model/printable.ts'
import { decodeFrame, encodeFrame, type HelloMessage } from '../../wire/messages.ts'
import { codeOfNumber, type HandshakeCode, NUMBER_OF_CODE, type Rejection } from './codes.ts'

/** Bytes: a credential or an invite with seats at their bounds (codec.ts) has less than 15 KiB. */
export const DOOR_FRAME_BYTES_MAX = 16 * 1024
/**
 * Bytes: an answer may bring two items, and a statement that explains a refusal may keep 2,048 ids. It is what the
 * transport allows before authentication, too.
 */
export const ANSWER_FRAME_BYTES_MAX = 64 * 1024
/** Statements that explain a refusal. */
export const EXPLAIN_MAX = 4
export const NONCE_BYTES = 32
const SIGNATURE_BYTES = 64
const HASH_BYTES = 32
const KEY_BYTES = 32
/** Bytes: a certificate of an invited cluster has no lists; with two signatures it has less than 400. */
const CERT_BYTES_MAX = 1024
/** Multiaddrs in the answer to a new gateway, and the characters of each. */
export const GATEWAY_BOOTSTRAP_MAX = 32
const MULTIADDR_CHARACTERS_MAX = 256
/** Bytes of the name and version of a program. */
const SOFTWARE_BYTES_MAX = 100

/** The trust set of a member, by the hash of its ids (the exchange compares it). */
export interface TrustHead {
  /** 32 bytes. */
  readonly root: Uint8Array
  readonly count: number
}

/** A Hello whose fields have the right form. */
export interface Hello {
  readonly versionMin: number
  readonly versionMax: number
  readonly meshId: Uint8Array
  /** NONCE_BYTES. */
  readonly nonce: Uint8Array
  readonly unixSeconds: number
  /** Safe to print. */
  readonly software: string
  /**
   * What the peer shows: the item of a member's credential, or that of a newcomer's invite; or of a new gateway the public
   * key of its token, 32 bytes.
   */
  readonly shows:
    | { readonly kind: 'credential' | 'invite'; readonly item: Uint8Array }
    | { readonly kind: 'gateway'; readonly key: Uint8Array }
  /** Of a member that says it. */
  readonly trustHead: TrustHead | undefined
}

/** A message of the door. */
export type DoorMessage =
  | { readonly kind: 'hello'; readonly hello: Hello }
  /** A Hello of which only the versions and the mesh are readable: enough for the two refusals that name them. */
  | {
      readonly kind: 'poorHello'
      readonly reason: string
      readonly head: Pick<Hello, 'versionMin' | 'versionMax' | 'meshId'>
    }
  | { readonly kind: 'proof'; readonly signature: Uint8Array }
  | { readonly kind: 'knock'; readonly clusterCert: Uint8Array; readonly signature: Uint8Array }
  | { readonly kind: 'admitted'; readonly item: Uint8Array; readonly sponsor: Uint8Array | undefined }
  | { readonly kind: 'gatewayKnock'; readonly signature: Uint8Array }
  | ({ readonly kind: 'gatewayAdmitted' } & GatewayGift)
  | ({ readonly kind: 'reject' } & Reject)
  | { readonly kind: 'malformed'; readonly reason: string }

/** What a gateway gives to one more gateway of its cluster. */
export interface GatewayGift {
  /** The Ed25519 seed of the cluster key, 32 bytes; a secret. */
  readonly clusterSeed: Uint8Array
  /** The encoded TrustItem down to the cluster's admission or founding certificate. */
  readonly item: Uint8Array
  /** At most GATEWAY_BOOTSTRAP_MAX multiaddrs. */
  readonly bootstrap: readonly string[]
  /** The highest generation of the cluster's certificates that the giver knows. */
  readonly generation: number
  /** How the addresses of the cluster are translated; at most GIFT_PREFIXES_MAX, empty where they are not. */
  readonly realPrefixes: readonly RealPrefix[]
}

/** A cluster has at most 32 prefixes of each kind. */
const GIFT_PREFIXES_MAX = 64

/** A refusal as the peer sent it. `explain` are encoded TrustItems, not checked yet. */
interface Reject extends Rejection {
  readonly explain: readonly Uint8Array[]
}

/** Decodes one frame without its length prefix. */
export function decodeDoorFrame(frame: Uint8Array, bytesMax: number): DoorMessage {
  if (frame.length > bytesMax)
    return malformed(`a frame of ${frame.length} bytes before authentication, more than ${bytesMax}`)
  const message = decodeFrame(frame)
  if (message === undefined) return malformed('a frame that is not decodable')
  const { hello, proof, knock, admitted, reject, gatewayKnock, gatewayAdmitted } = message
  if (hello !== null) return helloOf(hello)
  if (proof !== null)
    return proof.signature.length === SIGNATURE_BYTES
      ? { kind: 'proof', signature: proof.signature }
      : malformed(`a Proof with a signature of ${proof.signature.length} bytes`)
  if (knock !== null) {
    const { clusterCert, signature } = knock
    if (signature.length !== SIGNATURE_BYTES)
      return malformed(`a Knock with a signature of ${signature.length} bytes`)
    if (clusterCert.length === 0 || clusterCert.length > CERT_BYTES_MAX)
      return malformed(`a Knock with a certificate of ${clusterCert.length} bytes`)
    return { kind: 'knock', clusterCert, signature }
  }
  if (admitted !== null) {
    const { item, sponsor } = admitted
    return { kind: 'admitted', item, sponsor: sponsor.length === 0 ? undefined : sponsor }
  }
  if (gatewayKnock !== null) {
    const { signature } = gatewayKnock
    return signature.length === SIGNATURE_BYTES
      ? { kind: 'gatewayKnock', signature }
      : malformed(`a GatewayKnock with a signature of ${signature.length} bytes`)
  }
  if (gatewayAdmitted !== null) return giftOf(gatewayAdmitted)
  if (reject !== null) {
    const { code, detail, explain } = reject
    return {
      kind: 'reject',
      code: codeOfNumber(code),
      detail: printable(detail),
      explain: explain.slice(0, EXPLAIN_MAX)
    }
  }
  return malformed('a message that does not belong to the handshake')
}

/** Encodes this agent's Hello. */
export function encodeHello(hello: Hello): Uint8Array {
  const { shows, trustHead, ...rest } = hello
  const { root, count } = trustHead ?? {}
  return encodeFrame({
    hello: {
      ...rest,
      ...(shows.kind === 'gateway' ? { gatewayKey: shows.key } : { [shows.kind]: shows.item }),
      ...(root !== undefined && { trustHead: { root, count: count ?? 0 } })
    }
  })
}

/** Encodes a Proof. */
export function encodeProof(signature: Uint8Array): Uint8Array {
  return encodeFrame({ proof: { signature } })
}

/** Encodes a Knock. */
export function encodeKnock(clusterCert: Uint8Array, signature: Uint8Array): Uint8Array {
  return encodeFrame({ knock: { clusterCert, signature } })
}

/** Encodes an admission; `sponsor` is the item of the cluster that signed it, where that is not the sender's. */
export function encodeAdmitted(item: Uint8Array, sponsor: Uint8Array | undefined): Uint8Array {
  return encodeFrame({ admitted: { item, ...(sponsor && { sponsor }) } })
}

/** Encodes the request of a new gateway. */
export function encodeGatewayKnock(signature: Uint8Array): Uint8Array {
  return encodeFrame({ gatewayKnock: { signature } })
}

/** Encodes the answer to a new gateway. */
export function encodeGatewayAdmitted({ bootstrap, realPrefixes, ...gift }: GatewayGift): Uint8Array {
  const texts = realPrefixes.map(realPrefixText)
  return encodeFrame({ gatewayAdmitted: { ...gift, bootstrap: [...bootstrap], realPrefixes: texts } })
}

/**
 * Encodes a refusal. Of the items that explain it, the first EXPLAIN_MAX that fit into the frame are sent: an item that
 * is too large is left out, since the detail says the reason, too.
 */
export function encodeReject(
  { code, detail }: Rejection,
  explain: readonly Uint8Array[] = [],
  bytesMax: number = DOOR_FRAME_BYTES_MAX
): Uint8Array {
  const fitting: Uint8Array[] = []
  let room = bytesMax - REJECT_HEAD_BYTES
  for (const item of explain) {
    if (fitting.length === EXPLAIN_MAX) break
    if (item.length + ITEM_HEAD_BYTES > room) continue
    fitting.push(item)
    room -= item.length + ITEM_HEAD_BYTES
  }
  return encodeFrame({ reject: { code: NUMBER_OF_CODE[code], detail: printable(detail), explain: fitting } })
}

/** Whether a frame is a Reject, by its first tag; one may come after the handshake, when the trust sets are equal. */
export function isReject(frame: Uint8Array): boolean {
  return frame[0] === REJECT_TAG
}

const [REJECT_TAG] = encodeFrame({ reject: {} })

/** Bytes of a Reject around its items: code, detail of at most 300 bytes, tags and lengths. */
const REJECT_HEAD_BYTES = 400
/** Bytes around one item: its tag and a length of up to three bytes. */
const ITEM_HEAD_BYTES = 4

/** Checks the form of a Hello. */
function helloOf(message: HelloMessage): DoorMessage {
  const { versionMin, versionMax, meshId, nonce, unixSeconds, trustHead } = message
  const poor = (reason: string): DoorMessage => ({
    kind: 'poorHello',
    reason: `a Hello ${reason}`,
    head: { versionMin, versionMax, meshId }
  })
  if (nonce.length !== NONCE_BYTES) return poor(`with a nonce of ${nonce.length} bytes, not ${NONCE_BYTES}`)
  const shows = showsOf(message)
  if (typeof shows === 'string') return poor(shows)
  if (trustHead !== null && trustHead.root.length !== HASH_BYTES)
    return poor(`with a trust head of ${trustHead.root.length} bytes, not ${HASH_BYTES}`)
  return {
    kind: 'hello',
    hello: {
      versionMin,
      versionMax,
      meshId,
      nonce,
      unixSeconds,
      software: printable(message.software, SOFTWARE_BYTES_MAX),
      shows,
      // A copy: the outcome outlives the frame, whose buffer a view would keep.
      trustHead: trustHead === null ? undefined : { root: trustHead.root.slice(), count: trustHead.count }
    }
  }
}

/** The one thing that a Hello shows; or what is wrong with it, as the end of a sentence. */
function showsOf({ credential, invite, gatewayKey }: HelloMessage): Hello['shows'] | string {
  if (credential.length > 0 && invite.length > 0) return 'with a credential and an invite, not one of them'
  if (gatewayKey.length > 0 && credential.length + invite.length > 0)
    return 'with the key of a gateway and something else, not one of them'
  if (credential.length > 0) return { kind: 'credential', item: credential }
  if (invite.length > 0) return { kind: 'invite', item: invite }
  if (gatewayKey.length === 0) return 'with neither a credential nor an invite'
  if (gatewayKey.length !== KEY_BYTES) return `with a key of a gateway of ${gatewayKey.length} bytes`
  // A copy, for the same reason as that of the trust head.
  return { kind: 'gateway', key: gatewayKey.slice() }
}

/** Checks the form of an answer to a new gateway. */
function giftOf({
  clusterSeed,
  item,
  bootstrap,
  generation,
  realPrefixes: texts
}: Omit<GatewayGift, 'realPrefixes'> & { readonly realPrefixes: readonly string[] }): DoorMessage {
  if (clusterSeed.length !== KEY_BYTES)
    return malformed(`a GatewayAdmitted with a seed of ${clusterSeed.length} bytes`)
  const isLong = bootstrap.some(({ length }) => length > MULTIADDR_CHARACTERS_MAX)
  if (bootstrap.length > GATEWAY_BOOTSTRAP_MAX || isLong)
    return malformed(`a GatewayAdmitted with ${bootstrap.length} addresses, or a long one`)
  const realPrefixes = texts.slice(0, GIFT_PREFIXES_MAX).map(parseRealPrefix)
  if (!realPrefixes.every((prefix) => prefix !== undefined))
    return malformed('a GatewayAdmitted with malformed real prefixes')
  return { kind: 'gatewayAdmitted', clusterSeed, item, bootstrap, generation, realPrefixes }
}

function malformed(reason: string): DoorMessage {
  return { kind: 'malformed', reason }
}

/** Reads a Reject that comes after the handshake, when the peer does not stand; undefined: the frame is another one. */
export function decodeReject(frame: Uint8Array): ({ readonly code: HandshakeCode } & Reject) | undefined {
  const message = decodeDoorFrame(frame, ANSWER_FRAME_BYTES_MAX)
  return message.kind === 'reject' ? message : undefined
}
