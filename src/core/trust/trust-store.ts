// The trust store: which origins are admitted, by which certificates, and which cluster owns which name and prefixes.
// Invariants
//   1. Every chain in the store is verified for this mesh. Admission does not check validity dates: the member that
//      first accepted the origin checked them in its handshake.
//   2. The content does not depend on the order of arrival: a renewed chain replaces an older one, never the reverse.
//      When several cluster keys claim one name, the first RIVALS_MAX in certificate order are kept.
//   3. The store is bounded, and one cluster cannot use up the room of the others.
import type { Crypto } from '../model/crypto.ts'
import type { Admission } from './admission.ts'
import type { ClusterName, Origin } from '../model/values.ts'
import { publicKeyOf } from '../model/identity.ts'
import { compareBytes, equalBytes, bytesKey } from '../model/bytes.ts'
import { type AgentChain, verifyChain } from './chain.ts'
import { type ClusterGrant, type SettledCluster, compareCertificateOrder, settle, unionOf } from './order.ts'

/** The result of adding a chain. `admitted` also covers a chain that is held already or is older than the held one. */
type Admitted =
  | { readonly kind: 'admitted' }
  | { readonly kind: 'refused'; readonly reason: string; readonly isForged?: true }

/** The trust store as replication (Admission), the handshake and the view use it. */
export interface TrustStore extends Admission {
  /** The id of the mesh, 32 bytes; chains of other meshes are refused. */
  readonly meshId: Uint8Array
  isAdmitted(origin: Origin): boolean
  /** Verifies the encoded chain of `origin`, which came by replication, and keeps it. */
  admit(origin: Origin, chainBytes: Uint8Array): Admitted
  /** Keeps a chain that is verified already: by the handshake, or because it is this agent's own. */
  add(chain: AgentChain): Admitted
  /** The encoded chain, which is relayed with the origin's records and persisted. */
  chainOf(origin: Origin): Uint8Array | undefined
  /** The raw Ed25519 public key (32 bytes) inside the PeerId; undefined when the text is no PeerId. */
  publicKeyOf(origin: Origin): Uint8Array | undefined
  /** The decoded chain of an admitted origin. */
  verifiedChainOf(origin: Origin): AgentChain | undefined
  /** The reason why the option `deny` refuses this chain; undefined when it does not. Revocation will use this. */
  denied(chain: AgentChain): string | undefined
  /** True when an agent of the cluster with this key (32 bytes) is admitted. */
  knowsCluster(clusterKey: Uint8Array): boolean
  /**
   * The owner of each name, with the prefixes that older certificates leave it. The same object until the certificates
   * change.
   */
  settlement(): ReadonlyMap<ClusterName, SettledCluster>
  /** The settlement as it would be if this chain were added. */
  settlementWith(chain: AgentChain): ReadonlyMap<ClusterName, SettledCluster>
  /** All admitted origins. */
  origins(): Iterable<Origin>
  /**
   * Marks an origin that has withdrawn all its records (`meshctl leave`). Its chain is kept and relayed. A cluster all
   * of whose agents have left owns its name and prefixes no more.
   */
  setDeparted(origin: Origin, departed: boolean): void
  /** Removes an origin and its chain. */
  forget(origin: Origin): void
}

/**
 * Creates an empty trust store for one mesh. `deny` may refuse a chain by returning a reason; revocation will use it.
 */
export function createTrustStore(options: {
  readonly crypto: Crypto
  readonly meshId: Uint8Array
  readonly deny?: (chain: AgentChain) => string | undefined
}): TrustStore {
  const { crypto, meshId } = options
  const chains = new Map<Origin, AgentChain>()
  /** The held chains by cluster key (as text), then by origin. No inner map is empty. */
  const clusters = new Map<string, Map<Origin, AgentChain>>()
  const departed = new Set<Origin>()
  /** The settlement, computed when it is asked for; undefined after each change. */
  let settled: ReadonlyMap<ClusterName, SettledCluster> | undefined

  return {
    meshId,
    isAdmitted: (origin) => chains.has(origin),
    admit(origin, chainBytes) {
      const held = chains.get(origin)
      if (held !== undefined && equalBytes(held.bytes, chainBytes)) return ADMITTED
      // A copy: the bytes of a frame are a view of a larger buffer that the chain would keep alive.
      const chain = verifyChain(chainBytes.slice(), { crypto, meshId, upTo: 'AGENT' })
      if (chain.kind === 'refused')
        return { ...refused(chain.reason), ...(chain.code === 'signature' ? { isForged: true } : {}) }
      if (chain.agentOrigin !== origin)
        return refused(`the chain belongs to ${chain.agentOrigin}, not to ${origin}`)
      return add(chain)
    },
    add,
    chainOf: (origin) => chains.get(origin)?.bytes,
    clusterOf(origin) {
      const chain = chains.get(origin)
      return chain && bytesKey(chain.clusterKey)
    },
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

  /** Adds a verified chain, or replaces an older one of the same origin (invariant 2). */
  function add(chain: AgentChain): Admitted {
    const denied = options.deny?.(chain)
    if (denied !== undefined) return refused(denied)
    const held = chains.get(chain.agentOrigin)
    if (held !== undefined) {
      if (compareRenewal(held, chain) >= 0) return ADMITTED
      forget(held.agentOrigin)
    }
    // The held chain was removed first, so that a renewal needs no room of its own; it is put back when there is no
    // room.
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

  /**
   * Returns the refusal of a chain that has no room (invariant 3), or undefined. When RIVALS_MAX cluster keys claim
   * the name already, a new key is refused, unless it comes before the last of them in certificate order: then it
   * replaces that one.
   */
  function makeRoom(chain: AgentChain): Admitted | undefined {
    const members = clusters.get(bytesKey(chain.clusterKey))
    const [member] = members?.values() ?? []
    if (member !== undefined && member.cluster !== chain.cluster) {
      return refused(`two clusters, ${member.cluster} and ${chain.cluster}, have the same cluster key`)
    }
    if (members !== undefined && members.size >= CLUSTER_AGENTS_MAX) {
      return refused(`cluster ${chain.cluster} already has ${CLUSTER_AGENTS_MAX} agents, the limit`)
    }
    if (members === undefined) {
      const rivals = [...clusters.values()].map(grantOf).filter((grant) => grant.cluster === chain.cluster)
      const last = rivals.sort((a, b) => compareCertificateOrder(a.order, b.order)).at(-1)
      if (last !== undefined && rivals.length >= RIVALS_MAX) {
        if (compareCertificateOrder(last.order, chain.order) < 0) {
          return refused(
            `${RIVALS_MAX} clusters with older certificates already claim the name ${chain.cluster}`
          )
        }
        const evicted = clusters.get(bytesKey(last.clusterKey)) ?? new Map<Origin, AgentChain>()
        for (const origin of Array.from(evicted.keys())) forget(origin)
      }
    }
    return chains.size >= ORIGINS_MAX
      ? refused(`the mesh already has ${ORIGINS_MAX} agents, the limit`)
      : undefined
  }

  /** Returns the grants of all clusters with an agent that has not left, and with `newcomer` as if it were added. */
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

/** The design's fleet has 1,000 clusters of ten agents. A chain has about 2 KiB. */
const ORIGINS_MAX = 10_000
/** A large cluster has one agent with the role `node` on each Kubernetes node. */
const CLUSTER_AGENTS_MAX = 2000
/** A leaked token can create any number of cluster keys for one name; 8 of them are enough to show the conflict. */
const RIVALS_MAX = 8
const ADMITTED: Admitted = { kind: 'admitted' }

/** Merges all certificates of one cluster key into one grant: the earliest order and the union of the prefixes. */
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

/**
 * Compares two chains of one origin: the result is positive when the left one is newer. The agent signed both (proto:
 * acceptance).
 */
function compareRenewal(left: AgentChain, right: AgentChain): number {
  const later = left.agentValidity.notBefore - right.agentValidity.notBefore
  return later || compareBytes(left.agentHash, right.agentHash) || compareBytes(left.bytes, right.bytes)
}

function refused(reason: string) {
  return { kind: 'refused', reason } as const
}
