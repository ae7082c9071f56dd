// Encodes messages of netlink (netlink(7)): the head, and attributes. Lengths and types are in the byte order of the
// machine, which is little-endian (kernel/netlink.ts opens no socket on another one).

// Flag in the type of an attribute whose value is a list of attributes.
const NLA_F_NESTED = 0x8000
/** Bytes of struct nlmsghdr: length (4), type (2), flags (2), sequence (4), port (4). */
export const HEADER_BYTES = 16

/** Returns a whole message: struct nlmsghdr with port 0, because the kernel knows the sender, and the body. */
export function frame(parts: {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly body: Buffer
}): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + parts.body.length)
  bytes.writeUInt32LE(bytes.length, 0)
  bytes.writeUInt16LE(parts.type, 4)
  bytes.writeUInt16LE(parts.flags, 6)
  bytes.writeUInt32LE(parts.sequence >>> 0, 8)
  parts.body.copy(bytes, HEADER_BYTES)
  return bytes
}

/** Returns struct nlattr: length without padding, type, value; padded to a multiple of 4 bytes. */
export function attribute(kind: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc((4 + value.length + 3) & ~3)
  bytes.writeUInt16LE(4 + value.length, 0)
  bytes.writeUInt16LE(kind, 2)
  bytes.set(value, 4)
  return bytes
}

/** Returns an attribute whose value is a list of attributes. */
export function nested(kind: number, attributes: readonly Buffer[]): Buffer {
  return attribute(kind | NLA_F_NESTED, Buffer.concat(attributes))
}

/** An answer of the kernel. `payload` is valid until the socket is read again. */
export interface Answer {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly payload: Buffer
}

/** Yields the messages of a datagram. Stops without an error at a length that does not fit. */
export function* answersOf(datagram: Buffer): Generator<Answer> {
  for (let at = 0; at + HEADER_BYTES <= datagram.length;) {
    const length = datagram.readUInt32LE(at)
    if (length < HEADER_BYTES || at + length > datagram.length) return
    yield {
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      payload: datagram.subarray(at + HEADER_BYTES, at + length)
    }
    at += (length + 3) & ~3 // messages begin at multiples of 4 bytes
  }
}

/**
 * Yields the attributes of a list, each with its kind and its value without padding. Stops without an error at a length
 * that does not fit.
 */
export function* attributesOf(list: Buffer): Generator<readonly [kind: number, value: Buffer]> {
  for (let at = 0; at + 4 <= list.length;) {
    const length = list.readUInt16LE(at)
    if (length < 4 || at + length > list.length) return
    yield [list.readUInt16LE(at + 2) & ATTRIBUTE_KIND, list.subarray(at + 4, at + length)]
    at += (length + 3) & ~3
  }
}

// The upper two bits of the 16 are flags: the value is a list, or is in network order.
const ATTRIBUTE_KIND = 0x3fff

/** Returns the attributes of a list by kind. A kind that occurs twice has the last value. */
export function attributeMap(list: Buffer): ReadonlyMap<number, Buffer> {
  return new Map(attributesOf(list))
}

/** Returns the text of an attribute, which ends at the first zero byte. */
export function textOf(value: Buffer): string {
  const end = value.indexOf(0)
  return value.toString('utf8', 0, end < 0 ? value.length : end)
}
