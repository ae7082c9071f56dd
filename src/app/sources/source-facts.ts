// What the source has told last. A running session hears each fact at once; a session that starts later gets all of them.
import type { Problem } from '../../core/catalog/catalog.ts'
import type { Cidr, Ip, Snapshot } from '../../core/model/values.ts'
import type { Leadership } from '../../io/kube/lease.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { ProblemLog, sourceFaults } from '../observe/problem-log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Session } from '../session/session.ts'
import type { KubeNode, SourceOptions, SourceState } from './source.ts'

export interface SourceSnapshot {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
  /** False until all was read once. */
  readonly whole: boolean
}

type Callbacks = Required<
  Pick<SourceOptions, 'onSnapshot' | 'onLeadership' | 'onNodePrefixes' | 'onNodes' | 'onNodeAddresses'>
>

export class SourceFacts {
  readonly #current: CurrentSession
  readonly #metrics: Metrics
  readonly #health: Health
  readonly #problemLog: ProblemLog
  #snapshot: SourceSnapshot = {
    snapshot: { services: [], endpointSlices: [] },
    problems: [],
    whole: false
  }
  #leadership: Leadership = { leader: false }
  #nodes: readonly KubeNode[] = []
  #nodePrefixes: readonly Cidr[] | undefined
  #nodeAddresses: readonly Ip[] = []

  constructor(options: {
    readonly current: CurrentSession
    readonly log: Log
    readonly metrics: Metrics
    readonly health: Health
  }) {
    this.#current = options.current
    this.#metrics = options.metrics
    this.#health = options.health
    this.#problemLog = new ProblemLog(options.log)
  }

  get snapshot(): SourceSnapshot {
    return this.#snapshot
  }

  get nodes(): readonly KubeNode[] {
    return this.#nodes
  }

  /** Whether this agent speaks for its cluster. */
  get isSpeaker(): boolean {
    return this.#leadership.leader
  }

  /** For the source. */
  callbacks(): Callbacks {
    return {
      onNodePrefixes: (prefixes) => {
        this.#nodePrefixes = prefixes
        this.#current.session?.setNodePrefixes(prefixes)
      },
      onNodes: (nodes) => {
        this.#nodes = nodes
      },
      onNodeAddresses: (addresses) => {
        this.#nodeAddresses = addresses
        this.#current.session?.setNodeAddresses(addresses)
      },
      onLeadership: (leadership) => {
        this.#leadership = leadership
        this.#current.session?.setLeadership(leadership)
      },
      onSnapshot: (snapshot, problems, state) => this.#setSnapshot(snapshot, problems, state)
    }
  }

  /** To a session that has just started. */
  tell(session: Session): void {
    session.setLeadership(this.#leadership)
    if (this.#nodePrefixes !== undefined) session.setNodePrefixes(this.#nodePrefixes)
    session.setNodeAddresses(this.#nodeAddresses)
    const { snapshot, whole } = this.#snapshot
    if (whole) session.setSnapshot(snapshot, { whole: true, changes: [] })
  }

  #setSnapshot(snapshot: Snapshot, problems: readonly Problem[], state: SourceState): void {
    this.#snapshot = { snapshot, problems, whole: state.whole }
    this.#metrics.sourceSnapshots.inc()
    this.#metrics.sourceProblems.set(problems.length)
    this.#problemLog.tell(problems)
    this.#health.replace('MANIFESTS', sourceFaults(problems))
    this.#current.session?.setSnapshot(snapshot, state)
  }
}
