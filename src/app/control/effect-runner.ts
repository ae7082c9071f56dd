// Carries out the effects of the protocol and writes its state to disk.
// Invariants, with the numbers that they have in control.ts:
//  2. An own batch is on disk before any neighbour sees it. What the disk does not accept is written whole as soon as
//     the disk accepts writes again (docs/decisions/0011).
//  3. Effects are carried out in the order in which the protocol gave them: at once when no write is under way, else
//     after it.
//  4. A neighbour that sends a large state is not read from while a part of it is being written to disk. The window
//     of its stream then bounds the data that waits for a slow disk.
import type { Origin } from '../../core/model/values.ts'
import type { Effect, Persist, PersistPart } from '../../core/replication/protocol.ts'
import type { Transport } from '../../io/p2p/transport.ts'
import type { Store } from '../../io/store/store.ts'
import { sentence } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'

// Milliseconds between two attempts to write what a full or failing disk did not accept (invariant 2).
const PERSIST_RETRY_MS = 1000
// Most effects that are carried out and still in the list. They are removed together, because the cost of removing one
// from the front of an array grows with the number of effects behind it.
const CARRIED_MAX = 1024

/** Effects that write or remove parts of an unfinished state. */
type Keeping = PersistPart | Extract<Effect, { kind: 'dropParts' }>
/** Effects that are carried out without waiting for the disk. */
export type PromptEffect = Exclude<Effect, Persist | Keeping>

/** The parts that the effects act on. */
interface EffectRunnerOptions {
  readonly self: Origin
  readonly store: Pick<Store, 'counters' | 'saveCounters' | 'persist' | 'persistPart' | 'dropParts'>
  readonly transport: Pick<Transport, 'pause' | 'resume'>
  readonly log: Log
  /**
   * Returns the whole state of an origin as a batch that replaces the stored one; undefined when the protocol has no
   * state of this origin.
   */
  readonly whole: (origin: Origin) => Persist | undefined
  /**
   * Carries out an effect without waiting for the disk. An error that it throws rejects `idle`, and the effects
   * behind it wait for the next `run`.
   */
  readonly act: (effect: PromptEffect) => void
}

/** Carries out effects one after the other. An effect that writes to disk delays those behind it. */
export class EffectRunner {
  readonly #options: EffectRunnerOptions
  readonly #effects: Effect[] = []
  /** The number of effects at the front of `#effects` that are carried out. */
  #carried = 0
  /** Resolves when the effects that are under way are carried out. */
  #draining: Promise<void> = Promise.resolve()
  #isBusy = false
  #diskFault: string | undefined
  /** Neighbours that are not read from now (invariant 4). */
  readonly #held = new Set<Origin>()
  /** Origins whose latest state the disk did not accept. */
  readonly #unsaved = new Set<Origin>()
  /** Monotonic time of the latest attempt of `retry`. */
  #savedMs = 0

  constructor(options: EffectRunnerOptions) {
    this.#options = options
  }

  /**
   * Why the latest write to the store failed, as a line for the operator; undefined while the store accepts writes.
   */
  get diskFault(): string | undefined {
    return this.#diskFault
  }

  /** Resolves when all effects given so far are carried out. Never rejects because of the disk. */
  get idle(): Promise<void> {
    return this.#draining
  }

  /** Adds effects, and carries them out at once when none is under way. */
  run(effects: readonly Effect[]): void {
    // push(...effects) would fail when there are more effects than a call can have arguments.
    for (const effect of effects) this.#effects.push(effect)
    if (!this.#isBusy) this.#draining = this.#drain()
  }

  /**
   * Adds the effects of a frame from this neighbour. When the frame was a part of a large state, the neighbour is not
   * read from until the part is written (invariant 4).
   */
  runOf(peer: Origin, effects: readonly Effect[]): void {
    if (effects.some(({ kind }) => kind === 'persistPart')) {
      this.#held.add(peer)
      this.#options.transport.pause(peer)
    }
    this.run(effects)
  }

  /**
   * Called with each tick. Writes the states that the disk did not accept, whole, at most once per PERSIST_RETRY_MS.
   */
  retry(nowMs: number): void {
    if (this.#unsaved.size === 0 || nowMs - this.#savedMs < PERSIST_RETRY_MS) return
    this.#savedMs = nowMs
    this.#writeWhole([...this.#unsaved])
  }

  /**
   * Called when the store has lost these origins, for example because its files were removed. Their whole states are
   * written before all effects that come after.
   */
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
        // Effects may be added while one is carried out, so the list is read anew each time.
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

  /** Removes the effects that are carried out from the front of the list. */
  #forgetCarried(): void {
    this.#effects.splice(0, this.#carried)
    this.#carried = 0
  }

  /**
   * Writes a batch. A batch of this agent is synced, so that it survives a loss of power: no other agent has it yet.
   * A batch of another origin can be pulled again. When the disk does not accept a batch, later batches of that
   * origin are skipped until its whole state is written (`retry`).
   */
  async #persist(batch: Persist): Promise<void> {
    const { self, store, log, whole } = this.#options
    const own = batch.origin === self
    if (this.#unsaved.has(batch.origin) && !batch.replace) return
    try {
      if (own) await this.#keepEpoch(batch.epoch)
      if (!(await store.persist(batch, { sync: own }))) {
        const state = whole(batch.origin) // the parts that the batch builds on are not stored
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

  /**
   * Stores the epoch in the file of counters, beside the replica: an agent that loses its replica must publish in a
   * higher epoch than before.
   */
  async #keepEpoch(epoch: number): Promise<void> {
    const { store } = this.#options
    if ((store.counters()?.epoch ?? 0) < epoch) await store.saveCounters({ epoch, seqReserved: 0 })
  }

  /**
   * Writes or removes parts of an unfinished state. An error is only logged: a lost part is pulled again, and nothing
   * depends on it.
   */
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

  /** Reads again from the neighbours that were held, once no part waits to be written. */
  #release(): void {
    const isPart = ({ kind }: Effect, at: number) => at >= this.#carried && kind === 'persistPart'
    if (this.#effects.some(isPart)) return // a part from another neighbour still waits
    const held = [...this.#held]
    this.#held.clear()
    // `resume` may deliver the next part at once, which adds the neighbour to `#held` again.
    for (const peer of held) this.#options.transport.resume(peer)
  }
}
