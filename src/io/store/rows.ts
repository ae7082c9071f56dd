// Rows of the database. leveldb hands out flipped bytes without a word, so each row carries a CRC-32 over its key and its
// content; anything that fails it is not a row.
import { crc32 } from 'node:zlib'
import type { StoredRecord } from '../../core/record.ts'

export interface HeadRow {
  readonly epoch: number
  readonly seq: number
  /** Encoded SignedHead. */
  readonly head: Uint8Array
}

const CRC_BYTES = 4

/** crc32 | content. */
export function seal(key: string, content: Uint8Array): Uint8Array {
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

function checksum(key: string, content: Uint8Array): number {
  return crc32(content, crc32(key))
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
