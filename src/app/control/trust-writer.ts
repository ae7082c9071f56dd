// Writes statements, owners and generations to the store as they change. A statement of this agent itself is written
// before it is handed on (`writeFirst`); nothing waits for the others, because peers have them.
// Invariants
//   1. What the disk did not accept is written again, as it is then, once per RETRY_MS: the agent goes on from memory,
//      and `diskFault` says so (docs/decisions/0011).
//   2. One write is under way at a time. What changes meanwhile is one write after it, so a flood costs few syncs.
import type { KeyId, StatementId } from '../../core/trust/set/ids.ts'
import type { Store, StoredStatement } from '../../io/store/store.ts'
import { sentence } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'

// Milliseconds between two attempts to write what a full or failing disk did not accept.
const RETRY_MS = 1000
// Statements of one write. Their items are at most 64 KiB each, and about 1 KiB as a rule.
const STATEMENTS_MAX = 256

interface TrustWriterOptions {
  readonly store: Pick<Store, 'saveTrust' | 'removeTrust' | 'saveOwners' | 'saveGenerations'>
  /** The set in memory, from which items are read when they are written. */
  readonly set: {
    readonly ids: () => Iterable<StatementId>
    readonly itemOf: (id: StatementId) => Uint8Array | undefined
  }
  readonly log: Log
}

/** The writer of one agent. Only `writeFirst` rejects. */
export class TrustWriter {
  readonly #options: TrustWriterOptions
  readonly #unsaved = new Set<StatementId>()
  readonly #unremoved = new Set<StatementId>()
  /** The latest tables that are not on disk. */
  #owners: ReadonlyMap<string, KeyId> | undefined
  #generations: ReadonlyMap<KeyId, number> | undefined
  #writing: Promise<void> = Promise.resolve()
  #isWriting = false
  #diskFault: string | undefined
  /** When the latest attempt failed, on the clock of `tick`. */
  #failedMs = -Infinity
  #nowMs = 0

  constructor(options: TrustWriterOptions) {
    this.#options = options
  }

  /** Why the latest write failed, as a line for the operator; undefined while the store accepts writes. */
  get diskFault(): string | undefined {
    return this.#diskFault
  }

  /** Resolves when the write under way has ended, and those that follow it at once. */
  get idle(): Promise<void> {
    return this.#writing
  }

  /** Writes statements that are new in the set. */
  save(ids: Iterable<StatementId>): void {
    for (const id of ids) {
      this.#unsaved.add(id)
      this.#unremoved.delete(id)
    }
    this.#start()
  }

  /** Removes statements that a bound took out of the set. */
  remove(ids: Iterable<StatementId>): void {
    for (const id of ids) {
      this.#unsaved.delete(id)
      this.#unremoved.add(id)
    }
    this.#start()
  }

  /** Writes the whole tables. Call it when they have changed; a table that is on disk costs no write. */
  saveTables(tables: {
    readonly owners: ReadonlyMap<string, KeyId>
    readonly generations: ReadonlyMap<KeyId, number>
  }): void {
    this.#owners = tables.owners
    this.#generations = tables.generations
    this.#start()
  }

  /**
   * Writes statements of this agent that are not handed on yet. Errors: StoreError, when the disk did not accept them:
   * a sponsor then answers `busy`, since an admission that it forgets could be given to a second key.
   */
  async writeFirst(statements: readonly StoredStatement[]): Promise<void> {
    try {
      await this.#options.store.saveTrust(statements)
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  /** Called when the store has lost its content: writes everything again. The caller gives the tables again, too. */
  rewrite(): void {
    this.save(this.#options.set.ids())
  }

  /** Called with each tick: writes what an earlier attempt did not. */
  tick(nowMs: number): void {
    this.#nowMs = nowMs
    if (this.#diskFault !== undefined && nowMs - this.#failedMs >= RETRY_MS) this.#start(true)
  }

  get #isDirty(): boolean {
    return (
      this.#unsaved.size > 0 ||
      this.#unremoved.size > 0 ||
      this.#owners !== undefined ||
      this.#generations !== undefined
    )
  }

  #start(isRetry = false): void {
    if (this.#isWriting || (this.#diskFault !== undefined && !isRetry)) return
    this.#isWriting = true
    this.#writing = this.#writeAll().finally(() => {
      this.#isWriting = false
    })
  }

  async #writeAll(): Promise<void> {
    // After a failure of `writeFirst` alone there is nothing to write: nothing is missing on disk.
    const hadWork = this.#isDirty
    try {
      while (this.#isDirty) await this.#writeSome()
      if (this.#diskFault === undefined) return
      this.#diskFault = undefined
      if (!hadWork) return
      this.#options.log.info('the store can be written again; nothing of the trust set is missing in it')
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Writes a part of what is not on disk. It is marked as written only when the store has accepted it. */
  async #writeSome(): Promise<void> {
    const { store, set } = this.#options
    const ids = [...this.#unsaved].slice(0, STATEMENTS_MAX)
    const removed = [...this.#unremoved]
    const [owners, generations] = [this.#owners, this.#generations]
    const statements = ids.flatMap((id) => {
      const item = set.itemOf(id)
      return item === undefined ? [] : [{ id, item }]
    })
    if (statements.length > 0) await store.saveTrust(statements)
    for (const id of ids) this.#unsaved.delete(id)
    if (removed.length > 0) await store.removeTrust(removed)
    for (const id of removed) this.#unremoved.delete(id)
    if (owners !== undefined) await store.saveOwners(owners)
    if (this.#owners === owners) this.#owners = undefined
    if (generations !== undefined) await store.saveGenerations(generations)
    if (this.#generations === generations) this.#generations = undefined
  }

  #fail(error: unknown): void {
    if (this.#diskFault === undefined)
      this.#options.log.error({ err: error }, 'cannot write the trust set to the store')
    this.#diskFault = sentence(error)
    this.#failedMs = this.#nowMs
  }
}
