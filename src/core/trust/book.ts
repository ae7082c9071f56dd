// The trust book: which origins are admitted, by which certificates, and which cluster owns what.
// Invariants
//   1. Every chain in it is verified for this mesh. Admission is timeless: whoever relays an origin's chain had judged its
//      time at its own door.
//   2. What it holds does not depend on the order of arrival: a renewed chain replaces an older one, never the reverse, and of
//      the cluster keys that claim one name the first in certificate order are kept.
//   3. It is bounded, and one cluster cannot fill it for the others.
import type { Crypto } from '../model/crypto.ts'
import type { Admission } from './admission.ts'
import type { ClusterName, Origin } from '../model/values.ts'
import { publicKeyOf } from '../model/identity.ts'
import { compareBytes, equalBytes, bytesKey } from '../model/bytes.ts'
import { type AgentChain, verifyChain } from './chain.ts'
import { type ClusterGrant, type SettledCluster, compareCertificateOrder, settle, unionOf } from './order.ts'

type Admitted = { readonly kind: 'admitted' } | { readonly kind: 'refused'; readonly reason: string }

/** What the replication protocol asks (Admission), and what the door and the view do. */
export interface Book extends Admission {
  readonly meshId: Uint8Array
  isAdmitted(origin: Origin): boolean
  /** Verifies the encoded chain of `origin` and keeps it. For gossip. */
  admit(origin: Origin, chainBytes: Uint8Array): Admitted
  /** Keeps a chain that was verified already: at the door, or our own. */
  add(chain: AgentChain): Admitted
  /** The encoded chain, to be relayed with the origin's records and persisted. */
  chainOf(origin: Origin): Uint8Array | undefined
  /** The raw Ed25519 key inside the PeerId; undefined when the text is none. */
  publicKeyOf(origin: Origin): Uint8Array | undefined
  verifiedChainOf(origin: Origin): AgentChain | undefined
  /** Why this chain is not wanted here; undefined when it is. Room for revocation. */
  denied(chain: AgentChain): string | undefined
  knowsCluster(clusterKey: Uint8Array): boolean
  /** The owner of each name, with what older certificates leave it. The same value until the certificates change. */
  settlement(): ReadonlyMap<ClusterName, SettledCluster>
  /** What `settlement` would be with this newcomer. */
  settlementWith(chain: AgentChain): ReadonlyMap<ClusterName, SettledCluster>
  origins(): Iterable<Origin>
  /**
   * Whether this origin has withdrawn all that it said (`meshctl leave`). Its chain is kept, to be relayed; a cluster whose every
   * agent has left owns its name and prefixes no more.
   */
  setDeparted(origin: Origin, departed: boolean): void
  forget(origin: Origin): void
}

/** `deny`: room for revocation; a reason refuses the chain and whoever it names. */
export function createBook(options: {
  readonly crypto: Crypto
  readonly meshId: Uint8Array
  readonly deny?: (chain: AgentChain) => string | undefined
}): Book {
  const { crypto, meshId } = options
  const chains = new Map<Origin, AgentChain>()
  const clusters = new Map<string, Map<Origin, AgentChain>>()
  const departed = new Set<Origin>()
  let settled: ReadonlyMap<ClusterName, SettledCluster> | undefined

  return {
    meshId,
    isAdmitted: (origin) => chains.has(origin),
    admit(origin, chainBytes) {
      const held = chains.get(origin)
      if (held !== undefined && equalBytes(held.bytes, chainBytes)) return ADMITTED
      // A copy: the bytes of a frame are a view of a larger buffer that the chain would keep alive.
      const chain = verifyChain(chainBytes.slice(), { crypto, meshId, upTo: 'AGENT' })
      if (chain.kind === 'refused') return refused(chain.reason)
      if (chain.agentOrigin !== origin)
        return refused(`the chain is of ${chain.agentOrigin}, not of ${origin}`)
      return add(chain)
    },
    add,
    chainOf: (origin) => chains.get(origin)?.bytes,
    publicKeyOf: (origin) => chains.get(origin)?.agentKey ?? publicKeyOf(origin),
    verifiedChainOf: (origin) => chains.get(origin),
    denied: (chain) => options.deny?.(chain),
    knowsCluster: (clusterKey) => clusters.has(bytesKey(clusterKey)),
    settlement: () => (settled ??= settle(grants())),
    settlementWith: (chain) => settle(grants(chain)),
    origins: () => chains.keys(),
    setDeparted(origin, gone) {
      if (!chains.has(origin) || departed.has(origin) === gone) return
      if (gone) departed.add(origin)
      else departed.delete(origin)
      settled = undefined
    },
    forget
  }

  function add(chain: AgentChain): Admitted {
    const denied = options.deny?.(chain)
    if (denied !== undefined) return refused(denied)
    const held = chains.get(chain.agentOrigin)
    if (held !== undefined) {
      if (compareRenewal(held, chain) >= 0) return ADMITTED
      forget(held.agentOrigin)
    }
    const full = makeRoom(chain)
    if (full !== undefined) {
      if (held !== undefined) insert(held)
      return full
    }
    insert(chain)
    return ADMITTED
  }

  function insert(chain: AgentChain): void {
    const key = bytesKey(chain.clusterKey)
    const members = clusters.get(key) ?? new Map<Origin, AgentChain>()
    clusters.set(key, members.set(chain.agentOrigin, chain))
    chains.set(chain.agentOrigin, chain)
    settled = undefined
  }

  function forget(origin: Origin): void {
    const chain = chains.get(origin)
    if (chain === undefined) return
    chains.delete(origin)
    departed.delete(origin)
    const key = bytesKey(chain.clusterKey)
    const members = clusters.get(key)
    members?.delete(origin)
    if (members?.size === 0) clusters.delete(key)
    settled = undefined
  }

  function makeRoom(chain: AgentChain): Admitted | undefined {
    const members = clusters.get(bytesKey(chain.clusterKey))
    const [member] = members?.values() ?? []
    if (member !== undefined && member.cluster !== chain.cluster) {
      return refused(`one cluster key claims two names: ${member.cluster} and ${chain.cluster}`)
    }
    if (members !== undefined && members.size >= CLUSTER_AGENTS_MAX) {
      return refused(`cluster ${chain.cluster} has ${CLUSTER_AGENTS_MAX} agents already`)
    }
    if (members === undefined) {
      const rivals = [...clusters.values()].map(grantOf).filter((grant) => grant.cluster === chain.cluster)
      const last = rivals.sort((a, b) => compareCertificateOrder(a.order, b.order)).at(-1)
      if (last !== undefined && rivals.length >= RIVALS_MAX) {
        if (compareCertificateOrder(last.order, chain.order) < 0) {
          return refused(`the name ${chain.cluster} is claimed by ${RIVALS_MAX} clusters that come first`)
        }
        const evicted = clusters.get(bytesKey(last.clusterKey)) ?? new Map<Origin, AgentChain>()
        for (const origin of Array.from(evicted.keys())) forget(origin)
      }
    }
    return chains.size >= ORIGINS_MAX ? refused(`${ORIGINS_MAX} agents are admitted already`) : undefined
  }

  function grants(newcomer?: AgentChain): readonly ClusterGrant[] {
    const all = [...clusters.values()].filter((members) =>
      [...members.keys()].some((origin) => !departed.has(origin))
    )
    if (newcomer === undefined) return all.map(grantOf)
    const key = bytesKey(newcomer.clusterKey)
    const members = new Map(clusters.get(key)).set(newcomer.agentOrigin, newcomer)
    return [...all.filter((other) => other !== clusters.get(key)), members].map(grantOf)
  }
}

/** The design's fleet is 1,000 clusters; ten agents each. 2 KiB a chain. */
const ORIGINS_MAX = 10_000
/** One node role per Kubernetes node of a large cluster. */
const CLUSTER_AGENTS_MAX = 2000
/** A leaked token can mint cluster keys without end; enough of them are kept to show the conflict. */
const RIVALS_MAX = 8
const ADMITTED: Admitted = { kind: 'admitted' }

/** All certificates of one cluster key as one grant: the earliest order, the union of the prefixes. */
function grantOf(members: ReadonlyMap<Origin, AgentChain>): ClusterGrant {
  const chains = [...members.values()]
  const first = chains.reduce((a, b) => (compareCertificateOrder(a.order, b.order) <= 0 ? a : b))
  const { cluster, clusterKey, order } = first
  if (chains.every((chain) => chain.order === order || compareCertificateOrder(chain.order, order) === 0)) {
    return {
      cluster,
      clusterKey,
      order,
      podPrefixes: first.podPrefixes,
      servicePrefixes: first.servicePrefixes
    }
  }
  return {
    cluster,
    clusterKey,
    order,
    podPrefixes: unionOf(chains.map((chain) => chain.podPrefixes)),
    servicePrefixes: unionOf(chains.map((chain) => chain.servicePrefixes))
  }
}

/** Which of two chains of one origin is newer: positive for the left. The agent accepted both (proto: acceptance). */
function compareRenewal(left: AgentChain, right: AgentChain): number {
  const later = left.agentValidity.notBefore - right.agentValidity.notBefore
  return later || compareBytes(left.agentHash, right.agentHash) || compareBytes(left.bytes, right.bytes)
}

function refused(reason: string): Admitted {
  return { kind: 'refused', reason }
}
