// The key of a cluster as its gateways share it, in one Secret of its Kubernetes: how it is written, and what one gateway does about
// what it finds. Pure; the Secret itself is src/io/kube/cluster-key-secret.ts.
// Invariants
//   1. What is there and is not understood is never written over.
//   2. A key that a member of the mesh has accepted is never given up for another; one that nobody has accepted yet (`pending`) is.
//   3. Of two certificates for one key the later counts, whoever comes first: all gateways end up with the same.
import type { Crypto } from '../model/crypto.ts'
import type { Fields } from '../model/field-check.ts'
import type { Origin } from '../model/values.ts'
import { compareBytes, equalBytes } from '../model/bytes.ts'
import { CHAIN_BYTES_MAX } from '../wire/limits.ts'
import { verifyChain, type ClusterChain } from './chain.ts'

export interface ClusterKey {
  /** Ed25519, 32 bytes: a secret. */
  readonly seed: Uint8Array
  readonly chain: ClusterChain
  /** No member of the mesh has accepted it yet. */
  readonly pending: boolean
  /** Multiaddrs that end in /p2p/<PeerId>: whom a new gateway dials first. */
  readonly bootstrap: readonly string[]
}

export type KeyReading =
  | { readonly kind: 'empty' }
  | { readonly kind: 'key'; readonly key: ClusterKey }
  /** `reason` quotes nothing of it. */
  | { readonly kind: 'corrupt'; readonly reason: string }

export type KeyVerdict =
  | { readonly kind: 'agreed' }
  /** Put this there. */
  | { readonly kind: 'write'; readonly key: ClusterKey }
  /** Use this from now on. */
  | { readonly kind: 'take'; readonly key: ClusterKey }
  | { readonly kind: 'conflict'; readonly code: 'corrupt' | 'mismatch' | 'otherKey'; readonly reason: string }

/** Gateways of a cluster, and a few that are gone: nobody takes those out. */
export const BOOTSTRAP_MAX = 32
const MULTIADDR_CHARACTERS_MAX = 256
const STATES = ['pending', 'member'] as const

/** `data` of the Secret, base64 as the API has it. */
export function readClusterKey(data: Fields, crypto: Crypto): KeyReading {
  if (Object.keys(data).length === 0) return { kind: 'empty' }
  const [seed, chainBytes] = [bytesOf(data['seed']), bytesOf(data['chain'])]
  const state = textOf(data['state'])
  if (seed === undefined || chainBytes === undefined || state === undefined)
    return corrupt('it has no whole seed, chain and state')
  if (seed.length !== 32) return corrupt('its seed is not 32 bytes long')
  if (!STATES.some((each) => each === state)) return corrupt('its state is neither "pending" nor "member"')
  if (chainBytes.length > CHAIN_BYTES_MAX) return corrupt('its chain is too large')
  const chain = verifyChain(chainBytes, { crypto, meshId: undefined, upTo: 'CLUSTER' })
  if (chain.kind === 'refused') return corrupt(`its chain does not verify: ${chain.reason}`)
  if (!equalBytes(crypto.publicKeyOf(seed), chain.clusterKey))
    return corrupt('its seed is not the key that its chain certifies')
  const bootstrap = (textOf(data['bootstrap']) ?? '').split('\n').filter((line) => line !== '')
  if (
    bootstrap.length > BOOTSTRAP_MAX ||
    bootstrap.some((line) => line.length > MULTIADDR_CHARACTERS_MAX || !line.includes('/p2p/'))
  )
    return corrupt('its bootstrap is no list of multiaddrs')
  return { kind: 'key', key: { seed, chain, pending: state === 'pending', bootstrap } }
}

export function clusterKeyData(key: ClusterKey): Readonly<Record<string, string>> {
  const text = (value: string): string => toBase64(new TextEncoder().encode(value))
  return {
    seed: toBase64(key.seed),
    chain: toBase64(key.chain.bytes),
    state: text(key.pending ? 'pending' : 'member'),
    bootstrap: text(key.bootstrap.join('\n'))
  }
}

/** What a gateway that has a key does about what is there. `addresses`: multiaddrs of its own. */
export function settleClusterKey(
  ours: ClusterKey,
  found: KeyReading,
  self: { readonly origin: Origin; readonly addresses: readonly string[] }
): KeyVerdict {
  if (found.kind === 'corrupt') return conflict('corrupt', `cannot be read: ${found.reason}`)
  if (found.kind === 'empty') return { kind: 'write', key: withAddresses(ours, self) }
  const theirs = found.key
  const mismatch = mismatchOf(theirs.chain, ours.chain)
  if (mismatch !== undefined) return conflict('mismatch', `is ${mismatch}`)
  if (!equalBytes(theirs.seed, ours.seed)) {
    if (theirs.pending && !ours.pending) return { kind: 'write', key: withAddresses(ours, self) }
    if (ours.pending) return { kind: 'take', key: theirs }
    return conflict('otherKey', `holds another key of cluster ${ours.chain.cluster} than this agent has`)
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

/** Why a key is not of the cluster and mesh that was asked for; undefined: it is. */
export function mismatchOf(
  found: Pick<ClusterChain, 'meshId' | 'cluster'>,
  wanted: Pick<ClusterChain, 'meshId' | 'cluster'>
): string | undefined {
  if (found.cluster !== wanted.cluster) return `of cluster ${found.cluster}, not ${wanted.cluster}`
  return equalBytes(found.meshId, wanted.meshId) ? undefined : `of cluster ${found.cluster} in another mesh`
}

/** Own addresses in the place of those that this agent had before; a full list stays as it is, or two agents would fight for a place. */
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

/** Positive: the left is the later. */
function compareChains(left: ClusterChain, right: ClusterChain): number {
  return (
    left.clusterValidity.notBefore - right.clusterValidity.notBefore ||
    compareBytes(left.order.cluster.tieBreak, right.order.cluster.tieBreak)
  )
}

function corrupt(reason: string): KeyReading {
  return { kind: 'corrupt', reason }
}

function conflict(code: 'corrupt' | 'mismatch' | 'otherKey', reason: string): KeyVerdict {
  return { kind: 'conflict', code, reason }
}

function textOf(value: unknown): string | undefined {
  const bytes = bytesOf(value)
  return bytes && new TextDecoder().decode(bytes)
}

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

// The longest is the list of addresses.
const TEXT_MAX = 2 * BOOTSTRAP_MAX * MULTIADDR_CHARACTERS_MAX
