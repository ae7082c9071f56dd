// Decides which clients get an answer: this host, the cluster's own pods and nodes, and the prefixes in the setting
// dns-allow. Other clients are refused, because an open resolver is used for amplification attacks (RFC 5358) and the
// names of the mesh are for its members only.
import { BlockList, isIP, isIPv6 } from 'node:net'

import { hostCidr, parseCidr, parseIp } from '../../core/model/cidr.ts'
import type { Cidr } from '../../core/model/values.ts'
import { ownAddresses } from './own-addresses.ts'

interface Access {
  /**
   * Says whether a client may ask. `address` is written as sockets report it, with a zone ("fe80::1%eth0") or without.
   * A text that is no IP address is refused. Called for each message, so it must be cheap: see `known`.
   */
  allows(address: string): boolean
  /**
   * Sets the allowed prefixes, for example "10.1.0.0/16". This host's own addresses are always allowed. A text without
   * "/" is one address. A text that is neither a prefix nor an address is ignored.
   */
  setPrefixes(prefixes: readonly string[]): void
}

/**
 * Returns an Access that allows this host only, until `setPrefixes` is called. `nowMs` is a monotonic clock in
 * milliseconds; tests replace it.
 */
export function createAccess(nowMs: () => number = () => performance.now()): Access {
  let prefixes = new BlockList()
  let own: ReadonlySet<string> = new Set()
  let ownReadMs = -Infinity
  /**
   * The cached verdict for each client address, so that a known client is not compared with thousands of prefixes
   * again.
   */
  let known = new Map<string, boolean>()

  return {
    setPrefixes(next) {
      const list = new BlockList()
      for (const prefix of next) {
        const cidr = cidrOf(prefix)
        if (cidr === undefined) continue
        const [address = '', length] = cidr.split('/')
        list.addSubnet(address, Number(length), isIPv6(address) ? 'ipv6' : 'ipv4')
      }
      prefixes = list
      // The cached verdicts were computed from the old prefixes.
      known = new Map()
    },

    allows(address) {
      const bare = address.replace(/%.*$/, '')
      const before = known.get(bare)
      // A refusal is checked again, because this host may have received the address since.
      if (before !== undefined) return before || isOwn(bare)
      const allowed = isIP(bare) !== 0 && (isInside(bare) || isOwn(bare))
      // A forged source address per datagram would otherwise let the cache grow without a bound.
      if (known.size >= KNOWN_MAX) known.clear()
      known.set(bare, allowed)
      return allowed
    }
  }

  function isInside(address: string): boolean {
    const family = isIPv6(address) ? 'ipv6' : 'ipv4'
    return LOOPBACK.check(address, family) || prefixes.check(address, family)
  }

  /** Own addresses change over time. The list is read again for an unknown client, at most once in OWN_LOOK_MS. */
  function isOwn(address: string): boolean {
    if (nowMs() - ownReadMs > OWN_LOOK_MS) {
      const next = ownAddresses()
      ownReadMs = nowMs()
      // A cached verdict may rest on an address that this host has lost, so the cache is emptied.
      if (next.symmetricDifference(own).size > 0) known = new Map()
      own = next
    }
    return own.has(address)
  }
}

/** Reads a prefix, or an address as the prefix of this address alone; undefined for a text that is neither. */
function cidrOf(text: string): Cidr | undefined {
  const parsed = parseCidr(text)
  if (parsed.kind === 'cidr') return parsed.cidr
  const ip = parseIp(text)
  return ip === undefined ? undefined : hostCidr(ip)
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')
/** The largest number of cached verdicts; each takes about 100 bytes. */
const KNOWN_MAX = 10_000
/** Reading the interfaces takes system calls, so it is not done for each datagram of a refused client. */
const OWN_LOOK_MS = 1000
