// Endpoint slices make up nearly all of a mesh's memory, and an endpoint differs from the one before it in a few bytes. So they are
// held as differences: exact for any bytes, because what is signed are the bytes.
//   packed = varint prefix length | prefix | varint entries | entry … | suffix
//   entry  = 0 | mask, a bit for each byte that differs from the entry before | those bytes     (of the same length)
//          | varint 1 + length | bytes                                                          (of another length)
// The prefix ends where the first endpoint's length begins; between two endpoints stands the same one-byte tag.

import { ByteReader, ENDPOINT_TAG, findEndpoints, writeVarint } from './slice-bytes.ts'

/** Undefined where it would not help: no endpoint slice, or too small, or not much smaller when packed. */
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

/** The bytes that were packed. */
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

// Below it the bookkeeping of a typed array is larger than what it holds.
const VALUE_BYTES_MIN = 256
const WORTH_IT = 0.75

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

/** Answers the index behind the entry. Most bytes are those of the entry before: copied at once, then mended. */
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

class Writer {
  readonly #bytes: Uint8Array
  length = 0

  constructor(max: number) {
    // An entry takes a kind and a mask more than its bytes, at worst; it is given up at once then.
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
