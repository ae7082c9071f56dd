// The end of an agent: its parts stop one after the other, in an order of their own. A part that fails to stop is
// logged, and the others are stopped all the same, so that the store is closed in any case.
import type { Log } from '../observe/log.ts'

// The hand-over is first: all parts work while other gateways take over. Parts that act by themselves or answer requests stop next, then the parts that they use. The store is last, because
// every part may write to it. The order is independent of the order of the start.
const ORDER = [
  'hand-over',
  'part watch',
  'key inheritance',
  'token',
  'cluster key',
  'admin socket',
  'cluster dns',
  'own objects',
  'own CoreDNS',
  'source',
  'session',
  'http',
  'host',
  'store keeper',
  'gateway invites',
  'store'
] as const

/** The name of a part. A part whose name is not in ORDER is an error of the type checker. */
type PartName = (typeof ORDER)[number]

/** Collects how parts end while the agent starts, and runs the ends once. */
export class Shutdown {
  readonly #log: Pick<Log, 'error'>
  readonly #ends = new Map<PartName, () => Promise<unknown> | undefined>()

  constructor(log: Pick<Log, 'error'>) {
    this.#log = log
  }

  /**
   * Registers the end of a part. `run` calls it once, also when the start of a later part fails. A second `add` of a
   * part replaces the first.
   */
  add(part: PartName, end: () => Promise<unknown> | undefined): void {
    this.#ends.set(part, end)
  }

  /**
   * Stops all registered parts, one after the other. Never rejects. A second call does nothing, since each end is used
   * only once.
   */
  async run(): Promise<void> {
    for (const part of ORDER) {
      const end = this.#ends.get(part)
      this.#ends.delete(part)
      try {
        await end?.()
      } catch (error) {
        this.#log.error({ err: error, part }, 'a part of the agent failed to stop')
      }
    }
  }
}
