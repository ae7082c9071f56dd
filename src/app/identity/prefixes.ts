// Chooses the pod and service prefixes of a cluster for `init` and `invite`: it checks those that a person named, and
// takes free ones from a pool for each kind that has none. Mesh-wide uniqueness is checked by the callers, which know
// the other clusters.
import {
  cidrIntersection,
  cidrToPrefix,
  constantCidrs,
  nextFreeCidr,
  parseCidr
} from '../../core/model/cidr.ts'
import type { Cidr } from '../../core/model/values.ts'
import { checkPrefixes, type Prefixes } from '../../core/model/prefixes.ts'
import { AppError } from '../observe/errors.ts'

// The pools lie in the upper half of 10.0.0.0/8, which the defaults of the usual installers do not use. Each pool has
// room for 64 prefixes of AUTO_LENGTH, and the two are disjoint, so a pod prefix never overlaps a service prefix.
const POD_POOL = '10.128.0.0/10' as Cidr
const SERVICE_POOL = '10.192.0.0/10' as Cidr
// What may be chosen, by family, in bits: `auto` is the length of a prefix where there is room (65,536 addresses of IPv4);
// `min` is the shortest prefix of a seat to choose from, since a shorter one has addresses of the Internet; `max` is the
// longest prefix that still holds the pods of a node or the services of a cluster.
const LENGTHS = { 4: { auto: 16, min: 8, max: 28 }, 6: { auto: 64, min: 7, max: 112 } } as const
// A prefix of a seat that is too small for `auto` is divided into 16.
const SHARE_BITS = 4
const EVERYWHERE = constantCidrs('0.0.0.0/0', '::/0')

/**
 * Returns one or more prefixes of each kind. `taken`: prefixes that a chosen one must not overlap; named prefixes are
 * not compared with them. `within`: a chosen one lies in one of these, which are the rights of a seat; named prefixes are
 * compared with the rights when the invite is signed.
 * Errors: AppError BAD_ARGUMENT for a malformed prefix, for prefixes that overlap each other or a range that is not
 * routed, and when no free prefix is left.
 */
export function choosePrefixes(
  request: { readonly podCidrs: readonly string[]; readonly serviceCidrs: readonly string[] },
  taken: readonly Cidr[],
  within: readonly Cidr[] = EVERYWHERE
): Prefixes {
  const named = {
    pods: cidrs('pod-cidr', request.podCidrs),
    services: cidrs('service-cidr', request.serviceCidrs)
  }
  const podPrefixes =
    named.pods.length > 0
      ? named.pods
      : [free({ pool: POD_POOL, within, taken: [...taken, ...named.services], field: 'pod-cidr' })]
  const servicePrefixes =
    named.services.length > 0
      ? named.services
      : [free({ pool: SERVICE_POOL, within, taken: [...taken, ...podPrefixes], field: 'service-cidr' })]
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

interface Wanted {
  /** Where a prefix of this kind is looked for first. */
  readonly pool: Cidr
  readonly within: readonly Cidr[]
  readonly taken: readonly Cidr[]
  readonly field: string
}

/**
 * The lowest free prefix of the pool, as far as it lies in `within`; where the two share nothing, the lowest of `within`
 * itself. Errors: AppError BAD_ARGUMENT.
 */
function free({ pool, within, taken, field }: Wanted): Cidr {
  const shared = within.flatMap((outer) => cidrIntersection(pool, outer) ?? [])
  const places = shared.length > 0 ? shared : within
  for (const place of places) {
    const found = freeIn(place, taken)
    if (found !== undefined) return found
  }
  throw new AppError(
    'BAD_ARGUMENT',
    `${field}: no free prefix left in ${places.join(', ')}`,
    shared.length > 0 ? `name one with --${field}` : `name one within the rights of the seat with --${field}`
  )
}

/** The lowest free prefix in another one; undefined when there is none of a useful length (LENGTHS). */
function freeIn(place: Cidr, taken: readonly Cidr[]): Cidr | undefined {
  const { address, length: outer } = cidrToPrefix(place)
  const { auto, min, max } = LENGTHS[address.length === 4 ? 4 : 6]
  const length = Math.max(auto, outer + SHARE_BITS)
  return outer < min || length > max ? undefined : nextFreeCidr({ pool: place, length, taken })
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
