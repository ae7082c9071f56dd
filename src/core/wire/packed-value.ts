// A compact form of endpoint slices in memory. Endpoint slices make up nearly all of the memory that a mesh needs,
// and an endpoint differs from the one before it in a few bytes. So record-set.ts holds slices as differences, and
// unpacks them for each reader. The form is exact for any bytes, because the signature covers the bytes. It is never
// sent nor stored on disk.
//   packed = varint prefix length | prefix | varint entries | entry … | suffix
//   entry  = 0 | mask, a bit for each byte that differs from the entry before | those bytes     (of the same length)
//          | varint 1 + length | bytes                                                          (of another length)
// The prefix ends where the first endpoint's tag begins. Between two endpoints stands the same one-byte tag, which is
// left out.

import { ByteReader, ENDPOINT_TAG, findEndpoints, writeVarint } from './slice-bytes.ts'

/**
 * The packed form; undefined where it would not help: the value is no endpoint slice, has under 256 bytes, or stays
 * above three quarters of its size.
 */
export function packValue(value: Uint8Array): Uint8Array | undefined {
  if (value.length < VALUE_BYTES_MIN) return undefined
  const run = findEndpoints(value)
  if (!run || run.count < 2) return undefined
  const out = new Writer(value.length)
  out.varint(run.start)
  out.bytes(value, 0, run.start)
  out.varint(run.count)
  const reader = new ByteReader(value, run.start)
  let [before, beforeLength] = [0, 0]
  while (reader.at < run.end) {
    reader.at++ // the tag
    const length = reader.varint()
    if (length === beforeLength && length > 0) writeDifference(out, value, { at: reader.at, before, length })
    else {
      out.varint(length + 1)
      out.bytes(value, reader.at, reader.at + length)
    }
    before = reader.at
    beforeLength = length
    reader.at += length
    if (out.length > value.length * WORTH_IT) return undefined
  }
  out.bytes(value, run.end, value.length)
  return out.length > value.length * WORTH_IT ? undefined : out.done()
}

/**
 * The bytes that were packed. `valueBytes` is their number, which the packed form does not contain. `packed` must
 * come from packValue: it is not checked.
 */
export function unpackValue(packed: Uint8Array, valueBytes: number): Uint8Array {
  const value = new Uint8Array(valueBytes)
  const reader = new ByteReader(packed)
  const prefix = reader.varint()
  value.set(packed.subarray(reader.at, reader.at + prefix))
  reader.at += prefix
  let at = prefix
  let [before, length] = [0, 0]
  for (let left = reader.varint(); left > 0; left--) {
    const kind = reader.varint()
    if (kind > 0) length = kind - 1
    value[at++] = ENDPOINT_TAG
    at = writeVarint(value, at, length)
    if (kind > 0) {
      value.set(packed.subarray(reader.at, reader.at + length), at)
      reader.at += length
    } else reader.at = addDifference(value, { at, before, length }, { packed, mask: reader.at })
    before = at
    at += length
  }
  value.set(packed.subarray(reader.at), at)
  return value
}

// Below 256 bytes the bookkeeping of a typed array is larger than what it holds. A packed form above 0.75 of the size
// is not worth the time of unpacking.
const VALUE_BYTES_MIN = 256
const WORTH_IT = 0.75

/** Where an endpoint is in the value (`at`), where the one before it is (`before`), and how many bytes both have. */
interface Place {
  readonly at: number
  readonly before: number
  readonly length: number
}

function writeDifference(out: Writer, value: Uint8Array, { at, before, length }: Place): void {
  out.varint(0)
  const mask = out.skip(Math.ceil(length / 8))
  for (let index = 0; index < length; index++) {
    const byte = value[at + index] ?? 0
    if (byte === value[before + index]) continue
    out.setBit(mask, index)
    out.byte(byte)
  }
}

/**
 * Writes an entry of the same length into `value`, and returns the index behind it in `packed`. Most bytes are equal
 * to those of the entry before: it copies them all at once, then writes the bytes that differ.
 */
function addDifference(
  value: Uint8Array,
  { at, before, length }: Place,
  { packed, mask }: { readonly packed: Uint8Array; readonly mask: number }
): number {
  value.copyWithin(at, before, before + length)
  let from = mask + Math.ceil(length / 8)
  for (let group = 0; group < length; group += 8) {
    let bits = packed[mask + (group >> 3)] ?? 0
    for (let index = at + group; bits !== 0; index++, bits >>= 1) {
      if (bits & 1) value[index] = packed[from++] ?? 0
    }
  }
  return from
}

/** An output buffer with a position. */
class Writer {
  readonly #bytes: Uint8Array
  length = 0

  constructor(max: number) {
    // In the worst case an entry takes a kind and a mask in addition to its bytes. packValue gives up as soon as the
    // output is too long.
    this.#bytes = new Uint8Array(2 * max + 64)
  }

  varint(number: number): void {
    this.length = writeVarint(this.#bytes, this.length, number)
  }

  byte(byte: number): void {
    this.#bytes[this.length++] = byte
  }

  bytes(from: Uint8Array, start: number, end: number): void {
    this.#bytes.set(from.subarray(start, end), this.length)
    this.length += end - start
  }

  /** Leaves room for a mask and returns its index; the room is zero until setBit is called. */
  skip(count: number): number {
    const at = this.length
    this.length += count
    return at
  }

  setBit(at: number, bit: number): void {
    const index = at + (bit >> 3)
    this.#bytes[index] = (this.#bytes[index] ?? 0) | (1 << (bit & 7))
  }

  done(): Uint8Array {
    return this.#bytes.slice(0, this.length)
  }
}
