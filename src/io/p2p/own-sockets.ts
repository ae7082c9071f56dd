// Finds the local address of each TCP connection of this host, from /proc/net/tcp and /proc/net/tcp6 (proc(5)), because
// libp2p does not tell it. The transport needs it when the host has lost an address: connections from that address are
// dead, but TCP would notice only after minutes.
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { bytesToIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'

// Lines of each table that are read. A dead connection that is not found is noticed by the pings of the mesh within
// seconds.
const LINES_MAX = 100_000

/**
 * Returns the local addresses of established connections by "<remote address> <remote port>". Empty without /proc.
 * Never rejects.
 */
export async function ownAddressOfConnections(): Promise<ReadonlyMap<string, Ip>> {
  const found = new Map<string, Ip>()
  for (const path of ['/proc/net/tcp', '/proc/net/tcp6']) {
    try {
      await read(path, found)
    } catch {
      // This kernel has no IPv6, or there is no /proc.
    }
  }
  return found
}

/** Adds the connections of one table to `found`. Rejects when the file cannot be read. */
async function read(path: string, found: Map<string, Ip>): Promise<void> {
  const stream = createReadStream(path)
  const lines = createInterface({ input: stream })
  const failed = new Promise<never>((_, reject) => stream.on('error', reject))
  failed.catch(() => undefined) // an error after the race below must not become an unhandled rejection
  const done = (async () => {
    let count = 0
    for await (const line of lines) {
      const entry = parseLine(line)
      if (entry !== undefined) found.set(entry.remote, entry.own)
      if (++count >= LINES_MAX) break
    }
  })()
  try {
    await Promise.race([done, failed])
  } finally {
    lines.close()
    stream.destroy()
  }
}

/**
 * Parses one line of the table, as in "  1: 0B7100CB:1F0A 0C7100CB:8D2E 01 …": local end, remote end and state, all
 * hexadecimal. Addresses are 32-bit words in the byte order of the host. Undefined for any line but an established
 * connection (state 01).
 */
export function parseLine(line: string): { readonly remote: string; readonly own: Ip } | undefined {
  const match = /^\s*\d+: ([0-9A-F]+):[0-9A-F]{4} ([0-9A-F]+):([0-9A-F]{4}) 01 /.exec(line)
  const own = ipOf(match?.[1] ?? '')
  const remote = ipOf(match?.[2] ?? '')
  if (own === undefined || remote === undefined) return undefined
  return { remote: `${remote} ${parseInt(match?.[3] ?? '', 16)}`, own }
}

function ipOf(hex: string): Ip | undefined {
  if (hex.length !== 8 && hex.length !== 32) return undefined
  const bytes = Buffer.from(hex, 'hex')
  bytes.swap32() // the supported machines, x64 and arm64, are little-endian
  // Sockets of IPv6 carry IPv4 as ::ffff:a.b.c.d.
  const isMapped = bytes.length === 16 && bytes.subarray(0, 12).equals(MAPPED)
  return bytesToIp(Uint8Array.from(isMapped ? bytes.subarray(12) : bytes))
}

const MAPPED = Buffer.from('00000000000000000000ffff', 'hex')
