// Certificate order: which of two certificates comes first. Every agent settles a conflict by this order alone, never
// by the order of arrival: two agents with the same certificates must agree, or the mesh would route one prefix in two
// ways.
//
// 1. The founding cluster, which a root key signed, comes before every invited cluster.
// 2. Invites are ordered by the time and the serial that the mesh's root signed. A new cluster cannot choose them, so
//    it cannot date itself before earlier clusters to take their name or prefixes.
// 3. Certificates of one invite are ordered by time and hash. This happens only when a token was redeemed twice (a
//    leaked token). The redeemer signs this time itself, within the invite's validity. The order is the same
//    everywhere, but it cannot tell the rightful holder from the thief; revocation will be needed for that.
import type { Cidr, ClusterName } from '../model/values.ts'
import { cidrContains, cidrOverlaps, compareCidr } from '../model/cidr.ts'
import { compareBytes } from '../model/bytes.ts'
import type { Prefixes } from './certificate.ts'

/** The place of a cluster certificate in certificate order. */
export interface CertificateOrder {
  /** Undefined when a root key signed the cluster certificate. */
  readonly invite: Rank | undefined
  readonly cluster: Rank
}

/** `notBefore` is in Unix seconds; `tieBreak` is the invite's serial or the cluster certificate's hash. */
interface Rank {
  readonly notBefore: number
  readonly tieBreak: Uint8Array
}

/** A comparator for sort(): the certificate that wins a conflict comes first. */
export function compareCertificateOrder(left: CertificateOrder, right: CertificateOrder): number {
  if (left.invite === undefined || right.invite === undefined) {
    if (left.invite !== right.invite) return left.invite === undefined ? -1 : 1
    return compareRank(left.cluster, right.cluster)
  }
  return compareRank(left.invite, right.invite) || compareRank(left.cluster, right.cluster)
}

/** The name and prefixes that are certified for one cluster key. */
export interface ClusterGrant extends Prefixes {
  readonly cluster: ClusterName
  readonly clusterKey: Uint8Array
  readonly order: CertificateOrder
}

/** A claim that lost against an older certificate. The owner's routes do not change. */
export interface Conflict {
  readonly what: 'name' | 'podPrefix' | 'servicePrefix'
  readonly value: string
  readonly winner: ClusterName
}

/** The prefixes that a cluster may use after all older certificates have been considered. */
export interface SettledCluster extends Prefixes {
  readonly grant: ClusterGrant
  readonly conflicts: readonly Conflict[]
}

/**
 * Assigns names and prefixes to their owners in certificate order; the first certificate wins. A cluster whose name is
 * taken owns nothing, so it blocks no prefix of another. The order of the input does not matter. Returns the winner of
 * each name.
 */
export function settle(grants: readonly ClusterGrant[]): ReadonlyMap<ClusterName, SettledCluster> {
  const settled = new Map<ClusterName, SettledCluster>()
  const nameConflicts = new Map<ClusterName, number>()
  const taken = createTakenPrefixes()
  for (const grant of grants.toSorted((a, b) => compareCertificateOrder(a.order, b.order))) {
    if (settled.has(grant.cluster)) {
      nameConflicts.set(grant.cluster, (nameConflicts.get(grant.cluster) ?? 0) + 1)
      continue
    }
    const conflicts: Conflict[] = []
    const podPrefixes = take(grant, 'podPrefix', conflicts)
    const servicePrefixes = take(grant, 'servicePrefix', conflicts)
    settled.set(grant.cluster, { grant, podPrefixes, servicePrefixes, conflicts })
  }
  for (const name of nameConflicts.keys()) {
    const winner = settled.get(name)
    if (winner === undefined) throw new Error(`no winner for the name ${name}`)
    const conflict: Conflict = { what: 'name', value: name, winner: name }
    settled.set(name, { ...winner, conflicts: [...winner.conflicts, conflict] })
  }
  return settled

  function take(grant: ClusterGrant, what: 'podPrefix' | 'servicePrefix', conflicts: Conflict[]): Cidr[] {
    const kept: Cidr[] = []
    for (const cidr of what === 'podPrefix' ? grant.podPrefixes : grant.servicePrefixes) {
      const winner = taken.take(cidr, grant.cluster)
      if (winner === grant.cluster) kept.push(cidr)
      else conflicts.push({ what, value: cidr, winner })
    }
    return kept
  }
}

/** Disjoint prefixes with their owners. The list is sorted, so only the two adjacent prefixes can overlap a new one. */
function createTakenPrefixes(): { take(cidr: Cidr, owner: ClusterName): ClusterName } {
  const sorted: { readonly cidr: Cidr; readonly owner: ClusterName }[] = []
  return {
    take(cidr, owner) {
      const at = positionOf(cidr)
      const other = [sorted[at - 1], sorted[at]].find(
        (held) => held !== undefined && cidrOverlaps(held.cidr, cidr)
      )
      if (other === undefined) sorted.splice(at, 0, { cidr, owner })
      return other?.owner ?? owner
    }
  }

  function positionOf(cidr: Cidr): number {
    let [low, high] = [0, sorted.length]
    while (low < high) {
      const middle = (low + high) >> 1
      const held = sorted[middle]
      if (held !== undefined && compareCidr(held.cidr, cidr) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Merges the prefixes of several certificates of one cluster into one disjoint, sorted list. */
export function unionOf(lists: readonly (readonly Cidr[])[]): readonly Cidr[] {
  const union: Cidr[] = []
  for (const cidr of lists.flat().sort(compareCidr)) {
    const last = union.at(-1)
    // A shorter prefix sorts first, so the only kept prefix that can contain this one is the last.
    if (last === undefined || !cidrContains(last, cidr)) union.push(cidr)
  }
  return union
}

function compareRank(left: Rank, right: Rank): number {
  return left.notBefore - right.notBefore || compareBytes(left.tieBreak, right.tieBreak)
}
