// Creates a mesh, an invite, a cluster or an agent; each function signs one more link of a chain. Seeds are 32-byte
// Ed25519 secrets that the caller must keep. Bad prefixes throw RangeError: call `checkPrefixes` first and show its
// text.
import type { Crypto } from '../model/crypto.ts'
import type { ClusterName, Role } from '../model/values.ts'
import { type ChainMessage, decodeChain, encodeMessage, wire } from '../wire/messages.ts'
import { type CertificateDraft, type Prefixes, type Validity, sealCertificate } from './certificate.ts'
import { type ChainOf, type ClusterChain, type InviteChain, meshIdOf, verifyChain } from './chain.ts'

/** Creates a mesh and its founding cluster, whose certificate the root key signs directly. */
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

/**
 * Creates an invite for one cluster name and its prefixes. Any holder of `inviteSeed` can become that cluster until
 * `notAfter`.
 */
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

/**
 * Redeems an invite, whose dates token.ts has checked, for a cluster with a new key. Needs no connection to the mesh.
 */
export function redeem(options: {
  readonly crypto: Crypto
  readonly invite: InviteChain
  readonly inviteSeed: Uint8Array
  readonly nowSeconds: number
}): { readonly clusterSeed: Uint8Array; readonly chain: ClusterChain } {
  const { crypto, invite, nowSeconds } = options
  const clusterSeed = crypto.random(32)
  // A small clock difference to the inviter must not date the cluster outside its invite (chain.ts, 'validity').
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
 * Issues a certificate for an agent of a cluster, which the agent's own key signs, too (proto: Certificate.acceptance).
 * `chain` is the encoded Chain that ends in the cluster. The certificate is valid for AGENT_VALIDITY_SECONDS; renew it
 * after half of them.
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

/**
 * Seven days: short, because a stolen node key stays valid for this long, and long enough for a weekend without the
 * cluster's key.
 */
const AGENT_VALIDITY_SECONDS = 7 * 86_400
/**
 * Ten years: the cluster's key never leaves the cluster, and such a certificate is meant to end by revocation, not by
 * expiry.
 */
const CLUSTER_VALIDITY_SECONDS = 10 * 365 * 86_400

/** Returns the validity of a cluster certificate that begins at this Unix second. */
function clusterValidity(notBefore: number): Validity {
  return { notBefore, notAfter: notBefore + CLUSTER_VALIDITY_SECONDS }
}

/**
 * Appends one link and verifies the whole chain, so that no chain is issued that other agents would refuse. Throws when
 * it does not verify.
 */
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
