// Reverse zones that lie wholly inside a prefix. A prefix that ends inside a label is split up, never widened: the zone above
// it may belong to another cluster (CoreDNS would deny the neighbour's names).
import { cidrToPrefix } from '../model/cidr.ts'
import type { DomainName } from '../dns/record.ts'
import { reverseZone } from '../dns/arpa.ts'
import type { Cidr } from '../model/values.ts'

/** "2.10.in-addr.arpa" for 10.2.0.0/16; sixteen zones for a /20. Up to 128 for IPv4, 8 for IPv6. */
export function reverseZones(cidr: Cidr): readonly DomainName[] {
  const { address, length } = cidrToPrefix(cidr)
  const step = address.length === 4 ? 8 : 4
  const bits = Math.max(step, Math.ceil(length / step) * step)
  return Array.from({ length: 2 ** (bits - length) }, (_, index) => {
    const bytes = [...address]
    // The index goes into the bits between `length` and `bits`, all of them in one byte.
    const at = (bits - 1) >> 3
    bytes[at] = (bytes[at] ?? 0) | (index << (7 - ((bits - 1) & 7)))
    return reverseZone({ bytes, bits })
  })
}
