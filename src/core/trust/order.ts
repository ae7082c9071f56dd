// Which of two certificates comes first. Every agent settles a conflict by this order alone, never by what it heard first:
// two agents that hold the same certificates must come to the same answer, or the mesh would route one prefix two ways.
//
// 1. The founding cluster, signed by a root: it was there before any invite could be.
// 2. The invite, by the time and serial that the mesh's root signed. A newcomer cannot choose them, so it cannot date itself
//    before those who were invited earlier and take their name or prefixes.
// 3. The cluster certificate, by time and hash. Reached only when one token was redeemed twice (a leaked token). The redeemer
//    signs this time itself; the chain bounds it to the invite's validity. It settles, but it does not tell the rightful
//    holder from the thief: that is revocation's work.
import type { Cidr, ClusterName } from '../model/values.ts'
import { cidrContains, cidrOverlaps, compareCidr } from '../model/cidr.ts'
import { compareBytes } from '../model/bytes.ts'
import type { Prefixes } from './certificate.ts'

export interface CertificateOrder {
  /** undefined: signed by a root. */
  readonly invite: Rank | undefined
  readonly cluster: Rank
}

/** notBefore in Unix seconds; the invite's serial, or the cluster certificate's hash. */
interface Rank {
  readonly notBefore: number
  readonly tieBreak: Uint8Array
}

/** For sort(): the winner first. */
export function compareCertificateOrder(left: CertificateOrder, right: CertificateOrder): number {
  if (left.invite === undefined || right.invite === undefined) {
    if (left.invite !== right.invite) return left.invite === undefined ? -1 : 1
    return compareRank(left.cluster, right.cluster)
  }
  return compareRank(left.invite, right.invite) || compareRank(left.cluster, right.cluster)
}

/** All that is certified for one cluster key. */
export interface ClusterGrant extends Prefixes {
  readonly cluster: ClusterName
  readonly clusterKey: Uint8Array
  readonly order: CertificateOrder
}

/** A claim that lost against an older certificate; nobody's working route changed. */
export interface Conflict {
  readonly what: 'name' | 'podPrefix' | 'servicePrefix' | 'wireguardKey'
  readonly value: string
  readonly winner: ClusterName
}

/** What a cluster may use once every older certificate had its say. */
export interface SettledCluster extends Prefixes {
  readonly grant: ClusterGrant
  readonly conflicts: readonly Conflict[]
}

/**
 * Names and prefixes to their owners, in certificate order: first come by certificate, first served. A cluster whose name is
 * taken holds nothing, so it keeps no prefix from others. Input order does not matter. Result: the winner of each name.
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

/** Prefixes with their owners, disjoint. Sorted, so that only the two neighbours of a prefix can overlap it. */
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

/** The prefixes of several certificates of one cluster as one disjoint, sorted list. */
export function unionOf(lists: readonly (readonly Cidr[])[]): readonly Cidr[] {
  const union: Cidr[] = []
  for (const cidr of lists.flat().sort(compareCidr)) {
    const last = union.at(-1)
    // Sorted with the shorter prefix first, so whatever contains this one is the last one kept.
    if (last === undefined || !cidrContains(last, cidr)) union.push(cidr)
  }
  return union
}

function compareRank(left: Rank, right: Rank): number {
  return left.notBefore - right.notBefore || compareBytes(left.tieBreak, right.tieBreak)
}
