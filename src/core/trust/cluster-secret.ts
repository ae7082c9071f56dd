// What the gateways of one cluster share in a Kubernetes Secret: the key of the cluster and what shows that it is a
// member, or what it needs to become one; the seats and root seeds that this cluster administers with; addresses. Pure
// code: the decision of a gateway about what it finds there. cluster-secret-data.ts has the format.
// Invariants
//   1. Content that cannot be read is never overwritten.
//   2. A key is in the Secret before it is shown to any member, so a gateway that ends in the middle of a join leaves it
//      to the others.
//   3. Of two keys, the one that stands wins; else one that was admitted over one that was not. A key that was made to
//      replace another is not touched before the mesh has decided.
//   4. All gateways come to the same content, in any order of their writes: what one has and another lacks is merged,
//      and of two admissions of one key the first by (`seen`, id) stays.
import { compareBytes, equalBytes } from '../model/bytes.ts'
import type { ClusterName, Origin } from '../model/values.ts'
import {
  clusterSecretData,
  type ClusterSecret,
  type Membership,
  SECRET_BOOTSTRAP_MAX,
  type SecretReading
} from './cluster-secret-data.ts'
import { compareText, type KeyId } from './set/ids.ts'
import type { MeshRoots } from './set/mesh-roots.ts'

/** What a gateway does about the content of the Secret. */
export type SecretVerdict =
  | { readonly kind: 'agreed' }
  /** Write this into the Secret. */
  | { readonly kind: 'write'; readonly secret: ClusterSecret }
  /** Use this from now on; the Secret holds it, or the part of it that this gateway lacks. */
  | { readonly kind: 'take'; readonly secret: ClusterSecret }
  /** Change nothing: the key in the Secret is being admitted in the place of this gateway's. */
  | { readonly kind: 'wait' }
  /**
   * Change nothing and report a fault. `corrupt`: the Secret cannot be read. `mismatch`: it is of another cluster or
   * mesh. `other`: neither key is better than the other. `reason` completes the sentence "the Secret …".
   */
  | { readonly kind: 'conflict'; readonly code: 'corrupt' | 'mismatch' | 'other'; readonly reason: string }

/**
 * Decides what a gateway that has `ours` does about the content of the Secret. `stands` is the verdict of this agent's
 * trust set on a cluster key; an agent that is in no mesh yet answers false.
 */
export function settleClusterSecret(
  ours: ClusterSecret,
  found: SecretReading,
  self: {
    readonly origin: Origin
    readonly addresses: readonly string[]
    readonly stands: (clusterKey: KeyId) => boolean
  }
): SecretVerdict {
  if (found.kind === 'corrupt') return conflict('corrupt', `cannot be read: ${found.reason}`)
  if (found.kind === 'empty') return { kind: 'write', secret: withAddresses(ours, self) }
  const theirs = found.secret
  // A Secret of another cluster or mesh is an error of the operator, and this agent must not decide which one is right.
  const mismatch = secretMismatch(theirs, ours)
  if (mismatch !== undefined) return conflict('mismatch', `is ${mismatch}`)
  if (theirs.membership.clusterKey !== ours.membership.clusterKey) return chooseKey(ours, theirs, self)
  const { bootstrap } = theirs
  const merged = withAddresses({ ...merge(ours, theirs), bootstrap }, self)
  if (!same(merged, theirs)) return { kind: 'write', secret: merged }
  // Addresses are for agents that are added later, so a gateway takes nothing over because of them. An agent without an
  // address of its own is a node, or a gateway that no other agent can dial. It may have read the Secret before a gateway of its
  // cluster was in it, and a node is refused by all other gateways, so it takes them over.
  const isLate = self.addresses.length === 0 && bootstrap.some((address) => !ours.bootstrap.includes(address))
  return !isLate && same({ ...merged, bootstrap: [] }, { ...ours, bootstrap: [] })
    ? { kind: 'agreed' }
    : { kind: 'take', secret: merged }
}

/** Returns why a Secret belongs to another cluster or mesh than the wanted one; undefined when both are right. */
export function secretMismatch(
  found: { readonly roots: MeshRoots; readonly membership: { readonly cluster: ClusterName } },
  wanted: { readonly roots: MeshRoots; readonly membership: { readonly cluster: ClusterName } }
): string | undefined {
  const { cluster } = found.membership
  if (cluster !== wanted.membership.cluster) return `of cluster ${cluster}, not ${wanted.membership.cluster}`
  return equalBytes(found.roots.meshId, wanted.roots.meshId)
    ? undefined
    : `of cluster ${cluster} in another mesh`
}

/** Invariant 3, for two different keys. */
function chooseKey(
  ours: ClusterSecret,
  theirs: ClusterSecret,
  self: Parameters<typeof settleClusterSecret>[2]
): SecretVerdict {
  const rank = ({ membership: { kind, clusterKey } }: ClusterSecret): number =>
    self.stands(clusterKey) ? 2 : kind === 'member' ? 1 : 0
  const [own, other] = [rank(ours), rank(theirs)]
  const replaces = ({ membership }: ClusterSecret, { membership: { clusterKey } }: ClusterSecret) =>
    membership.kind === 'pending' && membership.replaces === clusterKey
  // The seats and root seeds of the cluster stay, whichever key it has.
  const [write, take] = [
    { kind: 'write', secret: withAddresses({ ...merge(ours, theirs), bootstrap: theirs.bootstrap }, self) },
    { kind: 'take', secret: merge(theirs, ours) }
  ] as const
  if (replaces(theirs, ours) && other < 2) return { kind: 'wait' }
  if (replaces(ours, theirs)) return write
  if (own !== other) return own > other ? write : take
  // Of two keys that no member has admitted, the one that was written first is knocking already.
  if (own === 0) return take
  const { cluster } = ours.membership
  return conflict('other', `holds another key of cluster ${cluster} than this agent has`)
}

/** The key of the first one with what either of them has. */
function merge(first: ClusterSecret, second: ClusterSecret): ClusterSecret {
  const rootExported = first.rootExported || second.rootExported
  const realPrefixes = first.realPrefixes ?? second.realPrefixes
  const seats = new Map([...second.seats, ...first.seats].map((seat) => [seat.id, seat]))
  const seeds = [...first.rootSeeds, ...second.rootSeeds].toSorted(compareBytes)
  return {
    ...first,
    membership:
      first.membership.clusterKey === second.membership.clusterKey
        ? further(first.membership, second.membership)
        : first.membership,
    seats: [...seats.values()],
    rootSeeds: rootExported
      ? []
      : seeds.filter((seed, at) => at === 0 || !equalBytes(seeds[at - 1] ?? seed, seed)),
    rootExported,
    ...(realPrefixes === undefined ? {} : { realPrefixes })
  }
}

/** Of two memberships of one key, the one that has come further; of two admissions, the first (invariant 4). */
function further(first: Membership, second: Membership): Membership {
  if (first.kind === 'pending') return second
  if (second.kind === 'pending') return first
  const order = first.place.seen - second.place.seen || compareText(first.place.id, second.place.id)
  return order <= 0 ? first : second
}

/** Whether both have the same content. */
function same(one: ClusterSecret, other: ClusterSecret): boolean {
  const [left, right] = [clusterSecretData(one), clusterSecretData(other)]
  const names = new Set([...Object.keys(left), ...Object.keys(right)])
  return [...names].every((name) => left[name] === right[name])
}

/**
 * Replaces this agent's former addresses by its present ones. A full list stays unchanged: two agents would keep
 * evicting each other.
 */
function withAddresses(
  secret: ClusterSecret,
  { origin, addresses }: { readonly origin: Origin; readonly addresses: readonly string[] }
): ClusterSecret {
  const others = secret.bootstrap.filter((address) => !address.endsWith(`/p2p/${origin}`))
  const own = addresses.map((address) => `${address}/p2p/${origin}`)
  const known = secret.bootstrap.filter((address) => address.endsWith(`/p2p/${origin}`))
  if (known.join() === own.join() || others.length + own.length > SECRET_BOOTSTRAP_MAX) return secret
  return { ...secret, bootstrap: [...others, ...own] }
}

function conflict(code: 'corrupt' | 'mismatch' | 'other', reason: string): SecretVerdict {
  return { kind: 'conflict', code, reason }
}
