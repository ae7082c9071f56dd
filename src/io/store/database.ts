// The replica on disk: one leveldb, one key space (rows.ts), read and verified whole when it is opened (scan.ts).
// Invariants: (1) a persist is one atomic batch; (2) operations never overlap; (3) after a failed write the database is
// opened again before the next one, because leveldb refuses all writes from then on; (4) parts of an unfinished state are in the
// table that its origin's records are not in, and become the records by one row that says so, whatever their size.
import { access, readFile, readdir, realpath, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Level } from 'level'
import type { Persist as PersistEffect, PersistPart } from '../../core/replication/effects.ts'
import type { Origin } from '../../core/model/values.ts'
import { StoreError, describe, storeError } from './errors.ts'
import { isMissing, syncFolder } from './files.ts'
import {
  encodeHead,
  encodeParts,
  encodeRecord,
  encodeTable,
  otherTable,
  put,
  remove,
  type Op,
  type RecordTable
} from './rows.ts'
import { DamagedError, scanAll, type Contents, type Layout, type Seen } from './scan.ts'

/** One step of one origin, as the replication core asks for it. Without a chain, the stored one stays. */
export interface Persist extends Omit<PersistEffect, 'kind' | 'operations'> {
  readonly operations: readonly StoredOperation[]
}

export interface Part extends Omit<PersistPart, 'kind' | 'operations'> {
  readonly operations: readonly StoredOperation[]
}

/** Without a value: the record goes. */
interface StoredOperation {
  readonly key: string
  readonly seq: number
  readonly value?: Uint8Array | undefined
}

interface OpenDatabaseOptions {
  readonly folder: string
  /** A marker says that there was one: a missing one is damage, not a beginning. */
  readonly existed: boolean
  /** For the names of what is set aside. */
  readonly stamp: string
  readonly warn: (warning: string) => void
}

/** Flips stay within a record this way; compressed, they take a whole block with them. Records compress badly anyway. */
const LEVEL_OPTIONS = { keyEncoding: 'buffer', valueEncoding: 'view', compression: false } as const

/** Open here, in this process. leveldb refuses a second open too, but closes its lock file then, which frees the lock. */
const openPaths = new Set<string>()

type Db = Level<Buffer, Uint8Array>

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
  const contents = { origins: [], parts: [], dropped: [], seen: new Map(), meta: new Map(), lost }
  return [new Database(db, path, { seen: new Map(), tables: new Map(), parts: new Map() }), contents]
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
    return [new Database(db, path, scan.layout), scan.contents]
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
  #db: Db
  readonly #path: string
  readonly #layout: Layout
  #last: Promise<unknown> = Promise.resolve()
  #failed = false
  #closed: Promise<void> | undefined

  constructor(db: Db, path: string, layout: Layout) {
    this.#db = db
    this.#path = path
    this.#layout = layout
  }

  /**
   * Resolves when the batch is acknowledged: it survives kill -9; with `sync` also the loss of power. False: the parts to be
   * adopted are not there; nothing has been written.
   */
  persist(batch: Persist, options: { sync: boolean }): Promise<boolean> {
    return this.#exclusive(async () => {
      const { origin, adopts } = batch
      const { seen, tables, parts } = this.#layout
      const before = this.#tableOf(origin)
      if (adopts !== undefined && parts.get(origin) !== adopts) return false
      const table = adopts === undefined ? before : otherTable(before)
      const ops = batch.replace && table === before ? await this.#removals(`${table}/${origin}/`) : []
      ops.push(...writes(`${table}/${origin}`, batch.operations), put(`h/${origin}`, encodeHead(batch)))
      if (table !== before) ops.push(put(`g/${origin}`, encodeTable(table)), remove(`p/${origin}`))
      if (batch.chain !== undefined) ops.push(put(`c/${origin}`, batch.chain))
      const highestSeen = highest(seen.get(origin), batch)
      ops.push(put(`s/${origin}`, encodeHead({ ...highestSeen, head: new Uint8Array(0) })))
      await this.#db.batch(ops, options)
      seen.set(origin, highestSeen)
      if (table === before) return true
      tables.set(origin, table)
      parts.delete(origin)
      await this.#sweep(`${before}/${origin}/`) // cut short: it is swept when the database is opened
      return true
    })
  }

  /** A part that does not go on after the last one is of no use and is left out. Not synced. */
  persistPart(part: Part): Promise<void> {
    return this.#exclusive(async () => {
      const { origin, afterSeq, lastSeq } = part
      const { parts } = this.#layout
      if (afterSeq > 0 && parts.get(origin) !== afterSeq) return
      const table = otherTable(this.#tableOf(origin))
      const ops = afterSeq === 0 ? await this.#removals(`${table}/${origin}/`) : []
      ops.push(...writes(`${table}/${origin}`, part.operations), put(`p/${origin}`, encodeParts(part)))
      if (part.chain !== undefined) ops.push(put(`c/${origin}`, part.chain))
      await this.#db.batch(ops)
      parts.set(origin, lastSeq)
    })
  }

  dropParts(origin: Origin): Promise<void> {
    return this.#exclusive(async () => {
      if (!this.#layout.parts.delete(origin)) return
      await this.#db.batch([remove(`p/${origin}`)])
      await this.#sweep(`${otherTable(this.#tableOf(origin))}/${origin}/`)
    })
  }

  /** What was seen of it stays: its old states must not come back. So do its parts: they have a hash of their own. */
  removeOrigin(origin: Origin): Promise<void> {
    return this.#exclusive(async () => {
      const ops = await this.#removals(`${this.#tableOf(origin)}/${origin}/`)
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
      for (const known of Object.values(this.#layout)) known.clear()
    })
  }

  /** Whether the files are where they were: leveldb itself writes on into files that have been removed. */
  async isThere(): Promise<boolean> {
    if (this.#closed !== undefined) return true
    try {
      const manifest = (await readFile(join(this.#path, 'CURRENT'), 'utf8')).trim()
      const names = await readdir(this.#path)
      return names.includes(manifest) && names.some((name) => name.endsWith('.log'))
    } catch (error) {
      if (isMissing(error)) return false
      throw storeError(error, this.#path)
    }
  }

  /** Begins anew, empty, because the files are gone; what is left of them is set aside. */
  rebuild(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#db.close().catch(() => undefined) // of files that are gone
      if ((await readdir(this.#path).catch(() => [])).length > 0)
        await rename(this.#path, `${this.#path}.corrupt-${new Date().toISOString().replaceAll(/[:.]/g, '-')}`)
      this.#db = new Level(this.#path, LEVEL_OPTIONS)
      await open(this.#db, this.#path, true)
      for (const known of Object.values(this.#layout)) known.clear()
    }, 'as it is')
  }

  close(): Promise<void> {
    this.#closed ??= this.#last.then(async () => {
      await this.#db.close()
      openPaths.delete(this.#path)
    })
    return this.#closed
  }

  #tableOf(origin: Origin): RecordTable {
    return this.#layout.tables.get(origin) ?? 'r'
  }

  async #sweep(prefix: string): Promise<void> {
    await this.#db.batch(await this.#removals(prefix))
  }

  async #removals(prefix: string): Promise<Op[]> {
    // A prefix ends in a slash, and '0' is the next character.
    const range =
      prefix === '' ? {} : { gte: Buffer.from(prefix), lt: Buffer.from(`${prefix.slice(0, -1)}0`) }
    const keys = await this.#db.keys(range).all()
    return keys.map((key): Op => ({ type: 'del', key }))
  }

  #exclusive<T>(work: () => Promise<T>, database: 'opened' | 'as it is' = 'opened'): Promise<T> {
    const result = this.#last.then(async () => {
      if (this.#closed !== undefined) {
        throw new StoreError('STORE_CLOSED', 'the store is closed', {
          path: this.#path,
          fix: 'open it again'
        })
      }
      try {
        if (this.#failed && database === 'opened') await this.#reopen()
        const result = await work()
        this.#failed = false
        return result
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
  }
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

function writes(prefix: string, operations: readonly StoredOperation[]): Op[] {
  return operations.map(({ key, seq, value }) =>
    value === undefined
      ? remove(`${prefix}/${key}`)
      : put(`${prefix}/${key}`, encodeRecord({ key, seq, value }))
  )
}

function highest(seen: Seen | undefined, next: Seen): Seen {
  const older =
    seen === undefined || next.epoch > seen.epoch || (next.epoch === seen.epoch && next.seq > seen.seq)
  return older ? { epoch: next.epoch, seq: next.seq } : seen
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch {
    return false
  }
}
