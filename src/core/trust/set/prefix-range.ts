// Prefixes as pairs of texts, so that containment and overlap are two comparisons of strings. The trust set compares
// thousands of prefixes at each evaluation; `cidrContains` would parse each of them again.
import type { Cidr } from '../../model/values.ts'
import { cidrToPrefix } from '../../model/cidr.ts'

/** A prefix with its first and its last address, as texts in address order, IPv4 before IPv6. */
export interface PrefixRange {
  readonly cidr: Cidr
  readonly first: string
  readonly last: string
}

/** The range of a canonical prefix. */
export function rangeOf(cidr: Cidr): PrefixRange {
  const { address, length } = cidrToPrefix(cidr)
  const end = address.map((byte, index) => byte | (0xff >> Math.min(8, Math.max(0, length - index * 8))))
  return { cidr, first: sortKey(address), last: sortKey(end) }
}

/** Whether every address of `inner` lies in `outer`. */
export function isInside(inner: PrefixRange, outer: PrefixRange): boolean {
  return outer.first <= inner.first && inner.last <= outer.last
}

/** Whether an address lies in both. */
export function overlap(left: PrefixRange, right: PrefixRange): boolean {
  return left.first <= right.last && right.first <= left.last
}

/** Whether `inner` lies in one of the prefixes. */
export function isInsideOne(inner: PrefixRange, prefixes: readonly PrefixRange[]): boolean {
  return prefixes.some((outer) => isInside(inner, outer))
}

/** A comparison function for sort(): by first address, and the shorter prefix first. */
export function compareRanges(left: PrefixRange, right: PrefixRange): number {
  if (left.first !== right.first) return left.first < right.first ? -1 : 1
  if (left.last !== right.last) return left.last > right.last ? -1 : 1
  return 0
}

/** The family's digit and the address in hexadecimal digits. */
function sortKey(address: Uint8Array): string {
  const digits = Array.from(address, (byte) => byte.toString(16).padStart(2, '0'))
  return `${address.length === 4 ? 4 : 6}${digits.join('')}`
}
