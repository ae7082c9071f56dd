// Watches the state folder of a running agent. When files are removed, the registry of health gets a fault, and the
// files are written again from memory, so that the next start finds the identity, the counters and the replica.
import type { Store } from '../../io/store/store.ts'
import { explain } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'

// Milliseconds (10 min) for which the warning stays after the files are written again, so that an operator sees it: the
// files may be removed again by the same cause.
const TOLD_MS = 600_000
const UNUSABLE = 'STATE_UNUSABLE'
const REMOVED = 'STATE_REMOVED'
const EXPOSED = 'STATE_EXPOSED'

/** The store to check, and the callbacks for what the store itself cannot mend. */
interface StoreKeeperOptions {
  readonly store: Pick<Store, 'folder' | 'mend'>
  readonly health: Health
  /** Monotonic milliseconds. */
  readonly nowMs: () => number
  /**
   * Called when the replica on disk was lost and the database is empty again: the caller writes the whole replica from
   * memory.
   */
  readonly onReplicaLost: () => void
  /**
   * Mends the files of other parts in the folder, here the memory of the data plane. A rejection is a fault of the
   * folder.
   */
  readonly mendMore: () => Promise<unknown>
}

/**
 * Checks the state folder and writes removed files again. PartWatch calls `look` once a second. Faults: STATE_REMOVED
 * (warning), STATE_UNUSABLE (error), and STATE_EXPOSED (error) while other users can write the folder or reach the keys:
 * the next start would refuse it.
 */
export class StoreKeeper {
  readonly #options: StoreKeeperOptions
  #looking: Promise<void> | undefined
  #removedMs = -Infinity

  constructor(options: StoreKeeperOptions) {
    this.#options = options
  }

  /** Checks the folder once. Checks never overlap: a call during one returns its promise. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined))
    return this.#looking
  }

  /** Waits for a check that is under way, so that it does not write to a closed store. */
  async stop(): Promise<void> {
    await this.#looking
  }

  async #look(): Promise<void> {
    const { store, health, nowMs, onReplicaLost, mendMore } = this.#options
    try {
      const mended = await store.mend()
      if (mended === 'replica') onReplicaLost()
      if (mended !== 'sound') {
        this.#removedMs = nowMs()
        health.set(REMOVED, {
          severity: 'warning',
          message: `files in ${store.folder} were removed or replaced while the agent runs; the agent has written them again from memory`,
          fix: 'find the program that does it, for example a cleaner of old files, and exclude this folder there; to restore a backup, stop the agent first (a replaced identity is kept as identity.replaced.json)'
        })
      } else if (nowMs() - this.#removedMs > TOLD_MS) health.clear(REMOVED)
      await mendMore()
      health.clear(UNUSABLE)
      health.clear(EXPOSED)
    } catch (error) {
      const [code, other] = explain(error).code === EXPOSED ? [EXPOSED, UNUSABLE] : [UNUSABLE, EXPOSED]
      health.clear(other)
      health.setError(code, error, {
        severity: 'error',
        fix: `make ${store.folder} a folder that this user can write`
      })
    }
  }
}
