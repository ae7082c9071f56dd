// Removes the states of origins that are not held any more: those for which there is no room (room-budget.ts), and those
// of agents that are no members any more.
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import type { Gate } from './gate.ts'
import type { Persistence } from './persistence.ts'
import type { Heads } from './pull/heads.ts'
import type { PullScheduler } from './pull/pull-scheduler.ts'
import type { Outbox } from './outbox.ts'
import type { Replicas } from './replicas.ts'
import type { SteadyClock } from '../model/steady-clock.ts'

/** The parts of one protocol instance that know of an origin's state. */
interface RemovalOptions {
  readonly admission: Admission
  readonly clock: Pick<SteadyClock, 'now'>
  readonly gate: Gate
  readonly heads: Heads
  readonly pulls: PullScheduler
  readonly persistence: Persistence
  readonly outbox: Outbox
  readonly replicas: Replicas
}

/** Brings all parts of the protocol up to date when a state is removed. */
export class Removal {
  readonly #options: RemovalOptions

  constructor(options: RemovalOptions) {
    this.#options = options
  }

  /** The state of this origin was removed to make room for another one; for a while it is not taken again. */
  evicted(origin: Origin): void {
    const { gate, clock } = this.#options
    gate.shut(origin, clock.now, EVICTED_MS)
    this.#tell(origin, 'evicted')
  }

  /** The stored state of this origin has no room at the start of the agent. */
  noRoom(origin: Origin): void {
    if (this.#options.replicas.remove(origin)) this.#tell(origin, 'evicted')
  }

  /** Removes the states of all origins that are not admitted (any more). */
  collect(): void {
    const { admission, replicas } = this.#options
    for (const { origin } of replicas.all())
      if (!admission.isAdmitted(origin) && replicas.remove(origin)) this.#tell(origin, 'no member')
  }

  #tell(origin: Origin, reason: 'evicted' | 'no member'): void {
    const { heads, pulls, persistence, outbox } = this.#options
    heads.delete(origin)
    pulls.settle(origin)
    persistence.remove(origin, reason)
    outbox.add({ kind: 'changed', origins: [origin] })
  }
}

// Ten minutes: a state that was removed for want of room costs one attempt in that time, and comes back soon after its
// cluster has become smaller.
const EVICTED_MS = 600_000
