// Hostile bytes from sound ones: flips, cuts, splices, length bombs, and changes of shape that keep a protobuf message readable, so
// that they get past the decoder to the code behind it. Everything follows from the random source.
import type { Random } from '../sim/random.ts'

/** One to four changes to one of `corpus`; at most `bytesMax` long. */
export function mutate(random: Random, corpus: readonly Uint8Array[], bytesMax = 256 * 1024): Uint8Array {
  let bytes = new Uint8Array(random.pick(corpus))
  const changes = 1 + random.below(4)
  for (let change = 0; change < changes; change++) {
    const other = random.pick(corpus)
    bytes = random.chance(0.6) ? changeShape(random, bytes, other, 0) : changeBytes(random, bytes, other)
    if (bytes.length > bytesMax) bytes = bytes.slice(0, bytesMax)
  }
  return bytes
}

/** Without regard to what they mean. */
export function changeBytes(random: Random, bytes: Uint8Array, other: Uint8Array): Uint8Array<ArrayBuffer> {
  const at = random.below(bytes.length + 1)
  const to = at + random.below(Math.min(64, bytes.length - at) + 1)
  switch (random.below(9)) {
    case 0:
      return edited(bytes, (copy) => (copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8))))
    case 1:
      return edited(bytes, (copy) => (copy[at] = random.pick(BYTES)))
    case 2:
      return bytes.slice(0, at)
    case 3:
      return bytes.slice(at)
    case 4:
      return concat(bytes.subarray(0, at), other.subarray(random.below(other.length + 1)))
    case 5:
      return concat(bytes.subarray(0, to), bytes.subarray(at))
    case 6:
      return concat(bytes.subarray(0, at), bytes.subarray(to))
    case 7:
      return concat(bytes.subarray(0, at), noise(random, random.below(40)), bytes.subarray(at))
    default:
      return concat(bytes.subarray(0, at), random.pick(VARINTS), bytes.subarray(at))
  }
}

interface Field {
  readonly tag: number
  /** Undefined: not length-delimited. */
  readonly content: Uint8Array | undefined
  /** Tag, length and content. */
  readonly raw: Uint8Array
}

/** One change in the tree of fields, at any depth; of bytes that are no message, a change of bytes. */
function changeShape(
  random: Random,
  bytes: Uint8Array,
  other: Uint8Array,
  depth: number
): Uint8Array<ArrayBuffer> {
  const fields = parseFields(bytes)
  if (fields === undefined || fields.length === 0) return changeBytes(random, bytes, other)
  const at = random.below(fields.length)
  const field = fields[at]
  if (field === undefined) return new Uint8Array(bytes)
  const put = (...raws: readonly Uint8Array[]) =>
    concat(
      ...fields.slice(0, at).map(({ raw }) => raw),
      ...raws,
      ...fields.slice(at + 1).map(({ raw }) => raw)
    )
  const { content } = field
  if (content !== undefined && content.length > 0 && depth < 6 && random.chance(0.7)) {
    const inner = findContent(random, parseFields(other), field.tag)
    return put(wrap(field.tag, changeShape(random, content, inner ?? content, depth + 1)))
  }
  switch (random.below(9)) {
    case 0:
      return put()
    case 1:
      return put(...Array.from({ length: random.chance(0.1) ? 500 : 2 }, () => field.raw))
    case 2: {
      const swap = fields[random.below(fields.length)]
      return concat(...shuffled(random, fields).map(({ raw }) => raw), swap?.raw ?? field.raw)
    }
    case 3:
      return put(concat(varint(((field.tag >>> 3) << 3) | random.below(8)), field.raw.subarray(1)))
    case 4:
      return put(wrap(field.tag, nested(field.tag, 1 + random.below(random.chance(0.1) ? 20_000 : 40))))
    case 5:
      return put(concat(varint(field.tag), random.pick(VARINTS), field.raw.subarray(1)))
    case 6:
      return put(wrap(((1 + random.below(30)) << 3) | 2, noise(random, random.below(30))), field.raw)
    case 7:
      return put(random.pick(parseFields(other) ?? fields).raw)
    default:
      return put(
        content === undefined ? concat(varint(field.tag), random.pick(VARINTS)) : wrap(field.tag, EMPTY)
      )
  }
}

function findContent(
  random: Random,
  fields: readonly Field[] | undefined,
  tag: number
): Uint8Array | undefined {
  const same = fields?.filter((field) => field.tag === tag && field.content !== undefined) ?? []
  return same.length === 0 ? undefined : random.pick(same).content
}

/** Undefined when the bytes are not exactly a sequence of fields. */
function parseFields(bytes: Uint8Array): readonly Field[] | undefined {
  const fields: Field[] = []
  let offset = 0
  while (offset < bytes.length) {
    const start = offset
    const tag = readVarint(bytes, offset)
    if (tag === undefined || tag.value >>> 3 === 0) return undefined
    offset = tag.end
    const type = tag.value & 7
    let content: Uint8Array | undefined
    if (type === 0) offset = readVarint(bytes, offset)?.end ?? Infinity
    else if (type === 1) offset += 8
    else if (type === 5) offset += 4
    else if (type === 2) {
      const length = readVarint(bytes, offset)
      if (length === undefined) return undefined
      content = bytes.subarray(length.end, length.end + length.value)
      offset = length.end + length.value
    } else return undefined
    if (offset > bytes.length) return undefined
    fields.push({ tag: tag.value, content, raw: bytes.subarray(start, offset) })
  }
  return fields
}

function readVarint(
  bytes: Uint8Array,
  start: number
): { readonly value: number; readonly end: number } | undefined {
  let value = 0
  for (let offset = start; offset < Math.min(bytes.length, start + 5); offset++) {
    const byte = bytes[offset] ?? 0
    value += (byte & 0x7f) * 2 ** (7 * (offset - start))
    if (byte < 0x80) return { value, end: offset + 1 }
  }
  return undefined
}

function varint(value: number): Uint8Array {
  const bytes: number[] = []
  for (; value > 0x7f; value = Math.floor(value / 128)) bytes.push((value & 0x7f) | 0x80)
  return Uint8Array.of(...bytes, value)
}

function wrap(tag: number, content: Uint8Array): Uint8Array<ArrayBuffer> {
  return concat(varint(((tag >>> 3) << 3) | 2), varint(content.length), content)
}

/** A message in itself, so many times: recursion in a decoder must end before the stack does. */
function nested(tag: number, depth: number): Uint8Array {
  const parts: Uint8Array[] = []
  let length = 0
  for (let level = 0; level < depth; level++) {
    const header = concat(varint(((tag >>> 3) << 3) | 2), varint(length))
    parts.push(header)
    length += header.length
  }
  return concat(...parts.toReversed())
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.length
  }
  return whole
}

export function noise(random: Random, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, () => random.below(256))
}

export function shuffled<T>(random: Random, items: readonly T[]): readonly T[] {
  return items
    .map((item) => ({ item, order: random.next() }))
    .sort((left, right) => left.order - right.order)
    .map(({ item }) => item)
}

function edited(bytes: Uint8Array, edit: (copy: Uint8Array) => void): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes)
  edit(copy)
  return copy
}

const EMPTY = new Uint8Array()
const BYTES = [0, 1, 0x7f, 0x80, 0xc0, 0xff]
// 0, 1, 2^31 - 1, 2^32 - 1, 2^53, 2^64 - 1, eleven bytes that never end, and one in more bytes than it needs.
const VARINTS = [
  [0],
  [1],
  [0xff, 0xff, 0xff, 0xff, 0x07],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
  [0x81, 0x80, 0x80, 0x00]
].map((bytes) => Uint8Array.from(bytes))
