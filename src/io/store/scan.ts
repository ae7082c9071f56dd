// Reads the whole database when it is opened: what is sound, what is damaged, what is left over. Damage that can be laid at an
// origin's door drops that origin, or only the parts of its unfinished state; any other makes the whole database suspect.
import type { Level } from 'level'
import type { StoredOrigin as ProtocolStoredOrigin, StoredParts } from '../../core/replication/effects.ts'
import type { Origin } from '../../core/model/values.ts'
import { parseOrigin } from '../../core/model/identity.ts'
import type { StoredRecord } from '../../core/replication/record.ts'
import {
  decodeHead,
  decodeParts,
  decodeRecord,
  decodeTable,
  otherTable,
  unseal,
  type HeadRow,
  type Op,
  type PartsRow,
  type RecordTable
} from './rows.ts'

/** As the replication core takes it; epoch and seq repeat what the head says. Records in key order. */
export interface StoredOrigin extends ProtocolStoredOrigin {
  readonly epoch: number
  readonly seq: number
  readonly records: readonly StoredRecord[]
}

/** An origin whose replica was damaged and is not loaded; peers have it. Its own agent must raise its epoch. */
export interface DroppedOrigin {
  readonly origin: Origin
  readonly reason: string
}

/** The highest (epoch, seq) ever stored of an origin: nothing below it may be accepted again. */
export interface Seen {
  readonly epoch: number
  readonly seq: number
}

/** What the database held when it was opened. */
export interface Contents {
  readonly origins: readonly StoredOrigin[]
  /** States that are not whole yet. */
  readonly parts: readonly StoredParts[]
  readonly dropped: readonly DroppedOrigin[]
  readonly seen: ReadonlyMap<Origin, Seen>
  readonly meta: ReadonlyMap<string, Uint8Array>
  /** There was a database, and it was damaged or gone: this one is new. */
  readonly lost: boolean
}

/** What has to be known of it to write into it. */
export interface Layout {
  readonly seen: Map<Origin, Seen>
  /** Where the records of an origin are, if not in 'r'. */
  readonly tables: Map<Origin, RecordTable>
  /** The last seq of the parts of an unfinished state. */
  readonly parts: Map<Origin, number>
}

export class DamagedError extends Error {
  override readonly name = 'DamagedError'
}

type Scan =
  | {
      readonly kind: 'ok'
      readonly contents: Contents
      readonly layout: Layout
      /** What to remove. */
      readonly repairs: Op[]
    }
  | { readonly kind: 'damaged'; readonly reason: string }

const SCAN_ROWS = 1_000

export async function scanAll(db: Level<Buffer, Uint8Array>): Promise<Scan> {
  const scanning: Scanning = { origins: new Map(), meta: new Map() }
  const iterator = db.iterator()
  try {
    for (
      let rows = await iterator.nextv(SCAN_ROWS);
      rows.length > 0;
      rows = await iterator.nextv(SCAN_ROWS)
    ) {
      for (const [key, value] of rows) {
        if (!scanRow(scanning, key, value))
          return { kind: 'damaged', reason: 'a row of unknown origin fails its checksum' }
      }
    }
  } finally {
    await iterator.close()
  }
  return { kind: 'ok', ...resultOf(scanning) }
}

/** What was found of one origin. */
class Found {
  head: HeadRow | undefined
  chain: Uint8Array | undefined
  seen: Seen | undefined
  unfinished: PartsRow | undefined
  table: RecordTable = 'r'
  damage: string | undefined
  partsDamaged = false
  readonly records: Record<RecordTable, StoredRecord[]> = { r: [], q: [] }
  readonly keys: Record<RecordTable | 'other', Buffer[]> = { r: [], q: [], other: [] }
}

interface Scanning {
  readonly origins: Map<Origin, Found>
  readonly meta: Map<string, Uint8Array>
}

/** False: damage without an origin. */
function scanRow({ origins, meta }: Scanning, rawKey: Buffer, row: Uint8Array): boolean {
  const key = rawKey.toString('utf8')
  const content = unseal(key, row)
  const [, table = '', name = '', recordKey = ''] = /^([cghmpqrs])\/([^/]*)(?:\/(.*))?$/s.exec(key) ?? []
  if (table === 'm') {
    if (content !== undefined) meta.set(name, content)
    return content !== undefined
  }
  const origin = parseOrigin(name)
  if (origin === undefined) return false
  const found = origins.get(origin) ?? new Found()
  origins.set(origin, found)
  // leveldb goes through them in this order, so that where the records are is known before them.
  switch (table) {
    case 'c':
    case 'g':
    case 'h':
    case 'p':
      found.keys.other.push(rawKey)
      if (!keep(found, table, content)) found.damage ??= 'its head fails its checksum'
      return true
    case 'q':
    case 'r': {
      found.keys[table].push(rawKey)
      const record = content && decodeRecord(recordKey, content)
      if (record) found.records[table].push(record)
      else if (table === found.table) found.damage ??= 'a record fails its checksum'
      else found.partsDamaged = true
      return true
    }
    case 's': {
      const seen = content && decodeHead(content)
      if (seen) found.seen = { epoch: seen.epoch, seq: seen.seq }
      else {
        found.keys.other.push(rawKey)
        found.damage = 'what was seen of it fails its checksum'
      }
      return true
    }
    default:
      return false
  }
}

/** False: damaged. */
function keep(found: Found, table: 'c' | 'g' | 'h' | 'p', content: Uint8Array | undefined): boolean {
  switch (table) {
    case 'c':
      found.chain = content
      return content !== undefined
    case 'g':
      if (content) found.table = decodeTable(content)
      return content !== undefined
    case 'h':
      found.head = content && decodeHead(content)
      return found.head !== undefined
    case 'p':
      found.unfinished = content && decodeParts(content)
      found.partsDamaged = found.unfinished === undefined
      return true
    default:
      return table satisfies never
  }
}

function resultOf({ origins: all, meta }: Scanning): Omit<Extract<Scan, { kind: 'ok' }>, 'kind'> {
  const origins: StoredOrigin[] = []
  const parts: StoredParts[] = []
  const dropped: DroppedOrigin[] = []
  const layout: Layout = { seen: new Map(), tables: new Map(), parts: new Map() }
  const repairs: Op[] = []
  const sweep = (keys: readonly Buffer[]) => {
    for (const key of keys) repairs.push({ type: 'del', key })
  }
  for (const [origin, found] of all) {
    const { head, chain, seen, table, records, keys } = found
    if (seen) layout.seen.set(origin, seen)
    const unfinished = found.partsDamaged ? undefined : found.unfinished
    if (!head && records[table].length > 0) found.damage ??= 'its signed head is missing'
    if (found.damage !== undefined) {
      dropped.push({ origin, reason: found.damage })
      sweep([...keys.other, ...keys.q, ...keys.r])
      continue
    }
    if (table !== 'r') layout.tables.set(origin, table)
    if (head) origins.push({ origin, ...head, chain, records: records[table] })
    const other = otherTable(table)
    if (unfinished) {
      layout.parts.set(origin, unfinished.lastSeq)
      parts.push({ origin, ...unfinished, chain, records: records[other] })
    } else {
      sweep(keys[other]) // of a state that was replaced, or of one that was given up
      sweep(head ? keys.other.filter((key) => key.toString('utf8', 0, 2) === 'p/') : keys.other)
    }
  }
  return {
    contents: { origins, parts, dropped, seen: new Map(layout.seen), meta, lost: false },
    layout,
    repairs
  }
}
