// Reads and writes names and records of upstream messages as bytes. They are not converted to text, because a label may
// hold any byte. Upstream messages are hostile input: every read stays within the message, and every loop ends.
import { HEADER_BYTES, u16 } from './query.ts'

/** One record of an upstream's answer section, ready to be copied into another message. */
export interface WireRecord {
  /** The owner name, uncompressed. */
  readonly owner: Uint8Array
  readonly type: number
  /** The time to live in seconds. */
  readonly ttl: number
  /** The record data; names in it are uncompressed. */
  readonly data: Uint8Array
}

const RECORD_TYPE = { A: 1, CNAME: 5, AAAA: 28 } as const

/**
 * Encodes a question of class IN. The caller guarantees that the name's labels have letters, digits, hyphens and
 * underscores only and that the lengths are within the limits of DNS; nothing is checked here. A dot at the end is
 * optional.
 */
export function nameQuestion(name: string, type: number = RECORD_TYPE.A): Uint8Array {
  const labels = (name.endsWith('.') ? name.slice(0, -1) : name).split('.')
  return Buffer.concat([
    ...labels.map((label) => Buffer.from([label.length, ...Buffer.from(label, 'latin1')])),
    Buffer.from([0, type >> 8, type & 0xff, 0, CLASS_IN])
  ])
}

/**
 * Returns the address and CNAME records of class IN among the answers and skips other records. Returns undefined for a
 * malformed message. `questionEnd` is the offset behind the question.
 */
export function readAnswers(message: Uint8Array, questionEnd: number): readonly WireRecord[] | undefined {
  const records: WireRecord[] = []
  let offset = questionEnd
  for (let count = u16(message, 6); count > 0; count--) {
    const owner = readName(message, offset)
    // Behind the owner: type, class, TTL and the length of the data (RFC 1035, 4.1.3).
    if (owner === undefined || owner.end + 10 > message.length) return undefined
    const type = u16(message, owner.end)
    const isInternet = u16(message, owner.end + 2) === CLASS_IN
    const ttl = u16(message, owner.end + 4) * 0x10000 + u16(message, owner.end + 6)
    const start = owner.end + 10
    offset = start + u16(message, owner.end + 8)
    if (offset > message.length) return undefined
    if (!isInternet || !TYPES.includes(type)) continue
    const data = readData(message, { type, start, end: offset })
    if (data === undefined) return undefined
    records.push({ owner: owner.bytes, type, ttl, data })
  }
  return records
}

/** Returns the data without compression, or undefined where it does not fill its length exactly. */
function readData(
  message: Uint8Array,
  { type, start, end }: { readonly type: number; readonly start: number; readonly end: number }
): Uint8Array | undefined {
  if (type === RECORD_TYPE.CNAME) {
    const name = readName(message, start)
    return name?.end === end ? name.bytes : undefined
  }
  return end - start === (type === RECORD_TYPE.A ? 4 : 16) ? message.slice(start, end) : undefined
}

/**
 * Reads a name; `end` is the offset after the name at its own place. A pointer must point backwards (RFC 1035, 4.1.4),
 * so the loop ends.
 */
function readName(
  message: Uint8Array,
  start: number
): { readonly bytes: Uint8Array; readonly end: number } | undefined {
  const parts: Uint8Array[] = []
  let bytes = 1
  let end: number | undefined
  let offset = start
  let before = start
  for (;;) {
    const length = message[offset]
    if (length === undefined) return undefined
    if (length === 0) break
    // A length byte with both high bits set begins a pointer of 14 bits (RFC 1035, 4.1.4).
    if (length >= 0xc0) {
      const target = u16(message, offset) & 0x3fff
      if (offset + 2 > message.length || target >= before || target < HEADER_BYTES) return undefined
      end ??= offset + 2
      offset = before = target
      continue
    }
    bytes += length + 1
    if (length > 63 || bytes > NAME_BYTES_MAX || offset + 1 + length > message.length) return undefined
    parts.push(message.subarray(offset, offset + 1 + length))
    offset += 1 + length
  }
  return { bytes: Buffer.concat([...parts, ROOT]), end: end ?? offset + 1 }
}

const CLASS_IN = 1
const TYPES: readonly number[] = Object.values(RECORD_TYPE)
const ROOT = Uint8Array.of(0)
/** The largest encoded name (RFC 1035, 2.3.4). */
const NAME_BYTES_MAX = 255
