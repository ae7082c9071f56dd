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
