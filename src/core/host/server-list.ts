// This file handles lists of virtual servers as a HostState has them: sorted, one for each key. Most items are the
// same objects from one pass to the next, so differences are found by identity, and an edit copies pointers only. A
// host may have 200,000 virtual servers.
import type { VirtualServer } from './host-state.ts'
import { normalizeVirtualServer, virtualServerKey, virtualServerOrder } from './normalize.ts'

/** A virtual server that is wanted, and the one that the host has with the same key. */
export interface ServerPair {
  /** Index in the list that is wanted. */
  readonly index: number
  readonly want: VirtualServer
  /** undefined when the host has no virtual server with this key. */
  readonly have: VirtualServer | undefined
}

interface ServerDifference {
  /** Pairs in the order of the list that is wanted, without those that have the same object on both sides. */
  readonly pairs: readonly ServerPair[]
  /** Virtual servers that are no longer wanted. */
  readonly gone: readonly VirtualServer[]
}

/**
 * Compares two lists. The result is correct for lists in any order. The comparison is fast where both are sorted, and
 * costs only the edits where `want` was made from `have` by edits.
 */
export function differenceOf(
  want: readonly VirtualServer[],
  have: readonly VirtualServer[]
): ServerDifference {
  if (want === have) return { pairs: [], gone: [] }
  const made = derivations.get(want)
  return made?.from.deref() === have
    ? differenceByEdits(want, have, made.edits)
    : differenceByWalk(want, have)
}

function differenceByEdits(
  want: readonly VirtualServer[],
  have: readonly VirtualServer[],
  edits: ServerEdits
): ServerDifference {
  const pairs: ServerPair[] = []
  const gone: VirtualServer[] = []
  for (const { of, now } of edits.values()) {
    const before = serverLike(have, of)
    if (now !== undefined && now !== before)
      pairs.push({ index: placeOf(want, now), want: now, have: before })
    else if (now === undefined && before !== undefined) gone.push(before)
  }
  return { pairs: pairs.sort((left, right) => left.index - right.index), gone }
}

function differenceByWalk(want: readonly VirtualServer[], have: readonly VirtualServer[]): ServerDifference {
  const pairs: ServerPair[] = []
  const gone: VirtualServer[] = []
  let [at, old, fresh] = [0, 0, 0]
  while (at < want.length || old < have.length) {
    const [wanted, there] = [want[at], have[old]]
    if (wanted === there) {
      at++
      old++
    } else if (wanted !== undefined && there !== undefined && isSameKey(wanted, there)) {
      pairs.push({ index: at++, want: wanted, have: there })
      old++
    } else if (there === undefined || (wanted !== undefined && isBefore(wanted, there))) {
      if (wanted !== undefined) pairs.push({ index: at, want: wanted, have: undefined })
      at++
      fresh++
    } else {
      gone.push(there)
      old++
    }
  }
  return fresh === 0 || gone.length === 0 ? { pairs, gone } : rejoined({ pairs, gone })
}

/** In a list that was not sorted, the two halves of a pair may be found apart. This function joins them. */
function rejoined({ pairs, gone }: ServerDifference): ServerDifference {
  const left = new Map(gone.map((server) => [virtualServerKey(server), server]))
  const joined = pairs.map((pair) => {
    const key = virtualServerKey(pair.want)
    const have = pair.have ?? left.get(key)
    if (pair.have === undefined) left.delete(key)
    return { ...pair, have }
  })
  return { pairs: joined.filter(({ want, have }) => want !== have), gone: [...left.values()] }
}

/**
 * Returns `have` with the objects of `want` in place of equal ones, or `want` itself where all are equal. Later
 * comparisons then need only compare identities.
 */
export function adopted(
  have: readonly VirtualServer[],
  want: readonly VirtualServer[],
  isSame: (want: VirtualServer, have: VirtualServer) => boolean
): readonly VirtualServer[] {
  if (derivations.get(want)?.from.deref() === have) return have
  const { pairs, gone } = differenceOf(want, have)
  const equal = new Map<VirtualServer, VirtualServer>()
  for (const pair of pairs)
    if (pair.have !== undefined && isSame(pair.want, pair.have)) equal.set(pair.have, pair.want)
  if (equal.size === pairs.length && gone.length === 0) return want
  return equal.size === 0 ? have : have.map((server) => equal.get(server) ?? server)
}

/** Returns the virtual server of the sorted list that has the key of `of`, or undefined. */
export function serverLike(servers: readonly VirtualServer[], of: VirtualServer): VirtualServer | undefined {
  const there = servers[placeOf(servers, of)]
  return there !== undefined && isSameKey(there, of) ? there : undefined
}

/** Returns whether address, protocol and port are equal. */
export function isSameKey(left: VirtualServer, right: VirtualServer): boolean {
  return left.vip === right.vip && left.protocol === right.protocol && left.port === right.port
}

/** Maps a virtualServerKey to the new value of that virtual server. `now` is undefined when it is removed. */
export type ServerEdits = Map<string, { readonly of: VirtualServer; readonly now: VirtualServer | undefined }>

/**
 * Records from which list and by which edits a list was made, while both exist. Weak references keep neither list
 * alive, because a chain of lists would grow without end.
 */
const derivations = new WeakMap<
  readonly VirtualServer[],
  { readonly from: WeakRef<readonly VirtualServer[]>; readonly edits: ServerEdits }
>()
/** Maps a list to the list that was last made from it. */
const latest = new WeakMap<readonly VirtualServer[], WeakRef<readonly VirtualServer[]>>()

/**
 * Applies edits, with virtualServerKey as keys, to a sorted list. The result is sorted and normalised. The same edits
 * of one list give the same list object, so that the list a host has after a pass is the list that was wanted.
 */
export function editedServers(
  servers: readonly VirtualServer[],
  edits: ServerEdits
): readonly VirtualServer[] {
  if (edits.size === 0) return servers
  const known = latest.get(servers)?.deref()
  if (known !== undefined && isSameEdits(derivations.get(known)?.edits, edits)) return known
  const normal: ServerEdits = new Map()
  for (const [key, { of, now }] of edits) normal.set(key, { of, now: now && normalizeVirtualServer(now) })
  const list = normal.size > SPLICES_MAX ? merged(servers, normal) : spliced(servers, normal)
  derivations.set(list, { from: new WeakRef(servers), edits: normal })
  latest.set(servers, new WeakRef(list))
  return list
}

function isSameEdits(left: ServerEdits | undefined, right: ServerEdits): boolean {
  if (left?.size !== right.size) return false
  for (const [key, { now }] of right) {
    const other = left.get(key)
    if (other === undefined || other.now !== now) return false
  }
  return true
}

// Each splice moves the tail of the list, which takes 50 µs for 200,000 pointers. Above this number of edits one pass
// over the whole list is faster.
const SPLICES_MAX = 64

function spliced(servers: readonly VirtualServer[], edits: ServerEdits): readonly VirtualServer[] {
  const list = [...servers]
  for (const { of, now } of edits.values()) {
    const isThere = serverLike(list, of) !== undefined
    const at = placeOf(list, of)
    if (now !== undefined) list.splice(at, isThere ? 1 : 0, now)
    else if (isThere) list.splice(at, 1)
  }
  return list
}

function merged(servers: readonly VirtualServer[], edits: ServerEdits): readonly VirtualServer[] {
  const fresh = new Map(edits)
  const list: VirtualServer[] = []
  for (const server of servers) {
    const key = virtualServerKey(server)
    const edit = fresh.get(key)
    fresh.delete(key)
    if (edit === undefined) list.push(server)
    else if (edit.now !== undefined) list.push(edit.now)
  }
  const added = [...fresh.values()].flatMap(({ now }) => now ?? [])
  if (added.length === 0) return list
  return list.concat(added).sort((left, right) => (isBefore(left, right) ? -1 : 1))
}

/** Returns the index of the first virtual server that does not sort before `server`. */
function placeOf(servers: readonly VirtualServer[], server: VirtualServer): number {
  let [low, high] = [0, servers.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    const other = servers[middle]
    if (other !== undefined && isBefore(other, server)) low = middle + 1
    else high = middle
  }
  return low
}

function isBefore(left: VirtualServer, right: VirtualServer): boolean {
  return virtualServerOrder(left) < virtualServerOrder(right)
}
