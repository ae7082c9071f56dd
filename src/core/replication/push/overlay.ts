// Whom an agent keeps connections to. A pure function of what it knows: the same answer for the same members, and one member
// that comes or goes changes one choice at most.
//   up to FULL_MESH_MAX members   everyone
//   more                          the nearest by measured round trip, for speed, and random ones, for a graph of short paths
//                                 that does not fall apart; others choose us, so that the degree is about twice the choices
//   nobody can dial us            more of our own choices instead, all of them public
import { hashText, mixBits } from '../../model/hash.ts'
import type { Origin } from '../../model/values.ts'

export interface OverlayMember {
  readonly origin: Origin
  /** It has published an address that can be dialled. */
  readonly dialable: boolean
  /** Measured once; undefined: never connected. */
  readonly rttMs: number | undefined
}

interface OverlayOptions {
  readonly self: Origin
  /** Others can dial us. */
  readonly dialable: boolean
  /** All others. */
  readonly members: readonly OverlayMember[]
  /** Rises every few minutes: one choice is another member each time, which measures one more round trip. */
  readonly round: number
}

/** Members to dial, best reason first. Never one that cannot be dialled. */
export function chooseNeighbours({ self, dialable, members, round }: OverlayOptions): readonly Origin[] {
  const candidates = members.filter((member) => member.dialable && member.origin !== self)
  if (members.length < FULL_MESH_MAX) return candidates.map(({ origin }) => origin)
  const chosen = new Set<Origin>()
  const take = (ranked: readonly OverlayMember[], count: number) => {
    const wanted = chosen.size + count
    for (const { origin } of ranked) {
      if (chosen.size >= wanted) return
      chosen.add(origin)
    }
  }
  take(nearest(self, candidates), NEAREST)
  take(shuffled(self, candidates), (dialable ? RANDOM_DIALABLE : RANDOM_UNDIALABLE) - 1)
  take(shuffled(`${self} ${round}`, candidates), 1)
  return [...chosen]
}

/** With so many agents or fewer, everyone is everyone's neighbour. */
export const FULL_MESH_MAX = 10
const NEAREST = 2
// Dialled by as many as we dial: a degree of about 10, of which 4 are near.
const RANDOM_DIALABLE = 3
// Nobody adds to these; public agents bear them.
const RANDOM_UNDIALABLE = 6

/** In steps of 4 ms, and at random within a step: else all of a site would choose the same two. */
function nearest(self: Origin, members: readonly OverlayMember[]): readonly OverlayMember[] {
  return members
    .filter(({ rttMs }) => rttMs !== undefined)
    .map((member) => ({
      member,
      step: Math.floor((member.rttMs ?? 0) / RTT_STEP_MS),
      weight: weigh(self, member.origin)
    }))
    .sort((left, right) => left.step - right.step || left.weight - right.weight)
    .map(({ member }) => member)
}

const RTT_STEP_MS = 4

function shuffled(salt: string, members: readonly OverlayMember[]): readonly OverlayMember[] {
  return members
    .map((member) => ({ member, weight: weigh(salt, member.origin) }))
    .sort((left, right) => left.weight - right.weight)
    .map(({ member }) => member)
}

function weigh(salt: string, origin: Origin): number {
  return mixBits(hashText(`${salt}\0${origin}`))
}
