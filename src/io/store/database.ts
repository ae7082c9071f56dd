// The replica on disk: one leveldb with one key space (rows.ts), which is read and verified as a whole when it is
// opened (scan.ts). store.ts owns the only instance. The effects of the replication core (core/replication/effects.ts)
// arrive here by way of app/control/effect-runner.ts.
// Invariants
//   1. `persist` writes one atomic batch.
//   2. Operations never overlap; each waits for those before it.
//   3. After a failed write the database is opened again before the next one, because leveldb refuses all further
//      writes.
//   4. Parts of an unfinished state go to the table that does not hold the origin's records. One row makes that table
//      the state, so the switch costs the same for any size (docs/decisions/0015).
import { access, readFile, readdir, realpath, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Level } from 'level'
import type { Persist as PersistEffect, PersistPart } from '../../core/replication/effects.ts'
import type { Origin } from '../../core/model/values.ts'
import { describe, storeClosed, storeError } from './errors.ts'
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
import { FoundTrust, noteTrust, trustOps, type TrustChange } from './trust-table.ts'

/** The effect `persist` of the replication core: one step of one origin. Without `credential`, the stored credential stays. */
export interface Persist extends Omit<PersistEffect, 'kind' | 'operations'> {
  readonly operations: readonly StoredOperation[]
}

/** The effect `persistPart` of the replication core: one part of a snapshot that is not complete yet. */
export interface Part extends Omit<PersistPart, 'kind' | 'operations'> {
  readonly operations: readonly StoredOperation[]
}

/** Writes the record of this key, or removes it when `value` is undefined. */
interface StoredOperation {
  readonly key: string
  readonly seq: number
  readonly value?: Uint8Array | undefined
}

interface OpenDatabaseOptions {
  readonly folder: string
  /** True when the store's marker exists: a missing database is then damage, and not a first start. */
  readonly existed: boolean
  /** The time of this start as text, which ends the name of a folder that is set aside. */
  readonly stamp: string
  /** Called with a sentence for the operator. */
  readonly warn: (warning: string) => void
}

/** Not compressed: a flipped bit then damages one record, not a whole block. Records compress badly anyway. */
const LEVEL_OPTIONS = { keyEncoding: 'buffer', valueEncoding: 'view', compression: false } as const

/**
 * Paths of the databases that are open in this process. leveldb also refuses a second open, but it then closes the lock
 * file, and that releases the lock of the first one (fcntl(2)).
 */
const openPaths = new Set<string>()

type Db = Level<Buffer, Uint8Array>

/**
 * Opens `folder`/db and reads all of it. A damaged database is renamed, with a warning, and a new one is made. Rejects
 * with StoreError STORE_LOCKED, STORE_READONLY, DISK_FULL or STORE_FAILED. Called once, at the start of the agent.
 */
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
  // CURRENT names the manifest of a leveldb; it exists from the first open on.
  const present = await exists(join(path, 'CURRENT'))
  if (present || options.existed) {
    const opened = await openPresent(path, options)
    if (opened !== undefined) return opened
  }
  const db: Db = new Level(path, LEVEL_OPTIONS)
  await open(db, path, true)
  const lost = present || options.existed
  const trust = new FoundTrust()
  const contents = { origins: [], parts: [], dropped: [], seen: new Map(), meta: new Map(), trust, lost }
  const layout = {
    seen: new Map(),
    tables: new Map(),
    parts: new Map(),
    owners: new Map(),
    generations: new Map()
  }
  return [new Database(db, path, layout), contents]
}

/** Opens a database that should exist. Returns undefined when it is damaged and was set aside, or when it is gone. */
async function openPresent(
  path: string,
  options: OpenDatabaseOptions
): Promise<[Database, Contents] | undefined> {
  const present = await exists(path)
  const db: Db = new Level(path, LEVEL_OPTIONS)
  try {
    // createIfMissing is off, because leveldb would open a database without CURRENT as a new, empty one. leveldb takes
    // its lock before it looks for CURRENT, so a database of another agent is never renamed.
    await open(db, path, false)
    const scan = await scanAll(db)
    if (scan.kind === 'damaged') throw new DamagedError(scan.reason)
    if (scan.repairs.length > 0) await db.batch(scan.repairs, { sync: true })
    for (const { origin, reason } of scan.contents.dropped) {
      options.warn(
        `the replica of ${origin} was dropped because ${reason}; the agent pulls it again from its peers`
      )
    }
    for (const warning of scan.warnings) options.warn(warning)
    return [new Database(db, path, scan.layout), scan.contents]
  } catch (error) {
    await db.close()
    if (!isDamage(error)) throw storeError(error, path)
    const aside = `${path}.corrupt-${options.stamp}`
    if (present) {
      await rename(path, aside)
      await syncFolder(options.folder)
      options.warn(
        `the replica in ${path} is damaged (${describe(error)}); the agent has moved it to ${aside} and pulls it again from its peers`
      )
    } else {
      options.warn(`the replica in ${path} was deleted; the agent pulls it again from its peers`)
    }
    return undefined
  }
}

/**
 * The open database. Every method that writes waits for the writes before it and rejects with a StoreError:
 * STORE_CLOSED after `close`, DISK_FULL, STORE_READONLY or STORE_FAILED. A batch that fails changes nothing.
 */
export class Database {
  #db: Db
  readonly #path: string
  /** The facts about the content that writes need (scan.ts). */
  readonly #layout: Layout
  /** Settles when the latest operation has ended (invariant 2); never rejects. */
  #last: Promise<unknown> = Promise.resolve()
  /** The latest operation failed (invariant 3). */
  #failed = false
  #closed: Promise<void> | undefined

  constructor(db: Db, path: string, layout: Layout) {
    this.#db = db
    this.#path = path
    this.#layout = layout
  }

  /**
   * Writes one step of an origin. When the promise resolves with true, the step survives kill -9, and with `sync` a
   * loss of power, too. It resolves with false when the parts that `adopts` names are not stored; then nothing has been
   * written.
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
      if (batch.credential !== undefined) ops.push(put(`c/${origin}`, batch.credential))
      const highestSeen = highest(seen.get(origin), batch)
      ops.push(put(`s/${origin}`, encodeHead({ ...highestSeen, head: new Uint8Array(0) })))
      await this.#db.batch(ops, options)
      seen.set(origin, highestSeen)
      if (table === before) return true
      tables.set(origin, table)
      parts.delete(origin)
      // The old table is removed in a batch of its own. After a kill in between, the next open removes it (scan.ts).
      await this.#sweep(`${before}/${origin}/`)
      return true
    })
  }

  /**
   * Writes one part, without fsync, to the table that is not live. A part that does not follow the last stored one is
   * left out; with `afterSeq` 0 it is the first and replaces all others.
   */
  persistPart(part: Part): Promise<void> {
    return this.#exclusive(async () => {
      const { origin, afterSeq, lastSeq } = part
      const { parts } = this.#layout
      if (afterSeq > 0 && parts.get(origin) !== afterSeq) return
      const table = otherTable(this.#tableOf(origin))
      const ops = afterSeq === 0 ? await this.#removals(`${table}/${origin}/`) : []
      ops.push(...writes(`${table}/${origin}`, part.operations), put(`p/${origin}`, encodeParts(part)))
      if (part.credential !== undefined) ops.push(put(`c/${origin}`, part.credential))
      await this.#db.batch(ops)
      parts.set(origin, lastSeq)
    })
  }

  /** Removes the parts of an unfinished state. The row `p` goes first: without it, the next open removes the rest. */
  dropParts(origin: Origin): Promise<void> {
    return this.#exclusive(async () => {
      if (!this.#layout.parts.delete(origin)) return
      await this.#db.batch([remove(`p/${origin}`)])
      await this.#sweep(`${otherTable(this.#tableOf(origin))}/${origin}/`)
    })
  }

  /**
   * Removes records, head and credential of an origin whose stored state is unusable. The row `s` stays: for its own origin,
   * an agent publishes above the epoch in it. The parts stay, because they are verified by a hash of their own.
   */
  removeOrigin(origin: Origin): Promise<void> {
    return this.#exclusive(async () => {
      const ops = await this.#removals(`${this.#tableOf(origin)}/${origin}/`)
      ops.push(remove(`h/${origin}`), remove(`c/${origin}`))
      await this.#db.batch(ops, { sync: true })
    })
  }

  /** Writes a change of the tables of trust as one batch, with fsync. */
  writeTrust(change: TrustChange): Promise<void> {
    return this.#exclusive(async () => {
      const ops = trustOps(change, this.#layout)
      if (ops.length > 0) await this.#db.batch(ops, { sync: true })
      noteTrust(change, this.#layout)
    })
  }

  /** Writes a row that belongs to no origin, with fsync. */
  putMeta(name: string, content: Uint8Array): Promise<void> {
    return this.#exclusive(() => this.#db.batch([put(`m/${name}`, content)], { sync: true }))
  }

  /** Removes all rows, with fsync; the agent leaves the mesh. */
  clear(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#db.batch(await this.#removals(''), { sync: true })
      for (const known of Object.values(this.#layout)) known.clear()
    })
  }

  /**
   * Returns whether the files of the database still exist. leveldb does not notice: it goes on to write into open files
   * that have been removed. True after `close`.
   */
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

  /**
   * Makes a new, empty database after `isThere` returned false; files that are left are renamed to `db.corrupt-<time>`.
   */
  rebuild(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#db.close().catch(() => undefined) // closing may fail, because the files are gone
      if ((await readdir(this.#path).catch(() => [])).length > 0)
        await rename(this.#path, `${this.#path}.corrupt-${new Date().toISOString().replaceAll(/[:.]/g, '-')}`)
      this.#db = new Level(this.#path, LEVEL_OPTIONS)
      await open(this.#db, this.#path, true)
      for (const known of Object.values(this.#layout)) known.clear()
    }, 'as it is')
  }

  /** Closes the database after all operations that were begun; the path may be opened again afterwards. */
  close(): Promise<void> {
    this.#closed ??= this.#last.then(async () => {
      await this.#db.close()
      openPaths.delete(this.#path)
    })
    return this.#closed
  }

  /** The table that holds the records of the origin's signed head. */
  #tableOf(origin: Origin): RecordTable {
    return this.#layout.tables.get(origin) ?? 'r'
  }

  async #sweep(prefix: string): Promise<void> {
    await this.#db.batch(await this.#removals(prefix))
  }

  async #removals(prefix: string): Promise<Op[]> {
    // A prefix ends in '/', and '0' is the next byte, so the range holds the keys that begin with the prefix and no
    // others.
    const range =
      prefix === '' ? {} : { gte: Buffer.from(prefix), lt: Buffer.from(`${prefix.slice(0, -1)}0`) }
    const keys = await this.#db.keys(range).all()
    return keys.map((key): Op => ({ type: 'del', key }))
  }

  /**
   * Runs `work` after all operations before it. `'opened'` opens the database again when the latest operation failed;
   * `'as it is'` does not, for work that replaces the database.
   */
  #exclusive<T>(work: () => Promise<T>, database: 'opened' | 'as it is' = 'opened'): Promise<T> {
    const result = this.#last.then(async () => {
      if (this.#closed !== undefined) throw storeClosed(this.#path)
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

/** Opens a leveldb. Errors that mean damage are thrown as they are, for `isDamage`; others as a StoreError. */
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
  // leveldb reports a missing table file as an IO error ("No such file or directory"), and a missing CURRENT as an
  // invalid argument ("does not exist").
  return /LEVEL_CORRUPTION|Corruption:|does not exist|No such file or directory/.test(describe(error))
}

/** Returns the rows of these operations; `prefix` is a table and an origin, as in "r/12D3Koo…". */
function writes(prefix: string, operations: readonly StoredOperation[]): Op[] {
  return operations.map(({ key, seq, value }) =>
    value === undefined
      ? remove(`${prefix}/${key}`)
      : put(`${prefix}/${key}`, encodeRecord({ key, seq, value }))
  )
}

/** Returns the higher of two positions; epochs are compared first. */
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
