// How this agent gets into a mesh and out of it: it creates one (init), joins one, comes back to one after a restart,
// or leaves one. The admin API, the token file (told-to-join.ts) and the start of the agent call it; entrance.ts starts
// the sessions.
// Invariants
//   1. Only one init, join or leave runs at a time.
//   2. A failed attempt restores the identity on disk, with one exception: a token that no member has answered stays
//      there as pending, since a member may have received the certificate that this agent made with it.
import type { LeftAnswer } from '../../api/membership-answers.ts'
import type { InitRequest } from '../../api/requests.ts'
import type { Identity } from '../../io/store/store.ts'
import type { Body } from '../admin/answer-body.ts'
import type { RootKeys } from '../administration/root-keys.ts'
import type { OwnObjects } from '../mcs/own-objects.ts'
import type { PodDns } from '../cluster-dns/pod-dns.ts'
import {
  admitted,
  initMesh,
  isJoinedWith,
  membershipOf,
  pendingMembership,
  type Membership
} from '../identity/identity.ts'
import { AppError, explain } from '../observe/errors.ts'
import { alreadyJoined, type AskedWhileJoined } from './already-joined.ts'
import { Departure, LEAVE_UNFINISHED } from './departure.ts'
import { Entrance, type EntranceOptions } from './entrance.ts'
import { ownAddresses } from './own-addresses.ts'
import { comparePrefixes } from './prefix-check.ts'
import { keyMember } from './key-member.ts'
import { isGatewayToken } from '../../core/trust/gateway-token.ts'
import { discardPending } from './discard-pending.ts'
import { Doors } from './doors.ts'
import { becomeGateway } from './gateway-join.ts'
import type { GatewayInvites } from './gateway-invites.ts'
import { isLastOfCluster, refuseLastSeat, sayFarewell, unseenOfCluster } from './farewell.ts'
import { enrol } from './enrol.ts'
import {
  askedInit,
  askedReal,
  isTranslated,
  refuseForGateway,
  type RealPrefixRequest
} from './real-prefixes.ts'
import { refusal, unreachable } from './refusal.ts'
import { restoreBackup, type Restored, type RestoreRequest } from './restoration.ts'
import { sharedOf } from '../identity/shared-identity.ts'
import type { Enrolled, SharedKey } from './shared-key.ts'
import { tokenDateWarnings } from './token-dates.ts'
import { maySpeak, refuseNode } from './node-enrolment.ts'

// Milliseconds to wait until a member has accepted this cluster: enough to dial, for two handshakes and for a retry
// over a bad line. A person at a terminal should not wait longer.
const JOIN_DEADLINE_MS = 20_000
/**
 * Code of the fault of a cluster that has a token or a key but has not joined yet. told-to-join.ts sets it, and a join
 * clears it.
 */
export const NOT_JOINED = 'NOT_JOINED'

/** The parts of a session, and the two parts that only exist with a Kubernetes API. */
interface EnrolmentOptions extends EntranceOptions {
  /** The key that the gateways of this cluster share in a Secret; undefined without a Kubernetes API. */
  readonly sharedKey: SharedKey | undefined
  /** The zones in the cluster's own DNS, removed by the last gateway; undefined without a Kubernetes API. */
  readonly podDns: Pick<PodDns, 'undo'> | undefined
  readonly ownObjects: Pick<OwnObjects, 'undo'> | undefined
  readonly gateways: GatewayInvites
  readonly rootKeys: Pick<RootKeys, 'clear'>
}

/** What a join has done. */
interface Joined {
  readonly already: boolean
  readonly warnings: readonly string[]
}

/**
 * Creates, joins and leaves meshes. One per process. init, join and leave reject with ALREADY_CHANGING while another of
 * them runs; they do not queue.
 */
export class Enrolment {
  readonly #options: EnrolmentOptions
  readonly #entrance: Entrance
  #isChanging = false
  /** A leave that has begun and is not finished: its last attempt has failed, or is under way. */
  #departure: Departure | undefined

  constructor(options: EnrolmentOptions) {
    this.#options = options
    this.#entrance = new Entrance(options)
  }

  /** True while init, join or leave is under way; PartWatch then leaves the identity on disk alone. */
  get isChanging(): boolean {
    return this.#isChanging
  }

  /** True while the membership is still on disk, but a leave has begun. */
  get isLeaving(): boolean {
    return this.#departure?.isOut === false
  }

  /**
   * Enters the mesh that the identity on disk names; called once, at the start of the agent. Resolves to false when the
   * identity names none, which is also the case for a token that no member has accepted. Errors: TransportError.
   */
  async resume(): Promise<boolean> {
    const { node, crypto } = this.#options
    const known = membershipOf(await node.current(), crypto)
    if (known === undefined) return false
    await this.#entrance.enter(known)
    this.#takePart()
    return true
  }

  /**
   * Creates a mesh whose first member is this cluster. Prefixes that the request does not name are read from the
   * cluster or chosen.
   * Errors: AppError ALREADY_JOINED, ALREADY_CHANGING, LEAVE_UNFINISHED, BAD_ARGUMENT, CLUSTER_KEY_TAKEN,
   * CLUSTER_KEY_CORRUPT, CLUSTER_KEY_BUSY; KubeError, StoreError, TransportError.
   */
  async init(request: InitRequest): Promise<void> {
    const { settings, node, source, sharedKey, crypto, store } = this.#options
    refuseNode(settings)
    return this.#change(
      async () => {
        const identity = await node.current()
        await sharedKey?.expectNone()
        const asked = await askedInit(request, source)
        const options = {
          crypto,
          identity,
          nowMs: Date.now(),
          hostNetworks: ownAddresses(),
          real: asked.real
        }
        const next = initMesh(asked.request, options)
        try {
          // The Secret decides which of several gateways founds the mesh, so the key is there before it is on disk. A crash
          // in between loses nothing: the Secret has all with which this agent, too, joins after its next start.
          await sharedKey?.found(sharedOf(next, crypto))
          await store.saveIdentity(next)
          await this.#entrance.enter(pendingMembership(next, crypto))
        } catch (error) {
          await store.saveIdentity(identity)
          await sharedKey?.retract(next, { onlyPending: false })
          throw error
        }
        this.#takePart()
      },
      { translates: isTranslated(request) }
    )
  }

  /**
   * Joins the mesh of the token. With a Kubernetes API and a key in the Secret, this agent becomes one more gateway of
   * that cluster; then `token` can be undefined. Resolves when a member has accepted the cluster; rejects with
   * UNREACHABLE when none has after JOIN_DEADLINE_MS. A gateway whose key the mesh knows does not wait for a member.
   * With the token of a gateway it becomes one more gateway of that cluster (gateway-join.ts).
   * `already` is true when this agent had joined with the same token before; nothing is changed then, so that
   * installers can repeat the call. `warnings`: sentences about what the operator should check.
   * Errors: AppError TOKEN_*, MESH_*, UNREACHABLE, PREFIX_MISMATCH, PREFIX_HIDES, ALREADY_JOINED, ALREADY_CHANGING,
   * LEAVE_UNFINISHED, CLUSTER_KEY_*, NO_CLUSTER_KEY; KubeError, StoreError, TransportError.
   */
  async join({ token, ...asked }: RealPrefixRequest & { token: string | undefined }): Promise<Joined> {
    const { current, node, crypto, store, sharedKey, log } = this.#options
    const known = store.identity()
    if (current.session !== undefined && token !== undefined && known !== undefined && !this.isLeaving)
      if (isJoinedWith(known, { crypto, token })) return { already: true, warnings: [] }
    return this.#change(
      async () => {
        const before = await node.current()
        if (token !== undefined && isGatewayToken(token)) {
          refuseForGateway(asked)
          return this.#joinAsGateway(before, token)
        }
        const real = await askedReal(asked, this.#options.source)
        const enrolled = await enrol(before, { token, real }, this.#options)
        const { identity, isMember } = enrolled
        try {
          await comparePrefixes(pendingMembership(identity, crypto), this.#options)
        } catch (error) {
          await store.saveIdentity(before)
          if (!isMember) await sharedKey?.retract(identity, { onlyPending: true })
          throw error
        }
        if (isMember) await this.#enterAsMember(before, identity)
        else await this.#enterWithConsent(before, enrolled)
        this.#takePart()
        // The dates of a token do not count when the mesh knows its key already.
        const warnings = isMember ? [] : tokenDateWarnings(token, { crypto, nowMs: Date.now() })
        for (const warning of warnings) log.warn(warning)
        return { already: false, warnings }
      },
      { token, translates: isTranslated(asked) }
    )
  }

  /** Takes the membership of a backup (restoration.ts). Errors: those of `restoreBackup`, ALREADY_JOINED, ALREADY_CHANGING, LEAVE_UNFINISHED. */
  async restore(request: RestoreRequest): Promise<Restored> {
    return this.#change(
      async () => {
        const restored = await restoreBackup(request, this.#options, this.#entrance)
        this.#takePart()
        return restored
      },
      { isRestore: true }
    )
  }

  /**
   * Withdraws the records of this agent from all members, cleans the host and deletes the membership, keys and replica
   * from disk (departure.ts has the steps). Of an agent in no mesh it discards the pending token. The next identity has
   * another PeerId. A leave that failed stays the fault LEAVE_UNFINISHED until a later one has done the other steps.
   * `force`: also when the mesh then has no administrator any more. Errors: AppError NOT_JOINED, LAST_SEAT,
   * ALREADY_CHANGING, LEAVE_UNFINISHED.
   */
  async leave({ force = false } = {}): Promise<Body<LeftAnswer>> {
    const { current, health, log } = this.#options
    return this.#change(
      async () => {
        if (this.#departure === undefined && current.session === undefined)
          return discardPending(this.#options)
        if (this.#departure === undefined && !force) refuseLastSeat(this.#options)
        const departure = (this.#departure ??= await this.#newDeparture())
        try {
          await departure.run()
        } catch (error) {
          health.setError(LEAVE_UNFINISHED, error, { severity: 'error', fix: '' })
          throw error
        }
        this.#departure = undefined
        health.clear(LEAVE_UNFINISHED)
        if (departure.left.repair === undefined) log.info(departure.left, 'left the mesh')
        else log.warn(departure.left, 'left the mesh, but no other member could be told')
        return departure.left
      },
      { joined: true }
    )
  }

  /** Runs another change of the membership: no init, join or leave begins meanwhile. Errors: AppError ALREADY_CHANGING. */
  alone<T>(act: () => Promise<T>): Promise<T> {
    return this.#change(act, { joined: true })
  }

  /** Returns the steps with which this agent leaves its mesh; none is done yet. Errors: AppError NOT_JOINED. */
  async #newDeparture(): Promise<Departure> {
    const { current, node, store, gateways, rootKeys } = this.#options
    const session = current.required()
    const { control } = session
    const cluster = control.view().self
    const isLast = () => isLastOfCluster(control, gateways)
    return new Departure({
      ...this.#options,
      cluster,
      identity: await node.current(),
      store: {
        forget: async () => {
          await gateways.clear()
          await store.forget()
          rootKeys.clear()
        }
      },
      session,
      handOver: () => session.ownRecord.handOver.beforeLeave(),
      isLast,
      keptFor: current.stands ? unseenOfCluster(control, gateways) : [],
      endsMesh: control.view().clusters.size < 2 && isLast(),
      resign: (isLast) => sayFarewell(this.#options, isLast)
    })
  }

  /** Gets the key of the cluster from the gateway that made the token. */
  async #joinAsGateway(before: Identity, token: string): Promise<Joined> {
    const { sharedKey, crypto, log } = this.#options
    const options = { crypto, log, hasSecret: sharedKey !== undefined, deadlineMs: JOIN_DEADLINE_MS }
    const identity = await becomeGateway(token, before, options)
    await this.#enterAsMember(before, identity)
    this.#takePart()
    return { already: false, warnings: [] }
  }

  /** Enters the mesh with a cluster key that the mesh knows already: no member has to accept the cluster first. */
  async #enterAsMember(before: Identity, identity: Identity): Promise<void> {
    const { store } = this.#options
    await store.saveIdentity(identity)
    try {
      await this.#entrance.enter(pendingMembership(identity, this.#options.crypto))
    } catch (error) {
      await store.saveIdentity(before)
      throw error
    }
  }

  /**
   * Enters the mesh with a new cluster key: knocks at one member after the other until one admits this cluster, and
   * waits until a member tells it records. A gateway of the own cluster is no proof, because it may still wait itself.
   */
  async #enterWithConsent(before: Identity, { identity, untilAnswered }: Enrolled): Promise<void> {
    const { current, store, sharedKey, crypto } = this.#options
    current.isJoining = true
    const joined = Promise.withResolvers<void>()
    // A refusal can come before the await below; without this handler it would be an unhandled rejection.
    joined.promise.catch(() => undefined)
    const deadline = setTimeout(
      () => joined.reject(unreachable(current.session?.control, JOIN_DEADLINE_MS)),
      JOIN_DEADLINE_MS
    )
    const doors = new Doors(identity.bootstrap ?? [])
    let isMember = false
    this.#entrance.onAdmitted = async (clusterItem) => {
      // With a key of the Secret that waits for a member, what is on disk has no mesh yet, but the later generation.
      const member = admitted({ ...identity, ...(await this.#options.node.current()) }, clusterItem)
      await store.saveIdentity(member)
      isMember = true
      await sharedKey?.tell(sharedOf(member, crypto))
    }
    this.#entrance.onHandshake = (outcome) => {
      if (outcome.kind === 'accepted') {
        if (outcome.cluster !== identity.cluster) joined.resolve()
      } else if (doors.isOver(outcome)) joined.reject(refusal(outcome))
    }
    try {
      const session = await this.#entrance.enter(pendingMembership(identity, crypto))
      await joined.promise
      session.admit()
    } catch (error) {
      const { session } = current
      // The mesh has admitted this cluster: what failed after that is mended by the running session.
      if (isMember && session !== undefined) return session.admit()
      current.clear()
      await session?.stop()
      await store.forget()
      // Only a refusal by a member is final. If no member answered, one may have admitted the new certificate, so the
      // next attempt must use the same key.
      const isRefused = explain(error).code !== 'UNREACHABLE'
      await store.saveIdentity(isRefused ? before : untilAnswered)
      if (isRefused) await sharedKey?.retract(identity, { onlyPending: true })
      throw error
    } finally {
      clearTimeout(deadline)
      this.#entrance.onHandshake = () => undefined
      this.#entrance.onAdmitted = async () => undefined
      current.isJoining = false
    }
  }

  /**
   * Makes this agent a full member: it takes part in the election of the cluster's speaker, and it compares its key
   * with the Secret from now on.
   */
  #takePart(): void {
    const { settings, current, source, sharedKey, health } = this.#options
    this.#departure = undefined
    health.clear(LEAVE_UNFINISHED)
    health.replace(NOT_JOINED, [])
    if (maySpeak(settings)) source.campaign(current.required().control.origin)
    sharedKey?.keep(keyMember(this.#options, (membership) => this.#renew(membership)))
  }

  /** Gives the running session the new certificate; connections stay open. */
  #renew(membership: Membership): void {
    const { current, source } = this.#options
    current.required().renew(membership)
    source.refresh()
  }

  /**
   * Runs one init, join or leave after the checks that they share. `joined`: true for leave; the others need an agent
   * that is in no mesh. `token`: the token of join, for the text of ALREADY_JOINED (already-joined.ts).
   */
  async #change<T>(
    act: () => Promise<T>,
    { joined = false, ...asked }: { readonly joined?: boolean } & AskedWhileJoined = {}
  ): Promise<T> {
    if (this.#isChanging)
      throw new AppError(
        'ALREADY_CHANGING',
        'another init, join, leave or new cluster key is under way',
        'wait for it to end'
      )
    const { crypto, current } = this.#options
    if (!joined && current.membership !== undefined)
      throw alreadyJoined(current.membership, { crypto, ...asked, stands: current.stands, nowMs: Date.now() })
    if (!joined && this.isLeaving) {
      throw new AppError(
        'LEAVE_UNFINISHED',
        'this agent has not left its mesh yet: the last `meshctl leave` failed',
        'run `meshctl leave` again, which continues with what is not done'
      )
    }
    this.#isChanging = true
    try {
      return await act()
    } finally {
      this.#isChanging = false
    }
  }
}
