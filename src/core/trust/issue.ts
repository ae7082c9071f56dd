// Making a mesh, an invite, a cluster and an agent: each signs one more link. Seeds are 32-byte Ed25519 secrets; who calls
// keeps them. Bad prefixes throw RangeError: ask `checkPrefixes` first and show its text.
import type { Crypto } from '../model/crypto.ts'
import type { ClusterName, Role } from '../model/values.ts'
import { type ChainMessage, decodeChain, encodeMessage, wire } from '../wire/messages.ts'
import { type CertificateDraft, type Prefixes, type Validity, sealCertificate } from './certificate.ts'
import { type ChainOf, type ClusterChain, type InviteChain, meshIdOf, verifyChain } from './chain.ts'

/** A new mesh and its founding cluster, which a root signs directly. */
export function createMesh(
  options: {
    readonly crypto: Crypto
    readonly cluster: ClusterName
    readonly nowSeconds: number
  } & Prefixes
): {
  readonly meshId: Uint8Array
  readonly rootSeed: Uint8Array
  readonly clusterSeed: Uint8Array
  readonly chain: ClusterChain
} {
  const { crypto, cluster, podPrefixes, servicePrefixes } = options
  const [rootSeed, clusterSeed] = [crypto.random(32), crypto.random(32)]
  const roots = encodeMessage(wire.Chain, { rootKeys: [crypto.publicKeyOf(rootSeed)] })
  const validity = clusterValidity(options.nowSeconds)
  const chain = extend('CLUSTER', {
    crypto,
    chain: roots,
    issuerSeed: rootSeed,
    subjectSeed: clusterSeed,
    draft: { kind: 'cluster', cluster, podPrefixes, servicePrefixes, validity }
  })
  return { meshId: chain.meshId, rootSeed, clusterSeed, chain }
}

/** An invite for one cluster name and its prefixes. Whoever holds `inviteSeed` until `notAfter` can be that cluster. */
export function createInvite(
  options: {
    readonly crypto: Crypto
    readonly rootSeed: Uint8Array
    readonly cluster: ClusterName
  } & Prefixes &
    Validity
): { readonly inviteSeed: Uint8Array; readonly chain: InviteChain } {
  const { crypto, rootSeed, cluster, podPrefixes, servicePrefixes, notBefore, notAfter } = options
  const inviteSeed = crypto.random(32)
  const chain = extend('INVITE', {
    crypto,
    chain: encodeMessage(wire.Chain, { rootKeys: [crypto.publicKeyOf(rootSeed)] }),
    issuerSeed: rootSeed,
    subjectSeed: inviteSeed,
    draft: { kind: 'invite', cluster, podPrefixes, servicePrefixes, validity: { notBefore, notAfter } }
  })
  return { inviteSeed, chain }
}

/** Turns an invite in date (token.ts checks that) into a cluster with a key of its own. Needs nobody else. */
export function redeem(options: {
  readonly crypto: Crypto
  readonly invite: InviteChain
  readonly inviteSeed: Uint8Array
  readonly nowSeconds: number
}): { readonly clusterSeed: Uint8Array; readonly chain: ClusterChain } {
  const { crypto, invite, nowSeconds } = options
  const clusterSeed = crypto.random(32)
  // A clock a little off the inviter's must not date the cluster outside its invite (chain.ts, 'validity').
  const { notBefore, notAfter } = invite.invite.validity
  const validity = clusterValidity(Math.min(Math.max(nowSeconds, notBefore), notAfter))
  const { cluster, podPrefixes, servicePrefixes } = invite
  const chain = extend('CLUSTER', {
    crypto,
    chain: invite.bytes,
    issuerSeed: options.inviteSeed,
    subjectSeed: clusterSeed,
    draft: { kind: 'cluster', cluster, podPrefixes, servicePrefixes, validity }
  })
  return { clusterSeed, chain }
}

/**
 * A short-lived certificate for an agent of a cluster, which the agent's own key accepts (proto: Certificate.acceptance).
 * `chain`: the encoded Chain down to CLUSTER. Renew at half its life: AGENT_VALIDITY_SECONDS.
 */
export function issueAgentCertificate(options: {
  readonly crypto: Crypto
  readonly clusterSeed: Uint8Array
  readonly chain: Uint8Array
  readonly agentSeed: Uint8Array
  readonly node: string
  readonly roles: readonly Role[]
  readonly nowSeconds: number
}): ChainOf['AGENT'] {
  const { crypto, nowSeconds, node, roles } = options
  const issuer = verifyChain(options.chain, { crypto, meshId: undefined, upTo: 'CLUSTER' })
  if (issuer.kind === 'refused') throw new Error(`our own cluster chain does not verify: ${issuer.reason}`)
  const validity = { notBefore: nowSeconds, notAfter: nowSeconds + AGENT_VALIDITY_SECONDS }
  return extend('AGENT', {
    crypto,
    chain: options.chain,
    issuerSeed: options.clusterSeed,
    subjectSeed: options.agentSeed,
    draft: { kind: 'agent', cluster: issuer.cluster, node, roles, validity }
  })
}

/** Short, because a stolen node key stays good for this long; long enough to survive a weekend without the cluster's key. */
const AGENT_VALIDITY_SECONDS = 7 * 86_400
/** The cluster's key never leaves the cluster; revocation, not expiry, is what ends it. */
const CLUSTER_VALIDITY_SECONDS = 10 * 365 * 86_400

function clusterValidity(notBefore: number): Validity {
  return { notBefore, notAfter: notBefore + CLUSTER_VALIDITY_SECONDS }
}

/** Appends one link and verifies the whole: what we hand out, everyone else must accept. */
function extend<K extends keyof ChainOf>(
  upTo: K,
  options: {
    readonly crypto: Crypto
    readonly chain: Uint8Array
    readonly issuerSeed: Uint8Array
    readonly subjectSeed: Uint8Array
    readonly draft: CertificateDraft
  }
): ChainOf[K] {
  const { crypto } = options
  const message: ChainMessage | undefined = decodeChain(options.chain)
  if (message === undefined) throw new Error('our own chain is not decodable')
  const meshId = meshIdOf(crypto, message.rootKeys)
  const certificate = sealCertificate({ ...options, meshId })
  const bytes = encodeMessage<object>(wire.Chain, {
    rootKeys: message.rootKeys,
    certificates: [...message.certificates, certificate]
  })
  const chain = verifyChain(bytes, { crypto, meshId, upTo })
  if (chain.kind === 'refused') throw new Error(`a fresh certificate does not verify: ${chain.reason}`)
  return chain
}
