// The reverse zones that lie completely inside a prefix. A prefix that ends inside a label is split into several
// zones and never widened, because the zone above it may belong to another cluster, whose names CoreDNS would then
// deny.
import { cidrToPrefix } from '../model/cidr.ts'
import type { DomainName } from '../dns/record.ts'
import { reverseZone } from '../dns/arpa.ts'
import type { Cidr } from '../model/values.ts'

/**
 * The zones of a prefix: "2.10.in-addr.arpa" for 10.2.0.0/16; sixteen zones for a /20. At most 128 for IPv4 and 8 for
 * IPv6.
 */
export function reverseZones(cidr: Cidr): readonly DomainName[] {
  const { address, length } = cidrToPrefix(cidr)
  const step = address.length === 4 ? 8 : 4
  const bits = Math.max(step, Math.ceil(length / step) * step)
  return Array.from({ length: 2 ** (bits - length) }, (_, index) => {
    const bytes = [...address]
    // The index fills the bits between `length` and `bits`, which lie in one byte.
    const at = (bits - 1) >> 3
    bytes[at] = (bytes[at] ?? 0) | (index << (7 - ((bits - 1) & 7)))
    return reverseZone({ bytes, bits })
  })
}
