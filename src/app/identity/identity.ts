// What an agent keeps of its own identity: its keys, and the cluster and mesh that it is a member of. An agent makes a
// mesh (`initMesh`) or redeems a token (`redeemToken`); invites are made in invite.ts. Each function takes an identity
// and returns a new one, which the caller saves, so a failed attempt leaves nothing behind. What a person typed is
// checked here, and each error names the field and the fix.
import { cidrContains, parseIp } from '../../core/model/cidr.ts'
import { codeOfKind } from '../../core/model/coded-error.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Cidr, ClusterName } from '../../core/model/values.ts'
import { hostOfMultiaddr } from '../../core/model/outer-address.ts'
import type { Prefixes } from '../../core/model/prefixes.ts'
import { createTranslation, type RealPrefix, type Translation } from '../../core/model/translation.ts'
import { certifyCluster } from '../../core/trust/author/join.ts'
import { createMesh } from '../../core/trust/author/mesh.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'
import { meshRoots, type MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Identity } from '../../io/store/store.ts'
import type { InitRequest } from '../../api/requests.ts'
import { AppError } from '../observe/errors.ts'
import { base64, bytes, clusterName, seconds } from './encoding.ts'
import { choosePrefixes, hidesError } from './prefixes.ts'
import { refuseForgotten, translatedPrefixes } from './real-prefixes.ts'

/** A cluster of a mesh as this agent has it: its name, its prefixes, its key, and what shows that it is a member. */
export interface Membership extends Prefixes {
  readonly roots: MeshRoots
  readonly cluster: ClusterName
  /** Ed25519 seed of the cluster key, 32 bytes. It certifies this cluster's agents, and admits newcomers. A secret. */
  readonly clusterSeed: Uint8Array
  /**
   * Of a member the TrustItem down to its admission or founding certificate; of a newcomer, which no member has admitted
   * yet, that of its certificate.
   */
  readonly stage:
    | { readonly kind: 'member'; readonly clusterItem: Uint8Array }
    | { readonly kind: 'newcomer'; readonly certItem: Uint8Array }
  /** The prefixes that a translated cluster really uses; empty: those that the mesh knows are its real ones. */
  readonly realPrefixes: readonly RealPrefix[]
  /** The translation of `realPrefixes`. */
  readonly translation: Translation
  /** Multiaddrs of members, with their PeerIds. Empty for the agent that made the mesh. */
  readonly bootstrap: readonly string[]
}

/**
 * Makes the keys of a new agent: the Ed25519 seed that decides its PeerId, and that of its tunnel. It is in no mesh yet.
 */
export function createIdentity(crypto: Crypto): Identity {
  return {
    nodeSeed: base64(crypto.random(32)),
    tunnelSeed: base64(crypto.random(32))
  }
}

/**
 * Returns the keys of the agent alone. A mesh that is made or joined begins with these: no root, no seat, no invites, no
 * cluster and no pending token of an earlier one.
 */
export function withoutMesh({ nodeSeed, tunnelSeed }: Identity): Identity {
  return { nodeSeed, tunnelSeed }
}

/** Returns undefined for an agent in no mesh. A token by which no member has admitted it yet is no membership. */
export function membershipOf(identity: Identity, crypto: Crypto): Membership | undefined {
  return identity.clusterItem === undefined ? undefined : membershipIn(identity, crypto)
}

/** Returns the roots of the mesh that an identity names; undefined when it names none. */
export function rootsOf({ mesh }: Identity, crypto: Crypto): MeshRoots | undefined {
  return mesh && meshRoots(crypto, mesh.k, mesh.rootKeys.map(bytes))
}

/**
 * Makes a mesh with this cluster as its first member: the root keys, the first administrator, and the founding certificate.
 * Root and administrator stay on this agent. Prefixes that the request leaves out are chosen outside `hostNetworks`.
 *
 * Errors: AppError BAD_ARGUMENT.
 */
export function initMesh(
  request: InitRequest,
  options: {
    readonly crypto: Crypto
    readonly identity: Identity
    /** Unix milliseconds. */
    readonly nowMs: number
    readonly hostNetworks: readonly Cidr[]
    /** The prefixes that the cluster really uses, where its addresses are translated (real-prefixes.ts). */
    readonly real?: Prefixes | undefined
  }
): Identity {
  const { crypto, identity, nowMs, real } = options
  const cluster = clusterName(request.cluster)
  const taken = [...options.hostNetworks, ...(real?.podPrefixes ?? []), ...(real?.servicePrefixes ?? [])]
  const { podPrefixes, servicePrefixes } = choosePrefixes(request, taken, { like: real })
  const realPrefixes = real === undefined ? [] : translatedPrefixes(real, { podPrefixes, servicePrefixes })
  refuseOwnAddresses(realPrefixes, options.hostNetworks)
  const mesh = createMesh({
    crypto,
    roots: rootsWanted(request.roots),
    cluster,
    label: cluster,
    pods: podPrefixes,
    services: servicePrefixes
  })
  return {
    ...withoutMesh(identity),
    mesh: meshField(mesh.roots),
    cluster,
    clusterSeed: base64(mesh.clusterSeed),
    clusterItem: base64(mesh.clusterItem),
    rootSeeds: mesh.rootSeeds.map(base64),
    rootExported: false,
    seats: [{ adminSeed: base64(mesh.adminSeed), seatItem: base64(mesh.seatItem) }],
    // In the order in which they were given; the certificate has them sorted.
    podPrefixes: [...podPrefixes],
    servicePrefixes: [...servicePrefixes],
    ...realPrefixesField(realPrefixes),
    bootstrap: [],
    generation: 1,
    generationAtMs: nowMs,
    joinedBy: 'init',
    joinedAtMs: nowMs
  }
}

/** The roots as the identity file holds them. */
export function meshField({ k, keys }: MeshRoots): NonNullable<Identity['mesh']> {
  return { k, rootKeys: keys.map(base64) }
}

/** Returns whether this agent joined with this token. Then joining with it again changes nothing. */
export function isJoinedWith(
  { joinedToken }: Identity,
  options: { readonly crypto: Crypto; readonly token: string }
): boolean {
  return joinedToken !== undefined && joinedToken === hashOfToken(options.crypto, options.token)
}

/** Returns the identity with the token by which this agent became one more gateway of a cluster. */
export function joinedWith(
  identity: Identity,
  options: { readonly crypto: Crypto; readonly token: string }
): Identity {
  return { ...identity, joinedToken: hashOfToken(options.crypto, options.token) }
}

/**
 * Redeems a token for a cluster key of this agent. Returns the identity with `pending`, to be saved before the first
 * member is dialled; it counts as a membership once a member has admitted it (`admitted`). The same token again returns
 * the same identity, with the same key: a member may have admitted the first try without an answer that reached this
 * agent.
 *
 * Errors: AppError TOKEN_* (the codes of core/trust/invite-token.ts), PREFIX_HIDES when a prefix of the token contains an
 * address of a member that the token names, or TRANSLATION_MISMATCH.
 */
export function redeemToken(
  text: string,
  options: {
    readonly crypto: Crypto
    readonly identity: Identity
    /** Unix milliseconds. */
    readonly nowMs: number
    /** The prefixes that the cluster really uses, where its addresses are translated (real-prefixes.ts). */
    readonly real?: Prefixes | undefined
  }
): Identity {
  const { crypto, identity, nowMs, real } = options
  const token = decodeInviteToken(text, { crypto, nowSeconds: seconds(nowMs), meshId: undefined })
  if (token.kind === 'refused')
    throw new AppError(codeOfKind('TOKEN', token.code), `token: ${token.message}`, token.fix)
  const hash = hashOfToken(crypto, text)
  const { roots, invite, inviteItem, inviteSeed, bootstrap } = token
  const podPrefixes = invite.pods.map(({ cidr }) => cidr)
  const servicePrefixes = invite.services.map(({ cidr }) => cidr)
  refuseForgotten(token.realPrefixes, real)
  const realField = realPrefixesField(
    real === undefined ? [] : translatedPrefixes(real, { podPrefixes, servicePrefixes })
  )
  if (identity.pending?.token === hash) {
    const { realPrefixes: _, ...kept } = identity
    return { ...kept, ...realField }
  }
  refuseHiddenMembers([...podPrefixes, ...servicePrefixes], bootstrap)
  const clusterSeed = crypto.random(32)
  const { item } = certifyCluster({ crypto, roots }, { inviteItem, inviteSeed, clusterSeed })
  return {
    ...withoutMesh(identity),
    mesh: meshField(roots),
    cluster: invite.cluster,
    clusterSeed: base64(clusterSeed),
    podPrefixes,
    servicePrefixes,
    ...realField,
    bootstrap: [...bootstrap],
    pending: {
      token: hash,
      inviteItem: base64(inviteItem),
      inviteSeed: base64(inviteSeed),
      certItem: base64(item)
    },
    generation: 1,
    generationAtMs: nowMs,
    joinedBy: 'token',
    joinedAtMs: nowMs
  }
}

/**
 * Refuses prefixes that contain an address at which a member in the token is reached. The inviter has checked the
 * addresses that it knows (invite.ts), but it may not know all. Errors: AppError PREFIX_HIDES.
 */
function refuseHiddenMembers(prefixes: readonly Cidr[], bootstrap: readonly string[]): void {
  for (const address of bootstrap) {
    const ip = parseIp(hostOfMultiaddr(address))
    const hit = prefixes.find((prefix) => ip !== undefined && cidrContains(prefix, ip))
    if (hit !== undefined) throw hidesError(hit, `${ip}, where a member of this mesh is reached`)
  }
}

/**
 * Refuses virtual prefixes that contain an address of this host: no host has a virtual address, and others would look for this
 * gateway in the tunnel that leads to it. Errors: AppError PREFIX_HIDES.
 */
function refuseOwnAddresses(prefixes: readonly RealPrefix[], addresses: readonly Cidr[]): void {
  for (const { virtual } of createTranslation(prefixes).pods.concat(createTranslation(prefixes).services)) {
    const hit = addresses.find((address) => cidrContains(virtual, address))
    if (hit !== undefined) throw hidesError(virtual, `${hit.replace(/\/.*/, '')}, an address of this host`)
  }
}

/** Returns the membership for the first connection, admitted or not. Throws for an identity without a mesh. */
export function pendingMembership(identity: Identity, crypto: Crypto): Membership {
  const membership = membershipIn(identity, crypto)
  if (membership === undefined) throw new Error('nothing is pending')
  return membership
}

/** Returns the identity after a member has admitted the cluster: the membership counts from now on. */
export function admitted(identity: Identity, clusterItem: Uint8Array): Identity {
  const { pending, ...kept } = identity
  const token = pending?.token
  return {
    ...kept,
    clusterItem: base64(clusterItem),
    ...(token === undefined ? {} : { joinedToken: token })
  }
}

/**
 * Returns the SHA-256 of a token in base64, as the identity keeps it. White space does not count: a person pastes the
 * token.
 */
function hashOfToken(crypto: Crypto, text: string): string {
  return base64(crypto.sha256(new TextEncoder().encode(text.replace(/\s/g, ''))))
}

/** The store has checked the texts, so prefixes and names are taken as they are. */
function membershipIn(identity: Identity, crypto: Crypto): Membership | undefined {
  const { cluster, clusterSeed, clusterItem, pending, podPrefixes, servicePrefixes, bootstrap } = identity
  const roots = rootsOf(identity, crypto)
  if (roots === undefined || cluster === undefined || clusterSeed === undefined) return undefined
  const stage =
    clusterItem !== undefined
      ? ({ kind: 'member', clusterItem: bytes(clusterItem) } as const)
      : pending && ({ kind: 'newcomer', certItem: bytes(pending.certItem) } as const)
  if (stage === undefined) return undefined
  return {
    roots,
    cluster: cluster as ClusterName,
    clusterSeed: bytes(clusterSeed),
    stage,
    podPrefixes: (podPrefixes ?? []) as Cidr[],
    servicePrefixes: (servicePrefixes ?? []) as Cidr[],
    ...translated(realPrefixesIn(identity)),
    bootstrap: bootstrap ?? []
  }
}

/** The real prefixes of a translated cluster, as the identity file holds them; the store has checked the texts. */
export function realPrefixesIn({ realPrefixes }: Identity): readonly RealPrefix[] {
  return (realPrefixes ?? []) as RealPrefix[]
}

/** The fields of a membership that say how its addresses are translated. */
export function translated(
  realPrefixes: readonly RealPrefix[]
): Pick<Membership, 'realPrefixes' | 'translation'> {
  return { realPrefixes, translation: createTranslation(realPrefixes) }
}

/** The field of the identity file with these prefixes; without any, the field is left out. */
export function realPrefixesField(prefixes: readonly RealPrefix[]): Pick<Identity, 'realPrefixes'> {
  return prefixes.length === 0 ? {} : { realPrefixes: prefixes.map((prefix) => ({ ...prefix })) }
}

/** The numbers of root keys of `init`. Errors: AppError BAD_ARGUMENT where more must sign than there are. */
function rootsWanted({ k, number }: NonNullable<InitRequest['roots']> = { k: 1, number: 1 }): {
  readonly k: number
  readonly number: number
} {
  if (k <= number) return { k, number }
  throw new AppError(
    'BAD_ARGUMENT',
    `roots: ${k} of ${number} cannot sign`,
    'write how many must sign, then how many there are: 2of3'
  )
}
