// Carries out what follows from offences of neighbours (core/replication/offences.ts): events, disconnections and bans.
// A ban ends the control connection and refuses new ones. It touches neither tunnels, nor records, nor the standing of
// the cluster.
import type { EventKind } from '../../api/answers.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import { Offences } from '../../core/replication/offences.ts'
import type { Refused } from '../../core/replication/protocol.ts'
import type { Transport } from '../../io/p2p/transport.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Events, NewEvent } from './events.ts'
import type { Holds } from './holds.ts'

interface OffendersOptions {
  readonly events: Events
  readonly holds: Holds
  readonly metrics: Pick<Metrics, 'banned'>
  readonly transport: () => Pick<Transport, 'reset'>
  /** All members that are connected. */
  readonly neighbours: () => readonly Origin[]
  readonly clusterOf: (peer: Origin) => ClusterName | undefined
  /** Called when a ban begins or ends: other members are then dialled. */
  readonly onChange: () => void
}

/** The offenders among the neighbours of one agent. */
export class Offenders {
  readonly #options: OffendersOptions
  readonly #offences = new Offences()

  constructor(options: OffendersOptions) {
    this.#options = options
  }

  /** Whether connections with this agent are refused now. */
  isBanned(peer: Origin): boolean {
    return this.#offences.isBanned(peer, monotonicMs())
  }

  /** Takes one refusal of the protocol; an offence may end the connection to the neighbour. */
  refused({ from, reason, isOffence }: Refused): void {
    this.tell('refused', from, { reason })
    if (!isOffence || this.isBanned(from)) return
    const nowMs = monotonicMs()
    const verdict = this.#offences.note(from, this.#options.neighbours(), nowMs)
    if (verdict.kind === 'noted') return
    if (verdict.kind === 'spared') return this.#options.holds.holdUntil(from, 'offences', nowMs + verdict.ms)
    const seconds = verdict.ms / 1000
    this.tell('banned', from, { reason: `too many malformed or badly signed frames, for ${seconds} s` })
    this.#options.metrics.banned.set(this.#offences.banned(nowMs))
    this.#options
      .transport()
      .reset(from, `banned for ${seconds} s: too many malformed or badly signed frames`)
    this.#options.onChange()
  }

  /** Called with each tick: tells of the bans that have ended. */
  tick(nowMs: number): void {
    const ended = this.#offences.ended(nowMs)
    if (ended.length === 0) return
    for (const peer of ended) this.tell('ban ended', peer, { reason: 'its time is over' })
    this.#options.metrics.banned.set(this.#offences.banned(nowMs))
    this.#options.onChange()
  }

  /** Adds an event with the cluster of the peer. */
  tell(kind: EventKind, peer: Origin, what: Pick<NewEvent, 'reason' | 'line'>): void {
    const { events, clusterOf } = this.#options
    events.add({ kind, peer, cluster: clusterOf(peer), ...what })
  }
}
