// The key of a cluster, which its gateways share in one Kubernetes Secret: the format of the Secret, and the decision
// of a gateway about the key that it finds there. Pure code; src/io/kube/cluster-key-secret.ts reads and writes the
// Secret.
// Invariants
//   1. Content that cannot be read is never overwritten.
//   2. A key that a member of the mesh has accepted is never replaced by another; a key that no member has accepted
//      (`pending`) can be.
//   3. Of two certificates for one key the later one is used, independent of the order of arrival, so all gateways
//      agree.
import type { Crypto } from '../model/crypto.ts'
import type { Fields } from '../model/field-check.ts'
import type { Origin } from '../model/values.ts'
import { compareBytes, equalBytes } from '../model/bytes.ts'
import { CHAIN_BYTES_MAX } from '../wire/limits.ts'
import { verifyChain, type ClusterChain } from './chain.ts'

/** The key of a cluster with its chain and the addresses of its gateways. */
export interface ClusterKey {
  /** The Ed25519 seed, 32 bytes; a secret. */
  readonly seed: Uint8Array
  readonly chain: ClusterChain
  /** True while no member of the mesh has accepted the key. */
  readonly pending: boolean
  /** Multiaddrs that end in /p2p/<PeerId>; a new gateway dials them first. */
  readonly bootstrap: readonly string[]
}

/** The content of the Secret. */
export type KeyReading =
  | { readonly kind: 'empty' }
  | { readonly kind: 'key'; readonly key: ClusterKey }
  /** The content cannot be read. `reason` quotes no part of it. */
  | { readonly kind: 'corrupt'; readonly reason: string }

/** What a gateway does about the content of the Secret. */
export type KeyVerdict =
  | { readonly kind: 'agreed' }
  /** Write this key into the Secret. */
  | { readonly kind: 'write'; readonly key: ClusterKey }
  /** Use this key, which the Secret holds, from now on. */
  | { readonly kind: 'take'; readonly key: ClusterKey }
  /**
   * Change nothing and report a fault. `corrupt`: the Secret cannot be read. `mismatch`: its key is of another cluster
   * or mesh. `other`: both keys were accepted by members. `reason` completes the sentence "the Secret …".
   */
  | { readonly kind: 'conflict'; readonly code: 'corrupt' | 'mismatch' | 'other'; readonly reason: string }

/** Bootstrap addresses of a cluster. The list includes those of gateways that are gone, which are never removed. */
export const BOOTSTRAP_MAX = 32
const MULTIADDR_CHARACTERS_MAX = 256
const STATES = ['pending', 'member'] as const

/** Reads the field `data` of the Secret, whose values are base64. Never throws: damaged content is `corrupt`. */
export function readClusterKey(data: Fields, crypto: Crypto): KeyReading {
  if (Object.keys(data).length === 0) return { kind: 'empty' }
  const [seed, chainBytes] = [bytesOf(data['seed']), bytesOf(data['chain'])]
  const state = textOf(data['state'])
  if (seed === undefined || chainBytes === undefined || state === undefined)
    return corrupt('its seed, chain or state is missing or malformed')
  if (seed.length !== 32) return corrupt('its seed is not 32 bytes long')
  if (!STATES.some((each) => each === state)) return corrupt('its state is neither "pending" nor "member"')
  if (chainBytes.length > CHAIN_BYTES_MAX) return corrupt('its chain is too large')
  const chain = verifyChain(chainBytes, { crypto, meshId: undefined, upTo: 'CLUSTER' })
  if (chain.kind === 'refused') return corrupt(`its chain is invalid: ${chain.reason}`)
  if (!equalBytes(crypto.publicKeyOf(seed), chain.clusterKey))
    return corrupt('its seed is not the key that its chain certifies')
  const bootstrap = (textOf(data['bootstrap']) ?? '').split('\n').filter((line) => line !== '')
  if (
    bootstrap.length > BOOTSTRAP_MAX ||
    bootstrap.some((line) => line.length > MULTIADDR_CHARACTERS_MAX || !line.includes('/p2p/'))
  )
    return corrupt('its bootstrap is not a list of multiaddrs')
  return { kind: 'key', key: { seed, chain, pending: state === 'pending', bootstrap } }
}

/** Encodes a key as the field `data` of the Secret, with base64 values. */
export function clusterKeyData(key: ClusterKey): Readonly<Record<string, string>> {
  const text = (value: string): string => toBase64(new TextEncoder().encode(value))
  return {
    seed: toBase64(key.seed),
    chain: toBase64(key.chain.bytes),
    state: text(key.pending ? 'pending' : 'member'),
    bootstrap: text(key.bootstrap.join('\n'))
  }
}

/**
 * Decides what a gateway with the key `ours` does about the content of the Secret. `addresses` are its own multiaddrs.
 */
export function settleClusterKey(
  ours: ClusterKey,
  found: KeyReading,
  self: { readonly origin: Origin; readonly addresses: readonly string[] }
): KeyVerdict {
  if (found.kind === 'corrupt') return conflict('corrupt', `cannot be read: ${found.reason}`)
  if (found.kind === 'empty') return { kind: 'write', key: withAddresses(ours, self) }
  const theirs = found.key
  // A Secret of another cluster or mesh is an error of the operator, and this agent must not decide which one is right.
  const mismatch = mismatchOf(theirs.chain, ours.chain)
  if (mismatch !== undefined) return conflict('mismatch', `is ${mismatch}`)
  if (!equalBytes(theirs.seed, ours.seed)) {
    if (theirs.pending && !ours.pending) return { kind: 'write', key: withAddresses(ours, self) }
    if (ours.pending) return { kind: 'take', key: theirs }
    return conflict('other', `holds another key of cluster ${ours.chain.cluster} than this agent has`)
  }
  if (compareChains(theirs.chain, ours.chain) > 0) return { kind: 'take', key: theirs }
  const merged = withAddresses(
    { ...ours, pending: ours.pending && theirs.pending, bootstrap: theirs.bootstrap },
    self
  )
  const same =
    equalBytes(merged.chain.bytes, theirs.chain.bytes) &&
    merged.pending === theirs.pending &&
    merged.bootstrap.join() === theirs.bootstrap.join()
  return same ? { kind: 'agreed' } : { kind: 'write', key: merged }
}

/** Returns why a key belongs to another cluster or mesh than the wanted one; undefined when both are right. */
export function mismatchOf(
  found: Pick<ClusterChain, 'meshId' | 'cluster'>,
  wanted: Pick<ClusterChain, 'meshId' | 'cluster'>
): string | undefined {
  if (found.cluster !== wanted.cluster) return `of cluster ${found.cluster}, not ${wanted.cluster}`
  return equalBytes(found.meshId, wanted.meshId) ? undefined : `of cluster ${found.cluster} in another mesh`
}

/**
 * Replaces this agent's former addresses by its present ones. A full list stays unchanged: two agents would keep
 * evicting each other.
 */
function withAddresses(
  key: ClusterKey,
  { origin, addresses }: { readonly origin: Origin; readonly addresses: readonly string[] }
): ClusterKey {
  const others = key.bootstrap.filter((address) => !address.endsWith(`/p2p/${origin}`))
  const own = addresses.map((address) => `${address}/p2p/${origin}`)
  const known = key.bootstrap.filter((address) => address.endsWith(`/p2p/${origin}`))
  if (known.join() === own.join() || others.length + own.length > BOOTSTRAP_MAX) return key
  return { ...key, bootstrap: [...others, ...own] }
}

/** The result is positive when the left chain is the later one. */
function compareChains(left: ClusterChain, right: ClusterChain): number {
  return (
    left.clusterValidity.notBefore - right.clusterValidity.notBefore ||
    compareBytes(left.order.cluster.tieBreak, right.order.cluster.tieBreak)
  )
}

function corrupt(reason: string): KeyReading {
  return { kind: 'corrupt', reason }
}

function conflict(code: 'corrupt' | 'mismatch' | 'other', reason: string): KeyVerdict {
  return { kind: 'conflict', code, reason }
}

function textOf(value: unknown): string | undefined {
  const bytes = bytesOf(value)
  return bytes && new TextDecoder().decode(bytes)
}

/** Decodes base64; undefined when the value is no text, is too long or is no base64. */
function bytesOf(value: unknown): Uint8Array | undefined {
  if (typeof value !== 'string' || value.length > TEXT_MAX) return undefined
  try {
    return Uint8Array.from(atob(value), (character) => character.charCodeAt(0))
  } catch {
    return undefined // not base64
  }
}

function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
}

// Base64 characters of one value; the list of addresses is the longest.
const TEXT_MAX = 2 * BOOTSTRAP_MAX * MULTIADDR_CHARACTERS_MAX
