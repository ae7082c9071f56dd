// What an agent keeps of its own identity: its keys, and the cluster and mesh that it is a member of. An agent makes a
// mesh (`initMesh`) or redeems a token (`redeemToken`); invites are made in invite.ts. Each function takes an identity
// and returns a new one, which the caller saves, so a failed attempt leaves nothing behind. What a person typed is
// checked here, and each error names the field and the fix.
import { cidrContains, parseIp } from '../../core/model/cidr.ts'
import { codeOfKind } from '../../core/model/coded-error.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Cidr, ClusterName } from '../../core/model/values.ts'
import { hostOfMultiaddr } from '../../core/model/outer-address.ts'
import type { Prefixes } from '../../core/trust/certificate.ts'
import type { ClusterChain } from '../../core/trust/chain.ts'
import { createMesh, redeem } from '../../core/trust/issue.ts'
import { decodeToken } from '../../core/trust/token.ts'
import type { Identity } from '../../io/store/store.ts'
import type { InitRequest } from '../../api/requests.ts'
import { AppError } from '../observe/errors.ts'
import { base64, bytes, clusterName, seconds } from './encoding.ts'
import { choosePrefixes, hidesError } from './prefixes.ts'

/** A cluster of a mesh as this agent has it: its name, its prefixes, its key, and the certificates of both. */
export interface Membership extends Prefixes {
  /** 32 bytes: the hash of the mesh's root keys. */
  readonly meshId: Uint8Array
  readonly cluster: ClusterName
  /** Ed25519 seed of the cluster key, 32 bytes. It signs the certificates of this cluster's agents. A secret. */
  readonly clusterSeed: Uint8Array
  /** Encoded Chain down to the CLUSTER certificate. */
  readonly clusterChain: Uint8Array
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
 * Returns the keys of the agent alone. A mesh that is made or joined begins with these: no root key, no invites, no
 * chain and no pending token of an earlier one.
 */
export function withoutMesh({ nodeSeed, tunnelSeed }: Identity): Identity {
  return { nodeSeed, tunnelSeed }
}

/** Returns undefined for an agent in no mesh. A token that no member has accepted yet is no membership. */
export function membershipOf(identity: Identity): Membership | undefined {
  return identity.pendingToken === undefined ? membershipIn(identity) : undefined
}

/**
 * Makes a mesh with this cluster as its first member: root key, cluster key and their certificates. The root key stays
 * on this agent, so only this agent can invite. Prefixes that the request leaves out are chosen outside `hostNetworks`.
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
  }
): Identity {
  const { crypto, identity, nowMs } = options
  const cluster = clusterName(request.cluster)
  const prefixes = choosePrefixes(request, options.hostNetworks)
  const mesh = createMesh({ crypto, cluster, nowSeconds: seconds(nowMs), ...prefixes })
  return {
    ...withoutMesh(identity),
    ...clusterFields({ chain: mesh.chain, clusterSeed: mesh.clusterSeed, bootstrap: [] }),
    rootSeed: base64(mesh.rootSeed),
    // In the order in which they were given; the certificate has them sorted.
    podPrefixes: [...prefixes.podPrefixes],
    servicePrefixes: [...prefixes.servicePrefixes],
    joinedBy: 'init',
    joinedAtMs: nowMs
  }
}

/**
 * Returns the fields of an identity that name its mesh and its cluster: from the verified CLUSTER chain, the seed of
 * the cluster key, and multiaddrs of members.
 */
export function clusterFields(options: {
  readonly chain: ClusterChain
  readonly clusterSeed: Uint8Array
  readonly bootstrap: readonly string[]
}): Pick<Identity, ClusterField> {
  const { chain, clusterSeed, bootstrap } = options
  return {
    meshId: base64(chain.meshId),
    cluster: chain.cluster,
    clusterSeed: base64(clusterSeed),
    clusterChain: base64(chain.bytes),
    podPrefixes: [...chain.podPrefixes],
    servicePrefixes: [...chain.servicePrefixes],
    bootstrap: [...bootstrap]
  }
}

type ClusterField =
  'meshId' | 'cluster' | 'clusterSeed' | 'clusterChain' | 'podPrefixes' | 'servicePrefixes' | 'bootstrap'

/** Returns whether this agent joined with this token. Then joining with it again changes nothing. */
export function isJoinedWith(
  { joinedToken }: Identity,
  options: { readonly crypto: Crypto; readonly token: string }
): boolean {
  return joinedToken !== undefined && joinedToken === hashOfToken(options.crypto, options.token)
}

/**
 * Redeems a token for a cluster key of this agent. Returns the identity with `pendingToken`, to be saved before the
 * first member is dialled; it counts as a membership once a member has accepted it (`accepted`). The same token again
 * returns the same identity, with the same key: the mesh may have accepted the first try without an answer that reached
 * this agent.
 *
 * Errors: AppError TOKEN_* (the codes of core/trust/token.ts), or PREFIX_HIDES when a prefix of the token contains an
 * address of a member that the token names.
 */
export function redeemToken(
  text: string,
  options: {
    readonly crypto: Crypto
    readonly identity: Identity
    /** Unix milliseconds. */
    readonly nowMs: number
  }
): Identity {
  const { crypto, identity, nowMs } = options
  const token = decodeToken(text, { crypto, nowSeconds: seconds(nowMs), meshId: undefined })
  if (token.kind === 'refused')
    throw new AppError(codeOfKind('TOKEN', token.code), `token: ${token.message}`, token.fix)
  const pendingToken = hashOfToken(crypto, text)
  if (identity.pendingToken === pendingToken) return identity
  const { clusterSeed, chain } = redeem({
    crypto,
    invite: token.invite,
    inviteSeed: token.inviteSeed,
    nowSeconds: seconds(nowMs)
  })
  refuseHiddenMembers([...chain.podPrefixes, ...chain.servicePrefixes], token.bootstrap)
  return {
    ...withoutMesh(identity),
    ...clusterFields({ chain, clusterSeed, bootstrap: token.bootstrap }),
    joinedBy: 'token',
    joinedAtMs: nowMs,
    pendingToken
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

/** Returns the membership that `redeemToken` made, for the first connection. Throws for an identity without a mesh. */
export function pendingMembership(identity: Identity): Membership {
  const membership = membershipIn(identity)
  if (membership === undefined) throw new Error('nothing is pending')
  return membership
}

/** Returns the identity after a member has accepted the token: the membership counts from now on. */
export function accepted(identity: Identity): Identity {
  const { pendingToken, ...kept } = identity
  return pendingToken === undefined ? kept : { ...kept, joinedToken: pendingToken }
}

/**
 * Returns the SHA-256 of a token in base64, as the identity keeps it. White space does not count: a person pastes the
 * token.
 */
function hashOfToken(crypto: Crypto, text: string): string {
  return base64(crypto.sha256(new TextEncoder().encode(text.replace(/\s/g, ''))))
}

/** The store has checked the texts, so prefixes and names are taken as they are. */
function membershipIn(identity: Identity): Membership | undefined {
  const { meshId, cluster, clusterSeed, clusterChain, podPrefixes, servicePrefixes, bootstrap } = identity
  if (
    meshId === undefined ||
    cluster === undefined ||
    clusterSeed === undefined ||
    clusterChain === undefined
  )
    return undefined
  return {
    meshId: bytes(meshId),
    cluster: cluster as ClusterName,
    clusterSeed: bytes(clusterSeed),
    clusterChain: bytes(clusterChain),
    podPrefixes: (podPrefixes ?? []) as Cidr[],
    servicePrefixes: (servicePrefixes ?? []) as Cidr[],
    bootstrap: bootstrap ?? []
  }
}
