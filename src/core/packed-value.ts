// Endpoint slices make up nearly all of a mesh's memory, and an endpoint differs from the one before it in a few bytes. So they are
// held as differences: exact for any bytes, because what is signed are the bytes.
//   packed = varint prefix length | prefix | varint entries | entry … | suffix
//   entry  = 0 | mask, a bit for each byte that differs from the entry before | those bytes     (of the same length)
//          | varint 1 + length | bytes                                                          (of another length)
// The prefix ends where the first endpoint's length begins; between two endpoints stands the same one-byte tag.

/** Undefined where it would not help: no endpoint slice, or too small, or not much smaller when packed. */
export function packValue(value: Uint8Array): Uint8Array | undefined {
  if (value.length < VALUE_BYTES_MIN) return undefined
  const run = findEndpoints(value)
  if (!run) return undefined
  const out = new Writer(value.length)
  out.varint(run.start)
  out.bytes(value, 0, run.start)
  out.varint(run.bodies.length)
  let before: Body = { start: 0, end: 0 }
  for (const body of run.bodies) {
    writeEntry(out, value, body, before)
    before = body
    if (out.length > value.length * WORTH_IT) return undefined
  }
  out.bytes(value, run.end, value.length)
  return out.length > value.length * WORTH_IT ? undefined : out.done()
}

/** The bytes that were packed. */
export function unpackValue(packed: Uint8Array, valueBytes: number): Uint8Array {
  const value = new Uint8Array(valueBytes)
  const reader = new Reader(packed)
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
    } else {
      const mask = reader.at
      reader.at += Math.ceil(length / 8)
      for (let index = 0; index < length; index++) {
        const differs = ((packed[mask + (index >> 3)] ?? 0) >> (index & 7)) & 1
        value[at + index] = (differs ? packed[reader.at++] : value[before + index]) ?? 0
      }
    }
    before = at
    at += length
  }
  value.set(packed.subarray(reader.at), at)
  return value
}

// Below it the bookkeeping of a typed array is larger than what it holds.
const VALUE_BYTES_MIN = 256
const WORTH_IT = 0.75
// Field 5 of EndpointSlice and field 4 of Value, length-delimited.
const ENDPOINT_TAG = (5 << 3) | 2
const SLICE_TAG = (4 << 3) | 2

interface Body {
  readonly start: number
  readonly end: number
}

function writeEntry(out: Writer, value: Uint8Array, body: Body, before: Body): void {
  const length = body.end - body.start
  if (length !== before.end - before.start || length === 0) {
    out.varint(length + 1)
    out.bytes(value, body.start, body.end)
    return
  }
  out.varint(0)
  const mask = out.skip(Math.ceil(length / 8))
  for (let index = 0; index < length; index++) {
    const byte = value[body.start + index] ?? 0
    if (byte === value[before.start + index]) continue
    out.setBit(mask, index)
    out.byte(byte)
  }
}

/** The endpoints of an encoded Value that is nothing but an endpoint slice; undefined for all else. */
function findEndpoints(
  value: Uint8Array
): { start: number; end: number; bodies: readonly Body[] } | undefined {
  const reader = new Reader(value)
  if (reader.varint() !== SLICE_TAG || reader.varint() !== value.length - reader.at) return undefined
  const bodies: Body[] = []
  let [start, end] = [0, 0]
  while (reader.at < value.length) {
    const field = reader.at
    const tag = reader.varint()
    if ((tag & 7) !== 2) return undefined // a slice has no other fields than these
    const lengthAt = reader.at
    const length = reader.varint()
    // Another writer may spell numbers in more bytes than they need.
    if (lengthAt !== field + 1 || reader.at !== lengthAt + varintBytes(length)) return undefined
    if (reader.at + length > value.length) return undefined
    if (tag === ENDPOINT_TAG) {
      if (bodies.length === 0) start = field
      else if (field !== end) return undefined
      bodies.push({ start: reader.at, end: reader.at + length })
      end = reader.at + length
    }
    reader.at += length
  }
  return bodies.length > 1 ? { start, end, bodies } : undefined
}

class Reader {
  at = 0
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
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

function writeVarint(bytes: Uint8Array, start: number, number: number): number {
  let at = start
  let rest = number
  for (; rest >= 0x80; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80
  bytes[at++] = rest
  return at
}

function varintBytes(number: number): number {
  let count = 1
  for (let rest = number; rest >= 0x80; rest >>>= 7) count++
  return count
}
