// The frames of the exchange: bytes to checked values and back. Decoding never throws. A frame that is malformed is an
// offence of the neighbour that sent it, because no honest agent makes one.
// Source: proto/mesh.proto, "the trust set between neighbours".
import { decodeFrame, encodeFrame } from '../../wire/messages.ts'
import { bytesOf, shortId, type ShortId } from '../set/ids.ts'
import { BUCKETS, DIGEST_BYTES, type ExchangeLimits, SHORT_ID_BYTES } from './limits.ts'

/** What a set holds, as one hash. Two sets with the same root have the same ids. */
export interface TrustHead {
  /** 32 bytes. */
  readonly root: Uint8Array
  /** The number of statements; for people. */
  readonly count: number
}

/** A decoded frame. The fields are those of the messages in mesh.proto. */
export type TrustFrame =
  | ({ readonly kind: 'head' } & TrustHead)
  | { readonly kind: 'digests'; readonly digests: Uint8Array; readonly from: number }
  | { readonly kind: 'ids'; readonly ids: readonly ShortId[]; readonly next: number }
  | { readonly kind: 'want'; readonly ids: readonly ShortId[] }
  | {
      readonly kind: 'items'
      readonly items: readonly Uint8Array[]
      readonly answer: boolean
      readonly last: boolean
    }
  | { readonly kind: 'malformed'; readonly reason: string }

/** The first two bytes of the frames of the exchange: tags above field 15 take two (Protocol Buffers, "Base 128 Varints"). */
const TAGS: ReadonlySet<number> = new Set(
  [{ trustHead: {} }, { trustDigests: {} }, { trustIds: {} }, { trustWant: {} }, { trustItems: {} }].map(
    (frame) => tagOf(encodeFrame(frame))
  )
)
/** Bytes of a frame beside its items: tags and lengths of the frame, and the two flags. */
const FRAME_OVERHEAD = 16
/** Tag and length of one item of at most 64 KiB. */
const ITEM_OVERHEAD = 4

/** Whether these bytes are a frame of the exchange, by the first tag; replication reads all others. */
export function isTrustFrame(frame: Uint8Array): boolean {
  return TAGS.has(tagOf(frame))
}

/** Decodes and checks a frame. */
export function decodeTrustFrame(bytes: Uint8Array, limits: ExchangeLimits): TrustFrame {
  if (bytes.length > limits.frameBytes)
    return malformed(`a frame of ${bytes.length} bytes is longer than ${limits.frameBytes}`)
  const frame = decodeFrame(bytes)
  if (frame === undefined) return malformed('the frame is not decodable')
  if (frame.trustHead) {
    const { root, count } = frame.trustHead
    return root.length === 32 ? { kind: 'head', root: copy(root), count } : malformed('a root has 32 bytes')
  }
  if (frame.trustDigests) {
    const { digests, from } = frame.trustDigests
    return digests.length === BUCKETS * DIGEST_BYTES
      ? { kind: 'digests', digests, from }
      : malformed(`${BUCKETS} digests have ${BUCKETS * DIGEST_BYTES} bytes`)
  }
  if (frame.trustIds) {
    const ids = shortIds(frame.trustIds.ids, limits.idsOfFrame)
    return ids ? { kind: 'ids', ids, next: frame.trustIds.next } : malformed('the list of ids is malformed')
  }
  if (frame.trustWant) {
    const ids = shortIds(frame.trustWant.ids, limits.wantIds)
    return ids ? { kind: 'want', ids } : malformed('the list of wanted ids is malformed')
  }
  if (frame.trustItems) {
    const { items, answer, last } = frame.trustItems
    return items.length <= limits.itemsOfFrame
      ? { kind: 'items', items, answer, last }
      : malformed(`${items.length} items are more than ${limits.itemsOfFrame}`)
  }
  return malformed('the frame is none of the exchange')
}

export function headFrame({ root, count }: TrustHead): Uint8Array {
  return encodeFrame({ trustHead: { root, count } })
}

export function digestsFrame(digests: Uint8Array, from: number): Uint8Array {
  return encodeFrame({ trustDigests: { digests, from } })
}

export function idsFrame(ids: readonly ShortId[], next: number): Uint8Array {
  return encodeFrame({ trustIds: { ids: joined(ids), next } })
}

export function wantFrame(ids: readonly ShortId[]): Uint8Array {
  return encodeFrame({ trustWant: { ids: joined(ids) } })
}

/** Packs items into as few frames as the limits allow. An answer has at least one frame, and its end is marked. */
export function itemsFrames(
  items: readonly Uint8Array[],
  answer: boolean,
  limits: Pick<ExchangeLimits, 'frameBytes' | 'itemsOfFrame'>
): readonly Uint8Array[] {
  const packs: Uint8Array[][] = answer ? [[]] : []
  let bytes = FRAME_OVERHEAD
  for (const item of items) {
    const size = item.length + ITEM_OVERHEAD
    // The form of an item keeps it far below a frame; one that is too long for a frame could never travel.
    if (size + FRAME_OVERHEAD > limits.frameBytes) continue
    const pack = packs.at(-1)
    if (pack === undefined || bytes + size > limits.frameBytes || pack.length >= limits.itemsOfFrame) {
      packs.push([item])
      bytes = FRAME_OVERHEAD + size
    } else {
      pack.push(item)
      bytes += size
    }
  }
  return packs.map((pack, at) =>
    encodeFrame({ trustItems: { items: pack, answer, last: answer && at === packs.length - 1 } })
  )
}

/** Cuts a list of short ids into its ids; undefined when it is longer than allowed or ends within an id. */
function shortIds(bytes: Uint8Array, max: number): readonly ShortId[] | undefined {
  if (bytes.length % SHORT_ID_BYTES !== 0 || bytes.length > max * SHORT_ID_BYTES) return undefined
  return Array.from({ length: bytes.length / SHORT_ID_BYTES }, (_, at) =>
    shortId(bytes.subarray(at * SHORT_ID_BYTES, (at + 1) * SHORT_ID_BYTES))
  )
}

/** The bytes of a list of short ids. */
function joined(ids: readonly ShortId[]): Uint8Array {
  const bytes = new Uint8Array(ids.length * SHORT_ID_BYTES)
  for (const [at, id] of ids.entries()) bytes.set(bytesOf(id), at * SHORT_ID_BYTES)
  return bytes
}

/** A copy that does not keep the frame's buffer alive. */
function copy(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes)
}

function malformed(reason: string): TrustFrame {
  return { kind: 'malformed', reason }
}

/** The first two bytes of a frame as one number. */
function tagOf([low = 0, high = 0]: Uint8Array): number {
  return low | (high << 8)
}
