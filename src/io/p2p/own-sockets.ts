// Which own address each connection of this host has, by its remote end: libp2p does not tell.
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { bytesToIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'

// A host with more connections than this has the table read in part; what is not found is left to the liveness of the mesh.
const LINES_MAX = 100_000

/** Own address by "<remote address> <remote port>". Empty where there is no /proc. */
export async function ownAddressOfConnections(): Promise<ReadonlyMap<string, Ip>> {
  const found = new Map<string, Ip>()
  for (const path of ['/proc/net/tcp', '/proc/net/tcp6']) {
    try {
      await read(path, found)
    } catch {
      // No such family in this kernel, or no /proc.
    }
  }
  return found
}

async function read(path: string, found: Map<string, Ip>): Promise<void> {
  const stream = createReadStream(path)
  const lines = createInterface({ input: stream })
  const failed = new Promise<never>((_, reject) => stream.on('error', reject))
  failed.catch(() => undefined) // awaited in the race below, or over
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

/** "  1: 0B7100CB:1F0A 0C7100CB:8D2E 01 …" (proc(5)): addresses are words of 32 bits in the order of the host. */
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
  bytes.swap32() // every machine that Node and WireGuard run on here is little-endian
  // Sockets of IPv6 carry IPv4 as ::ffff:a.b.c.d.
  const isMapped = bytes.length === 16 && bytes.subarray(0, 12).equals(MAPPED)
  return bytesToIp(Uint8Array.from(isMapped ? bytes.subarray(12) : bytes))
}

const MAPPED = Buffer.from('00000000000000000000ffff', 'hex')
