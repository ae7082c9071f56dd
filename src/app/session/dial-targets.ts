// Whom this agent dials, and at which addresses: a pure function of the members and of where they were last seen.
import type { Origin } from '../../core/model/values.ts'
import { chooseNeighbours } from '../../core/replication/push/overlay.ts'
import type { AgentView } from '../../core/view/view.ts'
import type { Target } from '../../io/p2p/transport.ts'

// Each round the overlay replaces one of its choices by another member.
const OVERLAY_ROUND_MS = 300_000

/** Where a member was seen besides what it publishes. */
export interface Sighting {
  /** "/ip4/203.0.113.7": the address from which its control connection last came. */
  readonly host?: string | undefined
  /** The multiaddr on a link of this host from which it last called (io/p2p/beacon.ts). */
  readonly called?: string | undefined
  /** The last measured round trip of its control connection, milliseconds. */
  readonly rttMs?: number | undefined
}

export interface DialInput {
  readonly self: Origin
  /** Other members can dial this agent. */
  readonly isDialable: boolean
  /** Multiaddrs in the token, or of the cluster's other gateways; this agent's own address may be among them. */
  readonly bootstrap: readonly string[]
  /** All agents of the view but this one. */
  readonly others: readonly AgentView[]
  readonly sighting: (origin: Origin) => Sighting
  /** Monotonic. */
  readonly nowMs: number
}

/**
 * Up to 10 members: all of them. In a larger mesh: a few near ones and a few at random (src/core/replication/push/overlay.ts). The bootstrap addresses are
 * dialled only while every known member is dialled, too: later the members' addresses are on disk with their records.
 */
export function dialTargets(input: DialInput): readonly Target[] {
  const { self, bootstrap, others, sighting } = input
  const chosen = chosenMembers(input)
  const unnamed =
    chosen.length < others.length ? [] : bootstrap.filter((each) => !each.endsWith(`/p2p/${self}`))
  return [
    ...unnamed.map((address) => ({ addresses: [address] })),
    ...chosen.map(({ origin, agent }) => ({
      origin,
      addresses: dialAddresses(agent.multiaddrs, sighting(origin))
    }))
  ]
}

function chosenMembers({ self, isDialable, others, sighting, nowMs }: DialInput): readonly AgentView[] {
  const origins = new Set(
    chooseNeighbours({
      self,
      dialable: isDialable,
      members: others.map(({ origin, agent }) => ({
        origin,
        dialable: agent.multiaddrs.length > 0,
        rttMs: sighting(origin).rttMs
      })),
      round: Math.floor(nowMs / OVERLAY_ROUND_MS)
    })
  )
  return others.filter(({ origin }) => origins.has(origin))
}

/** First what the member publishes, then the host where it was seen with the port that it publishes, then where it called from. */
function dialAddresses(published: readonly string[], { host, called }: Sighting): readonly string[] {
  const port = /\/tcp\/\d+/.exec(published[0] ?? '')?.[0]
  const seen = host === undefined || port === undefined ? [] : [host + port]
  return [...new Set([...published, ...seen, ...(called === undefined ? [] : [called])])]
}
