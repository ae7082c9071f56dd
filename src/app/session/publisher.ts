// Publishes this cluster's catalogue. The source reports what has changed, and only that is encoded and signed. The
// whole catalogue is published once in a term, and again after a publication that failed.
// Invariants:
//  1. Publications never overlap, and leave in the order in which they were asked for.
//  2. Nothing is published after `withdraw`.
import { setTimeout as pause } from 'node:timers/promises'
import type { Change } from '../../core/catalog/catalog.ts'
import { keyOf, type Cidr, type Snapshot, type Value } from '../../core/model/values.ts'
import { mayExport } from '../../core/model/namespaces.ts'
import { Outbox } from '../../core/catalog/outbox.ts'
import type { Leadership } from '../../io/kube/lease.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Health } from '../observe/health.ts'
import { STANDBY_LAG_MS, STANDBY_TERM } from './speaker.ts'

// Milliseconds to wait for a withdrawal. After many changes at once, the last ones leave at a limited rate.
const WITHDRAW_MS = 3000

/** The function that publishes records, and the facts that are published besides the catalogue. */
interface PublisherOptions {
  /** Publishes one batch. Resolves when it is on disk and on its way. */
  readonly publish: (changes: readonly Change[]) => Promise<void>
  /** Returns the keys that this agent has published and not withdrawn. */
  readonly ownKeys: () => readonly string[]
  /** Returns the prefixes of this cluster, for its record. */
  readonly prefixes: () => {
    readonly podPrefixes: readonly Cidr[]
    readonly servicePrefixes: readonly Cidr[]
  }
  /** Returns the namespaces that this cluster may export; empty: all. */
  readonly namespaces: () => readonly string[]
  /** Called with the namespaces of the source whose services are left out, each once, in no order. */
  readonly onLeftOut: (namespaces: readonly string[]) => void
  /** Called when the catalogue is on disk, with the milliseconds since it was told. */
  readonly onRecorded?: (ms: number) => void
  /**
   * Called with the error of a publication that failed. `undefined`: the fault is over. Called after each
   * publication.
   */
  readonly onFault: (error: unknown) => void
}

/** The latest report of the source. */
interface Spoken {
  readonly snapshot: Snapshot
  readonly whole: boolean
}

/** One batch, and what is remembered of its result. */
interface Publication {
  /** Called when the batch is due, so that it has the latest values. */
  readonly make: () => readonly Change[]
  readonly onStored: () => void
  readonly onFailed: () => void
}

/** The publisher of one session. */
export class Publisher {
  readonly #options: PublisherOptions
  #spoken: Spoken | undefined
  /**
   * The snapshot that was published last, or is being published; the outbox has the changes since then. undefined: it
   * is not known what was published, so the whole catalogue is published next.
   */
  #published: Spoken | undefined
  readonly #outbox = new Outbox()
  #leadership: Leadership = { leader: false }
  /** The latest term in which this agent was the speaker. */
  #term = STANDBY_TERM
  /** Monotonic time of the latest copy as standby. */
  #stoodByMs = -Infinity
  #withdrawing = false
  /** True while services of the source are left out because of their namespace. */
  #isLeavingOut = false
  /** True from a failed publication of the catalogue until all of it has been published again. */
  #failed = false
  /** Records that are not of the catalogue and not stored yet, by key. */
  readonly #unstored = new Map<string, Value>()
  /** True from a failed publication of such records until they are stored. */
  #ownFailed = false
  #running: Promise<void> = Promise.resolve()

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  /** Resolves when all that was asked for until now is published, or has failed. Never rejects. */
  get idle(): Promise<void> {
    return this.#running
  }

  /**
   * Takes a snapshot of the source; only the speaker publishes it. `changes`: the differences from the snapshot
   * before it. They are kept even while this agent is not the speaker, for the copy of a standby.
   */
  setSnapshot(
    snapshot: Snapshot,
    state: { readonly whole: boolean; readonly changes: readonly Change[] }
  ): void {
    this.#spoken = { snapshot, whole: state.whole }
    if (this.#published !== undefined) this.#outbox.add(state.changes)
    this.#speak()
  }

  /**
   * A new term publishes the whole catalogue. An agent that is no longer the speaker publishes nothing; its records
   * stay until those of the next term are complete.
   */
  setLeadership(leadership: Leadership): void {
    this.#leadership = leadership
    if (leadership.leader) this.#term = leadership.term
    this.speakAnew()
  }

  /**
   * Publishes the whole catalogue: the prefixes of the cluster have changed, or it is not known what was published.
   */
  speakAnew(): void {
    this.#published = undefined
    this.#speak()
  }

  /**
   * Called once a second. Repeats publications that failed, and publishes the copy of the standby gateway (speaker.ts),
   * at most once per STANDBY_LAG_MS. `isStandby` is called only when such a copy is due or has failed.
   */
  tick(nowMs: number, isStandby: () => boolean): void {
    if (this.#failed && this.#leadership.leader) this.#speak()
    else if (this.#failed && !isStandby()) this.#isOthers()
    if (this.#ownFailed) void this.#putUnstored()
    // A catalogue that is not whole would be of no use to the next speaker.
    if (this.#leadership.leader || this.#spoken?.whole !== true || this.#spoken === this.#published) return
    if (nowMs - this.#stoodByMs < STANDBY_LAG_MS || !isStandby()) return
    this.#stoodByMs = nowMs
    this.#tell(this.#term)
  }

  /** Publishes a record that is not of the catalogue: the agent's own. After a failure it is published again. */
  put(value: Value): Promise<void> {
    this.#unstored.set(keyOf(value), value)
    return this.#putUnstored()
  }

  /**
   * Withdraws all records of this agent, after the publications under way, and waits up to WITHDRAW_MS until that has
   * left. Errors: those of `publish`.
   */
  async withdraw(): Promise<void> {
    const { publish, ownKeys } = this.#options
    this.#withdrawing = true
    await this.#running
    await publish(ownKeys().map((key) => ({ key, value: undefined })))
    const deadlineMs = monotonicMs() + WITHDRAW_MS
    while (ownKeys().length > 0 && monotonicMs() < deadlineMs) await pause(20)
  }

  #putUnstored(): Promise<void> {
    let sent: readonly (readonly [string, Value])[] = []
    return this.#enqueue({
      make: () => {
        sent = [...this.#unstored]
        return sent.map(([key, value]) => ({ key, value }))
      },
      onStored: () => {
        for (const [key, value] of sent) if (this.#unstored.get(key) === value) this.#unstored.delete(key)
        this.#ownFailed = false
      },
      onFailed: () => (this.#ownFailed = true)
    })
  }

  /** Publishes what is due, if this agent is the speaker. */
  #speak(): void {
    if (this.#leadership.leader) this.#tell(this.#leadership.term)
  }

  /**
   * Publishes the changes since the last publication, and the cluster's record with the term. The whole catalogue is
   * published instead when `whole` has changed, or when it is not known what was published.
   */
  #tell(term: number): void {
    const spoken = this.#spoken
    if (spoken === undefined || this.#withdrawing) return
    const before = this.#published
    const toldMs = monotonicMs()
    this.#published = spoken
    const changed = this.#allowed(this.#outbox.take(), spoken)
    const { podPrefixes, servicePrefixes } = this.#options.prefixes()
    const cluster: Value = { kind: 'cluster', podPrefixes, servicePrefixes, term, complete: spoken.whole }
    void this.#enqueue({
      make: () =>
        before?.whole === spoken.whole
          ? [...changed, { key: keyOf(cluster), value: cluster }]
          : this.#all(cluster, spoken),
      // After a failure `#published` is undefined until the whole catalogue is asked for: a publication that was asked
      // for before has changes only.
      onStored: () => {
        this.#failed &&= this.#published === undefined
        this.#options.onRecorded?.(monotonicMs() - toldMs)
      },
      // It is not known what has been stored.
      onFailed: () => {
        this.#failed = true
        this.#published = undefined
      }
    })
  }

  /**
   * Returns the whole catalogue as changes. Keys that an earlier run or term has published and that are gone since
   * are withdrawn, but only when the source was read whole.
   */
  #all(cluster: Value, { snapshot, whole }: Spoken): readonly Change[] {
    const values = [cluster, ...snapshot.services, ...snapshot.endpointSlices]
    const changes = this.#allowed(
      values.map((value) => ({ key: keyOf(value), value })),
      { snapshot }
    )
    if (!whole) return changes
    const keys = new Set(changes.map(({ key }) => key))
    for (const key of this.#options.ownKeys())
      if (key !== 'agent' && !keys.has(key)) changes.push({ key, value: undefined })
    return changes
  }

  /** The changes without the namespaces that the invite of this cluster does not name, which other agents would refuse. */
  #allowed(changes: readonly Change[], { snapshot }: Pick<Spoken, 'snapshot'>): Change[] {
    const namespaces = this.#options.namespaces()
    const allowed = changes.filter(({ key, value }) => value === undefined || mayExport(key, namespaces))
    if (allowed.length !== changes.length || this.#isLeavingOut) {
      const left = snapshot.services.filter((service) => !mayExport(keyOf(service), namespaces))
      this.#isLeavingOut = left.length > 0
      this.#options.onLeftOut([...new Set(left.map(({ namespace }) => namespace))])
    }
    return allowed
  }

  /** The catalogue is the task of another gateway now: that it was not stored here is no fault any more. */
  #isOthers(): void {
    this.#failed = false
    if (!this.#ownFailed) this.#options.onFault(undefined)
  }

  /** Publishes after all earlier publications. */
  #enqueue({ make, onStored, onFailed }: Publication): Promise<void> {
    this.#running = this.#running.then(async () => {
      if (this.#withdrawing) return
      try {
        await this.#options.publish(make())
      } catch (error) {
        onFailed()
        return this.#options.onFault(error)
      }
      onStored()
      if (!this.#failed && !this.#ownFailed) this.#options.onFault(undefined)
    })
    return this.#running
  }
}

/** Sets or clears the fault PUBLISH_FAILED. `error` undefined: the last publication succeeded. */
export function tellPublishingFault(health: Health, error: unknown): void {
  if (error === undefined) return health.clear('PUBLISH_FAILED')
  health.setError('PUBLISH_FAILED', error, {
    severity: 'error',
    fix: 'the agent publishes all its records again every second; report this fault with the log of meshd if it stays'
  })
}
