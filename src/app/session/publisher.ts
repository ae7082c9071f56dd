// What this agent publishes of its cluster's catalogue. A source tells what changed, and that is all that is encoded and signed: the
// whole catalogue is looked at once in a term, and again only after a publication that failed.
// Invariants
//   1. Publications never overlap, and leave in the order in which they were asked for.
//   2. Nothing is published after `withdraw`.
import type { Change } from '../../core/catalog/catalog.ts'
import { keyOf, type Cidr, type Snapshot, type Value } from '../../core/model/values.ts'
import { Outbox } from '../../core/catalog/outbox.ts'
import type { Leadership } from '../../io/kube/lease.ts'
import type { Health } from '../observe/health.ts'
import { STANDBY_LAG_MS, STANDBY_TERM } from './speaker.ts'

export interface PublisherOptions {
  /** One batch; resolves when it is on disk and on its way. */
  readonly publish: (changes: readonly Change[]) => Promise<void>
  /** Keys that this agent has published and not withdrawn. */
  readonly ownKeys: () => readonly string[]
  readonly prefixes: () => {
    readonly podPrefixes: readonly Cidr[]
    readonly servicePrefixes: readonly Cidr[]
  }
  /** undefined: the publication after a failed one went well. */
  readonly onFault: (error: unknown) => void
}

interface Spoken {
  readonly snapshot: Snapshot
  readonly whole: boolean
}

export class Publisher {
  readonly #options: PublisherOptions
  #spoken: Spoken | undefined
  /** What the replica holds of it, but for what lies in the outbox; undefined: not known. */
  #published: Spoken | undefined
  readonly #outbox = new Outbox()
  #leadership: Leadership = { leader: false }
  /** The last that this agent led with. */
  #term = STANDBY_TERM
  #stoodByMs = -Infinity
  #withdrawing = false
  #failed = false
  #running: Promise<void> = Promise.resolve()

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  /** Resolves when all that was asked for until now is published. */
  get idle(): Promise<void> {
    return this.#running
  }

  /** The source said something. `changes`: what differs from the snapshot before it. */
  setSnapshot(
    snapshot: Snapshot,
    state: { readonly whole: boolean; readonly changes: readonly Change[] }
  ): void {
    this.#spoken = { snapshot, whole: state.whole }
    if (this.#published !== undefined) this.#outbox.add(state.changes)
    this.#speak()
  }

  /** A new term publishes whole; an agent that loses it goes silent, and what it had said stands until the next term is complete. */
  setLeadership(leadership: Leadership): void {
    this.#leadership = leadership
    if (leadership.leader) this.#term = leadership.term
    this.speakAnew()
  }

  /** The prefixes of the cluster are others, or what was published is not known. */
  speakAnew(): void {
    this.#published = undefined
    this.#speak()
  }

  /** Once a second. What failed is tried again; a copy for the agent that stands by (speaker.ts) is late by intent. */
  tick(nowMs: number, isStandby: () => boolean): void {
    if (this.#failed) this.#speak()
    // A copy that is not whole helps no one.
    if (this.#leadership.leader || this.#spoken?.whole !== true || this.#spoken === this.#published) return
    if (nowMs - this.#stoodByMs < STANDBY_LAG_MS || !isStandby()) return
    this.#stoodByMs = nowMs
    this.#tell(this.#term)
  }

  /** A record that is not of the catalogue. */
  put(value: Value): Promise<void> {
    return this.#enqueue(() => [{ key: keyOf(value), value }])
  }

  /** Withdraws everything that was published. */
  async withdraw(): Promise<void> {
    this.#withdrawing = true
    await this.#running
    await this.#options.publish(this.#options.ownKeys().map((key) => ({ key, value: undefined })))
  }

  #speak(): void {
    if (this.#leadership.leader) this.#tell(this.#leadership.term)
  }

  #tell(term: number): void {
    const spoken = this.#spoken
    if (spoken === undefined || this.#withdrawing) return
    const before = this.#published
    this.#published = spoken
    const changed = this.#outbox.take()
    const cluster: Value = { kind: 'cluster', ...this.#options.prefixes(), term, complete: spoken.whole }
    void this.#enqueue(() =>
      before?.whole === spoken.whole
        ? [...changed, { key: keyOf(cluster), value: cluster }]
        : this.#all(cluster, spoken)
    )
  }

  /** The first of this run or term: what was published before and is gone since goes, too; but only if all was read. */
  #all(cluster: Value, { snapshot, whole }: Spoken): readonly Change[] {
    const values = [cluster, ...snapshot.services, ...snapshot.endpointSlices]
    const changes: Change[] = values.map((value) => ({ key: keyOf(value), value }))
    if (!whole) return changes
    const keys = new Set(changes.map(({ key }) => key))
    for (const key of this.#options.ownKeys())
      if (key !== 'agent' && !keys.has(key)) changes.push({ key, value: undefined })
    return changes
  }

  /** After a failure the whole catalogue is published. */
  #enqueue(make: () => readonly Change[]): Promise<void> {
    this.#running = this.#running.then(async () => {
      if (this.#withdrawing) return
      try {
        await this.#options.publish(make())
      } catch (error) {
        this.#failed = true
        this.#published = undefined
        return this.#options.onFault(error)
      }
      // Once the whole was asked for again and no publication since has failed.
      if (this.#failed && this.#published === undefined) return
      this.#failed = false
      this.#options.onFault(undefined)
    })
    return this.#running
  }
}

/** `error` undefined: the publication after a failed one went well. */
export function tellPublishingFault(health: Health, error: unknown): void {
  if (error === undefined) return health.clear('PUBLISH_FAILED')
  health.setError('PUBLISH_FAILED', error, {
    severity: 'error',
    fix: 'the whole catalogue is published again with the next change; report this if it stays'
  })
}
