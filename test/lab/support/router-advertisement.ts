// Sends one IPv6 router advertisement (RFC 4861, section 4.2) on a link: node router-advertisement.ts <link>.
// A raw socket needs root. koffi is an optional package; the tests that need this program need it.
import { createRequire } from 'node:module'
import { networkInterfaces } from 'node:os'
import { readFileSync } from 'node:fs'

const AF_INET6 = 10
const SOCK_RAW = 3
const IPPROTO_ICMPV6 = 58
const IPPROTO_IPV6 = 41
const IPV6_MULTICAST_IF = 17
const IPV6_MULTICAST_HOPS = 18
const LIFETIME_SECONDS = 1800

const link = process.argv[2] ?? ''
const index = Number(readFileSync(`/sys/class/net/${link}/ifindex`, 'utf8'))
if (networkInterfaces()[link] === undefined) throw new Error(`no address on ${link}`)

const koffi = createRequire(import.meta.url)('koffi') as {
  load(path: null): { func(declaration: string): (...args: unknown[]) => number }
}
const libc = koffi.load(null)
const socket = libc.func('int socket(int, int, int)')
const setsockopt = libc.func('int setsockopt(int, int, int, const void*, uint)')
const sendto = libc.func('long sendto(int, const void*, size_t, int, const void*, uint)')

const fd = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)
for (const [option, value] of [
  [IPV6_MULTICAST_IF, index],
  [IPV6_MULTICAST_HOPS, 255]
] as const) {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  if (setsockopt(fd, IPPROTO_IPV6, option, bytes, 4) < 0) throw new Error(`setsockopt ${option}`)
}

// Type 134; the kernel fills the checksum in; hop limit 64; no flags; lifetime.
const advertisement = Buffer.alloc(16)
advertisement[0] = 134
advertisement[4] = 64
advertisement.writeUInt16BE(LIFETIME_SECONDS, 6)

// sockaddr_in6 of ff02::1.
const allNodes = Buffer.alloc(28)
allNodes.writeUInt16LE(AF_INET6, 0)
allNodes.writeUInt16BE(0xff02, 8)
allNodes[23] = 1
allNodes.writeUInt32LE(index, 24)
if (sendto(fd, advertisement, advertisement.length, 0, allNodes, allNodes.length) < 0)
  throw new Error(`cannot send on ${link}`)
