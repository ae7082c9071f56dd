// The overlay: chooses the members to which an agent keeps connections. It is a pure function, so the same members give
// the same choice, and one member that is added or removed changes one choice at most. The session dials the result.
//   up to FULL_MESH_MAX agents    all members that can be dialled
//   more                          the nearest by round-trip time, for speed, and random ones, for short paths and a
//                                 graph that stays connected; others choose this agent, too, so it has twice as many
//   this agent cannot be dialled  more random ones, because no other member chooses it
// In a larger mesh clusters are chosen first, and then an agent of each. So however many agents a cluster has, it gets a
// second place only when no other cluster is left. (A hostile cluster could hold records back if it filled the overlay.)
import { hashText, mixBits } from '../../model/hash.ts'
import type { Origin } from '../../model/values.ts'

/** A member that may be chosen. */
export interface OverlayMember {
  readonly origin: Origin
  /** The name of its cluster; undefined: it counts as a cluster of its own. */
  readonly cluster?: string | undefined
  /** True when the member has published an address that can be dialled. */
  readonly dialable: boolean
  /**
   * The round-trip time that was last measured, in milliseconds; undefined when this agent was never connected to it.
   */
  readonly rttMs: number | undefined
}

/** What the choice depends on. */
interface OverlayOptions {
  readonly self: Origin
  /** True when other members can dial this agent. */
  readonly dialable: boolean
  /** All members but this agent. */
  readonly members: readonly OverlayMember[]
  /**
   * Grows every few minutes. In each round one choice is another random member, so that its round-trip time is
   * measured.
   */
  readonly round: number
}

/** Returns the members to dial, nearest first, then random ones. Members that cannot be dialled are never chosen. */
export function chooseNeighbours({ self, dialable, members, round }: OverlayOptions): readonly Origin[] {
  const candidates = members.filter((member) => member.dialable && member.origin !== self)
  if (members.length < FULL_MESH_MAX) return candidates.map(({ origin }) => origin)
  const chosen = new Set<Origin>()
  const clusters = new Set<string>()
  const take = (ranked: readonly OverlayMember[], count: number) => {
    const wanted = chosen.size + count
    const fresh = ranked.filter((member) => !clusters.has(clusterOf(member)))
    for (const member of [...fresh, ...ranked]) {
      if (chosen.size >= wanted) return
      // `ranked` has one member of each cluster first, so `fresh` gives each cluster one place before any has two.
      chosen.add(member.origin)
      clusters.add(clusterOf(member))
    }
  }
  take(nearest(self, candidates), NEAREST)
  take(shuffled(self, candidates), (dialable ? RANDOM_DIALABLE : RANDOM_UNDIALABLE) - 1)
  take(shuffled(`${self} ${round}`, candidates), 1)
  return [...chosen]
}

/** Agents up to which each is connected to every other one. */
export const FULL_MESH_MAX = 10
const NEAREST = 2
// Random choices, one of which changes with the round. About as many members dial this agent as it dials, so it has
// about 10 neighbours, of which 4 are near.
const RANDOM_DIALABLE = 3
// The number of random choices of an agent that cannot be dialled. No member dials it, so it dials more of them
// itself.
const RANDOM_UNDIALABLE = 6

/**
 * Sorts members by round-trip time in steps of 4 ms, and at random within a step. Otherwise all agents of a site would
 * choose the same two members.
 */
function nearest(self: Origin, members: readonly OverlayMember[]): readonly OverlayMember[] {
  return firstOfEachCluster(
    members
      .filter(({ rttMs }) => rttMs !== undefined)
      .map((member) => ({
        member,
        step: Math.floor((member.rttMs ?? 0) / RTT_STEP_MS),
        weight: weigh(self, member.origin)
      }))
      .sort((left, right) => left.step - right.step || left.weight - right.weight)
      .map(({ member }) => member)
  )
}

const RTT_STEP_MS = 4

/**
 * Returns the members in an order that is random, but the same for the same salt (rendezvous hashing). The first of each
 * cluster come in an order of the clusters, so that a cluster with many agents does not come first.
 */
function shuffled(salt: string, members: readonly OverlayMember[]): readonly OverlayMember[] {
  const ranked = members
    .map((member) => ({ member, weight: weigh(salt, member.origin) }))
    .sort((left, right) => left.weight - right.weight)
    .map(({ member }) => member)
  const all = firstOfEachCluster(ranked)
  const count = new Set(members.map(clusterOf)).size
  const firsts = all
    .slice(0, count)
    .map((member) => ({ member, weight: weigh(salt, clusterOf(member)) }))
    .sort((left, right) => left.weight - right.weight)
    .map(({ member }) => member)
  return [...firsts, ...all.slice(count)]
}

/** Puts the first member of each cluster before all others; otherwise the order stays. */
function firstOfEachCluster(members: readonly OverlayMember[]): readonly OverlayMember[] {
  const firsts = new Map<string, OverlayMember>()
  for (const member of members) if (!firsts.has(clusterOf(member))) firsts.set(clusterOf(member), member)
  return [...firsts.values(), ...members.filter((member) => firsts.get(clusterOf(member)) !== member)]
}

function clusterOf({ origin, cluster }: OverlayMember): string {
  return cluster ?? origin
}

function weigh(salt: string, name: string): number {
  return mixBits(hashText(`${salt}\0${name}`))
}
