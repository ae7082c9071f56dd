// The steps with which an agent leaves its mesh, and the memory of those that are done. A step can fail: a tool of the
// host hangs, the disk is full, the API server does not answer. The next `meshctl leave` then continues with the steps
// that are not done. enrolment.ts makes one Departure for each membership that is left.
// Invariants
//   1. The steps are done in their order, and each of them may be repeated: a step that has failed may have done a part
//      of its work.
//   2. The membership stays on disk until the host is clean. After a crash before that, the agent is a member again,
//      and a second leave does all steps.
//   3. A step that needs the API server does not keep the agent in the mesh: the steps after it are done, but the leave
//      is reported as unfinished until it has succeeded, too.
import type { LeftAnswer } from '../../api/membership-answers.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import type { Body } from '../admin/answer-body.ts'
import type { OwnObjects } from '../mcs/own-objects.ts'
import type { PodDns } from '../cluster-dns/pod-dns.ts'
import { CLEANUP_DEADLINE_MS } from '../host/data-plane.ts'
import type { NodeIdentity } from '../identity/node-identity.ts'
import { AppError, explain } from '../observe/errors.ts'
import type { CurrentSession } from '../session/current-session.ts'
import type { Session } from '../session/session.ts'
import type { Source } from '../sources/source.ts'
import type { SharedKey } from './shared-key.ts'

/** Code of the fault of a leave that failed, until a later one has finished. The error has the same code. */
export const LEAVE_UNFINISHED = 'LEAVE_UNFINISHED'

/** The parts that have to do with the membership. If a part is undefined, its step is left out. */
interface DepartureParts {
  readonly cluster: ClusterName
  /** Whether no other cluster and no other gateway is in the mesh, so that it ends with this leave. */
  readonly endsMesh: boolean
  /** The identity with the membership, whose key is removed from the Secret. */
  readonly identity: Identity
  readonly session: Pick<Session, 'withdraw' | 'stop'>
  /** Lets the other gateways of the cluster take over, or does nothing where there is none. */
  readonly handOver: () => Promise<void>
  /**
   * Returns whether no other gateway of this cluster is in the mesh. Asked once, while the session runs. Other gateways
   * still need the zones and the key.
   */
  readonly isLast: () => boolean
  /**
   * Agents that have the key of this cluster and have told no record here, when none has told one: because of them the cluster
   * stays in the mesh.
   */
  readonly keptFor: readonly Origin[]
  /**
   * Tells the mesh that this agent has left, or its cluster when it is the last one. Resolves to the command with which
   * an administrator says it, when no member could be told.
   */
  readonly resign: (isLast: boolean) => Promise<string | undefined>
  readonly current: Pick<CurrentSession, 'clear'>
  readonly source: Pick<Source, 'resign' | 'refresh'>
  readonly sharedKey: Pick<SharedKey, 'stop' | 'remove'> | undefined
  readonly podDns: Pick<PodDns, 'undo'> | undefined
  readonly ownObjects: Pick<OwnObjects, 'undo'> | undefined
  readonly host: Pick<LinuxHost, 'cleanup'> | undefined
  readonly store: Pick<Store, 'forget'>
  readonly node: Pick<NodeIdentity, 'current'>
}

interface Step {
  /** The task of the step, as an infinitive for the message of its failure. */
  readonly task: string
  readonly act: () => Promise<unknown>
  /** True: the steps after it do not wait for its success (invariant 3). */
  readonly needsApi?: boolean
}

interface Failure {
  readonly task: string
  readonly error: unknown
}

/** One leave, over all its attempts. */
export class Departure {
  readonly cluster: ClusterName
  readonly #endsMesh: boolean
  readonly #keptFor: readonly Origin[]
  readonly #steps: readonly Step[]
  readonly #done = new Set<Step>()
  #isOut = false
  #isLast: boolean | undefined
  #repair: string | undefined

  constructor(parts: DepartureParts) {
    this.cluster = parts.cluster
    this.#endsMesh = parts.endsMesh
    this.#keptFor = parts.keptFor
    this.#steps = this.#stepsOf(parts)
  }

  /** True once the membership is deleted from disk. Only steps that need the API server can be left then. */
  get isOut(): boolean {
    return this.#isOut
  }

  /** The answer of a leave that is done. `repair` is set when no member could be told that this agent has left. */
  get left(): Body<LeftAnswer> {
    return {
      cluster: this.cluster,
      ...(this.#repair === undefined ? {} : { repair: this.#repair }),
      ...(this.#endsMesh ? { endedMesh: true } : {}),
      ...(this.#keptFor.length > 0 ? { keptFor: this.#keptFor } : {})
    }
  }

  /**
   * Does the steps that are not done. Errors: AppError LEAVE_UNFINISHED; then a later call continues. Calls must not
   * overlap.
   */
  async run(): Promise<void> {
    const failures: Failure[] = []
    for (const step of this.#steps) {
      if (this.#done.has(step)) continue
      try {
        await step.act()
        this.#done.add(step)
      } catch (error) {
        failures.push({ task: step.task, error })
        if (step.needsApi !== true) break
      }
    }
    const [first, ...others] = failures
    if (first !== undefined) throw this.#unfinished(first, others)
  }

  #stepsOf(parts: DepartureParts): readonly Step[] {
    const { identity, session, current, source, sharedKey, podDns, ownObjects, host, store, node } = parts
    const ifLast = async (act: () => Promise<unknown> | undefined) => {
      this.#isLast ??= parts.isLast()
      if (this.#isLast) await act()
    }
    return [
      // First, while the whole agent works: the other gateways of the cluster take over.
      { task: 'hand the traffic over', act: () => parts.handOver() },
      { task: 'end the checks of the cluster’s key', act: async () => sharedKey?.stop() },
      // The agent first stops to speak for the cluster, so that it publishes nothing after the withdrawal.
      { task: 'give the Lease back', act: () => source.resign() },
      {
        task: 'remove the zones from the cluster’s own DNS',
        act: () => ifLast(() => podDns?.undo()),
        needsApi: true
      },
      {
        task: 'delete the ServiceImports and MeshPeers',
        act: () => ifLast(() => ownObjects?.undo()),
        needsApi: true
      },
      { task: 'withdraw its records', act: () => session.withdraw() },
      {
        task: 'tell the mesh that it has left',
        act: async () => {
          this.#repair = await parts.resign((this.#isLast ??= parts.isLast()))
        }
      },
      {
        task: 'stop its session',
        act: () => {
          current.clear()
          return session.stop({ leaves: true })
        }
      },
      { task: 'clean this host', act: async () => host?.cleanup(AbortSignal.timeout(CLEANUP_DEADLINE_MS)) },
      // The key is removed before the membership is deleted, because an agent that starts in no mesh joins with the key
      // that it finds in the Secret.
      {
        task: 'remove the key of the cluster from its Secret, with which it would join again after a restart',
        act: () => ifLast(() => sharedKey?.remove(identity, { onlyPending: false })),
        needsApi: true
      },
      {
        task: 'delete the membership from its disk',
        act: async () => {
          await store.forget()
          this.#isOut = true
        }
      },
      { task: 'make its next identity', act: () => node.current() },
      // The manifests were judged by the prefixes of the cluster that this one was, which count no more.
      { task: 'read its services again', act: async () => source.refresh() }
    ]
  }

  /** The fix is that of the first failure. */
  #unfinished(first: Failure, others: readonly Failure[]): AppError {
    const { fix } = explain(first.error)
    const state = this.#isOut
      ? 'has left the mesh, but its agent could not'
      : 'has not left the mesh: it could not'
    const what = [first, ...others].map(({ task, error }) => `${task} (${explain(error).message})`)
    const again = 'run `meshctl leave` again, which continues with what is not done'
    return new AppError(
      'LEAVE_UNFINISHED',
      `cluster ${this.cluster} ${state} ${what.join(' and ')}`,
      fix === undefined ? again : `${fix}; then ${again}`,
      { cause: first.error }
    )
  }
}
