// Certificate chains from the mesh's root keys down to one key. A chain is verified offline and without a clock.
// Invariants
//   1. The issuer of each link is the subject of the link before it (of the first link: a root key), and has signed the
//      link.
//   2. The kinds come in the order invite, cluster, agent; the founding cluster has no invite.
//   3. Mesh id and cluster name are equal in every link; the cluster's prefixes lie within those of its invite.
//   4. A chain is canonical: encoding the decoded chain gives the same bytes, so a chain has one form and no hidden
//      parts.
//   5. Validity dates are checked only in the handshake and for a token (`checkTime`). If replication checked them, two
//      agents with the same certificates and different clocks would see two different meshes.
import { cidrContains } from '../model/cidr.ts'
import type { Crypto } from '../model/crypto.ts'
import type { Cidr, ClusterName, Origin, Role } from '../model/values.ts'
import { meshIdText, originOf } from '../model/identity.ts'
import { CHAIN_BYTES_MAX } from '../wire/limits.ts'
import { decodeChain, encodeMessage, wire } from '../wire/messages.ts'
import { compareBytes, equalBytes, utf8 } from '../model/bytes.ts'
import {
  type AgentCertificate,
  type Certificate,
  type GrantCertificate,
  type Prefixes,
  type Validity,
  isSigned,
  openCertificate
} from './certificate.ts'
import type { CertificateOrder } from './order.ts'

/** What every verified chain has: the mesh, and the name and prefixes of its cluster. */
interface CommonChain extends Prefixes {
  /** The encoded Chain, as it is sent. */
  readonly bytes: Uint8Array
  readonly meshId: Uint8Array
  readonly cluster: ClusterName
}

/** What is needed of an invite after the chain is verified: its place in certificate order, and its dates. */
interface InviteFacts {
  readonly serial: Uint8Array
  readonly validity: Validity
}

/** A chain that ends in an invite, as a token carries it. */
export interface InviteChain extends CommonChain {
  readonly kind: 'INVITE'
  /** The public key whose seed the token carries. */
  readonly inviteKey: Uint8Array
  readonly invite: InviteFacts
}

/** A chain that ends in a cluster certificate; the cluster's key may append agent certificates to it. */
export interface ClusterChain extends CommonChain {
  readonly kind: 'CLUSTER'
  readonly clusterKey: Uint8Array
  /** Undefined for the founding cluster. */
  readonly invite: InviteFacts | undefined
  readonly clusterValidity: Validity
  readonly order: CertificateOrder
}

/** A chain that ends in an agent certificate, as the handshake shows it and as it is sent with an origin's records. */
export interface AgentChain extends Omit<ClusterChain, 'kind'> {
  readonly kind: 'AGENT'
  readonly agentOrigin: Origin
  readonly agentKey: Uint8Array
  readonly agentValidity: Validity
  /** SHA-256 of the agent certificate's body. */
  readonly agentHash: Uint8Array
  readonly roles: readonly Role[]
  readonly node: string
}

/** Maps the kind of a chain's last link to the type of the verified chain. */
export interface ChainOf {
  INVITE: InviteChain
  CLUSTER: ClusterChain
  AGENT: AgentChain
}

/** Why a chain is refused. */
export type ChainRefusalCode =
  /** The bytes are not decodable, not canonical or too many, or a certificate is malformed. */
  | 'malformed'
  /** The chain is of another mesh. */
  | 'mesh'
  /** Links are missing, too many, or of the wrong kind for their place. */
  | 'links'
  /** A link was not issued by the subject of the link before it. */
  | 'issuer'
  /** A signature of an issuer, or the acceptance of a subject, is not valid. */
  | 'signature'
  /** The cluster names of the links differ. */
  | 'cluster'
  /** The cluster has a prefix that lies outside those of its invite. */
  | 'prefixes'
  /** The cluster certificate is dated outside the validity of its invite. */
  | 'validity'

interface ChainRefused {
  readonly kind: 'refused'
  readonly code: ChainRefusalCode
  readonly reason: string
}

/**
 * Verifies an encoded Chain that ends in the kind `upTo`. With `meshId` undefined a chain of any mesh is accepted, as
 * for a token that is read before this agent is in a mesh. Never throws on hostile bytes.
 */
export function verifyChain<K extends keyof ChainOf>(
  bytes: Uint8Array,
  options: { readonly crypto: Crypto; readonly meshId: Uint8Array | undefined; readonly upTo: K }
): ChainOf[K] | ChainRefused {
  const { crypto } = options
  if (bytes.length > CHAIN_BYTES_MAX)
    return refused('malformed', `the chain is larger than ${CHAIN_BYTES_MAX} bytes`)
  const chain = decodeChain(bytes)
  if (chain === undefined || !equalBytes(encodeMessage<object>(wire.Chain, chain), bytes)) {
    return refused('malformed', 'the chain is damaged, or has fields that this version does not know')
  }
  if (!areRootKeys(chain.rootKeys))
    return refused('malformed', 'the root keys are missing, malformed or unsorted')
  const meshId = meshIdOf(crypto, chain.rootKeys)
  if (options.meshId !== undefined && !equalBytes(meshId, options.meshId)) {
    return refused(
      'mesh',
      `the chain belongs to ${meshIdText(meshId)}, and this agent is in ${meshIdText(options.meshId)}`
    )
  }
  if (chain.certificates.length > LINKS_MAX)
    return refused('links', `the chain has more than ${LINKS_MAX} links`)

  // The cheap checks come before the signatures, because a peer that is not authenticated can make this agent run them.
  const links: Certificate[] = []
  for (const message of chain.certificates) {
    const opened = openCertificate(crypto, message)
    if (opened.kind === 'malformed')
      return refused('malformed', `a certificate of the chain is malformed: ${opened.reason}`)
    links.push(opened.certificate)
  }
  const shape = shapeOf(links)
  if (shape === undefined || shape.end !== options.upTo) {
    const found = links.map((link) => link.kind).join(', ') || 'nothing'
    return refused('links', `the chain consists of: ${found}; it must end in ${ENDS[options.upTo]}`)
  }
  const fault = checkLinks(links, { rootKeys: chain.rootKeys, meshId }) ?? checkGrants(shape)
  if (fault !== undefined) return fault
  const forged = links.find((link, index) => {
    const message = chain.certificates[index]
    return message === undefined || !isSigned(crypto, message, link)
  })
  if (forged !== undefined) return refused('signature', `the ${forged.kind} certificate has a bad signature`)
  const facts = factsOf(shape, bytes, meshId)
  if (!endsIn(facts, options.upTo))
    throw new Error(`a chain down to ${facts.kind} passed for ${options.upTo}`)
  return facts
}

/** `reason` names the certificate, its date and this clock's time, because either may be wrong. */
type TimeVerdict =
  | { readonly kind: 'valid' }
  | { readonly kind: 'refused'; readonly code: 'expired' | 'notYetValid'; readonly reason: string }

/**
 * Checks the validity dates of a chain in the handshake, with a tolerance of CLOCK_SKEW_SECONDS. The certificates of
 * the agent and the cluster must be valid. The invite must be valid only while its cluster is unknown here: an expired
 * token cannot be redeemed, but a cluster that was admitted before stays.
 */
export function checkTime(
  chain: InviteChain | AgentChain,
  nowSeconds: number,
  options: { readonly knownCluster: boolean }
): TimeVerdict {
  const dated: (readonly [string, Validity])[] = []
  if (chain.kind === 'AGENT') {
    dated.push([`the certificate of agent ${chain.node}`, chain.agentValidity])
    dated.push([`the certificate of cluster ${chain.cluster}`, chain.clusterValidity])
  }
  if (chain.invite !== undefined && !options.knownCluster) {
    dated.push([`the invite of ${chain.cluster}`, chain.invite.validity])
  }
  const clock = `this clock says ${timeText(nowSeconds)}`
  for (const [what, { notBefore, notAfter }] of dated) {
    if (nowSeconds > notAfter + CLOCK_SKEW_SECONDS) {
      const ago = durationText(nowSeconds - notAfter)
      return {
        kind: 'refused',
        code: 'expired',
        reason: `${what} expired ${ago} ago, at ${timeText(notAfter)}; ${clock}`
      }
    }
    if (nowSeconds < notBefore - CLOCK_SKEW_SECONDS) {
      const ahead = durationText(notBefore - nowSeconds)
      const reason = `${what} becomes valid in ${ahead}, at ${timeText(notBefore)}; ${clock}`
      return { kind: 'refused', code: 'notYetValid', reason }
    }
  }
  return { kind: 'valid' }
}

/** The mesh id: SHA-256 (32 bytes) over a domain tag and the root keys, which must be sorted. */
export function meshIdOf(crypto: Crypto, rootKeys: readonly Uint8Array[]): Uint8Array {
  return crypto.sha256(MESH_DOMAIN, ...rootKeys)
}

/** Formats Unix seconds as ISO 8601 in UTC: "2026-11-23T04:30:00Z". */
export function timeText(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}

/** Formats a duration as a number and its largest fitting unit: "364 days", "3 hours", "40 seconds". */
export function durationText(seconds: number): string {
  const [unit, size] = UNITS.find(([, size]) => seconds >= 2 * size) ?? ['second', 1]
  const count = Math.floor(seconds / size)
  return `${count} ${unit}${count === 1 ? '' : 's'}`
}

/**
 * Clocks in a healthy fleet differ by less than this. A certificate that is used in the second of its issue needs the
 * tolerance.
 */
export const CLOCK_SKEW_SECONDS = 300
// Invite, cluster and agent are three links; the fourth is reserved for a future link of an administrator.
const LINKS_MAX = 4
const ROOT_KEYS_MAX = 8
const MESH_DOMAIN = utf8('rhizome/mesh/1\0')
const UNITS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60]
] as const
const ENDS = { INVITE: 'an invite', CLUSTER: 'a cluster', AGENT: 'an agent' } as const

/** The links of a chain by their kind; `end` is the kind of the last one. */
interface Shape {
  readonly end: keyof ChainOf
  readonly invite: GrantCertificate | undefined
  readonly cluster: GrantCertificate | undefined
  readonly agent: AgentCertificate | undefined
}

/** Returns the links by kind; undefined when their order or their number is wrong (invariant 2). */
function shapeOf(links: readonly Certificate[]): Shape | undefined {
  const rest = [...links]
  const invite = rest[0]?.kind === 'invite' ? rest.shift() : undefined
  const cluster = rest[0]?.kind === 'cluster' ? rest.shift() : undefined
  const agent = rest[0]?.kind === 'agent' ? rest.shift() : undefined
  if (rest.length > 0 || links.length === 0) return undefined
  if (invite?.kind === 'agent' || cluster?.kind === 'agent') return undefined
  if (agent === undefined) return { end: cluster ? 'CLUSTER' : 'INVITE', invite, cluster, agent }
  return agent.kind === 'agent' && cluster !== undefined
    ? { end: 'AGENT', invite, cluster, agent }
    : undefined
}

/** Checks issuer, mesh and cluster name of each link (invariants 1 and 3); signatures are checked by the caller. */
function checkLinks(
  links: readonly Certificate[],
  from: { readonly rootKeys: readonly Uint8Array[]; readonly meshId: Uint8Array }
): ChainRefused | undefined {
  let issuers = from.rootKeys
  for (const link of links) {
    if (!equalBytes(link.meshId, from.meshId))
      return refused('mesh', `the ${link.kind} certificate belongs to another mesh`)
    if (link.cluster !== links[0]?.cluster) {
      return refused(
        'cluster',
        `the chain has certificates of two clusters, ${links[0]?.cluster} and ${link.cluster}`
      )
    }
    if (!issuers.some((key) => equalBytes(key, link.issuerKey))) {
      return refused('issuer', `the ${link.kind} certificate was not issued by the certificate before it`)
    }
    issuers = [link.subjectKey]
  }
  return undefined
}

/**
 * Checks a cluster certificate against its invite: prefixes (invariant 3) and date. The date is compared with the
 * invite's dates and with no clock, so all agents decide alike.
 */
function checkGrants({ invite, cluster }: Shape): ChainRefused | undefined {
  if (invite === undefined || cluster === undefined) return undefined
  const beyond = [
    ...cluster.podPrefixes.filter((cidr) => !isWithin(cidr, invite.podPrefixes)),
    ...cluster.servicePrefixes.filter((cidr) => !isWithin(cidr, invite.servicePrefixes))
  ]
  if (beyond.length > 0) return refused('prefixes', `${beyond[0]} is not in the invite of ${cluster.cluster}`)
  const { notBefore, notAfter } = invite.validity
  if (cluster.validity.notBefore < notBefore || cluster.validity.notBefore > notAfter + CLOCK_SKEW_SECONDS) {
    return refused('validity', 'the date of the cluster certificate is outside the validity of its invite')
  }
  return undefined
}

/** Returns the verified chain, flattened to the values that its users need. */
function factsOf(shape: Shape, bytes: Uint8Array, meshId: Uint8Array): ChainOf[keyof ChainOf] {
  const { invite, cluster, agent } = shape
  const inviteFacts = invite && { serial: invite.serial, validity: invite.validity }
  if (cluster === undefined) {
    if (invite === undefined || inviteFacts === undefined)
      throw new Error('a chain without links has no facts')
    const { cluster: name, podPrefixes, servicePrefixes, subjectKey } = invite
    const common = { bytes, meshId, cluster: name, podPrefixes, servicePrefixes }
    return { kind: 'INVITE', ...common, inviteKey: subjectKey, invite: inviteFacts }
  }
  const facts: ClusterChain = {
    kind: 'CLUSTER',
    bytes,
    meshId,
    cluster: cluster.cluster,
    clusterKey: cluster.subjectKey,
    podPrefixes: cluster.podPrefixes,
    servicePrefixes: cluster.servicePrefixes,
    invite: inviteFacts,
    clusterValidity: cluster.validity,
    order: {
      invite: invite && { notBefore: invite.validity.notBefore, tieBreak: invite.serial },
      cluster: { notBefore: cluster.validity.notBefore, tieBreak: cluster.hash }
    }
  }
  if (agent === undefined) return facts
  return {
    ...facts,
    kind: 'AGENT',
    agentOrigin: originOf(agent.subjectKey),
    agentKey: agent.subjectKey,
    agentValidity: agent.validity,
    agentHash: agent.hash,
    roles: agent.roles,
    node: agent.node
  }
}

function endsIn<K extends keyof ChainOf>(chain: ChainOf[keyof ChainOf], end: K): chain is ChainOf[K] {
  return chain.kind === end
}

/**
 * Returns whether there are 1 to ROOT_KEYS_MAX keys, sorted and each once. Unsorted keys would give a second id for the
 * same mesh.
 */
function areRootKeys(keys: readonly Uint8Array[]): boolean {
  if (keys.length === 0 || keys.length > ROOT_KEYS_MAX || keys.some((key) => key.length !== 32)) return false
  return keys.every((key, index) => {
    const before = keys[index - 1]
    return before === undefined || compareBytes(before, key) < 0
  })
}

function isWithin(cidr: Cidr, prefixes: readonly Cidr[]): boolean {
  return prefixes.some((prefix) => cidrContains(prefix, cidr))
}

function refused(code: ChainRefusalCode, reason: string): ChainRefused {
  return { kind: 'refused', code, reason }
}
