// The part of an identity that all gateways of a cluster share through a Secret (core/trust/cluster-secret.ts): cluster
// key, what makes the cluster a member, seats, roots, addresses. The agent's own keys are in no Secret.
import type { Crypto } from '../../core/model/crypto.ts'
import type { Prefixes } from '../../core/model/prefixes.ts'
import { pairPrefixes } from '../../core/model/translation.ts'
import type { Cidr } from '../../core/model/values.ts'
import type { ClusterSecret, Membership, SharedSeat } from '../../core/trust/cluster-secret-data.ts'
import { opened } from '../../core/trust/author/author.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Statement } from '../../core/trust/set/statement.ts'
import type { Identity } from '../../io/store/store.ts'
import { base64, bytes } from './encoding.ts'
import { meshField, realPrefixesField, realPrefixesIn, rootsOf } from './identity.ts'

/**
 * What this agent would write into the Secret. Throws when an item of the identity does not verify, which is a fault of
 * the program or of the disk.
 */
export function sharedOf(identity: Identity, crypto: Crypto): ClusterSecret {
  const roots = rootsOf(identity, crypto)
  const { clusterSeed, seats = [], rootSeeds = [], rootExported = false, bootstrap = [] } = identity
  if (roots === undefined || clusterSeed === undefined) throw new Error('this identity is of no mesh')
  return {
    roots,
    clusterSeed: bytes(clusterSeed),
    membership: membershipOf(identity, { crypto, roots }),
    seats: seats.map((seat) => seatOf(seat, { crypto, roots })),
    rootSeeds: rootSeeds.map(bytes),
    rootExported,
    bootstrap,
    ...(identity.realPrefixes === undefined ? {} : { realPrefixes: realPrefixesIn(identity) })
  }
}

/**
 * Returns the identity with what the Secret has. The agent's own keys and its open invites stay. `nowMs`: Unix
 * milliseconds.
 */
export function withShared(
  identity: Identity,
  secret: ClusterSecret,
  options: { readonly crypto: Crypto; readonly nowMs: number }
): Identity {
  const { crypto, nowMs } = options
  const { roots, membership, seats, rootSeeds, rootExported, bootstrap } = secret
  const { podPrefixes, servicePrefixes } = prefixesOf(secret, crypto)
  const { pending, realPrefixes: _, ...kept } = identity
  const isSame = kept.clusterSeed === base64(secret.clusterSeed)
  const real = secret.realPrefixes ?? (isSame ? realPrefixesIn(identity) : [])
  if (!isSame) delete kept.clusterItem
  return {
    joinedBy: 'token',
    joinedAtMs: nowMs,
    generation: 1,
    generationAtMs: nowMs,
    ...kept,
    mesh: meshField(roots),
    cluster: membership.cluster,
    clusterSeed: base64(secret.clusterSeed),
    ...(membership.kind === 'member'
      ? { clusterItem: base64(membership.item) }
      : {
          pending: {
            ...(isSame && pending?.token !== undefined ? { token: pending.token } : {}),
            inviteItem: base64(membership.inviteItem),
            inviteSeed: base64(membership.inviteSeed),
            certItem: base64(membership.certItem)
          }
        }),
    podPrefixes: [...podPrefixes],
    servicePrefixes: [...servicePrefixes],
    ...realPrefixesField(pairPrefixes(real, { podPrefixes, servicePrefixes }).prefixes),
    bootstrap: [...bootstrap],
    seats: seats.map(({ adminSeed, seatItem }) => ({
      adminSeed: base64(adminSeed),
      seatItem: base64(seatItem)
    })),
    rootSeeds: rootSeeds.map(base64),
    rootExported
  }
}

/** The prefixes of the founding certificate or of the invite in a Secret. */
export function prefixesOf(secret: Pick<ClusterSecret, 'roots' | 'membership'>, crypto: Crypto): Prefixes {
  const { roots, membership } = secret
  const item = membership.kind === 'member' ? membership.item : membership.certItem
  const statements = statementsOf(item, { crypto, roots })
  const named = statements.find(({ kind }) => kind === 'invite') ?? statements.at(-1)
  if (named?.kind !== 'invite' && named?.kind !== 'clusterCert')
    return { podPrefixes: [], servicePrefixes: [] }
  const cidrs = (list: readonly { readonly cidr: Cidr }[]) => list.map(({ cidr }) => cidr)
  return { podPrefixes: cidrs(named.pods), servicePrefixes: cidrs(named.services) }
}

interface Context {
  readonly crypto: Crypto
  readonly roots: MeshRoots
}

function membershipOf({ clusterItem, pending }: Identity, context: Context): Membership {
  const item = clusterItem ?? pending?.certItem
  if (item === undefined) throw new Error('this identity is of no cluster')
  const statements = statementsOf(bytes(item), context)
  const [last, cert] = [statements.at(-1), statements.find(({ kind }) => kind === 'clusterCert')]
  if (last === undefined || cert?.kind !== 'clusterCert')
    throw new Error('the item of this cluster has no certificate')
  const { name: cluster, clusterKey } = cert
  if (clusterItem !== undefined) {
    const seen = last.kind === 'admission' ? last.seen : 0
    return { kind: 'member', item: bytes(clusterItem), cluster, clusterKey, place: { seen, id: last.id } }
  }
  const invite = statements.find(({ kind }) => kind === 'invite')
  if (pending === undefined || invite?.kind !== 'invite') throw new Error('the pending token has no invite')
  return {
    kind: 'pending',
    inviteItem: bytes(pending.inviteItem),
    inviteSeed: bytes(pending.inviteSeed),
    certItem: bytes(pending.certItem),
    cluster,
    clusterKey,
    replaces: invite.replaces
  }
}

function seatOf(
  { adminSeed, seatItem }: { readonly adminSeed: string; readonly seatItem: string },
  context: Context
): SharedSeat {
  const last = statementsOf(bytes(seatItem), context).at(-1)
  if (last === undefined) throw new Error('the item of a seat is empty')
  return { id: last.id, adminSeed: bytes(adminSeed), seatItem: bytes(seatItem) }
}

function statementsOf(item: Uint8Array, context: Context): readonly Statement[] {
  return opened(context, item).map(({ statement }) => statement)
}
