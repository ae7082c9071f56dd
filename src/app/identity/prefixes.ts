// Chooses the pod and service prefixes of a cluster for `init` and `invite`: it checks those that a person named, and
// takes free ones from a pool for each kind that has none. Mesh-wide uniqueness is checked by the callers, which know
// the other clusters.
import {
  cidrIntersection,
  cidrToPrefix,
  constantCidrs,
  familyOf,
  nextFreeCidr,
  parseCidr
} from '../../core/model/cidr.ts'
import type { Cidr } from '../../core/model/values.ts'
import { lengthOf } from '../../core/model/translation.ts'
import { checkPrefixes, type Prefixes } from '../../core/model/prefixes.ts'
import { AppError } from '../observe/errors.ts'

// The pools lie in the upper half of 10.0.0.0/8, which the defaults of the usual installers do not use. Each pool has
// room for 64 prefixes of AUTO_LENGTH, and the two are disjoint, so a pod prefix never overlaps a service prefix.
// Those of IPv6 are unique local addresses (RFC 4193); they serve only where a real prefix has a virtual one chosen for it.
const POOLS = {
  pod: { 4: '10.128.0.0/10' as Cidr, 6: 'fd72:6800::/24' as Cidr },
  service: { 4: '10.192.0.0/10' as Cidr, 6: 'fd72:6900::/24' as Cidr }
} as const
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
 * compared with the rights when the invite is signed. `like`: chosen ones have the families and lengths of these, which the
 * cluster really uses; without any of a kind, one prefix is chosen.
 * Errors: AppError BAD_ARGUMENT for a malformed prefix, for prefixes that overlap each other or a range that is not
 * routed, and when no free prefix is left.
 */
export function choosePrefixes(
  request: { readonly podCidrs: readonly string[]; readonly serviceCidrs: readonly string[] },
  taken: readonly Cidr[],
  {
    within = EVERYWHERE,
    like
  }: { readonly within?: readonly Cidr[]; readonly like?: Prefixes | undefined } = {}
): Prefixes {
  const named = {
    pods: cidrs('pod-cidr', request.podCidrs),
    services: cidrs('service-cidr', request.serviceCidrs)
  }
  const podPrefixes =
    named.pods.length > 0
      ? named.pods
      : frees({ kind: 'pod', within, taken: [...taken, ...named.services] }, like?.podPrefixes)
  const servicePrefixes =
    named.services.length > 0
      ? named.services
      : frees({ kind: 'service', within, taken: [...taken, ...podPrefixes] }, like?.servicePrefixes)
  const fault = checkPrefixes({ podPrefixes, servicePrefixes })
  if (fault !== undefined)
    throw new AppError(
      'BAD_ARGUMENT',
      fault,
      'name the prefixes that the pods and services of the cluster really have: disjoint ones that hosts route, as in 10.1.0.0/16 and 10.101.0.0/16'
    )
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
  readonly kind: 'pod' | 'service'
  readonly within: readonly Cidr[]
  readonly taken: readonly Cidr[]
  /** A prefix with the family and the length that are wanted; undefined: LENGTHS decides. */
  readonly like?: Cidr
}

/** One free prefix for each of `like`, or one where there are none. Errors: AppError BAD_ARGUMENT. */
function frees(wanted: Wanted, like: readonly Cidr[] = []): readonly Cidr[] {
  if (like.length === 0) return [free(wanted)]
  const chosen: Cidr[] = []
  for (const one of like) chosen.push(free({ ...wanted, like: one, taken: [...wanted.taken, ...chosen] }))
  return chosen
}

/**
 * The lowest free prefix of the pool, as far as it lies in `within`; where the two share nothing, the lowest of `within`
 * itself. Errors: AppError BAD_ARGUMENT.
 */
function free({ kind, within, taken, like }: Wanted): Cidr {
  const field = `${kind}-cidr`
  const pool = POOLS[kind][like === undefined ? 4 : familyOf(like)]
  const shared = within.flatMap((outer) => cidrIntersection(pool, outer) ?? [])
  const places = shared.length > 0 ? shared : within
  for (const place of places) {
    const found =
      like === undefined ? freeIn(place, taken) : nextFreeCidr({ pool: place, length: lengthOf(like), taken })
    if (found !== undefined) return found
  }
  throw new AppError(
    'BAD_ARGUMENT',
    `${field}: no free prefix${like === undefined ? '' : ` with the length /${lengthOf(like)}, like that of ${like},`} is left in ${places.join(', ')}`,
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
