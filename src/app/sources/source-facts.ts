// Keeps the latest facts that the source has reported. The source lives as long as the process, a session as long as
// a membership: a running session gets each fact at once, and a session that starts later gets all of them with
// `tell`.
import type { Problem } from '../../core/catalog/catalog.ts'
import type { Ip, Snapshot } from '../../core/model/values.ts'
import type { Leadership } from '../../io/kube/lease.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { ProblemLog, sourceFaults } from '../observe/problem-log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Session } from '../session/session.ts'
import type { KubeNode, OwnNode, SourceOptions, SourceState } from './source.ts'

/** The latest snapshot of the source, for `meshctl status` and the session. */
export interface SourceSnapshot {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
  /** False until the source was read whole once: until then an empty snapshot means "not known". */
  readonly whole: boolean
}

/** The callbacks of the source that this class implements. */
type Callbacks = Required<
  Pick<SourceOptions, 'onSnapshot' | 'onLeadership' | 'onOwnNode' | 'onNodes' | 'onNodeAddresses'>
>

/** The facts, and the faults and metrics that follow from them. */
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
  /** undefined: the source has not reported this node. It is then not known whether the node has pod prefixes. */
  #ownNode: OwnNode | undefined
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

  /** The latest snapshot; empty and not whole at the start. */
  get snapshot(): SourceSnapshot {
    return this.#snapshot
  }

  /** All Nodes of the cluster; empty for a folder, and until the API server has listed them. */
  get nodes(): readonly KubeNode[] {
    return this.#nodes
  }

  /** Whether this agent publishes the services of its cluster. */
  get isSpeaker(): boolean {
    return this.#leadership.leader
  }

  /** Returns the callbacks that the source calls. */
  callbacks(): Callbacks {
    return {
      onOwnNode: (node) => {
        this.#ownNode = node
        this.#current.session?.setOwnNode(node)
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

  /**
   * Gives all facts to a session that has just started. The leadership comes first, since only the speaker publishes
   * the snapshot. A snapshot that is not whole is left out; the source reports the next one.
   */
  tell(session: Session): void {
    session.setLeadership(this.#leadership)
    if (this.#ownNode !== undefined) session.setOwnNode(this.#ownNode)
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
