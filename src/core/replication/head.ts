// Heads. A head is what an origin signs of its state: its position and the hash of all its records (state-hash.ts). The
// signed bytes are kept and forwarded as they were received and are never encoded again, so fields of newer versions
// survive.
import type { Crypto } from '../model/crypto.ts'
import type { Origin } from '../model/values.ts'
import { parseOrigin } from '../model/identity.ts'
import { equalBytes } from '../model/bytes.ts'
import { decodeHead, encodeMessage, wire, type SignedHeadMessage } from '../wire/messages.ts'

/** A position in an origin's history; positions are ordered by epoch, then by seq. */
export interface Position {
  /** The epoch, from 1. It grows when the origin has lost its store; the new epoch replaces all earlier ones. */
  readonly epoch: number
  /** The number of the latest operation. It starts again with 1 in each epoch. */
  readonly seq: number
}

/** A decoded head of well-formed content. Its signature is checked by `verifyHead`. */
export interface Head extends Position {
  readonly origin: Origin
  /** The seq of the position before this batch; 0 for the first batch of an epoch. */
  readonly prevSeq: number
  /** 32 bytes, the root of state-hash.ts over the live records. */
  readonly stateHash: Uint8Array
  /** The encoded Head as it was signed. Two heads are the same exactly when these bytes are equal. */
  readonly bytes: Uint8Array
  /** Ed25519, 64 bytes. */
  readonly signature: Uint8Array
}

/** Tells a position or a head from another object, such as a version that a reader has kept. */
export function isPosition(value: object): value is Position {
  return 'epoch' in value && 'seq' in value
}

/** The position before the first head. */
export const NOWHERE: Position = { epoch: 0, seq: 0 }

/** A comparator for sort(): negative when `left` is older, 0 for the same position. */
export function comparePositions(left: Position, right: Position): number {
  return left.epoch - right.epoch || left.seq - right.seq
}

/** True when two heads are of one origin and one position, but different. Their signatures are not checked. */
export function isEquivocation(first: Head, second: Head): boolean {
  return (
    first.origin === second.origin &&
    comparePositions(first, second) === 0 &&
    !equalBytes(first.bytes, second.bytes)
  )
}

/**
 * Decodes a head and checks its form. The signature is checked later, by `verifyHead`, and only when the head is newer
 * than the held one, because a head often arrives more than once. The bytes are copied: a view would keep the whole
 * frame in memory.
 */
export function readHead(
  signed: SignedHeadMessage | null,
  meshId: Uint8Array
): Head | 'malformed' | 'wrong mesh' {
  const head = signed ? decodeHead(signed.head) : undefined
  if (!signed || !head) return 'malformed'
  const origin = parseOrigin(head.origin)
  if (!origin) return 'malformed'
  if (!equalBytes(head.meshId, meshId)) return 'wrong mesh'
  if (head.epoch < 1 || head.seq < 1 || head.prevSeq >= head.seq) return 'malformed'
  if (head.stateHash.length !== HASH_BYTES || signed.signature.length !== SIGNATURE_BYTES) return 'malformed'
  return {
    origin,
    epoch: head.epoch,
    seq: head.seq,
    prevSeq: head.prevSeq,
    stateHash: new Uint8Array(head.stateHash),
    bytes: new Uint8Array(signed.head),
    signature: new Uint8Array(signed.signature)
  }
}

/** True when the signature of a head is valid for this raw Ed25519 key of 32 bytes. */
export function verifyHead(crypto: Crypto, publicKey: Uint8Array, head: Head): boolean {
  return crypto.verify(publicKey, head.signature, HEAD_TAG, head.bytes)
}

/** Encodes and signs a state of this agent's own origin. `seed` is the Ed25519 seed of its key, 32 bytes. */
export function signHead(
  crypto: Crypto,
  key: { readonly seed: Uint8Array; readonly meshId: Uint8Array },
  state: Omit<Head, 'bytes' | 'signature'>
): Head {
  const { origin, epoch, seq, prevSeq, stateHash } = state
  const bytes = encodeMessage(wire.Head, { meshId: key.meshId, origin, epoch, seq, prevSeq, stateHash })
  return { ...state, bytes, signature: new Uint8Array(crypto.sign(key.seed, HEAD_TAG, bytes)) }
}

/** Returns the wire form of a head, with the bytes that were signed. */
export function toSignedHead(head: Head): SignedHeadMessage {
  return { head: head.bytes, signature: head.signature }
}

/**
 * Returns the first four bytes of the state hash, as HeadRef.check carries them, to find two states of one position.
 */
export function checkOf(head: Head): number {
  return new DataView(head.stateHash.buffer, head.stateHash.byteOffset).getUint32(0)
}

const HASH_BYTES = 32
const SIGNATURE_BYTES = 64
// Domain tag before the signed bytes, so that a signature over another message is never valid for a head.
const HEAD_TAG = new TextEncoder().encode('rhizome/head/1\0')
