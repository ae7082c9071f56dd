// The agent's memory on disk: who it is (identity.json and its copy), its counters, and the replica (db/).
// Invariants: (1) nothing is written before the versions are known to be ours and the lock is held; (2) what is damaged is
// set aside and reported, never replaced in silence; (3) no text that leaves here quotes a secret.
import { readdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { StoredParts } from '../../core/replication/effects.ts'
import type { Origin } from '../../core/model/values.ts'
import { decodeCounters, encodeCounters } from './counters.ts'
import type { Counters } from './counters.ts'
import { openDatabase } from './database.ts'
import type { Database, Part, Persist } from './database.ts'
import { StoreError } from './errors.ts'
import { readFileIfAny, removeFile, writeFileAtomic } from './files.ts'
import {
  BACKUP,
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
import { readIdentity, settleIdentity } from './identity-copies.ts'
import type { Contents, DroppedOrigin, Seen, StoredOrigin } from './scan.ts'

export type { Counters } from './counters.ts'
export type { Part, Persist } from './database.ts'
export type { Identity } from './identity.ts'
export type { DroppedOrigin, Seen, StoredOrigin } from './scan.ts'

export { STORE_VERSION } from './folder.ts'

export interface LoadedReplica {
  /** Rows are sound; that a set of records is whole is proved by the state hash in its signed head: check it. */
  readonly origins: readonly StoredOrigin[]
  /** States that were not whole when the life before ended; nobody must see them before they are. */
  readonly parts: readonly StoredParts[]
  /** Damaged, not loaded. If the own origin is among them, raise the epoch. */
  readonly dropped: readonly DroppedOrigin[]
  /** True: the whole replica was damaged or gone and is empty now; treat every origin, the own one too, as dropped. */
  readonly lost: boolean
  readonly seen: ReadonlyMap<Origin, Seen>
}

export interface Store {
  readonly folder: string
  /** What was set aside or dropped, and why. */
  readonly warnings: readonly string[]
  identity(): Identity | undefined
  /** Durable when it resolves. Errors: IDENTITY_INVALID, DISK_FULL, STORE_READONLY. */
  saveIdentity(identity: Identity): Promise<void>
  /** Undefined: never saved, or damaged; in doubt ask the peers for the highest epoch they hold of us. */
  counters(): Counters | undefined
  /** Durable when it resolves; never goes backwards. */
  saveCounters(counters: Counters): Promise<void>
  /** What open found. The second call gives an empty one: the first caller owns it. */
  loadReplica(): LoadedReplica
  /**
   * One atomic batch. False: the parts that it adopts are not there, and nothing was done. Errors: DISK_FULL (the state before
   * stays), STORE_FAILED.
   */
  persist(batch: Persist, options: { sync: boolean }): Promise<boolean>
  /** Survives kill -9. A part that does not go on after those that are there is left out. */
  persistPart(part: Part): Promise<void>
  dropParts(origin: Origin): Promise<void>
  removeOrigin(origin: Origin): Promise<void>
  /** Leaves the mesh: identity, keys, counters, replica and all that was set aside are gone. */
  forget(): Promise<void>
  /**
   * Looks whether all of it is still there, and writes what is missing anew from memory. Errors: as `saveIdentity`, and STORE_FAILED:
   * then it is still missing. A disk that takes nothing is an error, too.
   */
  mend(): Promise<Mended>
  close(): Promise<void>
}

/** `files`: small files were missing. `replica`: all that was in the database, and whoever has it in memory must write it whole. */
export type Mended = 'sound' | 'files' | 'replica'

interface StoreOptions {
  readonly folder: string
  /** Unix milliseconds; names what is set aside. */
  readonly now: () => number
}

/** Errors: StoreError STORE_NEWER, STORE_LOCKED, STORE_READONLY, STATE_EXPOSED, IDENTITY_CORRUPT, DISK_FULL, STORE_FAILED. */
export async function openStore(options: StoreOptions): Promise<Store> {
  try {
    return await openFolder(options)
  } catch (error) {
    throw error instanceof StoreError && error.code === 'DISK_FULL' ? fullAtStart(error) : error
  }
}

/** A running agent goes on from memory; one that starts has nothing there. */
function fullAtStart(error: StoreError): StoreError {
  return new StoreError(
    'DISK_FULL',
    `${error.message}, and the agent stops because it cannot open its store`,
    {
      path: error.path,
      fix: 'free space on that disk, then start the agent again; until then this host keeps its tunnel and routes as they are',
      cause: error
    }
  )
}

async function openFolder(options: StoreOptions): Promise<Store> {
  const folder = resolve(options.folder)
  const warnings: string[] = []
  const stamp = new Date(options.now()).toISOString().replaceAll(/[:.]/g, '-')
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
    if (marker === 'unreadable') warnings.push(`${join(folder, MARKER)} was damaged and is written anew`)
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
  readonly warnings: readonly string[]
}

class DiskStore implements Store {
  readonly folder: string
  readonly warnings: readonly string[]
  readonly #database: Database
  #identity: Identity | undefined
  #counters: Counters | undefined
  #replica: LoadedReplica
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: DiskStoreOptions) {
    const { origins, parts, dropped, lost, seen } = options.contents
    this.folder = options.folder
    this.warnings = options.warnings
    this.#database = options.database
    this.#identity = options.identity
    this.#counters = options.counters
    this.#replica = { origins, parts, dropped, lost, seen }
  }

  identity(): Identity | undefined {
    return this.#identity
  }

  saveIdentity(identity: Identity): Promise<void> {
    return this.#inTurn(() => this.#putIdentity(identity))
  }

  async #putIdentity(identity: Identity): Promise<void> {
    const path = join(this.folder, IDENTITY)
    const text = encodeIdentity(identity, path)
    // In this order: a crash in between leaves a whole, new file and an old copy, which open() renews.
    await writeFileAtomic(path, text)
    this.#identity = identity
    await writeFileAtomic(join(this.folder, BACKUP), text)
  }

  counters(): Counters | undefined {
    return this.#counters
  }

  saveCounters(counters: Counters): Promise<void> {
    return this.#inTurn(() => this.#putCounters(counters))
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

  forget(): Promise<void> {
    return this.#inTurn(() => this.#removeAll())
  }

  async #removeAll(): Promise<void> {
    // The copy goes first: if we are cut short, the identity is still whole, and nothing is half forgotten.
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
  }

  mend(): Promise<Mended> {
    return this.#inTurn(() => this.#writeMissing())
  }

  /** What is being removed by intent must not be taken for missing. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => undefined)
    return result
  }

  async #writeMissing(): Promise<Mended> {
    const missing = await this.#missing()
    const lacksReplica = !(await this.#database.isThere())
    if (missing.length === 0 && !lacksReplica) {
      await checkTakesMore(this.folder)
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

  /** Of the small files, those that should be there and are not. */
  async #missing(): Promise<readonly string[]> {
    const names = [
      MARKER,
      ...(this.#identity === undefined ? [] : [IDENTITY, BACKUP]),
      ...(this.#counters === undefined ? [] : [COUNTERS])
    ]
    const there = await Promise.all(names.map((name) => exists(join(this.folder, name))))
    return names.filter((_, index) => there[index] === false)
  }

  close(): Promise<void> {
    return this.#database.close()
  }
}

/** Kept twice, in a file and in the database: the higher one counts. */
async function readCounters(
  folder: string,
  contents: Contents,
  warnings: string[]
): Promise<Counters | undefined> {
  const path = join(folder, COUNTERS)
  const text = await readFileIfAny(path)
  const ofFile = text === undefined ? undefined : decodeCounters(text)
  if (text !== undefined && ofFile === undefined)
    warnings.push(`${path} is damaged; the epoch has to be raised`)
  const meta = contents.meta.get('counters')
  const ofDatabase = meta === undefined ? undefined : decodeCounters(new TextDecoder().decode(meta))
  if (ofFile === undefined || ofDatabase === undefined) return ofFile ?? ofDatabase
  return isBelow(ofFile, ofDatabase) ? ofDatabase : ofFile
}

function isBelow(a: Counters, b: Counters): boolean {
  return a.epoch < b.epoch || (a.epoch === b.epoch && a.seqReserved < b.seqReserved)
}
