// The addresses at which the members see the tunnel of this agent. A gateway behind a NAT does not know them, and the others
// cannot open its NAT without them. Each gateway tells the other end of a tunnel, inside the tunnel, from where its packets
// come (io/probe/packet.ts); this file judges what was told. Pure.
// Invariants
//   1. A cluster has one voice, its latest. An address counts when more than half of the voices of its family name it. So a
//      member that lies makes this agent publish a wrong address only while it is the only one that this agent reaches.
//   2. A NAT with another port for each destination (symmetric) gives each member another address, so none of them counts.
//      None of them would let another member in.
//   3. Addresses of this host itself are no news, and neither are those that no other host can reach.
//   4. What is published changes at most CHANGES_MAX times in CHANGES_MS, because each change goes to all members. The first
//      word may be wrong for a moment: a try of UDP (io/path/direct-try.ts) comes from another port.
import { cidrContains, familyOf, parseIp } from '../model/cidr.ts'
import { hostOfPeerAddress } from '../model/outer-address.ts'
import { isUnroutable } from '../model/unroutable.ts'
import type { Cidr, ClusterName, Ip, PeerAddress } from '../model/values.ts'
import { isPrivate } from './own-addresses.ts'

/** What one cluster has told, and when. */
interface Voice {
  readonly address: PeerAddress
  readonly atMs: number
}

/** The voices, and what counts. Bounded by the clusters, two families each. */
interface Observed {
  /** By cluster and family. */
  readonly voices: ReadonlyMap<string, Voice>
  /** At most one address of each family. */
  readonly addresses: readonly PeerAddress[]
  /** Times of the latest changes, at most CHANGES_MAX. */
  readonly changedMs: readonly number[]
}

export const NOTHING_OBSERVED: Observed = { voices: new Map(), addresses: [], changedMs: [] }

/** A gateway tells every 5 s (io/probe/telling.ts), so one that is silent for so long has no tunnel to this agent now. */
const VOICE_MS = 60_000
const CHANGES_MAX = 3
const CHANGES_MS = 90_000

/** One statement of a gateway of another cluster. */
interface Telling {
  readonly cluster: ClusterName
  readonly address: PeerAddress
  readonly nowMs: number
}

/** The addresses of this host, and the prefixes of its cluster, in which no outer address can be. */
interface OwnSide {
  readonly own: readonly Ip[]
  readonly prefixes: readonly Cidr[]
}

/** Takes a statement. Returns the same object where nothing is new but its time. */
export function withTelling(before: Observed, { cluster, address, nowMs }: Telling, side: OwnSide): Observed {
  const ip = parseIp(hostOfPeerAddress(address))
  if (ip === undefined || isUnroutable(ip) || side.prefixes.some((prefix) => cidrContains(prefix, ip)))
    return before
  const voices = new Map([...before.voices].filter(([, voice]) => nowMs - voice.atMs < VOICE_MS))
  voices.set(`${cluster} ${familyOf(ip)}`, { address, atMs: nowMs })
  const addresses = agreed(voices, side.own)
  const isSame = addresses.join(' ') === before.addresses.join(' ')
  const changedMs = before.changedMs.filter((atMs) => nowMs - atMs < CHANGES_MS)
  if (isSame || changedMs.length >= CHANGES_MAX) return { ...before, voices }
  return { voices, addresses, changedMs: [...changedMs, nowMs] }
}

function agreed(voices: ReadonlyMap<string, Voice>, own: readonly Ip[]): readonly PeerAddress[] {
  return ([4, 6] as const).flatMap((family) => {
    const told = [...voices].filter(([key]) => key.endsWith(` ${family}`)).map(([, { address }]) => address)
    const counts = Map.groupBy(told, (address) => address)
    const first = [...counts].find(([, same]) => same.length * 2 > told.length)
    const ip = first && parseIp(hostOfPeerAddress(first[0]))
    return first === undefined || ip === undefined || own.includes(ip) ? [] : [first[0]]
  })
}

/**
 * Returns the addresses to publish, best first. An observed address comes before the private ones of its family: those are
 * reached in the own network only, where the control connection shows them first anyway.
 */
export function withObserved(
  own: readonly PeerAddress[],
  observed: readonly PeerAddress[]
): readonly PeerAddress[] {
  let list = own.filter((address) => !observed.includes(address))
  for (const address of observed) {
    const at = list.findIndex((each) => isPrivateOf(each, address))
    list = at < 0 ? [...list, address] : [...list.slice(0, at), address, ...list.slice(at)]
  }
  return list
}

function isPrivateOf(address: PeerAddress, other: PeerAddress): boolean {
  const [ip, same] = [address, other].map((each) => parseIp(hostOfPeerAddress(each)))
  return ip !== undefined && same !== undefined && familyOf(ip) === familyOf(same) && isPrivate(ip)
}
