// Which clients are answered: this host, the cluster's own pods and nodes, and what the setting dns-allow names. Others are refused: a
// responder that resolves names for everyone is a tool for attacks (RFC 5358), and the names of the mesh are for its members.
import { BlockList, isIP, isIPv6 } from 'node:net'

import { ownAddresses } from './own-addresses.ts'

interface Access {
  /** `address` as sockets give it, with a zone ("fe80::1%eth0") or without. */
  allows(address: string): boolean
  /** Beside this host's own addresses. "10.1.0.0/16" */
  setPrefixes(prefixes: readonly string[]): void
}

export function createAccess(nowMs: () => number = () => performance.now()): Access {
  let prefixes = new BlockList()
  let own: ReadonlySet<string> = new Set()
  let ownReadMs = -Infinity
  /** Verdicts, so that thousands of prefixes cost a known client nothing. */
  let known = new Map<string, boolean>()

  return {
    setPrefixes(next) {
      const list = new BlockList()
      for (const prefix of next) {
        const [address = '', length = ''] = prefix.split('/')
        if (isIP(address) !== 0) list.addSubnet(address, Number(length), isIPv6(address) ? 'ipv6' : 'ipv4')
      }
      prefixes = list
      known = new Map()
    },

    allows(address) {
      const bare = address.replace(/%.*$/, '')
      const before = known.get(bare)
      if (before !== undefined) return before || isOwn(bare)
      const allowed = isIP(bare) !== 0 && (isInside(bare) || isOwn(bare))
      if (known.size >= KNOWN_MAX) known.clear()
      known.set(bare, allowed)
      return allowed
    }
  }

  function isInside(address: string): boolean {
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    return LOOPBACK.check(address, family) || prefixes.check(address, family)
  }

  /** Addresses come and go; a stranger's question reads them once in OWN_LOOK_MS. */
  function isOwn(address: string): boolean {
    if (nowMs() - ownReadMs > OWN_LOOK_MS) {
      const next = ownAddresses()
      ownReadMs = nowMs()
      // What was allowed because it was ours may be ours no more.
      if (next.symmetricDifference(own).size > 0) known = new Map()
      own = next
    }
    return own.has(address)
  }
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')
/** About 100 bytes each. */
const KNOWN_MAX = 10_000
const OWN_LOOK_MS = 1000
