// The statements of a join, in their order: an administrator's invite, the newcomer's certificate, the sponsor's
// admission, and certificates of the new cluster's agents.
import type { ClusterName, Role } from '../../model/values.ts'
import type { KeyId, StatementId } from '../set/ids.ts'
import { openCredential, type Credential } from '../members/credential.ts'
import { openItem } from '../set/form.ts'
import {
  type Authored,
  type AuthorContext,
  checkSeed,
  extend,
  keyOfSeed,
  lastOf,
  opened,
  podsAndServices,
  type Prefixes
} from './author.ts'

/** An invite with its secret: the holder of the seed can become the cluster. */
interface NewInvite extends Authored {
  /** 32 bytes; it goes into the token and nowhere else. */
  readonly inviteSeed: Uint8Array
}

/**
 * Invites one cluster. Throws a RangeError when name, prefixes or span exceed the rights of the seat (F4), or when the
 * prefixes overlap.
 */
export function createInvite(
  context: AuthorContext,
  options: {
    readonly seatItem: Uint8Array
    readonly adminSeed: Uint8Array
    readonly cluster: ClusterName
    /** Namespaces that the cluster may export; empty: all. */
    readonly namespaces: readonly string[]
    /** Unix seconds; the sponsor compares them with its clock. */
    readonly notBefore: number
    readonly notAfter: number
    /** The cluster key whose place the newcomer takes. */
    readonly replaces?: KeyId | undefined
  } & Prefixes
): NewInvite {
  const { seatItem, adminSeed, cluster, namespaces, notBefore, notAfter } = options
  const seat = lastOf(context, seatItem, 'seat')
  checkSeed(context, adminSeed, seat.adminKey, 'adminSeed')
  const inviteSeed = context.crypto.random(32)
  const authored = extend(
    context,
    seatItem,
    {
      kind: 'invite',
      under: seat.id,
      inviteKey: keyOfSeed(context, inviteSeed),
      cluster,
      ...podsAndServices(options),
      namespaces: [...new Set(namespaces)],
      notBefore,
      notAfter,
      replaces: options.replaces
    },
    { issuer: adminSeed }
  )
  return { ...authored, inviteSeed }
}

/**
 * Redeems an invite for the cluster key of `clusterSeed`, which the caller has saved. Needs no connection. The same
 * input gives another statement each time, so save the item, too.
 */
export function certifyCluster(
  context: AuthorContext,
  options: {
    readonly inviteItem: Uint8Array
    readonly inviteSeed: Uint8Array
    readonly clusterSeed: Uint8Array
  }
): Authored {
  const { inviteItem, inviteSeed, clusterSeed } = options
  const invite = lastOf(context, inviteItem, 'invite')
  checkSeed(context, inviteSeed, invite.inviteKey, 'inviteSeed')
  return extend(
    context,
    inviteItem,
    {
      kind: 'clusterCert',
      invite: invite.id,
      name: invite.cluster,
      clusterKey: keyOfSeed(context, clusterSeed),
      pods: [],
      services: []
    },
    { issuer: inviteSeed, accepting: clusterSeed }
  )
}

/**
 * Admits a newcomer whom `judgeNewcomer` let in. `seen` is `TrustSet.nextSeen` of the sponsor's key, `time` Unix seconds
 * by the sponsor's clock.
 */
export function admitCluster(
  context: AuthorContext,
  options: {
    readonly certItem: Uint8Array
    readonly sponsorSeed: Uint8Array
    readonly seen: number
    readonly time: number
  }
): Authored {
  const { certItem, sponsorSeed, seen, time } = options
  const cert = lastOf(context, certItem, 'clusterCert')
  if (cert.invite === undefined) throw new RangeError('certItem: a founding cluster needs no admission')
  return extend(
    context,
    certItem,
    {
      kind: 'admission',
      invite: cert.invite,
      clusterKey: cert.clusterKey,
      sponsorKey: keyOfSeed(context, sponsorSeed),
      seen,
      time
    },
    { issuer: sponsorSeed }
  )
}

/**
 * Certifies an agent of a cluster; the agent's own key signs, too. `clusterItem` ends in the cluster's admission or
 * founding certificate. A certificate with changed node or roles needs a higher generation than the one before: of two
 * with one generation, members keep the one with the lower id.
 */
export function certifyAgent(
  context: AuthorContext,
  options: {
    readonly clusterItem: Uint8Array
    readonly clusterSeed: Uint8Array
    readonly agentSeed: Uint8Array
    readonly node: string
    readonly roles: readonly Role[]
    /** S8: the certificate counts until the cluster's generation is two higher. */
    readonly generation: number
  }
): Credential {
  const { clusterItem, clusterSeed, agentSeed, node, roles, generation } = options
  const clusterKey = clusterKeyOf(context, clusterItem)
  checkSeed(context, clusterSeed, clusterKey, 'clusterSeed')
  const { item } = extend(
    context,
    clusterItem,
    {
      kind: 'agentCert',
      clusterKey,
      agentKey: keyOfSeed(context, agentSeed),
      node,
      roles: [...new Set(roles)],
      generation
    },
    { issuer: clusterSeed, accepting: agentSeed }
  )
  const credential = openCredential({ open: (bytes) => openItem(context, bytes) }, item)
  if (credential.kind === 'refused') throw new Error(`a new credential is refused: ${credential.reason}`)
  return credential
}

/** The key of the cluster that an item ends in. Throws a RangeError when the item ends in something else. */
export function clusterKeyOf(context: AuthorContext, clusterItem: Uint8Array): KeyId {
  const last = opened(context, clusterItem).at(-1)?.statement
  if (last?.kind === 'admission' || (last?.kind === 'clusterCert' && last.invite === undefined))
    return last.clusterKey
  throw new RangeError(
    `clusterItem: it ends in a ${last?.kind}, but an admission or a founding certificate is needed`
  )
}

/** The id of the last statement of an item. Throws a RangeError when the item does not verify. */
export function idOfItem(context: AuthorContext, item: Uint8Array): StatementId {
  const last = opened(context, item).at(-1)
  if (last === undefined) throw new RangeError('the item is empty')
  return last.statement.id
}
