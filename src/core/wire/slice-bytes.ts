// Reads the bytes of an encoded endpoint slice without making an object for each endpoint, because a mesh may have a
// million endpoints. lazy-slice.ts checks endpoints in place with it, packed-value.ts compresses them.
// Source: proto/mesh.proto (Value, EndpointSlice), Protocol Buffers encoding of varints and length-delimited fields.

/**
 * The one contiguous range of an encoded Value that holds its endpoints, each as a tag, a length and a body. `end` is
 * exclusive, `count` at least 1.
 */
export interface EndpointRun {
  /** The index of the first endpoint's tag. */
  readonly start: number
  readonly end: number
  readonly count: number
}

// Field 5 of EndpointSlice and field 4 of Value, both length-delimited (wire type 2).
export const ENDPOINT_TAG = (5 << 3) | 2
export const SLICE_TAG = (4 << 3) | 2

/**
 * Where the endpoints are. Undefined unless the bytes are a Value that holds only an endpoint slice, with endpoints
 * in one contiguous range, and with numbers as short as this program writes them.
 */
export function findEndpoints(value: Uint8Array): EndpointRun | undefined {
  const reader = new ByteReader(value)
  if (reader.varint() !== SLICE_TAG || reader.varint() !== value.length - reader.at) return undefined
  let [start, end, count] = [0, 0, 0]
  while (reader.at < value.length) {
    const field = reader.at
    const tag = reader.varint()
    if ((tag & 7) !== 2) return undefined // a slice has no other fields than these
    const lengthAt = reader.at
    const length = reader.varint()
    // Another program may write a number in more bytes than it needs. Such a value is left to the full decoder.
    if (lengthAt !== field + 1 || reader.at !== lengthAt + varintBytes(length)) return undefined
    if (reader.at + length > value.length) return undefined
    reader.at += length
    if (tag !== ENDPOINT_TAG) continue
    if (count === 0) start = field
    else if (field !== end) return undefined
    end = reader.at
    count++
  }
  return count > 0 ? { start, end, count } : undefined
}

/** A reading position in a byte string. Reads past the end return zeros, so callers compare `at` with the length. */
export class ByteReader {
  at = 0
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array, at = 0) {
    this.#bytes = bytes
    this.at = at
  }

  /**
   * A number of at most 28 bits, which no length inside a record exceeds. A longer number is returned as 2^28, which
   * no caller accepts.
   */
  varint(): number {
    let number = 0
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#bytes[this.at++] ?? 0
      number |= (byte & 0x7f) << shift
      if (byte < 0x80) return number
    }
    return 2 ** 28
  }
}

/** Writes a varint at `start` and returns the index behind it. */
export function writeVarint(bytes: Uint8Array, start: number, number: number): number {
  let at = start
  let rest = number
  for (; rest >= 0x80; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80
  bytes[at++] = rest
  return at
}

/** The number of bytes of a number as a varint. */
export function varintBytes(number: number): number {
  let count = 1
  for (let rest = number; rest >= 0x80; rest >>>= 7) count++
  return count
}
