// Rows of the database:
//   h/<origin> head   c/<origin> chain   s/<origin> highest seen   m/<name> meta
//   r/<origin>/<key>, q/<origin>/<key> records: in one of the two tables those of the head, in the other one those of a state
//   that is not whole yet   g/<origin> which one it is, 'r' without it   p/<origin> how far the unfinished state has come
// leveldb hands out flipped bytes without a word, so each row carries a CRC-32 over its key and its
// content; anything that fails it is not a row.
import { crc32 } from 'node:zlib'
import type { StoredRecord } from '../../core/replication/record.ts'

export interface HeadRow {
  readonly epoch: number
  readonly seq: number
  /** Encoded SignedHead. */
  readonly head: Uint8Array
}

/** How far an unfinished state has come, and the head of its last part. */
export interface PartsRow {
  readonly atSeq: number
  readonly lastSeq: number
  /** Encoded SignedHead. */
  readonly head: Uint8Array
}

export type RecordTable = 'r' | 'q'

export type Op = { type: 'put'; key: Buffer; value: Uint8Array } | { type: 'del'; key: Buffer }

const CRC_BYTES = 4

export function otherTable(table: RecordTable): RecordTable {
  return table === 'r' ? 'q' : 'r'
}

export function encodeTable(table: RecordTable): Uint8Array {
  return new TextEncoder().encode(table)
}

export function decodeTable(content: Uint8Array): RecordTable {
  return new TextDecoder().decode(content) === 'q' ? 'q' : 'r'
}

export function put(key: string, content: Uint8Array): Op {
  return { type: 'put', key: Buffer.from(key), value: seal(key, content) }
}

export function remove(key: string): Op {
  return { type: 'del', key: Buffer.from(key) }
}

/** crc32 | content. */
function seal(key: string, content: Uint8Array): Uint8Array {
  const row = new Uint8Array(CRC_BYTES + content.byteLength)
  row.set(content, CRC_BYTES)
  new DataView(row.buffer).setUint32(0, checksum(key, content))
  return row
}

/** Undefined: damaged. The content is a copy that pins nothing. */
export function unseal(key: string, row: Uint8Array): Uint8Array | undefined {
  if (row.byteLength < CRC_BYTES) return undefined
  // Not slice(): the rows are Buffers, whose slice() is a view.
  const content = new Uint8Array(row.subarray(CRC_BYTES))
  return viewOf(row).getUint32(0) === checksum(key, content) ? content : undefined
}

/** seq 8 | value. */
export function encodeRecord({ seq, value }: StoredRecord): Uint8Array {
  const content = new Uint8Array(8 + value.byteLength)
  viewOf(content).setBigUint64(0, BigInt(seq))
  content.set(value, 8)
  return content
}

export function decodeRecord(key: string, content: Uint8Array): StoredRecord | undefined {
  if (content.byteLength < 8) return undefined
  return { key, seq: Number(viewOf(content).getBigUint64(0)), value: content.subarray(8) }
}

/** epoch 8 | seq 8 | head. The same, without head, says what was seen of an origin. */
export function encodeHead(row: HeadRow): Uint8Array {
  const content = new Uint8Array(16 + row.head.byteLength)
  const view = viewOf(content)
  view.setBigUint64(0, BigInt(row.epoch))
  view.setBigUint64(8, BigInt(row.seq))
  content.set(row.head, 16)
  return content
}

export function decodeHead(content: Uint8Array): HeadRow | undefined {
  if (content.byteLength < 16) return undefined
  const view = viewOf(content)
  return {
    epoch: Number(view.getBigUint64(0)),
    seq: Number(view.getBigUint64(8)),
    head: content.subarray(16)
  }
}

/** at_seq 8 | last_seq 8 | head. */
export function encodeParts({ atSeq, lastSeq, head }: PartsRow): Uint8Array {
  return encodeHead({ epoch: atSeq, seq: lastSeq, head })
}

export function decodeParts(content: Uint8Array): PartsRow | undefined {
  const row = decodeHead(content)
  return row && { atSeq: row.epoch, lastSeq: row.seq, head: row.head }
}

function checksum(key: string, content: Uint8Array): number {
  return crc32(content, crc32(key))
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
