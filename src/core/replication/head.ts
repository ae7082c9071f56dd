// A head: what an origin signs of its state. Bytes are kept and forwarded as they were signed, never encoded anew.
import type { Crypto } from '../model/crypto.ts'
import type { Origin } from '../model/values.ts'
import { parseOrigin } from '../model/identity.ts'
import { equalBytes } from '../model/bytes.ts'
import { decodeHead, encodeMessage, wire, type SignedHeadMessage } from '../wire/messages.ts'

/** A place in an origin's history. An epoch starts over with seq 1; epochs only grow. */
export interface Position {
  readonly epoch: number
  readonly seq: number
}

export interface Head extends Position {
  readonly origin: Origin
  readonly prevSeq: number
  /** 32 bytes. */
  readonly stateHash: Uint8Array
  /** As received: two heads are the same exactly when these bytes are. */
  readonly bytes: Uint8Array
  readonly signature: Uint8Array
}

/** Of a value that is a head, or another object. */
export function isPosition(value: object): value is Position {
  return 'epoch' in value && 'seq' in value
}

export const NOWHERE: Position = { epoch: 0, seq: 0 }

/** Below zero when `left` is older. */
export function comparePositions(left: Position, right: Position): number {
  return left.epoch - right.epoch || left.seq - right.seq
}

/** The two heads are of one origin and one position, and yet different; their signatures are not checked. */
export function isEquivocation(first: Head, second: Head): boolean {
  return (
    first.origin === second.origin &&
    comparePositions(first, second) === 0 &&
    !equalBytes(first.bytes, second.bytes)
  )
}

/** Form only; the signature is checked by `verifyHead`, once it is known that the head matters. */
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

export function verifyHead(crypto: Crypto, publicKey: Uint8Array, head: Head): boolean {
  return crypto.verify(publicKey, head.signature, HEAD_TAG, head.bytes)
}

export function signHead(
  crypto: Crypto,
  key: { readonly seed: Uint8Array; readonly meshId: Uint8Array },
  state: Omit<Head, 'bytes' | 'signature'>
): Head {
  const { origin, epoch, seq, prevSeq, stateHash } = state
  const bytes = encodeMessage(wire.Head, { meshId: key.meshId, origin, epoch, seq, prevSeq, stateHash })
  return { ...state, bytes, signature: new Uint8Array(crypto.sign(key.seed, HEAD_TAG, bytes)) }
}

export function toSignedHead(head: Head): SignedHeadMessage {
  return { head: head.bytes, signature: head.signature }
}

/** The first four bytes of the state hash, as HeadRef.check carries them. */
export function checkOf(head: Head): number {
  return new DataView(head.stateHash.buffer, head.stateHash.byteOffset).getUint32(0)
}

const HASH_BYTES = 32
const SIGNATURE_BYTES = 64
const HEAD_TAG = new TextEncoder().encode('rhizome/head/1\0')
