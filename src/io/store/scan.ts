// Reads the whole database when database.ts opens it, and finds sound, damaged and superfluous rows. A damaged row
// whose key names an origin drops that origin, or only the parts of its unfinished snapshot; peers still have both. Any
// other damaged row makes the whole database suspect, and it is set aside.
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
import { FoundTrust, type StoredTrust, type TrustLayout } from './trust-table.ts'

/**
 * The stored state of one origin, as the replication core takes it. `epoch` and `seq` repeat those of the head; records
 * are in key order.
 */
export interface StoredOrigin extends ProtocolStoredOrigin {
  readonly epoch: number
  readonly seq: number
  readonly records: readonly StoredRecord[]
}

/**
 * An origin whose stored state is damaged and was not loaded; it is pulled from peers. If it is this agent's own, the
 * epoch is raised.
 */
export interface DroppedOrigin {
  readonly origin: Origin
  readonly reason: string
}

/**
 * The highest (epoch, seq) ever stored of an origin. For its own origin, an agent that has lost its replica publishes
 * above this epoch.
 */
export interface Seen {
  readonly epoch: number
  readonly seq: number
}

/** The content of the database when it was opened, for the store. */
export interface Contents {
  readonly origins: readonly StoredOrigin[]
  /** Unfinished snapshots; no reader may see them before they are complete. */
  readonly parts: readonly StoredParts[]
  readonly dropped: readonly DroppedOrigin[]
  readonly seen: ReadonlyMap<Origin, Seen>
  readonly meta: ReadonlyMap<string, Uint8Array>
  readonly trust: StoredTrust
  /** True when there had been a database that was damaged or gone; this one is new and empty. */
  readonly lost: boolean
}

/** The facts about the content that database.ts needs for its writes. It keeps these maps up to date. */
export interface Layout extends TrustLayout {
  readonly seen: Map<Origin, Seen>
  /** The table of the origin's records; an origin that is not in the map has them in 'r'. */
  readonly tables: Map<Origin, RecordTable>
  /** The last seq of the stored parts, for each origin with an unfinished snapshot. */
  readonly parts: Map<Origin, number>
}

/** The database as a whole is damaged. database.ts throws it and sets the database aside. */
export class DamagedError extends Error {
  override readonly name = 'DamagedError'
}

type Scan =
  | {
      readonly kind: 'ok'
      readonly contents: Contents
      readonly layout: Layout
      /** Steps that remove damaged and superfluous rows; the caller writes them as one batch. */
      readonly repairs: Op[]
      /** Sentences for the operator about damaged rows that belong to no origin. */
      readonly warnings: readonly string[]
    }
  | { readonly kind: 'damaged'; readonly reason: string }

// Rows that are read at a time, so that each call into leveldb serves many rows.
const SCAN_ROWS = 1_000

/** Reads all rows and writes nothing. Rejects with the error of leveldb when it finds a damaged table itself. */
export async function scanAll(db: Level<Buffer, Uint8Array>): Promise<Scan> {
  const scanning: Scanning = { origins: new Map(), meta: new Map(), trust: new FoundTrust() }
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

/** The rows of one origin that were found so far. */
class Found {
  head: HeadRow | undefined
  credential: Uint8Array | undefined
  seen: Seen | undefined
  unfinished: PartsRow | undefined
  /** The table of the head's records. */
  table: RecordTable = 'r'
  /** The reason why the origin is dropped; undefined while it is sound. */
  damage: string | undefined
  /** True when only the parts of its unfinished snapshot are dropped. */
  partsDamaged = false
  readonly records: Record<RecordTable, StoredRecord[]> = { r: [], q: [] }
  /** Keys of all rows that a repair may have to remove. A sound row s is not among them: it outlives its origin. */
  readonly keys: Record<RecordTable | 'other', Buffer[]> = { r: [], q: [], other: [] }
}

interface Scanning {
  readonly origins: Map<Origin, Found>
  readonly meta: Map<string, Uint8Array>
  readonly trust: FoundTrust
}

/** Takes one row. Returns false for a damaged row that belongs to no origin, and for a key that is of no known kind. */
function scanRow({ origins, meta, trust }: Scanning, rawKey: Buffer, row: Uint8Array): boolean {
  const key = rawKey.toString('utf8')
  if (trust.take(rawKey, key, row)) return true
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
  // leveldb returns keys in byte order: c, g, h, m, p, q, r, s. So the row g has named the table of records before they
  // arrive. (Rows of trust are of no origin.)
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
        found.damage = 'its last known position fails its checksum'
      }
      return true
    }
    default:
      return false
  }
}

/** Keeps one row of the origin itself. Returns false when it is damaged; a damaged row p only drops the parts. */
function keep(found: Found, table: 'c' | 'g' | 'h' | 'p', content: Uint8Array | undefined): boolean {
  switch (table) {
    case 'c':
      found.credential = content
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

/** Sorts the origins into sound and dropped ones, and lists the rows to remove. */
function resultOf({ origins: all, meta, trust }: Scanning): Omit<Extract<Scan, { kind: 'ok' }>, 'kind'> {
  const origins: StoredOrigin[] = []
  const parts: StoredParts[] = []
  const dropped: DroppedOrigin[] = []
  const layout: Layout = {
    seen: new Map(),
    tables: new Map(),
    parts: new Map(),
    owners: new Map(trust.owners),
    generations: new Map(trust.generations)
  }
  const repairs: Op[] = [...trust.repairs]
  const sweep = (keys: readonly Buffer[]) => {
    for (const key of keys) repairs.push({ type: 'del', key })
  }
  for (const [origin, found] of all) {
    const { head, credential, seen, table, records, keys } = found
    if (seen) layout.seen.set(origin, seen)
    const unfinished = found.partsDamaged ? undefined : found.unfinished
    if (!head && records[table].length > 0) found.damage ??= 'its signed head is missing'
    if (found.damage !== undefined) {
      dropped.push({ origin, reason: found.damage })
      sweep([...keys.other, ...keys.q, ...keys.r])
      continue
    }
    if (table !== 'r') layout.tables.set(origin, table)
    if (head) origins.push({ origin, ...head, credential, records: records[table] })
    const other = otherTable(table)
    if (unfinished) {
      layout.parts.set(origin, unfinished.lastSeq)
      parts.push({ origin, ...unfinished, credential, records: records[other] })
    } else {
      // Without sound parts, the rows of the other table belong to a state that was replaced or to a snapshot that was
      // given up: the process ended before it had removed them. Without a head, a credential alone is of no use either.
      sweep(keys[other])
      sweep(head ? keys.other.filter((key) => key.toString('utf8', 0, 2) === 'p/') : keys.other)
    }
  }
  return {
    contents: { origins, parts, dropped, seen: new Map(layout.seen), meta, trust, lost: false },
    layout,
    repairs,
    warnings: trust.warnings()
  }
}
