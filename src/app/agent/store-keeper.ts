// Watches the state folder of a running agent. When files are removed, the registry of health gets a fault, and the files are written
// again from memory, so that the next start finds the identity, the counters and the replica.
import type { Store } from '../../io/store/store.ts'
import type { Health } from '../observe/health.ts'

// Removed files are a fault at this moment; that they were removed is worth knowing for as long as a shift may take to look.
const TOLD_MS = 600_000
const UNUSABLE = 'STATE_UNUSABLE'
const REMOVED = 'STATE_REMOVED'

export interface StoreKeeperOptions {
  readonly store: Pick<Store, 'folder' | 'mend'>
  readonly health: Health
  /** Monotonic. */
  readonly nowMs: () => number
  /** The replica on disk is empty now: what is in memory has to be written whole. */
  readonly onReplicaLost: () => void
  /** Other parts that keep something in the folder. */
  readonly mendMore: () => Promise<unknown>
}

export class StoreKeeper {
  readonly #options: StoreKeeperOptions
  #looking: Promise<void> | undefined
  #removedMs = -Infinity

  constructor(options: StoreKeeperOptions) {
    this.#options = options
  }

  /** To be called each second; looks never overlap. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined))
    return this.#looking
  }

  /** Waits for a look that is under way. */
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
          message: `files in ${store.folder} were removed while the agent runs; they have been written anew from memory`,
          fix: 'find out what removes them: a cleaner of old files, for one, must leave this folder alone'
        })
      } else if (nowMs() - this.#removedMs > TOLD_MS) health.clear(REMOVED)
      await mendMore()
      health.clear(UNUSABLE)
    } catch (error) {
      health.setError(UNUSABLE, error, {
        severity: 'error',
        fix: `make ${store.folder} a folder that this user can write`
      })
    }
  }
}
