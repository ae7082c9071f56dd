// Invites of other clusters: `meshctl invite` creates them through the admin API, and PartWatch closes them once a
// second when the invited cluster is a member. An open invite reserves its prefixes in the identity on disk, so that no
// other invite of this agent gets them. An administrator's seat signs an invite; the root key takes no part.
import type { InviteRequest } from '../../api/requests.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import { usedInvites } from '../../core/trust/members/survey.ts'
import type { StatementId } from '../../core/trust/set/ids.ts'
import type { MadeInvite } from '../../core/mcs/mesh-invite.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import { lastOf } from '../../core/trust/author/author.ts'
import { voidBySeat } from '../../core/trust/author/command.ts'
import { bytes } from '../identity/encoding.ts'
import { rootsOf } from '../identity/identity.ts'
import { invite, seatFor, withoutRedeemedInvites, type Held, type Invited } from '../identity/invite.ts'
import { ownSeats } from '../administration/own-seats.ts'
import type { Log } from '../observe/log.ts'
import { notJoined, type CurrentSession } from '../session/current-session.ts'
import type { Session } from '../session/session.ts'
import { ownAddresses } from './own-addresses.ts'
import { replacedCluster } from './replaced-cluster.ts'

// Milliseconds for which members accept a token after its end, and the most by which clocks of members may differ.
const GRACE_MS = 65 * 60_000

/** The parts that invites need: the session with its view, and the identity with the seats and the open invites. */
interface InvitationsOptions {
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
  readonly crypto: Crypto
  readonly log: Log
}

/** An invite that was made for a MeshInvite. */
export interface ObjectInvite extends MadeInvite {
  /** "<namespace>/<uid>". */
  readonly object: string
}

/** Options of `Invitations.invite`. */
interface InvitedFor {
  readonly mayReplaceOwn?: boolean
  readonly meshInvite?: string
  readonly reserved?: readonly Held[]
}

/** The invites of this agent. Any agent with the seat of an administrator can invite, and keeps the invites that it made. */
export class Invitations {
  readonly #options: InvitationsOptions

  constructor(options: InvitationsOptions) {
    this.#options = options
  }

  /**
   * Creates a token. The invite is on disk before the token is returned, so that a crash cannot free its prefixes.
   * `mayReplaceOwn`: also in the place of this agent's own cluster, which then redeems the token itself. `meshInvite`: the
   * object for which the invite is made; `reserved`: prefixes that it must not get.
   * Errors: AppError NOT_JOINED, those of `replacedCluster` and of `invite` in identity/invite.ts; StoreError.
   */
  async invite(
    request: InviteRequest,
    { mayReplaceOwn = false, meshInvite, reserved = [] }: InvitedFor = {}
  ): Promise<Invited> {
    const { current, store, crypto, log } = this.#options
    const session = current.required()
    const view = session.control.view()
    const { replace, force } = request
    const replaced =
      replace === undefined
        ? undefined
        : replacedCluster({ current, crypto }, { name: replace, force, mayBeOwn: mayReplaceOwn })
    const around = await session.around()
    // An invite that was used is open no more, and a Void of it would fell its cluster.
    const used = usedInvites(session.control.members.set)
    let made: Invited | undefined
    // Each invite sees those before it, so two at once get different prefixes.
    await store.changeIdentity((known) => {
      const invites = (known.invites ?? []).filter(({ id }) => !used.has(id as StatementId))
      const identity = { ...known, invites }
      made = invite(request, {
        crypto,
        identity,
        seats: ownSeats(identity, session.control.members, crypto),
        nowMs: Date.now(),
        view,
        bootstrap: addressesByCluster(session),
        hostNetworks: ownAddresses(),
        around,
        replaced,
        balancePrefix: session.balancing.prefix,
        alsoHeld: heldInMesh(session, replaced?.name),
        reserved
      })
      return meshInvite === undefined ? made.identity : withObject(made.identity, meshInvite)
    })
    if (made === undefined) throw notJoined()
    await session.control.sign(made.items)
    log.info(
      { cluster: request.cluster, prefixes: [...made.podPrefixes, ...made.servicePrefixes] },
      'invited'
    )
    return { ...made, warnings: [...made.warnings, ...endedWarnings(current)] }
  }

  /**
   * The invites that this agent has made for MeshInvites and keeps: not those that were used. Each with the object, as
   * "<namespace>/<uid>".
   */
  madeForObjects(): readonly ObjectInvite[] {
    const { store, crypto } = this.#options
    const identity = store.identity()
    const roots = identity && rootsOf(identity, crypto)
    if (identity === undefined || roots === undefined) return []
    return (identity.invites ?? []).flatMap(({ id, expiresMs, item, meshInvite }) => {
      if (meshInvite === undefined) return []
      const { pods, services } = lastOf({ crypto, roots }, bytes(item), 'invite')
      const [podCidrs, serviceCidrs] = [pods.map(({ cidr }) => cidr), services.map(({ cidr }) => cidr)]
      return [{ object: meshInvite, id, expiresMs, podCidrs, serviceCidrs }]
    })
  }

  /**
   * Takes back one invite that this agent keeps, unless it was used: a Void of a used invite fells its cluster. One whose
   * token no member accepts any more is only forgotten. Errors: AppError NOT_JOINED, NO_SEAT, SEAT_EXCEEDED; StoreError.
   */
  async takeBack(id: string): Promise<void> {
    const { current, store, crypto, log } = this.#options
    const { control } = current.required()
    const identity = store.identity()
    const kept = identity?.invites?.find((one) => one.id === id)
    const roots = identity && rootsOf(identity, crypto)
    if (identity === undefined || kept === undefined || roots === undefined) return
    const isUsed = usedInvites(control.members.set).has(id as StatementId)
    if (!isUsed && kept.expiresMs + GRACE_MS > Date.now()) {
      const seat = seatFor([kept.cluster as ClusterName], ownSeats(identity, control.members, crypto))
      const { item } = voidBySeat({ crypto, roots }, seat, { target: id as StatementId, keep: [] })
      await control.sign([item])
      log.info({ cluster: kept.cluster }, 'took the invite of a deleted MeshInvite back')
    }
    await store.changeIdentity((now) => ({
      ...now,
      invites: (now.invites ?? []).filter((one) => one.id !== id)
    }))
  }

  /**
   * Closes the invites of clusters that are members, so that their prefixes are free again after they have left. Does
   * nothing while the agent is in no mesh. Errors: StoreError.
   */
  async closeRedeemed(): Promise<void> {
    const { current, store } = this.#options
    const identity = store.identity()
    if (identity?.invites === undefined || current.session === undefined) return
    const { control } = current.session
    const close = (known: Identity) =>
      withoutRedeemedInvites(known, {
        view: control.view(),
        used: () => usedInvites(control.members.set)
      })
    if (close(identity) !== identity) await store.changeIdentity(close)
  }
}

/** The identity whose latest invite is the one of an object. */
function withObject(identity: Identity, meshInvite: string): Identity {
  const { invites = [] } = identity
  const last = invites.at(-1)
  return last === undefined
    ? identity
    : { ...identity, invites: [...invites.slice(0, -1), { ...last, meshInvite }] }
}

/**
 * The sentence about an agent that is no member any more: its seat may still invite, and its door lets no cluster in. The
 * token is not refused, because with it this cluster itself can join anew.
 */
function endedWarnings({ endedBecause }: Pick<CurrentSession, 'endedBecause'>): readonly string[] {
  if (endedBecause === undefined) return []
  return [
    `this agent is no member of the mesh any more (${endedBecause}), so no cluster can join at it: the token must name another member (\`--bootstrap <cluster>\`)`
  ]
}

/**
 * The prefixes of all members as the mesh has them. Where this cluster translates its addresses, its view shows its own
 * prefixes as the real ones, and none of others that overlap these.
 */
function heldInMesh({ membership, control }: Session, except: ClusterName | undefined): readonly Held[] {
  if (!membership.translation.isActive) return []
  return [...control.members.settlement().values()]
    .filter(({ cluster }) => cluster !== except)
    .flatMap(({ cluster, podPrefixes, servicePrefixes }) =>
      [...podPrefixes, ...servicePrefixes].map((prefix) => ({ prefix, owner: `cluster ${cluster}` }))
    )
}

/**
 * The multiaddrs of all agents by cluster, each with /p2p/<PeerId>. The own cluster comes first, and a token names its
 * agents first. Those of this agent are what its session knows: its own record is not in the view yet after a start.
 */
export function addressesByCluster({ control, facts }: Session): ReadonlyMap<ClusterName, readonly string[]> {
  const view = control.view()
  const result = new Map<ClusterName, readonly string[]>()
  const named = (multiaddrs: readonly string[], origin: Origin) =>
    multiaddrs.map((address) => `${address}/p2p/${origin}`)
  for (const name of [view.self, ...view.clusters.keys()]) {
    const others = (view.clusters.get(name)?.agents ?? []).filter(({ origin }) => origin !== control.origin)
    result.set(name, [
      ...(name === view.self ? named(facts.multiaddrs, control.origin) : []),
      ...others.flatMap(({ origin, agent }) => named(agent.multiaddrs, origin))
    ])
  }
  return result
}
