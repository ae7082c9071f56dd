// The addresses of this host's interfaces, as prefixes of their whole length (/32, /128). `init` and `invite` choose
// free prefixes that do not contain them.
import { networkInterfaces } from 'node:os'
import { hostCidr, parseIp } from '../../core/model/cidr.ts'
import type { Cidr } from '../../core/model/values.ts'

/**
 * Reads the interfaces now, with loopback and link-local addresses. The call blocks for one read of the kernel
 * (getifaddrs(3)).
 */
export function ownAddresses(): Cidr[] {
  return Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .map((entry) => parseIp(entry.address))
    .flatMap((ip) => (ip === undefined ? [] : [hostCidr(ip)]))
}
