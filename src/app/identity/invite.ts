// `meshctl invite`: an agent with the seat of an administrator makes a token with which another cluster can join. This
// file checks the name, chooses the prefixes and the members that the token names, and signs the invite. The caller
// (enrolment/invitations.ts) reads the view, saves the identity that it gets back, and adds `items` to the trust set. An
// error names the field and the fix, and leaves no trace.
import { cidrOverlaps } from '../../core/model/cidr.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Cidr, ClusterName } from '../../core/model/values.ts'
import {
  hiddenBy,
  overlapsOf,
  outersRenamed,
  overlapText,
  type OuterAddress,
  type Surroundings
} from '../../core/host/surroundings.ts'
import type { Prefixes } from '../../core/model/prefixes.ts'
import { lastOf } from '../../core/trust/author/author.ts'
import { voidBySeat } from '../../core/trust/author/command.ts'
import { createInvite } from '../../core/trust/author/join.ts'
import { encodeInviteToken } from '../../core/trust/invite-token.ts'
import type { KeyId, StatementId } from '../../core/trust/set/ids.ts'
import { coversName } from '../../core/trust/set/rights.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { Identity } from '../../io/store/store.ts'
import type { InviteRequest } from '../../api/requests.ts'
import { withinRights } from '../administration/within-rights.ts'
import { AppError } from '../observe/errors.ts'
import { noSeat, type OwnSeat } from '../administration/own-seats.ts'
import { chooseBootstrap } from './bootstrap.ts'
import { isDnsLabel } from '../../core/model/dns-name.ts'
import { base64, bytes, clusterName, seconds } from './encoding.ts'
import { rootsOf } from './identity.ts'
import { choosePrefixes, cidrs, hidesError } from './prefixes.ts'
import { namedPrefixes, translatedPrefixes } from './real-prefixes.ts'

/** The result of `invite`: the token for the new cluster, and the identity that the caller must save. */
export interface Invited extends Prefixes {
  /** A secret: its holder can become the cluster until `expiresMs`. It is shown once and not kept. */
  readonly token: string
  /** Unix milliseconds. */
  readonly expiresMs: number
  /** Multiaddrs with PeerIds of the members that the token names, 1 to 6. */
  readonly bootstrap: readonly string[]
  /** One sentence for each prefix that overlaps a network of this host. */
  readonly warnings: readonly string[]
  /** The identity with the new invite among `invites`, so that the next invite gets other prefixes. */
  readonly identity: Identity
  /** Encoded TrustItems for the trust set: open invites of the same cluster are taken back. */
  readonly items: readonly Uint8Array[]
  /** The open invites that the items take back, with the time at which each was made, in Unix milliseconds. */
  readonly takesBack: readonly { readonly cluster: string; readonly madeMs: number }[]
}

/** The cluster whose place the new one takes, with the prefixes that it has now. */
export interface ReplacedCluster extends Prefixes {
  readonly key: KeyId
  readonly name: ClusterName
  /** Namespaces that it may export; empty: all. */
  readonly namespaces: readonly string[]
}

/** The networks and addresses that this host and the members reach without the mesh. */
interface Around {
  readonly surroundings: Surroundings
  readonly outers: readonly OuterAddress[]
}

/** A prefix in use, and its owner in the words of an error message ("cluster west"). */
export interface Held {
  readonly prefix: Cidr
  readonly owner: string
}

/** What an invite is made of, besides the request. */
interface InviteOptions {
  readonly crypto: Crypto
  readonly identity: Identity
  /** Unix milliseconds. */
  readonly nowMs: number
  readonly view: MeshView
  /** Multiaddrs with PeerIds of every cluster's agents, the own cluster first. */
  readonly bootstrap: ReadonlyMap<ClusterName, readonly string[]>
  /** The seats of this agent that stand. */
  readonly seats: readonly OwnSeat[]
  /** Addresses of this host, which a prefix that is chosen here must not contain. */
  readonly hostNetworks: readonly Cidr[]
  /** Without it, prefixes are not compared with what this host reaches. */
  readonly around?: Around
  /** The cluster that the invite replaces; undefined: none. */
  readonly replaced?: ReplacedCluster | undefined
  /** Prefixes of members that the view does not show, because this cluster translates its addresses. Default: none. */
  readonly alsoHeld?: readonly Held[]
  /** Prefixes of open invites that other gateways of this cluster keep. Default: none. */
  readonly reserved?: readonly Held[]
  /** The prefix of the setting balance-cidr. undefined: it is not compared. */
  readonly balancePrefix?: Cidr
}

/** What the invite gives to the cluster. */
type InviteTerms = Omit<InviteRequest, 'replace' | 'force' | 'namespaces'> &
  Partial<Pick<InviteRequest, 'namespaces'>>

/**
 * Makes a token with which one cluster can join. Prefixes that the request leaves out are those of the cluster that it
 * replaces, or are chosen from the pools of prefixes.ts, within the prefixes of the seat. The same cluster may be invited again: the new invite takes the
 * open one back.
 *
 * Errors: AppError BAD_ARGUMENT (a field is malformed or exceeds the rights of the administrator, or no member can be
 * dialled from outside), NO_SEAT, SEAT_EXCEEDED, NAME_TAKEN, PREFIX_OVERLAP, PREFIX_HIDES, TRANSLATION_MISMATCH.
 */
export function invite(request: InviteTerms, options: InviteOptions): Invited {
  const { crypto, identity, nowMs, view, replaced } = options
  const cluster = clusterName(request.cluster)
  const namespaces = namespaceNames(request.namespaces ?? [])
  const seat = seatFor([cluster, ...(replaced === undefined ? [] : [replaced.name])], options.seats)
  const roots = rootsOf(identity, crypto)
  if (roots === undefined) throw new Error('an agent with a seat knows the roots of its mesh')
  if (cluster !== replaced?.name) refuseTakenName(cluster, view)
  const isReplaced = (one: Invite) =>
    one.cluster === cluster || (replaced !== undefined && one.replaces === replaced.key)
  const open = openInvites(identity, nowMs).filter((one) => !isReplaced(one))
  const replacedInvites = openInvites(identity, nowMs).filter(isReplaced)
  const { prefixes, real, all, warnings } = chosenPrefixes(request, {
    ...options,
    cluster,
    open,
    within: seat.seat.prefixes.map(({ cidr }) => cidr)
  })
  const bootstrap = chooseBootstrap(request.bootstrap, options.bootstrap)
  const expiresMs = nowMs + request.ttlSeconds * 1000
  const context = { crypto, roots }
  const made = withinRights('this administrator may not sign that', () =>
    createInvite(context, {
      ...seat,
      cluster,
      pods: prefixes.podPrefixes,
      services: prefixes.servicePrefixes,
      namespaces: namespaces.length > 0 ? namespaces : (replaced?.namespaces ?? []),
      notBefore: seconds(nowMs),
      notAfter: seconds(expiresMs),
      replaces: replaced?.key
    })
  )
  const { inviteSeed } = made
  const kept = { id: made.id, cluster, prefixes: [...all], expiresMs, item: base64(made.item) }
  return {
    token: encodeInviteToken(crypto, {
      roots,
      inviteItem: made.item,
      inviteSeed,
      bootstrap,
      realPrefixes: namedPrefixes(real)
    }),
    expiresMs,
    bootstrap,
    warnings,
    ...prefixes,
    identity: {
      ...identity,
      invites: [...open, replaced === undefined ? kept : { ...kept, replaces: replaced.key }]
    },
    items: replacedInvites.map(
      ({ id }) => voidBySeat(context, seat, { target: id as StatementId, keep: [] }).item
    ),
    takesBack: replacedInvites.map(({ cluster: name, item }) => ({
      cluster: name,
      madeMs: lastOf(context, bytes(item), 'invite').notBefore * 1000
    }))
  }
}

/** Checks names of namespaces. Errors: AppError BAD_ARGUMENT. */
function namespaceNames(names: readonly string[]): readonly string[] {
  const wrong = names.find((name) => !isDnsLabel(name))
  if (wrong === undefined) return names
  throw new AppError(
    'BAD_ARGUMENT',
    `namespace: ${JSON.stringify(wrong)} is not the name of a namespace`,
    'use a DNS label: at most 63 of a-z 0-9 -, a letter or digit first and last, as in "shop"'
  )
}

/**
 * Returns the prefixes of an invite, of each kind and all, and the warnings about them. `open`: the invites that keep
 * their prefixes. `within`: the prefixes of the seat. Errors: AppError BAD_ARGUMENT, PREFIX_OVERLAP, PREFIX_HIDES.
 */
function chosenPrefixes(
  request: Pick<InviteRequest, 'podCidrs' | 'serviceCidrs' | 'realPodCidrs' | 'realServiceCidrs'>,
  options: InviteOptions & {
    readonly cluster: ClusterName
    readonly open: readonly Invite[]
    readonly within: readonly Cidr[]
  }
): {
  readonly prefixes: Prefixes
  readonly real: Prefixes
  readonly all: readonly Cidr[]
  readonly warnings: readonly string[]
} {
  const {
    cluster,
    open,
    within,
    view,
    replaced,
    hostNetworks,
    around,
    alsoHeld = [],
    reserved = []
  } = options
  const held = [...heldByMembers(view, replaced?.name), ...alsoHeld, ...heldByInvites(open), ...reserved]
  const real = {
    podPrefixes: cidrs('real-pod-cidr', request.realPodCidrs ?? []),
    servicePrefixes: cidrs('real-service-cidr', request.realServiceCidrs ?? [])
  }
  const taken = [
    ...hostNetworks,
    ...held.map(({ prefix }) => prefix),
    ...real.podPrefixes,
    ...real.servicePrefixes,
    ...(options.balancePrefix === undefined ? [] : [options.balancePrefix])
  ]
  const prefixes = choosePrefixes(withDefaults(request, replaced), taken, { within, like: real })
  // The join would refuse what cannot be paired.
  translatedPrefixes(real, prefixes)
  const all = [...prefixes.podPrefixes, ...prefixes.servicePrefixes]
  refuseOverlaps(all, held)
  refuseBalanced(all, options)
  const names = { from: replaced?.name, to: cluster }
  const renamed = around && { ...around, outers: outersRenamed(around.outers, names) }
  const inMesh = alsoHeld.length > 0 ? alsoHeld : held
  const hidden = [...real.podPrefixes, ...real.servicePrefixes].flatMap((cidr) =>
    overlappedBy(cidr, cluster, inMesh)
  )
  return { prefixes, real, all, warnings: [...checkSurroundings(cluster, all, renamed), ...hidden] }
}

/**
 * Returns a warning for each prefix of the mesh that the new cluster really uses itself: its hosts keep their own addresses,
 * so a translation of the new cluster alone does not let the two reach each other.
 */
function overlappedBy(real: Cidr, cluster: ClusterName, inMesh: readonly Held[]): readonly string[] {
  return inMesh
    .filter(({ prefix }) => cidrOverlaps(prefix, real))
    .map(
      ({ prefix, owner }) =>
        `${owner} has ${prefix} in the mesh, which overlaps ${real}, the real prefix of ${cluster}: the two do not reach each other there until the addresses of ${owner} are translated, too (docs/overlap.md)`
    )
}

/**
 * Removes the invites whose cluster is in the view. A cluster's name and prefixes are then held by the member itself,
 * and become free when it leaves. One that replaces a cluster of the same name is removed when it was used. `used`
 * returns the ids of the invites by which members let a cluster in. Returns the same object when no invite is removed,
 * so that the caller saves nothing.
 */
export function withoutRedeemedInvites(
  identity: Identity,
  { view, used }: { readonly view: MeshView; readonly used: () => ReadonlySet<string> }
): Identity {
  const invites = identity.invites ?? []
  const open = invites.filter(({ id, cluster, replaces }) =>
    replaces === undefined ? !view.clusters.has(cluster as ClusterName) : !used().has(id)
  )
  return open.length === invites.length ? identity : { ...identity, invites: open }
}

/** Returns the first seat that covers all names. Errors: AppError NO_SEAT, SEAT_EXCEEDED. */
export function seatFor(names: readonly ClusterName[], seats: readonly OwnSeat[]): OwnSeat {
  const seat = seats.find((one) => names.every((name) => coversName(one.seat, name)))
  if (seat !== undefined) return seat
  if (seats.length === 0) throw noSeat()
  const all = [...new Set(names)]
  throw new AppError(
    'SEAT_EXCEEDED',
    `no seat of this agent covers the ${all.length === 1 ? 'name' : 'names'} ${all.join(' and ')}`,
    'choose a name within the rights that `meshctl admin list` shows, or ask another administrator'
  )
}

/** The request with the prefixes of the replaced cluster in place of those that it leaves out. */
function withDefaults(
  request: Pick<InviteRequest, 'podCidrs' | 'serviceCidrs'>,
  replaced: ReplacedCluster | undefined
): Pick<InviteRequest, 'podCidrs' | 'serviceCidrs'> {
  const { podCidrs, serviceCidrs } = request
  return {
    podCidrs: podCidrs.length > 0 ? podCidrs : (replaced?.podPrefixes ?? []),
    serviceCidrs: serviceCidrs.length > 0 ? serviceCidrs : (replaced?.servicePrefixes ?? [])
  }
}

/**
 * Refuses the name of a cluster that is a member. The name of an open invite is allowed: inviting again replaces the
 * token. Errors: AppError NAME_TAKEN.
 */
function refuseTakenName(cluster: ClusterName, view: MeshView): void {
  if (!view.clusters.has(cluster)) return
  if (cluster === view.self)
    throw new AppError(
      'NAME_TAKEN',
      `cluster: ${cluster} is the cluster of this agent, so it needs no invite`,
      'for one more gateway of this cluster, run `meshctl invite --gateway` (in Kubernetes, a gateway needs none); for another cluster, choose another name; to give this cluster a new key, run `meshctl key rotate --cluster`'
    )
  throw new AppError(
    'NAME_TAKEN',
    `cluster: the name ${cluster} is taken by a member of this mesh`,
    `choose another name, since \`meshctl peers\` lists those in use; to bring cluster ${cluster} back, run \`meshctl leave\` in it first, or \`meshctl remove ${cluster}\` here when it is gone; when its disk is lost or its key stolen, run \`meshctl invite ${cluster} --replace\``
  )
}

type Invite = NonNullable<Identity['invites']>[number]

/** Returns the invites that reserve their prefixes: those that have not expired. */
function openInvites({ invites = [] }: Identity, nowMs: number): readonly Invite[] {
  return invites.filter(({ expiresMs }) => expiresMs > nowMs)
}

/** The prefixes of all clusters but this one. */
function heldByMembers(view: MeshView, except: ClusterName | undefined): readonly Held[] {
  const others = [...view.clusters.values()].filter(({ name }) => name !== except)
  return others.flatMap(({ name, podPrefixes, servicePrefixes }) =>
    [...podPrefixes, ...servicePrefixes].map((prefix) => ({ prefix, owner: `cluster ${name}` }))
  )
}

function heldByInvites(open: readonly Invite[]): readonly Held[] {
  return open.flatMap(({ cluster, prefixes }) =>
    prefixes.map((prefix) => ({ prefix: prefix as Cidr, owner: `the open invite of ${cluster}` }))
  )
}

/** Refuses prefixes that overlap prefixes in use. Errors: AppError PREFIX_OVERLAP, which names the first overlap. */
function refuseOverlaps(prefixes: readonly Cidr[], held: readonly Held[]): void {
  for (const wanted of prefixes) {
    const hit = held.find(({ prefix }) => cidrOverlaps(prefix, wanted))
    if (hit !== undefined) {
      throw new AppError(
        'PREFIX_OVERLAP',
        `prefix ${wanted} overlaps ${hit.prefix} of ${hit.owner}`,
        'give prefixes that no other cluster of the mesh has; without the flags, free prefixes are chosen; for a cluster that really uses these, `--real-pod-cidr` and `--real-service-cidr` choose others that stand for them in the mesh'
      )
    }
  }
}

/**
 * Refuses prefixes that share addresses with those that the hosts of this cluster give to balanced services: a host of it would
 * answer such an address itself. Errors: AppError PREFIX_OVERLAP.
 */
function refuseBalanced(
  prefixes: readonly Cidr[],
  { balancePrefix }: Pick<InviteOptions, 'balancePrefix'>
): void {
  const hit = prefixes.find((prefix) => balancePrefix !== undefined && cidrOverlaps(balancePrefix, prefix))
  if (hit === undefined) return
  throw new AppError(
    'PREFIX_OVERLAP',
    `prefix ${hit} overlaps ${balancePrefix}, from which this cluster gives addresses to services with a policy or a ServiceExport`,
    'give another prefix; for a cluster that really uses this one, set balance-cidr to an unused prefix first, on all agents of all clusters'
  )
}

/**
 * Returns a warning for each prefix that overlaps a network of this host. Such a network keeps working, since members
 * never route what they reach without the mesh into the tunnel.
 *
 * Errors: AppError PREFIX_HIDES for a prefix that contains an address by which the mesh or this host is reached.
 * Connections to that address would end in the tunnel.
 */
function checkSurroundings(
  cluster: string,
  prefixes: readonly Cidr[],
  around: Around | undefined
): readonly string[] {
  if (around === undefined) return []
  return prefixes.flatMap((prefix) => {
    const hidden = hiddenBy(prefix, cluster, around)
    if (hidden !== undefined) throw hidesError(prefix, hidden)
    const overlaps = overlapsOf(prefix, cluster, around)
    return overlaps.length === 0
      ? []
      : [`prefix ${prefix} overlaps ${overlapText(overlaps)}; members keep what they reach by themselves`]
  })
}
