// How an agent comes to be in a mesh: it makes one (init), invites (invite), is invited (join). What is typed is checked here, and
// each error names the field and the fix. Nothing is kept of an attempt that failed.
import { createInvite, createMesh, redeem } from '../../core/trust/issue.ts'
import { decodeToken, encodeToken } from '../../core/trust/token.ts'
import { cidrContains, cidrOverlaps, parseIp } from '../../core/model/cidr.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Cidr, ClusterName } from '../../core/model/values.ts'
import { parseClusterName } from '../../core/model/identity.ts'
import {
  hostOfMultiaddr,
  overlapsOf,
  overlapText,
  type OuterAddress,
  type Surroundings
} from '../../core/host/surroundings.ts'
import type { MeshView } from '../../core/view/view.ts'
import { generateWireguardKey } from '../../io/crypto/crypto.ts'
import type { Identity } from '../../io/store/store.ts'
import type { InitRequest, InviteRequest } from '../../api/requests.ts'
import { AppError } from '../observe/errors.ts'
import { screaming } from '../enrolment/refusal.ts'
import { choosePrefixes, type Prefixes } from './prefixes.ts'

// A token names as many members as fit a line that a person can paste.
const BOOTSTRAP_MAX = 6

/** A cluster of a mesh as this agent has it: its name, its key and what certifies both. */
export interface Membership extends Prefixes {
  readonly meshId: Uint8Array
  readonly cluster: ClusterName
  readonly clusterSeed: Uint8Array
  /** Encoded Chain down to the CLUSTER certificate. */
  readonly clusterChain: Uint8Array
  /** Multiaddrs of members, with their PeerIds. */
  readonly bootstrap: readonly string[]
}

export function createIdentity(crypto: Crypto): Identity {
  return {
    nodeSeed: base64(crypto.random(32)),
    wireguardPrivateKey: base64(generateWireguardKey().privateKey)
  }
}

/** undefined: in no mesh (a token that nobody has accepted yet does not count). */
export function membershipOf(identity: Identity): Membership | undefined {
  if (identity.pendingToken !== undefined) return undefined
  return parts(identity)
}

/** Errors: AppError BAD_ARGUMENT. */
export function initMesh(
  request: InitRequest,
  options: { crypto: Crypto; identity: Identity; nowMs: number; hostNetworks: readonly Cidr[] }
): Identity {
  const { crypto, identity, nowMs } = options
  const cluster = clusterName(request.cluster)
  const prefixes = choosePrefixes(request, options.hostNetworks)
  const mesh = createMesh({ crypto, cluster, nowSeconds: seconds(nowMs), ...prefixes })
  return {
    ...identity,
    meshId: base64(mesh.meshId),
    rootSeed: base64(mesh.rootSeed),
    cluster,
    clusterSeed: base64(mesh.clusterSeed),
    clusterChain: base64(mesh.chain.bytes),
    podPrefixes: [...prefixes.podPrefixes],
    servicePrefixes: [...prefixes.servicePrefixes],
    bootstrap: [],
    joinedBy: 'init',
    joinedAtMs: nowMs
  }
}

export interface Invited extends Prefixes {
  readonly token: string
  readonly expiresMs: number
  readonly bootstrap: readonly string[]
  /** Networks of this host that the prefixes overlap. */
  readonly warnings: readonly string[]
  readonly identity: Identity
}

export interface Around {
  readonly surroundings: Surroundings
  readonly outers: readonly OuterAddress[]
}

/**
 * Without the invites that a member has redeemed: its name and prefixes are taken while it is in the view, and free once it has left.
 * Returns the same object when nothing is to be closed.
 */
export function withoutRedeemedInvites(identity: Identity, view: MeshView): Identity {
  const invites = identity.invites ?? []
  const open = invites.filter(({ cluster }) => !view.clusters.has(cluster as ClusterName))
  return open.length === invites.length ? identity : { ...identity, invites: open }
}

/** The hash of a token in the form in which the identity keeps it; white space does not count. */
function hashOfToken(crypto: Crypto, text: string): string {
  return base64(crypto.sha256(new TextEncoder().encode(text.replace(/\s/g, ''))))
}

/** Whether this is the token that this agent joined with: to join with it again changes nothing. */
export function isJoinedWith(identity: Identity, options: { crypto: Crypto; token: string }): boolean {
  return (
    identity.joinedToken !== undefined && identity.joinedToken === hashOfToken(options.crypto, options.token)
  )
}

/** Errors: AppError BAD_ARGUMENT, NO_ROOT_KEY, NAME_TAKEN, PREFIX_OVERLAP. */
export function invite(
  request: InviteRequest,
  options: {
    crypto: Crypto
    identity: Identity
    nowMs: number
    view: MeshView
    bootstrap: ReadonlyMap<ClusterName, readonly string[]>
    hostNetworks: readonly Cidr[]
    /** What this host and the members reach without the mesh. */
    around?: Around
  }
): Invited {
  const { crypto, identity, nowMs, view } = options
  const cluster = clusterName(request.cluster)
  if (identity.rootSeed === undefined) {
    throw new AppError(
      'NO_ROOT_KEY',
      'this agent does not hold the root key of the mesh, so it cannot invite',
      'run `meshctl invite` on the agent where `meshctl init` was run'
    )
  }
  if (view.clusters.has(cluster)) {
    throw new AppError(
      'NAME_TAKEN',
      `cluster: the name ${cluster} is taken by a member of this mesh`,
      'choose another name, since `meshctl peers` lists those in use; to bring a cluster back, run `meshctl leave` in it first'
    )
  }
  const open = (identity.invites ?? []).filter(
    (entry) => entry.expiresMs > nowMs && entry.cluster !== cluster
  )
  const taken = [...view.clusters.values()].flatMap((member) =>
    [...member.podPrefixes, ...member.servicePrefixes].map((prefix) => ({
      prefix,
      owner: `cluster ${member.name}`
    }))
  )
  const invited = open.flatMap((entry) =>
    entry.prefixes.map((prefix) => ({ prefix: prefix as Cidr, owner: `the open invite of ${entry.cluster}` }))
  )
  const prefixes = choosePrefixes(request, [
    ...options.hostNetworks,
    ...[...taken, ...invited].map(({ prefix }) => prefix)
  ])
  for (const wanted of [...prefixes.podPrefixes, ...prefixes.servicePrefixes]) {
    const hit = [...taken, ...invited].find(({ prefix }) => cidrOverlaps(prefix, wanted))
    if (hit !== undefined) {
      throw new AppError(
        'PREFIX_OVERLAP',
        `prefix ${wanted} overlaps ${hit.prefix} of ${hit.owner}`,
        'clusters of one mesh need prefixes of their own: name others, or none and free ones are chosen'
      )
    }
  }
  const { around } = options
  const warnings = checkOverlaps(cluster, [...prefixes.podPrefixes, ...prefixes.servicePrefixes], around)
  const bootstrap = chooseBootstrap(request.bootstrap, options.bootstrap)
  const expiresMs = nowMs + request.ttlSeconds * 1000
  const made = createInvite({
    crypto,
    rootSeed: bytes(identity.rootSeed),
    cluster,
    ...prefixes,
    notBefore: seconds(nowMs),
    notAfter: seconds(expiresMs)
  })
  return {
    token: encodeToken(crypto, { invite: made.chain, inviteSeed: made.inviteSeed, bootstrap }),
    expiresMs,
    bootstrap,
    warnings,
    ...prefixes,
    identity: {
      ...identity,
      invites: [
        ...open,
        { cluster, prefixes: [...prefixes.podPrefixes, ...prefixes.servicePrefixes], expiresMs }
      ]
    }
  }
}

/**
 * Returns a warning for each prefix that overlaps a network of this host. Errors: PREFIX_HIDES for a prefix that holds an address by which
 * the mesh or this host is reached: the members' own connections would be lost in the tunnel, or those of the new cluster.
 */
function checkOverlaps(
  cluster: string,
  prefixes: readonly Cidr[],
  around: Around | undefined
): readonly string[] {
  if (around === undefined) return []
  return prefixes.flatMap((prefix) => {
    const overlaps = overlapsOf(prefix, cluster, around)
    const grave = overlaps.filter(({ kind }) => kind === 'address')
    if (grave.length > 0) throw hides(prefix, overlapText(grave))
    return overlaps.length === 0
      ? []
      : [`prefix ${prefix} overlaps ${overlapText(overlaps)}; members keep what they reach by themselves`]
  })
}

function hides(prefix: Cidr, what: string): AppError {
  return new AppError(
    'PREFIX_HIDES',
    `prefix ${prefix} would hide ${what}`,
    'name prefixes that only the pods and services of that cluster use, never the network in which hosts reach each other'
  )
}

/** The identity to be tried out; it counts once a member has accepted it (`accepted`). Errors: AppError TOKEN_*. */
export function redeemToken(
  text: string,
  options: { crypto: Crypto; identity: Identity; nowMs: number }
): Identity {
  const { crypto, identity, nowMs } = options
  const token = decodeToken(text, { crypto, nowSeconds: seconds(nowMs), meshId: undefined })
  if (token.kind === 'refused')
    throw new AppError(`TOKEN_${screaming(token.code)}`, `token: ${token.message}`, token.fix)
  const pendingToken = hashOfToken(crypto, text)
  if (identity.pendingToken === pendingToken) return identity // the same key again: a first try may have got through
  const { clusterSeed, chain } = redeem({
    crypto,
    invite: token.invite,
    inviteSeed: token.inviteSeed,
    nowSeconds: seconds(nowMs)
  })
  // Whoever made the token may not know where every member is; the token names some.
  for (const address of token.bootstrap) {
    const ip = parseIp(hostOfMultiaddr(address))
    const prefixes = [...chain.podPrefixes, ...chain.servicePrefixes]
    const hit = prefixes.find((prefix) => ip !== undefined && cidrContains(prefix, ip))
    if (hit !== undefined) throw hides(hit, `${ip}, where a member of this mesh is reached`)
  }
  return {
    nodeSeed: identity.nodeSeed,
    wireguardPrivateKey: identity.wireguardPrivateKey,
    meshId: base64(chain.meshId),
    cluster: chain.cluster,
    clusterSeed: base64(clusterSeed),
    clusterChain: base64(chain.bytes),
    podPrefixes: [...chain.podPrefixes],
    servicePrefixes: [...chain.servicePrefixes],
    bootstrap: [...token.bootstrap],
    joinedBy: 'token',
    joinedAtMs: nowMs,
    pendingToken
  }
}

/** What `redeemToken` made, to try it. */
export function pendingMembership(identity: Identity): Membership {
  const membership = parts(identity)
  if (membership === undefined) throw new Error('nothing is pending')
  return membership
}

export function accepted(identity: Identity): Identity {
  const { pendingToken, ...kept } = identity
  return pendingToken === undefined ? kept : { ...kept, joinedToken: pendingToken }
}

function parts(identity: Identity): Membership | undefined {
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

function clusterName(text: string): ClusterName {
  const parsed = parseClusterName(text)
  if (parsed.kind === 'invalid')
    throw new AppError(
      'BAD_ARGUMENT',
      `cluster: ${parsed.reason}`,
      'use a DNS label such as "west" or "eu-1"'
    )
  return parsed.clusterName
}

/** Own addresses first, then one of each other cluster: a token whose only member is down helps nobody. */
function chooseBootstrap(
  wanted: readonly string[],
  known: ReadonlyMap<ClusterName, readonly string[]>
): string[] {
  for (const name of wanted) {
    if (!known.has(name as ClusterName)) {
      throw new AppError(
        'BAD_ARGUMENT',
        `bootstrap: ${name} is no cluster of this mesh`,
        `choose of ${[...known.keys()].join(', ')}`
      )
    }
  }
  const chosen = [...known]
    .filter(([name]) => wanted.length === 0 || wanted.includes(name))
    .map(([, addresses]) => addresses)
  const result: string[] = []
  for (
    let round = 0;
    result.length < BOOTSTRAP_MAX && chosen.some((addresses) => addresses.length > round);
    round++
  ) {
    for (const addresses of chosen)
      if (addresses[round] !== undefined && result.length < BOOTSTRAP_MAX) result.push(addresses[round] ?? '')
  }
  if (result.length === 0) {
    throw new AppError(
      'BAD_ARGUMENT',
      'bootstrap: none of these agents can be dialled from outside',
      'set `announce` of this agent to an address that newcomers can reach'
    )
  }
  return result
}

export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'))
}

export function base64(raw: Uint8Array): string {
  return Buffer.from(raw).toString('base64')
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000)
}
