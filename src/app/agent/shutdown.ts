// How an agent ends: its parts stop one after the other, in an order of their own. Each is tried, whatever becomes of the others, so that
// a part that does not stop well does not leave the store open.
import type { Log } from '../observe/log.ts'

// First what may act or answer by itself, then what others use; the store is last, because every part may write to it.
const ORDER = [
  'part watch',
  'token',
  'cluster key',
  'admin socket',
  'cluster dns',
  'own CoreDNS',
  'source',
  'session',
  'http',
  'host',
  'store keeper',
  'store'
] as const

export type PartName = (typeof ORDER)[number]

export class Shutdown {
  readonly #log: Pick<Log, 'error'>
  readonly #ends = new Map<PartName, () => Promise<unknown> | undefined>()

  constructor(log: Pick<Log, 'error'>) {
    this.#log = log
  }

  /** `end` is called once by `run`, also when the start of a later part fails. */
  add(part: PartName, end: () => Promise<unknown> | undefined): void {
    this.#ends.set(part, end)
  }

  /** Never rejects. A second call does nothing. */
  async run(): Promise<void> {
    for (const part of ORDER) {
      const end = this.#ends.get(part)
      this.#ends.delete(part)
      try {
        await end?.()
      } catch (error) {
        this.#log.error({ err: error, part }, 'a part of the agent did not stop well')
      }
    }
  }
}
