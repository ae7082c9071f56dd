// What this agent has refused from other agents, what it has done about it, and how the paths to them have changed: a
// bounded list for `meshctl events`, with rate-limited lines in the log.
// Invariants
//   1. Memory is bounded, and one cluster cannot push out the events of the others: beyond EVENTS_MAX the oldest event
//      of the cluster with the most events goes. All peers without a known cluster count as one cluster.
//   2. Equal events of one peer within JOINED_MS are one event with a count. "Equal" means the same kind, and the same
//      reason up to its first detail (`kindOf` in refusals.ts), because a peer can invent details without end.
//   3. The records that a view refuses are events of their origin, at most VIEWED_MAX for each change of its cluster.
//   4. The log has the first of equal events at once, and their sum every SUM_MS; in SUM_MS at most LINES_MAX lines.
import type { EventKind, EventRow } from '../../api/answers.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import type { ClusterView, MeshView } from '../../core/view/view.ts'
import { oneLine } from '../observe/log.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { kindOf } from './refusals.ts'

/** One thing that has happened with a peer. */
export interface NewEvent {
  readonly kind: EventKind
  readonly peer: Origin
  /** undefined: the peer has shown no valid certificate. */
  readonly cluster: ClusterName | undefined
  readonly reason: string
  /** The line of the log, when it says more than the event itself. */
  readonly line?: { readonly text: string; readonly fields: object }
}

/** An event in the list. Times are Unix milliseconds. */
interface Entry extends NewEvent {
  readonly key: string
  readonly firstMs: number
  lastMs: number
  count: number
  /** How many of `count` the log has told. */
  logged: number
  reason: string
}

interface EventsOptions {
  readonly log: Pick<Log, 'warn' | 'info'>
  readonly metrics: Pick<Metrics, 'events'>
  /** The time of day in Unix milliseconds, for the operator. */
  readonly now: () => number
}

/** The events of one agent since its start. */
export class Events {
  readonly #options: EventsOptions
  /** The newest last. */
  #entries: Entry[] = []
  /** The latest entry of each key, while equal events can still join it. */
  readonly #open = new Map<string, Entry>()
  /** Clusters of views; one that has not changed is the same object in the next view. */
  readonly #viewed = new WeakSet<ClusterView>()
  /**
   * The view that was looked at last. Each call of Control.view() comes here, and a look at all clusters takes 18 µs with
   * 1,000 of them (their services cost nothing: 0.2 µs with 3 clusters of 10,000), so a view is looked at once.
   */
  #view: MeshView | undefined
  #lines = 0
  #unlogged = 0
  #sumMs = 0

  constructor(options: EventsOptions) {
    this.#options = options
  }

  /** Adds one event, or joins it to an equal one (invariant 2). */
  add(event: NewEvent): void {
    const { metrics, now } = this.#options
    const nowMs = now()
    metrics.events.inc({ kind: event.kind })
    const reason = oneLine(event.reason).slice(0, REASON_CHARACTERS_MAX)
    const key = [event.kind, event.peer, kindOf(reason)].join('\n')
    const open = this.#open.get(key)
    if (open && Math.abs(nowMs - open.firstMs) < JOINED_MS) {
      open.count++
      open.lastMs = nowMs
      open.reason = reason
      return
    }
    const entry = { ...event, reason, key, firstMs: nowMs, lastMs: nowMs, count: 1, logged: 0 }
    this.#entries.push(entry)
    this.#open.set(key, entry)
    if (this.#entries.length > EVENTS_MAX) this.#dropOne()
    this.#tell(entry)
  }

  /** Adds what a new view refuses of other clusters (invariant 3), and returns the view. */
  ofView(view: MeshView): MeshView {
    if (view === this.#view) return view
    this.#view = view
    for (const cluster of view.clusters.values()) {
      if (cluster.name === view.self || this.#viewed.has(cluster)) continue
      this.#viewed.add(cluster)
      for (const { origin, key, reason } of cluster.refusals.slice(0, VIEWED_MAX))
        this.add({
          kind: 'refused',
          peer: origin,
          cluster: cluster.name,
          reason: `record refused: ${reason}, under ${key}`
        })
    }
    return view
  }

  /** Called with each tick: logs the sums of equal events once per SUM_MS. `nowMs` is monotonic. */
  tick(nowMs: number): void {
    if (nowMs - this.#sumMs < SUM_MS) return
    this.#sumMs = nowMs
    this.#lines = 0
    for (const entry of this.#open.values()) if (entry.count > entry.logged) this.#tell(entry)
    if (this.#unlogged > 0)
      this.#options.log.warn({ events: this.#unlogged }, 'more events; meshctl events lists them')
    this.#unlogged = 0
    for (const [key, { firstMs }] of this.#open)
      if (Math.abs(this.#options.now() - firstMs) >= JOINED_MS) this.#open.delete(key)
  }

  /** All events, the oldest first. */
  rows(): readonly EventRow[] {
    return this.#entries.map(({ kind, peer, cluster, reason, firstMs, lastMs, count }) => ({
      at: new Date(firstMs).toISOString(),
      lastAt: new Date(lastMs).toISOString(),
      kind,
      peerId: peer,
      ...(cluster === undefined ? {} : { cluster }),
      reason,
      count
    }))
  }

  #tell(entry: Entry): void {
    const { log } = this.#options
    const { kind, peer, cluster, reason, count, logged, line } = entry
    entry.logged = count
    if (kind === 'disconnected') return // control.ts logs each end of a connection
    if (++this.#lines > LINES_MAX) {
      this.#unlogged += count - logged
      return
    }
    const more = logged > 0 ? { more: count - logged } : {}
    const fields = { peer, cluster, ...(line ? line.fields : { reason }), ...more }
    if (kind === 'ban ended') log.info(fields, `peer ${kind}`)
    else if (kind === 'path') log.info(fields, line?.text)
    else log.warn(fields, line?.text ?? (kind === 'refused' ? 'refused from a peer' : `peer ${kind}`))
  }

  /** Drops the oldest event of the cluster with the most events (invariant 1). */
  #dropOne(): void {
    const counts = new Map<ClusterName | undefined, number>()
    for (const { cluster } of this.#entries) counts.set(cluster, (counts.get(cluster) ?? 0) + 1)
    const [[most] = []] = [...counts].sort(([, left], [, right]) => right - left)
    const at = this.#entries.findIndex(({ cluster }) => cluster === most)
    const [gone] = this.#entries.splice(at, 1)
    if (gone && this.#open.get(gone.key) === gone) this.#open.delete(gone.key)
  }
}

// As many as an operator reads at most; about 200 KB.
const EVENTS_MAX = 512
// Equal events of one minute are one event. A new minute is a new event, so that the list shows how long a fault lasted.
const JOINED_MS = 60_000
const SUM_MS = 10_000
// A hostile member can make any number of records that are refused; the first ones say what is wrong.
const VIEWED_MAX = 64
const LINES_MAX = 20
const REASON_CHARACTERS_MAX = 200
