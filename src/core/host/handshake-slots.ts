// Chooses to which gateways of a cluster this host sends handshakes of WireGuard. A member chooses the addresses of its
// gateways freely, and WireGuard repeats a handshake every 5 s without end.
// Invariants
//   1. Of the gateways that have an address and have never answered there, at most UNPROVEN_PEERS_MAX of each cluster are
//      peers at one time: 0.6 packets per second.
//   2. Each gateway gets its turn, and one that has answered keeps its place.
import type { AgentView } from '../view/view.ts'

/** Three: all gateways of most clusters are tried at once. */
export const UNPROVEN_PEERS_MAX = 3
/** Milliseconds of a turn: WireGuard tries a handshake five times. */
export const TURN_MS = 30_000

/** What is known of the gateways. */
export interface HandshakeFacts {
  /** Whether the gateway has answered in the tunnel at an address that it publishes now. */
  readonly isProven: (gateway: AgentView) => boolean
  /** The number of the present turn; it grows by one every TURN_MS. */
  readonly turn: number
}

/** Returns the gateways of one cluster that are peers now, in their order. Without facts, all of them. */
export function withinSlots(
  gateways: readonly AgentView[],
  facts: HandshakeFacts | undefined
): readonly AgentView[] {
  if (facts === undefined || gateways.length <= UNPROVEN_PEERS_MAX) return gateways
  // A gateway without an address costs nothing: this host waits for its handshake.
  const unproven = gateways.filter(
    (gateway) => gateway.agent.wireguardAddresses.length > 0 && !facts.isProven(gateway)
  )
  if (unproven.length <= UNPROVEN_PEERS_MAX) return gateways
  const first = (facts.turn * UNPROVEN_PEERS_MAX) % unproven.length
  const turn = new Set(
    Array.from({ length: UNPROVEN_PEERS_MAX }, (_, index) => unproven[(first + index) % unproven.length])
  )
  const waiting = new Set(unproven.filter((gateway) => !turn.has(gateway)))
  return gateways.filter((gateway) => !waiting.has(gateway))
}
