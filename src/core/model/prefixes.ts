// The prefixes of one cluster, and what makes a list of them impossible.
import { cidrOverlaps } from './cidr.ts'
import { unroutablePart } from './unroutable.ts'
import type { Cidr } from './values.ts'

/** The prefixes of one cluster, for pods and for services. */
export interface Prefixes {
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
}

/** Prefixes of each kind. With 2 × 32 prefixes of about 24 bytes, a statement has less than 2 KiB. */
const PREFIXES_MAX = 32

/**
 * Returns the reason why a cluster cannot have these prefixes; undefined when it can. The text names the offending
 * prefixes, so `init` and `invite` show it to the operator.
 */
export function checkPrefixes({ podPrefixes, servicePrefixes }: Prefixes): string | undefined {
  if (podPrefixes.length > PREFIXES_MAX || servicePrefixes.length > PREFIXES_MAX) {
    return `there are more than ${PREFIXES_MAX} prefixes of one kind`
  }
  const all = [
    ...podPrefixes.map((cidr) => ({ cidr, what: 'pod prefix' })),
    ...servicePrefixes.map((cidr) => ({ cidr, what: 'service prefix' }))
  ]
  for (const [index, { cidr, what }] of all.entries()) {
    const special = unroutablePart(cidr)
    if (special !== undefined)
      return `${what} ${cidr} overlaps ${special}, which is never routed between hosts`
    const other = all.slice(0, index).find((before) => cidrOverlaps(before.cidr, cidr))
    if (other !== undefined)
      return `${what} ${cidr} overlaps ${other.what} ${other.cidr}: the prefixes must be disjoint`
  }
  return undefined
}
