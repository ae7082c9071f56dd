// The addresses of this host, as prefixes of their whole length: free prefixes are chosen around them.
import { networkInterfaces } from 'node:os'
import { hostCidr, parseIp } from '../../core/model/cidr.ts'
import type { Cidr } from '../../core/model/values.ts'

export function ownAddresses(): Cidr[] {
  return Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .map((entry) => parseIp(entry.address))
    .flatMap((ip) => (ip === undefined ? [] : [hostCidr(ip)]))
}
