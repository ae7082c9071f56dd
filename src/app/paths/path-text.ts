// The path of a tunnel in words: for `meshctl peers`, `ping` and `why`, for events, and for the faults.
import type { PathState } from '../../core/host/tunnel-path.ts'
import type { PathPeer } from './member-path.ts'
import type { Relay } from './relay-end.ts'

/** The path of one tunnel now. `reason`: why it is no better one; absent when it is the best. */
export interface PathNow {
  readonly path: 'direct' | 'tcp' | `relay:${string}`
  readonly reason?: string
  /** The agent that relays. */
  readonly relay?: Relay
}

/** Returns the path of a tunnel with its reason. The reason has no number that changes. */
export function pathOf(peer: PathPeer, state: PathState, relay: Relay | undefined): PathNow {
  if (!state.isCarried) return { path: 'direct' }
  const reason = reasonOf(peer, state)
  return state.carrier === 'relay' && relay !== undefined
    ? { path: `relay:${relay.cluster}`, reason, relay }
    : { path: 'tcp', reason }
}

/** Returns what has changed, as the reason of an event. It begins with the path: events of one path join. */
export function changeText(peer: PathPeer, state: PathState, { path, relay }: PathNow): string {
  const { node } = peer
  if (relay !== undefined) return `${path}: ${reasonOf(peer, state)} (${node}, over ${relay.node})`
  if (state.isCarried) return `tcp: ${reasonOf(peer, state)} (${node})`
  const causes = {
    start: `it is tried first (${node})`,
    answered: `UDP is answered (${node})`,
    silent: `UDP is tried again (${node})`,
    followed: `${node} sends by UDP`,
    uncarried: `there is no control connection and no relay to carry the tunnel (${node})`,
    unanswered: `nothing came back over the ${state.carrier === 'relay' ? 'relay' : 'control connection'} (${node})`
  }
  return `direct: ${causes[state.cause]}`
}

function reasonOf({ node, addresses }: PathPeer, { cause, carrier }: PathState): string {
  const [, host, port] = /^(.*):(\d+)$/.exec(addresses[0] ?? '') ?? []
  if (carrier === 'relay') {
    const udp = host === undefined ? `UDP of ${node}` : `UDP ${port} to ${host}`
    return `neither ${udp} nor a control connection to it gets an answer`
  }
  if (host === undefined) return `${node} publishes no address for UDP, and no UDP of it arrives here`
  return cause === 'followed'
    ? `${node} gets no answer to its UDP, and sends over the control connection`
    : `UDP ${port} to ${host} gets no answer`
}
