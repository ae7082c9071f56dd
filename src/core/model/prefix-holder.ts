// Finds which of many prefixes holds an address.
import { cidrContains, compareCidr } from './cidr.ts'
import type { Cidr, Ip } from './values.ts'

/**
 * Returns a function that finds the prefix which holds an address or a prefix, in logarithmic time: a mesh may have a
 * thousand clusters.
 */
export function holderAmong(prefixes: readonly Cidr[]): (part: Cidr | Ip) => Cidr | undefined {
  const disjoint = outermost(prefixes)
  return (part) => {
    let [low, high] = [0, disjoint.length]
    while (low < high) {
      const middle = (low + high) >> 1
      const at = disjoint[middle]
      if (at !== undefined && compareCidr(at, part) <= 0) low = middle + 1
      else high = middle
    }
    const last = disjoint[low - 1]
    return last !== undefined && cidrContains(last, part) ? last : undefined
  }
}

/** Returns the prefixes without those inside another one, sorted. */
export function outermost(cidrs: readonly Cidr[]): readonly Cidr[] {
  const sorted = [...new Set(cidrs)].sort(compareCidr)
  const kept: Cidr[] = []
  // Outer prefixes sort before inner ones, so only the last kept prefix can hold the next one.
  for (const cidr of sorted) {
    const last = kept.at(-1)
    if (last === undefined || !cidrContains(last, cidr)) kept.push(cidr)
  }
  return kept
}
