// The bytes of an encoded endpoint slice, read without making an object for each endpoint: a mesh holds a million of them.

/** The one stretch of an encoded Value in which its endpoints stand, each as a tag, a length and a body. */
export interface EndpointRun {
  /** Of the first endpoint's tag. */
  readonly start: number
  readonly end: number
  readonly count: number
}

// Field 5 of EndpointSlice and field 4 of Value, length-delimited.
export const ENDPOINT_TAG = (5 << 3) | 2
export const SLICE_TAG = (4 << 3) | 2

/**
 * Undefined unless the bytes are a Value that is nothing but an endpoint slice with endpoints in one stretch, spelled as a
 * writer of ours would.
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
    // Another writer may spell numbers in more bytes than they need.
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

/** Reads past the end answer zeros: check `at`. */
export class ByteReader {
  at = 0
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array, at = 0) {
    this.#bytes = bytes
    this.at = at
  }

  /** Up to 28 bits, which no length within a record exceeds; anything longer is answered as a number that fits nowhere. */
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

/** Answers the index behind it. */
export function writeVarint(bytes: Uint8Array, start: number, number: number): number {
  let at = start
  let rest = number
  for (; rest >= 0x80; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80
  bytes[at++] = rest
  return at
}

export function varintBytes(number: number): number {
  let count = 1
  for (let rest = number; rest >= 0x80; rest >>>= 7) count++
  return count
}
