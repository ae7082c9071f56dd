// What an administrator does after the founding of a mesh: it ends clusters and agents, takes that back, decides between
// claimants, changes prefixes, and cancels invites. Each function signs statements by the seats of this agent, and adds
// them to the trust set, which carries them to all members (docs/trust-set.md).
// Invariants
//   1. A statement is made only when it would have the effect that the operator asked for: what it is about is known
//      here, and one of the seats of this agent may decide on it.
//   2. Nothing is signed for an unclear request: a name that two keys bear has to be given with its key.
import type { Crypto } from '../../core/model/crypto.ts'
import { publicKeyOf } from '../../core/model/identity.ts'
import type { Origin } from '../../core/model/values.ts'
import { barByCluster, barBySeat, decide, grant, voidBySeat } from '../../core/trust/author/command.ts'
import { coversName } from '../../core/trust/set/rights.ts'
import { usedInvites } from '../../core/trust/members/survey.ts'
import { namedCluster, ownClusterKey, tunnelAnswers } from './named-cluster.ts'
import { noSeat, ownSeats, type OwnSeat } from './own-seats.ts'
import { barredBy } from './barred.ts'
import { notesAfter, takenBack } from './take-back.ts'
import { checkGrant, withoutEarlierDrops } from './granted.ts'
import { withinRights } from './within-rights.ts'
import type { ClusterStanding } from '../../core/trust/set/clusters.ts'
import { keyId, type KeyId, type StatementId } from '../../core/trust/set/ids.ts'
import type { GrantRequest } from '../../api/requests.ts'
import type { StatementAnswer } from '../../api/trust-answers.ts'
import type { Body } from '../admin/answer-body.ts'
import type { Store } from '../../io/store/store.ts'
import { cidrs } from '../identity/prefixes.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'

/**
 * The session with the members, and the identity with the keys of administrators. Each request answers with what was done,
 * and with the number of neighbours that were told at once; it does not wait for their answer.
 */
interface AdministrationOptions {
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
  readonly crypto: Crypto
  readonly log: Log
  /** Agents that have the key of this cluster from here, or may ask for it. When left out, there are none. */
  readonly gateways?: { readonly isFor: (origin: Origin) => boolean }
  /** The root keys that this agent can sign with. When left out, there are none. */
  readonly rootKeys?: { readonly seeds: () => readonly Uint8Array[] }
}

/** See the head of this file. */
export class Administration {
  readonly #options: AdministrationOptions

  constructor(options: AdministrationOptions) {
    this.#options = options
  }

  /**
   * Ends a cluster: its packets are dropped, its name and prefixes are free, and what it admitted stays. `force`: also
   * when its tunnel answers now. Errors: AppError NOT_JOINED, UNKNOWN_CLUSTER, AMBIGUOUS_CLUSTER, OWN_CLUSTER, NO_SEAT,
   * SEAT_EXCEEDED, STILL_ALIVE; StoreError.
   */
  async remove(request: {
    readonly cluster: string
    readonly force: boolean
  }): Promise<Body<StatementAnswer>> {
    const cluster = this.#cluster(request.cluster)
    this.#refuseOwn(cluster, 'leave')
    if (!request.force && tunnelAnswers(this.#options.current.required(), cluster.name))
      throw new AppError(
        'STILL_ALIVE',
        `the tunnel to cluster ${cluster.name} answers now: it may still be in use`,
        `run \`meshctl leave\` in that cluster; repeat with --force to end it against its will, or when its agent is gone: the tunnel of its kernel answers until that host is off`
      )
    const seat = this.#seatFor(cluster.name)
    return this.#sign(
      barBySeat(this.#context(), seat, { target: { cluster: cluster.key } }).item,
      `removed the cluster ${cluster.name}: its name and prefixes are free`,
      this.#seatsThatStay(cluster.name)
    )
  }

  /**
   * Ends a cluster whose key was stolen, with all that it has admitted since it was known here; what this agent knows
   * now is kept. Or ends one agent, by its PeerId. Errors: those of `remove`, UNKNOWN_AGENT.
   */
  async revoke(request: { readonly name: string }): Promise<Body<StatementAnswer>> {
    const agentKey = publicKeyOf(request.name)
    if (agentKey !== undefined) return this.#revokeAgent(request.name as Origin, keyId(agentKey))
    const cluster = this.#cluster(request.name)
    this.#refuseOwn(cluster, 'leave')
    const { set } = this.#members()
    const sponsored = [...set.admissions.values()].filter(
      ({ statement }) =>
        statement.sponsorKey === cluster.key && this.#standing().admissions.get(statement.id)?.stands
    )
    const seat = this.#seatFor(cluster.name)
    return this.#sign(
      barBySeat(this.#context(), seat, {
        target: { cluster: cluster.key },
        keepOnly: sponsored.map(({ statement }) => statement.id)
      }).item,
      `revoked the cluster ${cluster.name}; of the clusters that it admitted, the ${sponsored.length} that are known here stay`,
      this.#seatsThatStay(cluster.name)
    )
  }

  /**
   * Takes back the bars of a cluster, or of an agent by its PeerId: one Void for each (take-back.ts). `key`: the beginning of
   * the cluster's key, for a name that several keys bore. Errors: AppError NOT_JOINED, UNKNOWN_CLUSTER, AMBIGUOUS_CLUSTER,
   * NOT_BARRED, NO_SEAT, SEAT_EXCEEDED; StoreError.
   */
  async restore(request: {
    readonly cluster: string
    readonly key?: string | undefined
  }): Promise<Body<StatementAnswer>> {
    const { bars, what, name, key } = barredBy(this.#standing(), { name: request.cluster, key: request.key })
    const { set } = this.#members()
    const items = takenBack(bars, name, {
      context: this.#context(),
      seats: this.#seats(),
      rootSeeds: this.#options.rootKeys?.seeds() ?? [],
      seatOf: (id) => set.seats.get(id)?.statement
    })
    const answer = await this.#sign(items, `restored ${what}`)
    const notes = key === undefined ? [] : notesAfter(this.#standing(), key)
    return notes.length === 0 ? answer : { ...answer, notes }
  }

  /**
   * Decides which of several cluster keys has a name, or adopts one whose admission fell. `key` may be the beginning of
   * the key, 8 digits or more. Errors: those of `remove` but OWN_CLUSTER and STILL_ALIVE; BARRED for a key that a bar
   * ends, because a bar comes before a decision (S5).
   */
  async decide(request: { readonly name: string; readonly key: string }): Promise<Body<StatementAnswer>> {
    const cluster = this.#cluster(request.name, request.key)
    const seat = this.#seatFor(cluster.name)
    if (this.#standing().barsOf(cluster.key).length > 0)
      throw new AppError(
        'BARRED',
        `a bar ends the key ${cluster.key.slice(0, 16)}, and a bar comes before a decision`,
        `run \`meshctl restore ${cluster.name}\` first`
      )
    return this.#sign(
      decide(this.#context(), seat, { name: cluster.name, clusterKey: cluster.key }).item,
      `gave the name ${cluster.name} to the key ${cluster.key.slice(0, 16)}`
    )
  }

  /**
   * Adds prefixes to a cluster and drops others. A prefix that was dropped earlier is given back (granted.ts). Errors: those
   * of `remove` but OWN_CLUSTER and STILL_ALIVE; BAD_ARGUMENT, PREFIX_OVERLAP, PREFIX_HIDES.
   */
  async grant(request: GrantRequest): Promise<Body<StatementAnswer>> {
    const { current, store } = this.#options
    const cluster = this.#cluster(request.cluster)
    const seat = this.#seatFor(cluster.name)
    const asked = {
      add: {
        pods: cidrs('add-pod-cidr', request.addPodCidrs),
        services: cidrs('add-service-cidr', request.addServiceCidrs)
      },
      drop: cidrs('drop', request.dropCidrs)
    }
    const { add, drop } = asked
    if (add.pods.length + add.services.length + drop.length === 0)
      throw new AppError(
        'BAD_ARGUMENT',
        'grant: there is nothing to change',
        'name a prefix to add or to drop'
      )
    const [standing, claims] = [this.#standing(), this.#members().claims()]
    const around = await current.required().around()
    checkGrant(asked, { cluster, standing, claims, around, identity: store.identity(), nowMs: Date.now() })
    const { change, taken } = withoutEarlierDrops(asked, { cluster, standing })
    const context = this.#context()
    const items = withinRights('this administrator may not sign that', () => [
      ...taken.map(({ id }) => voidBySeat(context, seat, { target: id, keep: [] }).item),
      grant(context, seat, { clusterKey: cluster.key, ...change }).item
    ])
    const said = [
      ...add.pods.map((cidr) => `added the pod prefix ${cidr}`),
      ...add.services.map((cidr) => `added the service prefix ${cidr}`),
      ...drop.map((cidr) => `dropped ${cidr}`)
    ]
    return this.#sign(items, `changed the prefixes of cluster ${cluster.name}: ${said.join(', ')}`)
  }

  /**
   * Takes back the open invites of a cluster. The Voids are on disk before the invites leave the identity, so a crash
   * between the two leaves an invite that shows as cancelled. Only a seat that covers the name can take the invite of
   * another seat of this agent back (S2). Errors: AppError NOT_JOINED, NO_INVITE, INVITE_USED, NO_SEAT, SEAT_EXCEEDED;
   * StoreError.
   */
  async cancel(request: { readonly cluster: string }): Promise<Body<StatementAnswer>> {
    const { store } = this.#options
    const identity = store.identity()
    const { set } = this.#members()
    const kept = (identity?.invites ?? []).filter(({ cluster }) => cluster === request.cluster)
    if (identity === undefined || kept.length === 0)
      throw new AppError(
        'NO_INVITE',
        `this agent keeps no open invite of cluster ${request.cluster}`,
        'see `meshctl invite list`; an invite is cancelled on the agent that made it'
      )
    // A Void of an invite fells the admissions by it, too.
    const used = usedInvites(set)
    const open = kept.filter(({ id }) => !used.has(id as StatementId))
    if (open.length === 0)
      throw new AppError(
        'INVITE_USED',
        `the invite of cluster ${request.cluster} was used: a cluster has joined with it`,
        `to end that cluster, run \`meshctl remove ${request.cluster}\``
      )
    const seat = this.#seatFor(request.cluster)
    const items = open.map(
      ({ id }) => voidBySeat(this.#context(), seat, { target: id as StatementId, keep: [] }).item
    )
    const answer = await this.#sign(items, `cancelled the invite of cluster ${request.cluster}`)
    const gone = new Set(open.map(({ id }) => id))
    await store.changeIdentity((now) => ({
      ...now,
      invites: (now.invites ?? []).filter(({ id }) => !gone.has(id))
    }))
    return answer
  }

  /**
   * Ends one agent. An agent of the own cluster is ended by the cluster itself, which every gateway can sign for; one of
   * another cluster by a seat that covers the cluster's name. One that has the key of this cluster, or may ask for it, is
   * ended before it has connected, too. Errors: UNKNOWN_AGENT, OWN_AGENT, NO_SEAT, SEAT_EXCEEDED.
   */
  async #revokeAgent(origin: Origin, agentKey: KeyId): Promise<Body<StatementAnswer>> {
    const { current, crypto, gateways } = this.#options
    const { membership } = current
    const own = ownClusterKey(membership, crypto)
    const isInvited = membership !== undefined && gateways?.isFor(origin) === true
    const invited = isInvited ? { clusterKey: own, cluster: membership.cluster } : undefined
    const agent = this.#members().agentOf(origin) ?? invited
    const clusterKey = agent?.clusterKey
    if (agent === undefined)
      throw new AppError(
        'UNKNOWN_AGENT',
        `no agent with the PeerId ${origin} stands here`,
        'see `meshctl peers -o wide`'
      )
    if (origin === this.#options.current.required().control.origin)
      throw new AppError(
        'OWN_AGENT',
        'this is this agent itself',
        'run `meshctl leave`, or revoke it from another agent'
      )
    const item =
      clusterKey === own && membership?.stage.kind === 'member'
        ? barByCluster(
            this.#context(),
            { clusterItem: membership.stage.clusterItem, clusterSeed: membership.clusterSeed },
            agentKey
          ).item
        : barBySeat(this.#context(), this.#seatFor(agent.cluster), { target: { agent: agentKey } }).item
    return this.#sign(item, `revoked the agent ${origin} of cluster ${agent.cluster}`)
  }

  /** The cluster that a request names. Errors: those of `namedCluster`. */
  #cluster(name: string, key?: string): ClusterStanding {
    return namedCluster(this.#standing(), { name, key })
  }

  /** A cluster cannot end itself by a seat of its own: it leaves. Errors: OWN_CLUSTER. */
  #refuseOwn(cluster: ClusterStanding, instead: string): void {
    const { current, crypto } = this.#options
    if (ownClusterKey(current.membership, crypto) !== cluster.key) return
    throw new AppError(
      'OWN_CLUSTER',
      `${cluster.name} is the cluster of this agent`,
      `run \`meshctl ${instead}\` here`
    )
  }

  /** The first seat of this agent that stands and covers a name. Errors: NO_SEAT, SEAT_EXCEEDED. */
  #seatFor(name: string): OwnSeat {
    const seats = this.#seats()
    const seat = seats.find((one) => coversName(one.seat, name))
    if (seat !== undefined) return seat
    if (seats.length === 0) throw noSeat()
    throw new AppError(
      'SEAT_EXCEEDED',
      `no seat of this agent covers the name ${name}`,
      'run the command on an agent of an administrator with that right: `meshctl admin list` shows them'
    )
  }

  /**
   * A seat belongs to a key and not to a cluster, so it outlives the cluster in which its holder works. Returns the sentence
   * that says so, when others than this agent hold seats.
   */
  #seatsThatStay(cluster: string): readonly string[] {
    const own = new Set(this.#seats().map(({ seat }) => seat.id))
    const { set } = this.#members()
    const others = [...set.seats.values()].filter(
      ({ statement: { id } }) => !own.has(id) && this.#standing().seats.get(id)?.stands === true
    )
    if (others.length === 0) return []
    const labels = others.map(({ statement }) => statement.label).join(', ')
    return [
      `Administrators stay administrators: if an agent of ${cluster} holds the seat of ${labels}, end it, too, with \`meshctl admin remove <label>\`.`
    ]
  }

  /** The seats of this agent that stand: those of its identity, and those that were created for its key. */
  #seats(): readonly OwnSeat[] {
    const { store, crypto } = this.#options
    const identity = store.identity()
    return identity === undefined ? [] : ownSeats(identity, this.#members(), crypto)
  }

  /** The members of the mesh. Errors: AppError NOT_JOINED. */
  #members() {
    return this.#options.current.required().control.members
  }

  /** What the trust set says now; computed once for each version of the set. */
  #standing() {
    return this.#members().standing()
  }

  /** What signing needs. */
  #context() {
    const { current, crypto } = this.#options
    const { membership } = current
    if (membership === undefined) throw new Error('a session has a membership')
    return { crypto, roots: membership.roots }
  }

  /** Signs: the statements are on disk and on their way when the promise resolves. Errors: StoreError. */
  async #sign(
    items: Uint8Array | readonly Uint8Array[],
    done: string,
    notes: readonly string[] = []
  ): Promise<Body<StatementAnswer>> {
    const { current, log } = this.#options
    const { control } = current.required()
    const list = items instanceof Uint8Array ? [items] : items
    await control.sign(list)
    log.info({ done }, 'signed as an administrator')
    return { done, neighbours: control.neighbours().length, ...(notes.length > 0 ? { notes } : {}) }
  }
}
