// The state folder of the agent: its identity (identity.json and a copy), its counters (counters.json and a row of the
// database), the replica and the tables of trust (db/). The agent opens it once (app/agent/agent.ts); one process at a time can hold it.
// Invariants
//   1. No file of an existing store is written before this program has found that it knows their versions and the lock
//      of the database is held.
//   2. Damaged files are set aside and reported; they are never replaced silently.
//   3. No text of an error or a warning quotes a secret.
import { readdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { StoredParts } from '../../core/replication/effects.ts'
import type { Origin } from '../../core/model/values.ts'
import type { StatementId } from '../../core/trust/set/ids.ts'
import { encodeCounters } from './counters.ts'
import type { Counters } from './counters.ts'
import { openDatabase } from './database.ts'
import type { Database, Part, Persist } from './database.ts'
import { fullAtStart, StoreError } from './errors.ts'
import { removeFile, writeFileAtomic } from './files.ts'
import {
  BACKUP,
  checkClosed,
  checkTakesMore,
  COUNTERS,
  exists,
  IDENTITY,
  MARKER,
  prepareFolder,
  readMarker,
  STORE_VERSION
} from './folder.ts'
import { encodeIdentity } from './identity.ts'
import type { Identity } from './identity.ts'
import { readIdentity, settleIdentity, setAsideReplaced } from './identity-copies.ts'
import { isBelow, readCounters } from './saved-counters.ts'
import type { Contents, DroppedOrigin, Seen, StoredOrigin } from './scan.ts'
import type { StoredStatement, StoredTrust } from './trust-table.ts'
import { Turns } from './turns.ts'

export type { Counters } from './counters.ts'
export type { Part, Persist } from './database.ts'
export type { Identity } from './identity.ts'
export type { DroppedOrigin, Seen, StoredOrigin } from './scan.ts'
export type { StoredStatement, StoredTrust } from './trust-table.ts'

export { STORE_VERSION } from './folder.ts'

/** The replica as it was found on disk. */
export interface LoadedReplica {
  /**
   * Each row has passed its checksum. Whether the records of an origin are complete is proved only by the state hash in
   * the signed head, which the caller must check.
   */
  readonly origins: readonly StoredOrigin[]
  /** Snapshots that were not complete when the agent ended; no reader may see them before they are. */
  readonly parts: readonly StoredParts[]
  /**
   * Origins whose rows were damaged; they are not loaded. When the own origin is among them, the agent raises its
   * epoch.
   */
  readonly dropped: readonly DroppedOrigin[]
  /**
   * True when the whole replica was damaged or gone; it is empty now, and every origin, also the own one, counts as
   * dropped.
   */
  readonly lost: boolean
  readonly seen: ReadonlyMap<Origin, Seen>
}

/**
 * The open store. Its promises reject with a StoreError; after `close`, writes to the database reject with
 * STORE_CLOSED.
 */
export interface Store {
  /** Absolute path of the state folder. */
  readonly folder: string
  /** Sentences about files and origins that were set aside or dropped at the start, and about a folder that was open to others. */
  readonly warnings: readonly string[]
  /** The identity in memory; undefined before the first `saveIdentity` and after `forget`. */
  identity(): Identity | undefined
  /**
   * Saves the identity, which is durable when the promise resolves. Rejects with IDENTITY_INVALID, DISK_FULL,
   * STORE_READONLY or STORE_FAILED.
   */
  saveIdentity(identity: Identity): Promise<void>
  /**
   * Changes a part of the identity, after all earlier writes: `change` gets what they have left, so that two changes at once never
   * undo each other. It may be called later than asked, must not wait for anything, and leaves all as it is when it returns what it
   * got or throws. Resolves to the identity, durable; undefined when there is none, and then `change` is not called. Rejects with the
   * error of `change`, and as `saveIdentity`.
   */
  changeIdentity(change: (identity: Identity) => Identity): Promise<Identity | undefined>
  /**
   * Returns the counters; undefined when they were never saved, or both copies are damaged. Neighbours then tell the
   * highest epoch that they hold.
   */
  counters(): Counters | undefined
  /** Saves the counters; durable when it resolves. Rejects with RangeError when they are below the saved ones. */
  saveCounters(counters: Counters): Promise<void>
  /**
   * Returns the replica that was found when the store was opened, once; later calls return an empty one, to free the
   * memory.
   */
  loadReplica(): LoadedReplica
  /**
   * Writes one step of an origin's state as one atomic batch. A step can make the stored parts of a snapshot the
   * records of the origin (`adopts`); if these parts are not stored, it resolves with false, and nothing was written.
   * Rejects with DISK_FULL, STORE_READONLY or STORE_FAILED; the stored state then stays as it was.
   */
  persist(batch: Persist, options: { sync: boolean }): Promise<boolean>
  /**
   * Writes a part of an unfinished snapshot. It survives kill -9. A part that does not follow the last stored one is
   * left out.
   */
  persistPart(part: Part): Promise<void>
  /** Removes all parts of this origin's unfinished snapshot. */
  dropParts(origin: Origin): Promise<void>
  /** Removes the stored state of this origin. The parts of its unfinished snapshot and its highest position stay. */
  removeOrigin(origin: Origin): Promise<void>
  /** Returns what was found of trust when the store was opened, once; later calls return nothing, to free the memory. */
  loadTrust(): StoredTrust
  /**
   * Writes statements; durable when the promise resolves. Like all writes of trust it rejects with DISK_FULL,
   * STORE_READONLY or STORE_FAILED; what was stored then stays as it was, and the caller writes again later.
   */
  saveTrust(statements: readonly StoredStatement[]): Promise<void>
  /** Removes statements that a bound took out of the set; durable when the promise resolves. */
  removeTrust(ids: readonly StatementId[]): Promise<void>
  /** Writes the whole table of what is in force here (E1); durable when the promise resolves. */
  saveOwners(owners: StoredTrust['owners']): Promise<void>
  /** Writes the whole table of generations (S8), of which none ever falls; durable when the promise resolves. */
  saveGenerations(generations: StoredTrust['generations']): Promise<void>
  /**
   * Removes identity, keys, counters, replica and all files that were set aside. Called when the agent leaves its mesh.
   */
  forget(): Promise<void>
  /**
   * Checks that all files still exist, and writes missing ones from memory. Called each second. Rejects as
   * `saveIdentity` does; the files are then still missing. A disk that is full or read-only is an error, even when no
   * file is missing. Rejects with STATE_EXPOSED when other users can write the folder now, or read or replace the keys
   * in it, as at a start.
   */
  mend(): Promise<Mended>
  /** Closes the store after the writes that were begun, and releases the lock. Later writes reject with STORE_CLOSED. */
  close(): Promise<void>
}

/**
 * The result of `mend`. `sound`: nothing was missing. `files`: only small files were missing. `replica`: the database
 * was gone and is empty now; the caller must write all origins and all of trust again from memory.
 */
export type Mended = 'sound' | 'files' | 'replica'

interface StoreOptions {
  readonly folder: string
  /** Unix milliseconds, for the names of files that are set aside. */
  readonly now: () => number
}

/**
 * Opens the state folder, makes it when it does not exist, and reads all of it. Rejects with StoreError STORE_NEWER,
 * STORE_LOCKED, STORE_READONLY, STATE_EXPOSED, IDENTITY_CORRUPT, DISK_FULL or STORE_FAILED; the agent then does not
 * start.
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  try {
    return await openFolder(options)
  } catch (error) {
    throw error instanceof StoreError && error.code === 'DISK_FULL' ? fullAtStart(error) : error
  }
}

async function openFolder(options: StoreOptions): Promise<Store> {
  const folder = resolve(options.folder)
  const warnings: string[] = []
  const stamp = new Date(options.now()).toISOString().replaceAll(/[:.]/g, '-')
  // The order matters: versions are read before the database is opened, and files are written while its lock is held.
  await prepareFolder(folder, warnings)
  const marker = await readMarker(folder)
  const copies = await readIdentity(folder)
  const [database, contents] = await openDatabase({
    folder,
    existed: marker !== 'none',
    stamp,
    warn: (warning) => warnings.push(warning)
  })
  try {
    if (marker !== 'ours')
      await writeFileAtomic(join(folder, MARKER), `${JSON.stringify({ version: STORE_VERSION })}\n`)
    if (marker === 'unreadable')
      warnings.push(`${join(folder, MARKER)} was damaged; the agent has written it again`)
    const identity = await settleIdentity(folder, copies, stamp, warnings)
    const counters = await readCounters(folder, contents, warnings)
    return new DiskStore({ folder, database, contents, identity, counters, warnings })
  } catch (error) {
    await database.close()
    throw error
  }
}

interface DiskStoreOptions {
  readonly folder: string
  readonly database: Database
  readonly contents: Contents
  readonly identity: Identity | undefined
  readonly counters: Counters | undefined
  readonly warnings: string[]
}

const NO_TRUST: StoredTrust = { items: [], owners: new Map(), generations: new Map() }

/** The store over the open database and the small files. */
class DiskStore implements Store {
  readonly folder: string
  readonly warnings: string[]
  readonly #database: Database
  #identity: Identity | undefined
  #counters: Counters | undefined
  #replica: LoadedReplica
  #trust: StoredTrust
  readonly #turns: Turns

  constructor(options: DiskStoreOptions) {
    const { origins, parts, dropped, lost, seen } = options.contents
    this.folder = options.folder
    this.#turns = new Turns(options.folder)
    this.warnings = options.warnings
    this.#database = options.database
    this.#identity = options.identity
    this.#counters = options.counters
    this.#replica = { origins, parts, dropped, lost, seen }
    this.#trust = options.contents.trust
  }

  identity(): Identity | undefined {
    return this.#identity
  }

  saveIdentity(identity: Identity): Promise<void> {
    return this.#turns.run(() => this.#putIdentity(identity))
  }

  changeIdentity(change: (identity: Identity) => Identity): Promise<Identity | undefined> {
    return this.#turns.run(async () => {
      const identity = this.#identity
      const next = identity && change(identity)
      if (next !== undefined && next !== identity) await this.#putIdentity(next)
      return next
    })
  }

  async #putIdentity(identity: Identity): Promise<void> {
    const path = join(this.folder, IDENTITY)
    const text = encodeIdentity(identity, path)
    // In this order: a crash in between leaves a complete new file and an old copy, which the next openStore() renews.
    await writeFileAtomic(path, text)
    this.#identity = identity
    await writeFileAtomic(join(this.folder, BACKUP), text)
  }

  counters(): Counters | undefined {
    return this.#counters
  }

  saveCounters(counters: Counters): Promise<void> {
    return this.#turns.run(() => this.#putCounters(counters))
  }

  async #putCounters(counters: Counters): Promise<void> {
    const before = this.#counters
    if (before !== undefined && isBelow(counters, before)) throw new RangeError('counters never go backwards')
    await writeFileAtomic(join(this.folder, COUNTERS), encodeCounters(counters))
    this.#counters = counters
    await this.#database.putMeta('counters', new TextEncoder().encode(encodeCounters(counters)))
  }

  loadReplica(): LoadedReplica {
    const replica = this.#replica
    this.#replica = { origins: [], parts: [], dropped: [], lost: false, seen: new Map() }
    return replica
  }

  persist(batch: Persist, options: { sync: boolean }): Promise<boolean> {
    return this.#database.persist(batch, options)
  }

  persistPart(part: Part): Promise<void> {
    return this.#database.persistPart(part)
  }

  dropParts(origin: Origin): Promise<void> {
    return this.#database.dropParts(origin)
  }

  removeOrigin(origin: Origin): Promise<void> {
    return this.#database.removeOrigin(origin)
  }

  loadTrust(): StoredTrust {
    const { items, owners, generations } = this.#trust
    this.#trust = NO_TRUST
    return { items, owners, generations }
  }

  saveTrust(save: readonly StoredStatement[]): Promise<void> {
    return this.#database.writeTrust({ save })
  }

  removeTrust(remove: readonly StatementId[]): Promise<void> {
    return this.#database.writeTrust({ remove })
  }

  saveOwners(owners: StoredTrust['owners']): Promise<void> {
    return this.#database.writeTrust({ owners })
  }

  saveGenerations(generations: StoredTrust['generations']): Promise<void> {
    return this.#database.writeTrust({ generations })
  }

  forget(): Promise<void> {
    return this.#turns.run(() => this.#removeAll())
  }

  async #removeAll(): Promise<void> {
    // The copy is removed first, so that a crash in between leaves a complete identity: the next start finds the agent
    // still a member.
    await removeFile(join(this.folder, BACKUP))
    await removeFile(join(this.folder, IDENTITY))
    await removeFile(join(this.folder, COUNTERS))
    for (const name of await readdir(this.folder)) {
      if (/^(identity|db|counters)\.(corrupt-|.*\.tmp$)/.test(name)) {
        await rm(join(this.folder, name), { recursive: true, force: true })
      }
    }
    await this.#database.clear()
    this.#identity = undefined
    this.#counters = undefined
    this.loadReplica()
    this.loadTrust()
  }

  mend(): Promise<Mended> {
    return this.#turns.run(() => this.#writeMissing())
  }

  /** The work of `mend`: small files first, then the database. */
  async #writeMissing(): Promise<Mended> {
    if (this.#identity !== undefined) await setAsideReplaced(this.folder, this.#identity)
    const missing = await this.#missing()
    const lacksReplica = !(await this.#database.isThere())
    if (missing.length === 0 && !lacksReplica) {
      await checkTakesMore(this.folder)
      await checkClosed(this.folder, this.warnings)
      return 'sound'
    }
    await prepareFolder(this.folder, [])
    const marker = `${JSON.stringify({ version: STORE_VERSION })}\n`
    const identity = this.#identity && encodeIdentity(this.#identity, join(this.folder, IDENTITY))
    const texts: Readonly<Record<string, string | undefined>> = {
      [MARKER]: marker,
      [IDENTITY]: identity,
      [BACKUP]: identity,
      [COUNTERS]: this.#counters && encodeCounters(this.#counters)
    }
    for (const name of missing) {
      const text = texts[name]
      if (text !== undefined) await writeFileAtomic(join(this.folder, name), text)
    }
    if (!lacksReplica) return 'files'
    await this.#database.rebuild()
    if (this.#counters !== undefined)
      await this.#database.putMeta('counters', new TextEncoder().encode(encodeCounters(this.#counters)))
    return 'replica'
  }

  /** Returns the names of the small files that should exist and do not. */
  async #missing(): Promise<readonly string[]> {
    const names = [
      MARKER,
      ...(this.#identity === undefined ? [] : [IDENTITY, BACKUP]),
      ...(this.#counters === undefined ? [] : [COUNTERS])
    ]
    const there = await Promise.all(names.map((name) => exists(join(this.folder, name))))
    return names.filter((_, index) => there[index] === false)
  }

  async close(): Promise<void> {
    await this.#turns.end()
    await this.#database.close()
  }
}
