// Chooses the members that this agent dials, and the addresses at which it dials them. Pure: a function of the
// members of the view and of where they were last seen. dialer.ts gives the result to the transport, which keeps the
// connections.
import type { Origin } from '../../core/model/values.ts'
import { chooseNeighbours } from '../../core/replication/push/overlay.ts'
import type { AgentView } from '../../core/view/view.ts'
import type { Target } from '../../io/p2p/transport.ts'

// With each round the overlay replaces one of its choices by another member, so that round trips to further members
// are measured.
const OVERLAY_ROUND_MS = 300_000

/** The addresses at which a member was seen, besides those that it publishes. */
export interface Sighting {
  /** "/ip4/203.0.113.7": the address of its latest control connection, without the port. */
  readonly host?: string | undefined
  /** The multiaddr on a link of this host from which it last sent a beacon (io/p2p/beacon.ts). */
  readonly called?: string | undefined
  /** The last measured round trip of its control connection in milliseconds; undefined: never measured. */
  readonly rttMs?: number | undefined
}

/** The facts from which the targets are chosen. */
export interface DialInput {
  readonly self: Origin
  /** True when this agent publishes an address, so that other members can dial it. */
  readonly isDialable: boolean
  /** Multiaddrs from the token, or of the cluster's other gateways. This agent's own address may be among them. */
  readonly bootstrap: readonly string[]
  /** True: this agent is a node, so it dials gateways of its own cluster only. */
  readonly isLeaf?: boolean
  /** False while no member has admitted this agent: it knocks only at the PeerIds that its token names. */
  readonly isMember: boolean
  /** All agents of the view except this one. */
  readonly others: readonly AgentView[]
  /** Agents of `others` that are dialled besides the chosen neighbours, because a tunnel needs it; left out: none. */
  readonly wanted?: ReadonlySet<Origin>
  /** Returns the cluster of one of these agents; its addresses share one budget of dials. */
  readonly clusterOf: (origin: Origin) => string | undefined
  readonly sighting: (origin: Origin) => Sighting
  /** Monotonic milliseconds. */
  readonly nowMs: number
}

/**
 * Returns the targets. Of up to 10 members all are dialled; in a larger mesh, a few near ones and a few at random, of
 * as many clusters as there are (core/replication/push/overlay.ts), and those whose tunnels need it. Bootstrap addresses are dialled only while all known
 * members that publish an address are dialled, that is, in a small mesh or before the first records have arrived. Later
 * the members' own addresses are on disk with their records. Members without an address do not count: if they did, an
 * agent that knows only such members would dial none after its connection had ended.
 */
export function dialTargets(input: DialInput): readonly Target[] {
  const { others, sighting, clusterOf } = input
  const neighbours = chosenMembers(input)
  const chosen = others.filter(
    (each) =>
      neighbours.has(each.origin) || (publishesAddress(each) && input.wanted?.has(each.origin) === true)
  )
  const isOneLeftOut = chosen.length < others.filter(publishesAddress).length
  // A node knows its gateways once it was connected to one. The bootstrap addresses may be those of other clusters.
  const knowsGateway = input.isLeaf === true && chosen.length > 0
  const first = isOneLeftOut || knowsGateway ? [] : bootstrapAddresses(input)
  return [
    ...first.map((address) => ({ addresses: [address] })),
    ...chosen.map(({ origin, agent }) => ({
      origin,
      group: clusterOf(origin),
      proven: provenHosts(sighting(origin)),
      addresses: dialAddresses(agent.multiaddrs, sighting(origin))
    }))
  ]
}

/** Whether a member publishes an address. */
function publishesAddress({ agent }: Pick<AgentView, 'agent'>): boolean {
  return agent.multiaddrs.length > 0
}

/**
 * The bootstrap addresses but its own. A member that was restored from a backup, or that left and came back, has another
 * PeerId at its old address. So a member dials an address whose PeerId is not known without that PeerId, unless it dials
 * a known member there. The agent that answers has to prove that it is a member.
 */
function bootstrapAddresses({ self, isMember, bootstrap, others }: DialInput): readonly string[] {
  const foreign = bootstrap.filter((each) => !each.endsWith(`/p2p/${self}`))
  if (!isMember) return foreign
  const origins = new Set<string>(others.map(({ origin }) => origin))
  const published = new Set(others.flatMap(({ agent }) => agent.multiaddrs))
  const addresses = foreign.flatMap((each) => {
    const [address = each, peerId = ''] = each.split('/p2p/')
    if (origins.has(peerId)) return [each]
    return published.has(address) ? [] : [address]
  })
  return [...new Set(addresses)]
}

function chosenMembers({
  self,
  isDialable,
  others,
  clusterOf,
  sighting,
  nowMs
}: DialInput): ReadonlySet<Origin> {
  return new Set(
    chooseNeighbours({
      self,
      dialable: isDialable,
      members: others.map(({ origin, agent }) => ({
        origin,
        cluster: clusterOf(origin),
        dialable: publishesAddress({ agent }),
        rttMs: sighting(origin).rttMs
      })),
      round: Math.floor(nowMs / OVERLAY_ROUND_MS)
    })
  )
}

/**
 * The order of addresses: those that the member publishes; the host at which it was seen, with the port that it
 * publishes; the address from which its beacon came.
 */
function dialAddresses(published: readonly string[], { host, called }: Sighting): readonly string[] {
  const port = /\/tcp\/\d+/.exec(published[0] ?? '')?.[0]
  const seen = host === undefined || port === undefined ? [] : [host + port]
  return [...new Set([...published, ...seen, ...(called === undefined ? [] : [called])])]
}

/** The hosts at which the member was authenticated. A beacon proves nothing, because anyone on the link can send it. */
function provenHosts({ host }: Sighting): readonly string[] {
  const address = /^\/ip[46]\/([^/]+)/.exec(host ?? '')?.[1]
  return address === undefined ? [] : [address]
}
