// Carries out the effects of the protocol and writes its state to disk.
// Invariants (those of control.ts by their numbers there):
//  2. An own batch is on disk before any neighbour sees it. What the disk does not take is written whole, once it takes anything again.
//  3. Effects are carried out in the order in which the protocol gave them: at once where nothing waits for the disk, else behind it.
//  4. A neighbour that sends a large state is not read from while a part of it is on its way to the disk.
import type { Origin } from '../../core/model/values.ts'
import type { Effect, Persist, PersistPart } from '../../core/replication/protocol.ts'
import type { Transport } from '../../io/p2p/transport.ts'
import type { Store } from '../../io/store/store.ts'
import { sentence } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'

// A disk that is full is tried again this often (invariant 2).
const PERSIST_RETRY_MS = 1000
// Effects that are carried out and not forgotten yet: few beside what a burst holds.
const CARRIED_MAX = 1024

type Keeping = PersistPart | Extract<Effect, { kind: 'dropParts' }>
/** Effects that need no disk. */
export type PromptEffect = Exclude<Effect, Persist | Keeping>

export interface EffectRunnerOptions {
  readonly self: Origin
  readonly store: Pick<Store, 'counters' | 'saveCounters' | 'persist' | 'persistPart' | 'dropParts'>
  readonly transport: Pick<Transport, 'pause' | 'resume'>
  readonly log: Log
  /** The whole state of an origin, as a batch that replaces what the disk has of it. */
  readonly whole: (origin: Origin) => Persist | undefined
  readonly act: (effect: PromptEffect) => void
}

/** Carries out effects one after the other; effects that write to disk delay those behind them. */
export class EffectRunner {
  readonly #options: EffectRunnerOptions
  readonly #effects: Effect[] = []
  /** So many of them are carried out: taking each off the front would cost as much as all that wait. */
  #carried = 0
  #draining: Promise<void> = Promise.resolve()
  #isBusy = false
  #diskFault: string | undefined
  /** Neighbours that are not read from (invariant 4). */
  readonly #held = new Set<Origin>()
  /** Origins whose latest steps the disk did not take. */
  readonly #unsaved = new Set<Origin>()
  #savedMs = 0

  constructor(options: EffectRunnerOptions) {
    this.#options = options
  }

  /** The reason why the latest write to the store failed, or undefined when the store can be written. */
  get diskFault(): string | undefined {
    return this.#diskFault
  }

  /** Resolves when all effects that were given until now are carried out. */
  get idle(): Promise<void> {
    return this.#draining
  }

  run(effects: readonly Effect[]): void {
    for (const effect of effects) this.#effects.push(effect) // not spread: they may be more than a call takes
    if (!this.#isBusy) this.#draining = this.#drain()
  }

  /** The effects of a frame of this neighbour, which may be a part of a large state. */
  runOf(peer: Origin, effects: readonly Effect[]): void {
    if (effects.some(({ kind }) => kind === 'persistPart')) {
      this.#held.add(peer)
      this.#options.transport.pause(peer)
    }
    this.run(effects)
  }

  /** Writes whole what the disk did not take, when it is time to try again. */
  retry(nowMs: number): void {
    if (this.#unsaved.size === 0 || nowMs - this.#savedMs < PERSIST_RETRY_MS) return
    this.#savedMs = nowMs
    this.#writeWhole([...this.#unsaved])
  }

  /** The store has lost all of these: they are written whole, before anything that comes after. */
  rewrite(origins: readonly Origin[]): void {
    for (const origin of origins) this.#unsaved.add(origin)
    this.#writeWhole(origins)
  }

  #writeWhole(origins: readonly Origin[]): void {
    this.run(origins.flatMap((origin) => this.#options.whole(origin) ?? []))
  }

  async #drain(): Promise<void> {
    this.#isBusy = true
    try {
      for (;;) {
        const effect = this.#effects[this.#carried++]
        if (effect === undefined) break
        if (effect.kind === 'persist') await this.#persist(effect)
        else if (effect.kind === 'persistPart' || effect.kind === 'dropParts') await this.#keep(effect)
        else this.#options.act(effect)
        if (this.#carried >= CARRIED_MAX) this.#forgetCarried()
      }
    } finally {
      this.#forgetCarried()
      this.#isBusy = false
    }
  }

  #forgetCarried(): void {
    this.#effects.splice(0, this.#carried)
    this.#carried = 0
  }

  /** Own batches are synced; others' can be pulled again. What the disk did not take is written whole later (`retry`). */
  async #persist(batch: Persist): Promise<void> {
    const { self, store, log, whole } = this.#options
    const own = batch.origin === self
    if (this.#unsaved.has(batch.origin) && !batch.replace) return
    try {
      if (own) await this.#keepEpoch(batch.epoch)
      if (!(await store.persist(batch, { sync: own }))) {
        const state = whole(batch.origin) // a part was not taken: the disk was full, or fails
        if (state) await store.persist(state, { sync: own })
      }
      this.#unsaved.delete(batch.origin)
      if (this.#unsaved.size > 0 || this.#diskFault === undefined) return
      this.#diskFault = undefined
      log.info('the store can be written again; nothing is missing in it')
    } catch (error) {
      this.#unsaved.add(batch.origin)
      if (this.#diskFault === undefined) log.error({ err: error, own }, 'cannot write to the store')
      this.#diskFault = sentence(error)
    }
  }

  /** The epoch is kept beside the replica, too: an agent that loses its replica must write above it. */
  async #keepEpoch(epoch: number): Promise<void> {
    const { store } = this.#options
    if ((store.counters()?.epoch ?? 0) < epoch) await store.saveCounters({ epoch, seqReserved: 0 })
  }

  /** What is lost of a part is pulled again: nothing depends on it. */
  async #keep(effect: Keeping): Promise<void> {
    const { store, log } = this.#options
    try {
      if (effect.kind === 'persistPart') await store.persistPart(effect)
      else await store.dropParts(effect.origin)
    } catch (error) {
      log.debug({ err: error, origin: effect.origin }, 'an unfinished state is not kept')
    }
    if (effect.kind === 'persistPart') this.#release()
  }

  #release(): void {
    const isPart = ({ kind }: Effect, at: number) => at >= this.#carried && kind === 'persistPart'
    if (this.#effects.some(isPart)) return // of another neighbour
    const held = [...this.#held]
    this.#held.clear()
    for (const peer of held) this.#options.transport.resume(peer) // its next part may be here, and hold it again
  }
}
