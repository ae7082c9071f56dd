// How this agent comes into a mesh and out of it: it makes one (init), joins one, comes back to one after a restart, leaves it.
// Invariants
//   1. One of init, join and leave at a time.
//   2. What a failed attempt has changed on disk is changed back, but for a token that no member has answered: it may have got through.
import type { InitRequest } from '../../api/requests.ts'
import type { ClusterName } from '../../core/model/values.ts'
import type { Identity } from '../../io/store/store.ts'
import type { PodDns } from '../cluster-dns/pod-dns.ts'
import { CLEANUP_DEADLINE_MS } from '../host/data-plane.ts'
import {
  accepted,
  initMesh,
  isJoinedWith,
  membershipOf,
  pendingMembership,
  redeemToken,
  type Membership
} from '../identity/identity.ts'
import { AppError, explain } from '../observe/errors.ts'
import { Entrance, type EntranceOptions } from './entrance.ts'
import { ownAddresses } from './own-addresses.ts'
import { comparePrefixes, withPrefixesOf } from './prefix-check.ts'
import { refusal } from './refusal.ts'
import { clusterKeyOf, withClusterKey, type Enrolled, type SharedKey } from './shared-key.ts'

// Dialling, two handshakes and a retry over a bad line; then the person at the terminal wants to know.
const JOIN_DEADLINE_MS = 20_000
/** The code of the fault that a cluster which is told to join has not joined. */
export const NOT_JOINED = 'NOT_JOINED'

export interface EnrolmentOptions extends EntranceOptions {
  /** Only with a Kubernetes API. */
  readonly sharedKey: SharedKey | undefined
  /** Only with a Kubernetes API. */
  readonly podDns: Pick<PodDns, 'undo'> | undefined
}

export class Enrolment {
  readonly #options: EnrolmentOptions
  readonly #entrance: Entrance
  #isChanging = false

  constructor(options: EnrolmentOptions) {
    this.#options = options
    this.#entrance = new Entrance(options)
  }

  /** True while init, join or leave is under way. */
  get isChanging(): boolean {
    return this.#isChanging
  }

  /** The mesh that this agent was in when it ended. False: there is none. Errors: of the transport. */
  async resume(): Promise<boolean> {
    const known = membershipOf(await this.#options.node.current())
    if (known === undefined) return false
    await this.#entrance.enter(known, { admitted: true })
    this.#takePart()
    return true
  }

  /** Errors: AppError ALREADY_JOINED, ALREADY_CHANGING, BAD_ARGUMENT, CLUSTER_KEY_TAKEN. */
  async init(request: InitRequest): Promise<void> {
    const { node, source, sharedKey, crypto, store } = this.#options
    return this.#change(async () => {
      const identity = await node.current()
      await sharedKey?.expectNone()
      const next = initMesh(await withPrefixesOf(source, request), {
        crypto,
        identity,
        nowMs: Date.now(),
        hostNetworks: ownAddresses()
      })
      await store.saveIdentity(next)
      try {
        await sharedKey?.found(clusterKeyOf(next, crypto, { pending: false }))
        await this.#entrance.enter(pendingMembership(next), { admitted: true })
      } catch (error) {
        await store.saveIdentity(identity)
        await sharedKey?.retract(next, { onlyPending: false })
        throw error
      }
      this.#takePart()
    })
  }

  /**
   * Without a token: as one more gateway of a cluster whose key is in its Secret. `already`: this agent had joined with this token before.
   * Errors: AppError TOKEN_*, MESH_*, UNREACHABLE, PREFIX_MISMATCH, ALREADY_JOINED, ALREADY_CHANGING, CLUSTER_KEY_*.
   */
  async join({ token }: { readonly token: string | undefined }): Promise<{ readonly already: boolean }> {
    const { current, node, crypto, store, sharedKey } = this.#options
    const known = store.identity()
    if (current.session !== undefined && token !== undefined && known !== undefined)
      if (isJoinedWith(known, { crypto, token })) return { already: true }
    return this.#change(async () => {
      const before = await node.current()
      const enrolled = await this.#enrol(before, token)
      const { identity, isMember } = enrolled
      try {
        await comparePrefixes(pendingMembership(identity), this.#options)
      } catch (error) {
        await store.saveIdentity(before)
        if (!isMember) await sharedKey?.retract(identity, { onlyPending: true })
        throw error
      }
      if (isMember) await this.#enterAsMember(before, identity)
      else await this.#enterWithConsent(before, enrolled)
      this.#takePart()
      return { already: false }
    })
  }

  /** Withdraws this cluster's records everywhere, cleans the host, forgets the mesh. Errors: AppError NOT_JOINED, ALREADY_CHANGING. */
  async leave(): Promise<{ readonly cluster: ClusterName }> {
    const { current, node, store, host, sharedKey, source, log } = this.#options
    const session = current.required()
    return this.#change(
      async () => {
        const view = session.control.view()
        const cluster = view.self
        const others = view.clusters
          .get(cluster)
          ?.agents.filter(({ origin }) => origin !== session.control.origin)
        const identity = await node.current()
        await sharedKey?.rest()
        await source.resign()
        const isLast = others === undefined || others.length === 0
        // The gateways that stay need the zones and the key; the last one takes them along.
        if (isLast) await this.#undoPodDns()
        await session.withdraw()
        current.clear()
        await session.stop({ leaves: true })
        await host?.cleanup(AbortSignal.timeout(CLEANUP_DEADLINE_MS))
        await store.forget()
        if (isLast) await sharedKey?.retract(identity, { onlyPending: false })
        await node.current()
        log.info({ cluster }, 'left the mesh')
        return { cluster }
      },
      { joined: true }
    )
  }

  async #undoPodDns(): Promise<void> {
    const { podDns, log } = this.#options
    await podDns
      ?.undo()
      .catch((error: unknown) => log.warn({ err: error }, 'the zones stay in the cluster’s own DNS'))
  }

  async #enrol(before: Identity, token: string | undefined): Promise<Enrolled> {
    const { store, sharedKey, crypto } = this.#options
    const save = (identity: Identity): Promise<void> => store.saveIdentity(identity)
    const nowMs = Date.now()
    if (sharedKey !== undefined) return sharedKey.enrol({ before, token, nowMs, save })
    if (token === undefined) throw new Error('nothing to join with')
    const pending = redeemToken(token, { crypto, identity: before, nowMs })
    await save(pending) // first: a member that accepts us must find us again after a crash
    return { identity: pending, isMember: false, untilAnswered: pending }
  }

  async #enterAsMember(before: Identity, identity: Identity): Promise<void> {
    const { store } = this.#options
    await store.saveIdentity(identity)
    try {
      await this.#entrance.enter(pendingMembership(identity), { admitted: true })
    } catch (error) {
      await store.saveIdentity(before)
      throw error
    }
  }

  /** Counts once a member of another cluster has accepted it: one of our own may be waiting for that as well. */
  async #enterWithConsent(before: Identity, { identity, untilAnswered }: Enrolled): Promise<void> {
    const { current, store, sharedKey } = this.#options
    current.isJoining = true
    const admitted = Promise.withResolvers<void>()
    admitted.promise.catch(() => undefined) // awaited below; a refusal may come before
    const deadline = setTimeout(() => admitted.reject(this.#unreachable()), JOIN_DEADLINE_MS)
    this.#entrance.onHandshake = (outcome) => {
      if (outcome.kind === 'refused') admitted.reject(refusal(outcome))
      else if (outcome.cluster !== identity.cluster) admitted.resolve()
    }
    try {
      const session = await this.#entrance.enter(pendingMembership(identity), { admitted: false })
      await admitted.promise
      await store.saveIdentity(accepted(identity))
      session.admit()
    } catch (error) {
      const { session } = current
      current.clear()
      await session?.stop()
      await store.forget()
      // Only a member's word ends it: where none answered, the token may have got through and is tried again.
      const isRefused = explain(error).code !== 'UNREACHABLE'
      await store.saveIdentity(isRefused ? before : untilAnswered)
      if (isRefused) await sharedKey?.retract(identity, { onlyPending: true })
      throw error
    } finally {
      clearTimeout(deadline)
      this.#entrance.onHandshake = () => undefined
      current.isJoining = false
    }
  }

  /** A member from now on: it may speak for its cluster, and the Secret has what it has, and the other way round. */
  #takePart(): void {
    const { current, source, sharedKey, store, node, health } = this.#options
    health.replace(NOT_JOINED, [])
    source.stand(current.required().control.origin)
    sharedKey?.keep({
      identity: () => store.identity(),
      self: () => {
        const { control, facts } = current.required()
        return { origin: control.origin, addresses: facts.multiaddrs }
      },
      take: async (key) => {
        const next = withClusterKey(await node.current(), key, Date.now())
        await store.saveIdentity(next)
        this.#renew(pendingMembership(next))
      }
    })
  }

  #renew(membership: Membership): void {
    const { current, source } = this.#options
    const session = current.required()
    current.set(session, membership)
    session.renew(membership)
    source.refresh()
  }

  async #change<T>(act: () => Promise<T>, { joined } = { joined: false }): Promise<T> {
    if (this.#isChanging)
      throw new AppError('ALREADY_CHANGING', 'another init, join or leave is under way', 'wait for it to end')
    const { session, membership } = this.#options.current
    if (!joined && session !== undefined) {
      throw new AppError(
        'ALREADY_JOINED',
        `this agent is cluster ${membership?.cluster} of a mesh already`,
        '`meshctl leave` first; its token or mesh is not changed by this'
      )
    }
    this.#isChanging = true
    try {
      return await act()
    } finally {
      this.#isChanging = false
    }
  }

  #unreachable(): AppError {
    const { session } = this.#options.current
    const tried = (session?.control.transport.dialState() ?? []).map(
      ({ addresses, lastError }) =>
        `${addresses.join(', ')}${lastError === undefined ? '' : ` (${lastError})`}`
    )
    return new AppError(
      'UNREACHABLE',
      `none of the members that the token names answered within ${JOIN_DEADLINE_MS / 1000} s: ${tried.join('; ')}`,
      'check that their control port is reachable from here (TCP), then join again with the same token'
    )
  }
}
