// Answers the MeshInvites of the agent's own namespace: each object gets one invite, its token in a Secret, and conditions that
// say what became of it. Who may make such objects is a matter of Kubernetes' RBAC; what an invite may give is bounded by
// the seats of this cluster, as with `meshctl invite`.
// Invariants
//   1. Only the cluster's speaker makes invites and writes, so several gateways never answer one object twice.
//   2. The gateway that made an invite takes it back when the object is gone, whether it is the speaker or not: it alone keeps
//      the invite, on its disk. So no status, which a person can change, decides what is taken back.
//   3. A list that fails, or a definition that is missing, takes nothing back.
//   4. An Event is sent when the reason of the condition Ready changes, after the status was written. One that is refused is not
//      sent again.
import { applyInviteStatus, inviteEvent, meshInvitesPath } from '../../core/mcs/mesh-invite-calls.ts'
import {
  inviteConditions,
  inviteText,
  isInviteDue,
  readInvite,
  readyReason,
  type HeldInvite,
  type InviteState,
  type MadeInvite
} from '../../core/mcs/mesh-invite.ts'
import { hasStatus, listObjects, type KubeApi } from '../../core/kube/kube-api.ts'
import { Loop } from '../../io/timing/loop.ts'
import type { Invitations } from '../enrolment/invitations.ts'
import type { Log } from '../observe/log.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import { InviteMaker } from './invite-maker.ts'
import { withDeadline, Writes, type Write } from './writes.ts'

// Milliseconds between two lists: how long a person waits for a token.
const LIST_MS = 5000
// The same where there are many objects, or no definition of them, and after a failure.
const SLOW_MS = 30_000
const MANY = 500

/** What the trust set says about invites, by their ids. */
export interface InviteFacts {
  readonly used: ReadonlySet<string>
  readonly takenBack: ReadonlySet<string>
}

interface MeshInvitesOptions {
  readonly api: KubeApi
  /** The namespace of the agent's own objects. */
  readonly namespace: string
  readonly invitations: Pick<Invitations, 'invite' | 'madeForObjects' | 'takeBack'>
  /** undefined while this agent is in no mesh. */
  readonly facts: () => InviteFacts | undefined
  readonly isSpeaker: () => boolean
  /** The name of this node, for Events. */
  readonly node: string
  readonly log: Pick<Log, 'warn' | 'debug'>
  /** Unix milliseconds. */
  readonly nowMs: () => number
  readonly monotonicMs: () => number
}

/** One per process, only with a Kubernetes API. PartWatch reads its faults. */
export class MeshInvites {
  readonly #options: MeshInvitesOptions
  readonly #api: KubeApi
  readonly #loop: Loop
  readonly #maker: InviteMaker
  readonly #writes: Writes
  #fault: PartFault | undefined

  constructor(options: MeshInvitesOptions) {
    this.#options = options
    this.#api = withDeadline(options.api)
    this.#maker = new InviteMaker({ ...options, api: this.#api })
    this.#writes = new Writes(options.monotonicMs)
    this.#loop = new Loop({
      act: (signal) => this.look(signal),
      intervalMs: LIST_MS,
      retryMs: SLOW_MS,
      onError: (error) => this.#tell(error)
    })
  }

  /** The fault of the latest pass, or none. The code in the registry is MESH_INVITES. */
  get faults(): readonly PartFault[] {
    return this.#fault === undefined ? [] : [this.#fault]
  }

  /** Starts the passes. */
  start(): void {
    this.#loop.start()
  }

  /** Resolves when no pass is under way. */
  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /**
   * One pass: lists the objects, takes back the invites of those that are gone, makes those that are due, and writes what has
   * changed. Resolves to the time until the next one, in milliseconds. Rejects when the API server itself fails.
   */
  async look(signal: AbortSignal): Promise<number> {
    const { facts, isSpeaker, invitations } = this.#options
    const trust = facts()
    if (trust === undefined || (!isSpeaker() && invitations.madeForObjects().length === 0)) {
      this.#fault = undefined
      return LIST_MS
    }
    const all = await this.#list()
    if (all === undefined) {
      this.#fault = undefined
      return SLOW_MS
    }
    const failure = await this.#takeBack(all)
    if (isSpeaker()) {
      const mayGoOn = (): boolean => !signal.aborted && isSpeaker() && facts() !== undefined
      const states = await this.#states(all, { trust, mayGoOn })
      this.#writes.listed()
      await this.#writes.send(this.#due(states), mayGoOn)
    }
    const error = failure ?? this.#writes.failure
    if (error === undefined) this.#fault = undefined
    else this.#tell(error)
    return all.length > MANY ? SLOW_MS : LIST_MS
  }

  /**
   * Says in each object with an open invite that this cluster has left the mesh; called when the last gateway leaves. The
   * objects are of people, so they stay. Errors: KubeError, the first one.
   */
  async undo(): Promise<void> {
    const all = (await this.#list()) ?? []
    const open = all.filter(isMade).filter((held) => readyReason(held) === 'TokenReady')
    this.#writes.listed()
    const left = new Map<HeldInvite, InviteState>(
      open.map((held) => [held, { kind: 'left', made: held.made }])
    )
    await this.#writes.send(this.#due(left), () => true)
    if (this.#writes.failure !== undefined) throw this.#writes.failure
  }

  /** The states of all objects that are known: of those with an invite, and of those that were tried now. */
  async #states(
    all: readonly HeldInvite[],
    { trust, mayGoOn }: { readonly trust: InviteFacts; readonly mayGoOn: () => boolean }
  ): Promise<Map<HeldInvite, InviteState>> {
    const living = all.filter(({ isDeleting }) => !isDeleting)
    const made = living.filter(isMade)
    const states = new Map<HeldInvite, InviteState>(made.map((held) => [held, this.#outcome(held, trust)]))
    const open = made.filter((held) => states.get(held)?.kind === 'open')
    const waiting = living.filter((held) => !isMade(held))
    for (const [held, state] of await this.#maker.make(waiting, open, mayGoOn)) states.set(held, state)
    return states
  }

  /** What became of the invite that a status names. */
  #outcome(held: HeldInvite & { readonly made: MadeInvite }, { used, takenBack }: InviteFacts): InviteState {
    const { made } = held
    if (used.has(made.id)) return { kind: 'redeemed', made }
    // Its mesh is another one, so this one knows nothing of it.
    if (readyReason(held) === 'LeftMesh') return { kind: 'left', made }
    if (takenBack.has(made.id)) return { kind: 'cancelled', made }
    return { kind: made.expiresMs <= this.#options.nowMs() ? 'expired' : 'open', made }
  }

  /** The writes of the objects whose status differs. */
  #due(states: ReadonlyMap<HeldInvite, InviteState>): readonly Write[] {
    return [...states]
      .filter(([held, state]) => isInviteDue(held, state))
      .map(([held, state]) => ({
        key: held.uid,
        content: inviteText(held, state),
        send: () => this.#put(held, state)
      }))
  }

  async #put(held: HeldInvite, state: InviteState): Promise<void> {
    const { namespace, node, nowMs, log } = this.#options
    await this.#api.request(applyInviteStatus(held, state, { namespace, nowMs: nowMs() }))
    if (readyReason(held) === inviteConditions(held, state)[0]?.reason) return
    try {
      await this.#api.request(inviteEvent(held, state, { namespace, nowMs: nowMs(), node }))
    } catch (error) {
      log.debug({ err: error, meshInvite: held.name }, 'the Event of a MeshInvite was not taken')
    }
  }

  /** Takes back the invites that this agent has made for objects that are gone. Resolves to the first failure. */
  async #takeBack(all: readonly HeldInvite[]): Promise<unknown> {
    const { invitations, namespace } = this.#options
    const living = new Set(
      all.filter(({ isDeleting }) => !isDeleting).map((held) => this.#maker.objectOf(held))
    )
    let failure: unknown
    for (const { object, id } of invitations.madeForObjects())
      if (object.startsWith(`${namespace}/`) && !living.has(object))
        await invitations.takeBack(id).catch((error: unknown) => {
          failure ??= error
        })
    return failure
  }

  /** All MeshInvites of the namespace; undefined where the cluster has no definition of them, or the agent no right to them. */
  async #list(): Promise<readonly HeldInvite[] | undefined> {
    try {
      return await listObjects(this.#api, { path: meshInvitesPath(this.#options.namespace) }, readInvite)
    } catch (error) {
      if (hasStatus(error, 403)) return undefined
      throw error
    }
  }

  /** Keeps the fault for PartWatch, and logs it when its text is new. */
  #tell(error: unknown): void {
    const fault = partFault('MeshInvites', error)
    if (!samePartFault(this.#fault, fault))
      this.#options.log.warn({ err: error }, 'the MeshInvites could not be read or answered')
    this.#fault = fault
  }
}

function isMade(held: HeldInvite): held is HeldInvite & { readonly made: MadeInvite } {
  return held.made !== undefined
}
