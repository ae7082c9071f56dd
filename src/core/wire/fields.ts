// The fields of an encoded message as they stand, without its schema: for what a decoder leaves out.
import protobuf from 'protobufjs/minimal.js'
import './protobuf-setup.ts'

/** A field: its number, and its content where it has a length (a message, text or bytes). */
interface Field {
  readonly number: number
  readonly content: Uint8Array | undefined
}

const LENGTH_DELIMITED = 2

/** Returns the fields in their order, up to the first one that cannot be read. Never throws on any bytes; O(n). */
export function fieldsOf(bytes: Uint8Array): readonly Field[] {
  const fields: Field[] = []
  const reader = protobuf.Reader.create(bytes)
  try {
    while (reader.pos < reader.len) {
      const tag = reader.uint32()
      const content = (tag & 7) === LENGTH_DELIMITED ? reader.bytes() : undefined
      if (content === undefined) reader.skipType(tag & 7)
      fields.push({ number: tag >>> 3, content })
    }
  } catch {
    // The rest is no message.
  }
  return fields
}
