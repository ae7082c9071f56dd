// The replica on disk: one leveldb, one key space, read and verified whole when it is opened.
//   h/<origin> head   c/<origin> chain   s/<origin> highest seen   r/<origin>/<key> record   m/<name> meta
// Invariants: (1) a persist is one atomic batch; (2) operations never overlap; (3) after a failed write the database is
// opened again before the next one, because leveldb refuses all writes from then on.
import { access, realpath, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Level } from 'level'
import type { Persist as PersistEffect, StoredOrigin as ProtocolStoredOrigin } from '../../core/effects.ts'
import type { Origin } from '../../core/model.ts'
import { parseOrigin } from '../../core/origin.ts'
import type { StoredRecord } from '../../core/record.ts'
import { StoreError, describe, storeError } from './error.ts'
import { syncFolder } from './files.ts'
import { decodeHead, decodeRecord, encodeHead, encodeRecord, seal, unseal } from './rows.ts'
import type { HeadRow } from './rows.ts'

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

/** One step of one origin, as the replication core asks for it. Without a chain, the stored one stays. */
export interface Persist extends Omit<PersistEffect, 'kind' | 'operations'> {
  /** Without a value: the record goes. */
  readonly operations: readonly {
    readonly key: string
    readonly seq: number
    readonly value?: Uint8Array | undefined
  }[]
}

/** What the database held when it was opened. */
export interface Contents {
  readonly origins: readonly StoredOrigin[]
  readonly dropped: readonly DroppedOrigin[]
  readonly seen: ReadonlyMap<Origin, Seen>
  readonly meta: ReadonlyMap<string, Uint8Array>
  /** There was a database, and it was damaged or gone: this one is new. */
  readonly lost: boolean
}

export interface OpenDatabaseOptions {
  readonly folder: string
  /** A marker says that there was one: a missing one is damage, not a beginning. */
  readonly existed: boolean
  /** For the names of what is set aside. */
  readonly stamp: string
  readonly warn: (warning: string) => void
}

/** Flips stay within a record this way; compressed, they take a whole block with them. Records compress badly anyway. */
const LEVEL_OPTIONS = { keyEncoding: 'buffer', valueEncoding: 'view', compression: false } as const

const SCAN_ROWS = 1_000

/** Open here, in this process. leveldb refuses a second open too, but closes its lock file then, which frees the lock. */
const openPaths = new Set<string>()

type Db = Level<Buffer, Uint8Array>
type Op = { type: 'put'; key: Buffer; value: Uint8Array } | { type: 'del'; key: Buffer }

/** Errors: StoreError STORE_LOCKED, STORE_READONLY, DISK_FULL, STORE_FAILED. A damaged database is set aside, with a warning. */
export async function openDatabase(options: OpenDatabaseOptions): Promise<[Database, Contents]> {
  const path = join(await realpath(options.folder), 'db')
  if (openPaths.has(path)) throw storeError(new Error('LEVEL_LOCKED'), path)
  openPaths.add(path)
  try {
    return await openLocked(path, options)
  } catch (error) {
    openPaths.delete(path)
    throw error
  }
}

async function openLocked(path: string, options: OpenDatabaseOptions): Promise<[Database, Contents]> {
  const present = await exists(join(path, 'CURRENT'))
  if (present || options.existed) {
    const opened = await openPresent(path, options)
    if (opened !== undefined) return opened
  }
  const db: Db = new Level(path, LEVEL_OPTIONS)
  await open(db, path, true)
  const lost = present || options.existed
  const contents = { origins: [], dropped: [], seen: new Map(), meta: new Map(), lost }
  return [new Database(db, path, new Map()), contents]
}

/** Undefined: it is damaged and was set aside. */
async function openPresent(
  path: string,
  options: OpenDatabaseOptions
): Promise<[Database, Contents] | undefined> {
  const present = await exists(path)
  const db: Db = new Level(path, LEVEL_OPTIONS)
  try {
    // createIfMissing off: leveldb would open a database without CURRENT as a new, empty one. The lock is taken first.
    await open(db, path, false)
    const scan = await scanAll(db)
    if (scan.kind === 'damaged') throw new DamagedError(scan.reason)
    if (scan.repairs.length > 0) await db.batch(scan.repairs, { sync: true })
    for (const { origin, reason } of scan.contents.dropped) {
      options.warn(`replica of ${origin} dropped, ${reason}; it is pulled again from the peers`)
    }
    return [new Database(db, path, new Map(scan.contents.seen)), scan.contents]
  } catch (error) {
    await db.close()
    if (!isDamage(error)) throw storeError(error, path)
    const aside = `${path}.corrupt-${options.stamp}`
    if (present) {
      await rename(path, aside)
      await syncFolder(options.folder)
      options.warn(`the replica in ${path} is damaged (${describe(error)}); it was set aside as ${aside}`)
    } else {
      options.warn(`the replica in ${path} is gone, although it was there before`)
    }
    return undefined
  }
}

export class Database {
  readonly #db: Db
  readonly #path: string
  readonly #seen: Map<Origin, Seen>
  #last: Promise<unknown> = Promise.resolve()
  #failed = false
  #closed: Promise<void> | undefined

  constructor(db: Db, path: string, seen: Map<Origin, Seen>) {
    this.#db = db
    this.#path = path
    this.#seen = seen
  }

  /** Resolves when the batch is acknowledged: it survives kill -9; with `sync` also the loss of power. */
  persist(batch: Persist, options: { sync: boolean }): Promise<void> {
    return this.#exclusive(async () => {
      const ops = batch.replace ? await this.#removals(`r/${batch.origin}/`) : []
      for (const { key, seq, value } of batch.operations) {
        const row = `r/${batch.origin}/${key}`
        ops.push(value === undefined ? remove(row) : put(row, encodeRecord({ key, seq, value })))
      }
      ops.push(put(`h/${batch.origin}`, encodeHead(batch)))
      if (batch.chain !== undefined) ops.push(put(`c/${batch.origin}`, batch.chain))
      const seen = highest(this.#seen.get(batch.origin), batch)
      ops.push(put(`s/${batch.origin}`, encodeHead({ ...seen, head: new Uint8Array(0) })))
      await this.#db.batch(ops, options)
      this.#seen.set(batch.origin, seen)
    })
  }

  /** What was seen of it stays: its old states must not come back. */
  removeOrigin(origin: Origin): Promise<void> {
    return this.#exclusive(async () => {
      const ops = await this.#removals(`r/${origin}/`)
      ops.push(remove(`h/${origin}`), remove(`c/${origin}`))
      await this.#db.batch(ops, { sync: true })
    })
  }

  putMeta(name: string, content: Uint8Array): Promise<void> {
    return this.#exclusive(() => this.#db.batch([put(`m/${name}`, content)], { sync: true }))
  }

  clear(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#db.batch(await this.#removals(''), { sync: true })
      this.#seen.clear()
    })
  }

  close(): Promise<void> {
    this.#closed ??= this.#last.then(async () => {
      await this.#db.close()
      openPaths.delete(this.#path)
    })
    return this.#closed
  }

  async #removals(prefix: string): Promise<Op[]> {
    // A prefix ends in a slash, and '0' is the next character.
    const range =
      prefix === '' ? {} : { gte: Buffer.from(prefix), lt: Buffer.from(`${prefix.slice(0, -1)}0`) }
    const keys = await this.#db.keys(range).all()
    return keys.map((key): Op => ({ type: 'del', key }))
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(async () => {
      if (this.#closed !== undefined) {
        throw new StoreError('STORE_CLOSED', 'the store is closed', {
          path: this.#path,
          fix: 'open it again'
        })
      }
      try {
        if (this.#failed) await this.#reopen()
        return await work()
      } catch (error) {
        this.#failed = true
        throw storeError(error, this.#path)
      }
    })
    this.#last = result.catch(() => undefined)
    return result
  }

  async #reopen(): Promise<void> {
    await this.#db.close()
    await this.#db.open({ createIfMissing: false })
    this.#failed = false
  }
}

class DamagedError extends Error {
  override readonly name = 'DamagedError'
}

interface Scanning {
  readonly heads: Map<Origin, HeadRow>
  readonly chains: Map<Origin, Uint8Array>
  readonly records: Map<Origin, StoredRecord[]>
  readonly seen: Map<Origin, Seen>
  readonly meta: Map<string, Uint8Array>
  readonly damaged: Map<Origin, string>
  readonly keys: Map<Origin, Buffer[]>
}

type Scan =
  | { readonly kind: 'ok'; readonly contents: Contents; readonly repairs: Op[] }
  | { readonly kind: 'damaged'; readonly reason: string }

/** Damage that can be laid at an origin's door drops that origin; any other makes the whole database suspect. */
async function scanAll(db: Db): Promise<Scan> {
  const scanning: Scanning = {
    heads: new Map(),
    chains: new Map(),
    records: new Map(),
    seen: new Map(),
    meta: new Map(),
    damaged: new Map(),
    keys: new Map()
  }
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
  for (const origin of scanning.keys.keys()) {
    if (!scanning.heads.has(origin) && !scanning.damaged.has(origin)) {
      scanning.damaged.set(origin, 'its signed head is missing')
    }
  }
  return { kind: 'ok', contents: contentsOf(scanning), repairs: repairsOf(scanning) }
}

/** False: damage without an origin. */
function scanRow(scanning: Scanning, rawKey: Buffer, row: Uint8Array): boolean {
  const key = rawKey.toString('utf8')
  const content = unseal(key, row)
  const [, table = '', name = '', recordKey = ''] = /^([hcsrm])\/([^/]*)(?:\/(.*))?$/s.exec(key) ?? []
  if (table === 'm') {
    if (content !== undefined) scanning.meta.set(name, content)
    return content !== undefined
  }
  const origin = parseOrigin(name)
  if (origin === undefined) return false
  if (table === 's') {
    const seen = content === undefined ? undefined : decodeHead(content)
    if (seen === undefined) {
      scanning.damaged.set(origin, 'what was seen of it fails its checksum')
      add(scanning.keys, origin, rawKey)
    } else scanning.seen.set(origin, { epoch: seen.epoch, seq: seen.seq })
    return true
  }
  add(scanning.keys, origin, rawKey)
  if (content === undefined || !keep(scanning, table, origin, recordKey, content)) {
    scanning.damaged.set(origin, `${table === 'r' ? 'a record' : 'its head'} fails its checksum`)
  }
  return true
}

function keep(
  scanning: Scanning,
  table: string,
  origin: Origin,
  recordKey: string,
  content: Uint8Array
): boolean {
  if (table === 'c') {
    scanning.chains.set(origin, content)
    return true
  }
  if (table === 'h') {
    const head = decodeHead(content)
    if (head !== undefined) scanning.heads.set(origin, head)
    return head !== undefined
  }
  const record = decodeRecord(recordKey, content)
  if (record !== undefined) add(scanning.records, origin, record)
  return record !== undefined
}

function contentsOf(scanning: Scanning): Contents {
  const origins: StoredOrigin[] = []
  for (const [origin, head] of scanning.heads) {
    if (scanning.damaged.has(origin)) continue
    const records = scanning.records.get(origin) ?? []
    origins.push({ origin, ...head, chain: scanning.chains.get(origin), records })
  }
  const dropped = Array.from(scanning.damaged, ([origin, reason]) => ({ origin, reason }))
  return { origins, dropped, seen: scanning.seen, meta: scanning.meta, lost: false }
}

function repairsOf(scanning: Scanning): Op[] {
  const keys = [...scanning.damaged.keys()].flatMap((origin) => scanning.keys.get(origin) ?? [])
  return keys.map((key) => ({ type: 'del', key }))
}

async function open(db: Db, path: string, createIfMissing: boolean): Promise<void> {
  try {
    await db.open({ createIfMissing })
  } catch (error) {
    if (isDamage(error)) throw error
    throw storeError(error, path)
  }
}

function isDamage(error: unknown): boolean {
  if (error instanceof DamagedError) return true
  // Missing table files are named in an IO error, a missing CURRENT in an invalid argument.
  return /LEVEL_CORRUPTION|Corruption:|does not exist|No such file or directory/.test(describe(error))
}

function highest(seen: Seen | undefined, next: Seen): Seen {
  const older =
    seen === undefined || next.epoch > seen.epoch || (next.epoch === seen.epoch && next.seq > seen.seq)
  return older ? { epoch: next.epoch, seq: next.seq } : seen
}

function put(key: string, content: Uint8Array): Op {
  return { type: 'put', key: Buffer.from(key), value: seal(key, content) }
}

function remove(key: string): Op {
  return { type: 'del', key: Buffer.from(key) }
}

function add<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch {
    return false
  }
}
