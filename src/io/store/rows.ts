// The rows of the database and their encoding. database.ts writes them, scan.ts reads them.
//
//   h/<origin>         epoch, seq and signed head of the origin's state
//   c/<origin>         credential
//   s/<origin>         highest epoch and seq ever stored
//   r/<origin>/<key>   record; one of the tables r and q holds the records of the head,
//   q/<origin>/<key>   the other one those of a snapshot that is not complete yet
//   g/<origin>         the table that holds the records of the head; r when the row is missing
//   p/<origin>         how far the unfinished snapshot has come
//   m/<name>           meta data of the store, such as the counters
//   t/, o/, n/         the tables of trust (trust-table.ts)
//
// leveldb may return flipped bytes without an error, so each row begins with a CRC-32 over its key and content. A row
// that fails it counts as damaged. Numbers are big-endian.
import { crc32 } from 'node:zlib'
import type { StoredRecord } from '../../core/replication/record.ts'

/** Content of the rows h and s. */
export interface HeadRow {
  readonly epoch: number
  readonly seq: number
  /** Encoded SignedHead; empty in a row s. */
  readonly head: Uint8Array
}

/** Content of the row p: how far an unfinished snapshot has come. */
export interface PartsRow {
  /** The seq at which the origin stood when the first part was made. */
  readonly atSeq: number
  /** The last seq that its parts hold; the next part continues after it. */
  readonly lastSeq: number
  /** Encoded SignedHead of the last part. */
  readonly head: Uint8Array
}

/** One of the two tables of records. */
export type RecordTable = 'r' | 'q'

/** One step of a batch, as the package `level` takes it. */
export type Op = { type: 'put'; key: Buffer; value: Uint8Array } | { type: 'del'; key: Buffer }

const CRC_BYTES = 4

/** The table that is not `table`. */
export function otherTable(table: RecordTable): RecordTable {
  return table === 'r' ? 'q' : 'r'
}

export function encodeTable(table: RecordTable): Uint8Array {
  return new TextEncoder().encode(table)
}

export function decodeTable(content: Uint8Array): RecordTable {
  return new TextDecoder().decode(content) === 'q' ? 'q' : 'r'
}

/** Returns the step that writes a row with its checksum. */
export function put(key: string, content: Uint8Array): Op {
  return { type: 'put', key: Buffer.from(key), value: seal(key, content) }
}

export function remove(key: string): Op {
  return { type: 'del', key: Buffer.from(key) }
}

/** Returns the row: 4 bytes of CRC-32, then the content. */
function seal(key: string, content: Uint8Array): Uint8Array {
  const row = new Uint8Array(CRC_BYTES + content.byteLength)
  row.set(content, CRC_BYTES)
  new DataView(row.buffer).setUint32(0, checksum(key, content))
  return row
}

/**
 * Returns the content of a row as a copy, which keeps no larger buffer alive; undefined when the row fails its
 * checksum.
 */
export function unseal(key: string, row: Uint8Array): Uint8Array | undefined {
  if (row.byteLength < CRC_BYTES) return undefined
  // slice() would make no copy: the rows are Buffers, whose slice() returns a view.
  const content = new Uint8Array(row.subarray(CRC_BYTES))
  return viewOf(row).getUint32(0) === checksum(key, content) ? content : undefined
}

/** Content of a record's row: 8 bytes of seq, then the encoded value. */
export function encodeRecord({ seq, value }: StoredRecord): Uint8Array {
  const content = new Uint8Array(8 + value.byteLength)
  viewOf(content).setBigUint64(0, BigInt(seq))
  content.set(value, 8)
  return content
}

/** Decodes a record's row; undefined when it is too short. `key` is the record's key, without table and origin. */
export function decodeRecord(key: string, content: Uint8Array): StoredRecord | undefined {
  if (content.byteLength < 8) return undefined
  return { key, seq: Number(viewOf(content).getBigUint64(0)), value: content.subarray(8) }
}

/** Content of the rows h and s: 8 bytes of epoch, 8 of seq, then the head, which is empty in a row s. */
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

/** Content of the row p: 8 bytes of atSeq, 8 of lastSeq, then the head; the same layout as a head's row. */
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
