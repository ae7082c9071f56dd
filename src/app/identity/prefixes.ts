// Chooses the pod and service prefixes of a cluster for `init` and `invite`: it checks those that a person named, and
// takes free ones from a pool for each kind that has none. Mesh-wide uniqueness is checked by the callers, which know
// the other clusters.
import { nextFreeCidr, parseCidr } from '../../core/model/cidr.ts'
import type { Cidr } from '../../core/model/values.ts'
import { checkPrefixes, type Prefixes } from '../../core/model/prefixes.ts'
import { AppError } from '../observe/errors.ts'

// The pools lie in the upper half of 10.0.0.0/8, which the defaults of the usual installers do not use. Each pool has
// room for 64 prefixes of AUTO_LENGTH, and the two are disjoint, so a pod prefix never overlaps a service prefix.
const POD_POOL = '10.128.0.0/10' as Cidr
const SERVICE_POOL = '10.192.0.0/10' as Cidr
// A /16 has 65,536 addresses.
const AUTO_LENGTH = 16

/**
 * Returns one or more prefixes of each kind. `taken`: prefixes that a chosen one must not overlap; named prefixes are
 * not compared with them.
 * Errors: AppError BAD_ARGUMENT for a malformed prefix, for prefixes that overlap each other or a range that is not
 * routed, and when a pool has no free prefix.
 */
export function choosePrefixes(
  request: { readonly podCidrs: readonly string[]; readonly serviceCidrs: readonly string[] },
  taken: readonly Cidr[]
): Prefixes {
  const podPrefixes =
    request.podCidrs.length > 0 ? cidrs('pod-cidr', request.podCidrs) : [free(POD_POOL, taken, 'pod-cidr')]
  const servicePrefixes =
    request.serviceCidrs.length > 0
      ? cidrs('service-cidr', request.serviceCidrs)
      : [free(SERVICE_POOL, taken, 'service-cidr')]
  const fault = checkPrefixes({ podPrefixes, servicePrefixes })
  if (fault !== undefined)
    throw new AppError('BAD_ARGUMENT', fault, 'name disjoint prefixes, as the cluster really uses them')
  return { podPrefixes, servicePrefixes }
}

/** Parses the named prefixes. `field` is the flag of meshctl without dashes, for the message. */
export function cidrs(field: string, texts: readonly string[]): Cidr[] {
  return texts.map((text) => {
    const parsed = parseCidr(text)
    if (parsed.kind === 'invalid')
      throw new AppError(
        'BAD_ARGUMENT',
        `${field}: ${parsed.reason}`,
        'write it like 10.1.0.0/16 or fd00:1::/48'
      )
    return parsed.cidr
  })
}

/** The lowest free prefix of the pool. */
function free(pool: Cidr, taken: readonly Cidr[], field: string): Cidr {
  const found = nextFreeCidr({ pool, length: AUTO_LENGTH, taken })
  if (found === undefined)
    throw new AppError(
      'BAD_ARGUMENT',
      `${field}: no free /${AUTO_LENGTH} left in ${pool}`,
      `name one with --${field}`
    )
  return found
}

/**
 * The error of a prefix that contains an address which hosts need outside the tunnel. `what` names the address and its
 * use, as in "198.51.100.1, the default gateway of this host".
 */
export function hidesError(prefix: Cidr, what: string): AppError {
  return new AppError(
    'PREFIX_HIDES',
    `prefix ${prefix} would hide ${what}`,
    'name prefixes that only the pods and services of that cluster use, never the network in which hosts reach each other'
  )
}
