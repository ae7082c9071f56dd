// The paths of all tunnels of this agent: by which each of them goes, and what is carried for whom. path-watch.ts calls
// `update` once a second, the transport `received` for each datagram, and the host asks `address` for each peer.
// Invariants
//   1. Datagrams are taken only from agents to which this one has a tunnel, over their own authenticated connection.
//   2. What a member carries belongs to the tunnel with this member. WireGuard sends to where a valid packet of a peer came
//      from, so an endpoint tells it: one with the socket of another member means that this member has carried what it got
//      from the peer. It is blocked then, and the next look at the kernel sets the endpoint anew.
import { isCarrierAddress, type PathFacts } from '../../core/host/tunnel-path.ts'
import type { PeerStats } from '../../core/host/host-state.ts'
import type { Origin, PeerAddress, WireguardKey } from '../../core/model/values.ts'
import { DATAGRAM_BYTES_MAX } from '../../core/host/wireguard-datagram.ts'
import type { TransportOptions } from '../../io/p2p/transport.ts'
import type { Control } from '../control/control.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Log } from '../observe/log.ts'
import type { Settings } from '../settings/settings.ts'
import { Carried } from './carried.ts'
import { MemberPath, type PathPeer } from './member-path.ts'
import { changeText, pathOf, type PathNow } from './path-text.ts'

interface TunnelPathsOptions {
  readonly control: Control
  readonly metrics: Pick<Metrics, 'pathDatagrams'>
  readonly log: Pick<Log, 'warn'>
  readonly wireguardPort: number
  /** Megabits per second that are carried for each member, in each direction; 0: nothing is carried. */
  readonly rate: number
  readonly keepaliveSeconds: number
  /** Called when WireGuard is to send to another address. */
  readonly onAddress: () => void
}

/** What is known of the answers through a tunnel; see PathFacts. */
export type Answers = Pick<PathFacts, 'lastAnswerMs' | 'unanswered' | 'isProbed'>

interface PathsInput {
  readonly nowMs: number
  /** The agents to which this one has a tunnel that begins here. */
  readonly peers: readonly PathPeer[]
  readonly stats: readonly PeerStats[]
  readonly answers: (origin: Origin) => Answers
}

/**
 * What the transport does with datagrams of neighbours. undefined: this agent carries none, so the transport refuses their
 * streams, and the neighbours know it.
 */
export function datagramIntake(
  { host, settings }: { readonly host: object | undefined; readonly settings: Settings },
  paths: () => TunnelPaths
): TransportOptions['datagrams'] {
  if (host === undefined || settings['tcp-path-rate'] === 0) return undefined
  return { bytesMax: DATAGRAM_BYTES_MAX, receive: (peer, datagram) => paths().received(peer, datagram) }
}

const BYTES_PER_MEGABIT = 125_000

/** The paths of one session. Bounded by the agents to which there are tunnels. */
export class TunnelPaths {
  readonly #options: TunnelPathsOptions
  readonly #members = new Map<Origin, MemberPath>()
  /** Of each member, the keys that it has and had: during a rotation the device has both. */
  readonly #keys = new Map<Origin, ReadonlySet<WireguardKey>>()
  readonly #carried = new Carried('tcp')

  constructor(options: TunnelPathsOptions) {
    this.#options = options
  }

  /** The path of the tunnel to an agent; undefined: there is no tunnel that begins here. */
  of(origin: Origin): PathNow | undefined {
    const member = this.#members.get(origin)
    return member && pathOf(member.peer, member.state)
  }

  /** The address to which WireGuard is to send for an agent; undefined: the first one that it publishes. */
  address(origin: Origin): PeerAddress | undefined {
    return this.#members.get(origin)?.address
  }

  /** Takes a datagram of an authenticated neighbour (invariant 1). */
  received(peer: Origin, datagram: Uint8Array): void {
    const member = this.#members.get(peer)
    if (member === undefined) return this.#carried.count('in', 'refused')
    member.received(datagram)
  }

  /** Judges all paths. Agents to which there is no tunnel any more are forgotten. */
  update({ nowMs, peers, stats, answers }: PathsInput): void {
    const { control, metrics, rate, keepaliveSeconds } = this.#options
    this.#carried.tell(metrics)
    if (rate === 0) return
    const present = new Set(peers.map(({ origin }) => origin))
    for (const [origin, member] of this.#members) {
      if (present.has(origin)) continue
      member.close()
      this.#members.delete(origin)
      this.#keys.delete(origin)
    }
    const endpoints = new Map(stats.map((entry) => [entry.publicKey, entry.peerAddress]))
    for (const peer of peers) {
      const member = this.#member(peer, nowMs)
      this.#keys.set(peer.origin, new Set([...(this.#keys.get(peer.origin) ?? []), peer.key].slice(-2)))
      const neighbour = control.neighbour(peer.origin)
      member.judge(peer, endpoints.get(peer.key), {
        nowMs,
        hasCarrier: neighbour !== undefined && member.isCarrying(nowMs),
        carrierHeardMs: neighbour?.heardMs,
        keepaliveSeconds,
        ...answers(peer.origin)
      })
    }
    this.#refuseForeign(endpoints, nowMs)
  }

  stop(): void {
    for (const member of this.#members.values()) member.close()
    this.#members.clear()
  }

  #member(peer: PathPeer, nowMs: number): MemberPath {
    const known = this.#members.get(peer.origin)
    if (known !== undefined) return known
    const { control, rate, wireguardPort, onAddress, log } = this.#options
    const member = new MemberPath(
      {
        peer,
        wireguardPort,
        bytesPerSecond: rate * BYTES_PER_MEGABIT,
        send: (origin, datagram) => control.transport.sendDatagram(origin, datagram),
        rttMs: (origin) => control.neighbour(origin)?.rttMs,
        count: this.#carried.count,
        onChange: (before) => {
          if (before.isCarried !== member.state.isCarried) this.#tell(member)
          onAddress()
        },
        onError: (error) => log.warn({ err: error, node: peer.node }, 'no socket to carry the tunnel')
      },
      nowMs
    )
    this.#members.set(peer.origin, member)
    return member
  }

  #tell({ peer, state }: MemberPath): void {
    const { origin, cluster, node } = peer
    const { path } = pathOf(peer, state)
    const reason = changeText(peer, state)
    const line = { text: 'path of a tunnel changed', fields: { node, path, reason } }
    this.#options.control.events.add({ kind: 'path', peer: origin, cluster, reason, line })
  }

  /** Blocks the members that have carried the datagrams of others (invariant 2). */
  #refuseForeign(endpoints: ReadonlyMap<WireguardKey, PeerAddress | undefined>, nowMs: number): void {
    const owners = new Map([...this.#members.values()].map((member) => [member.carrierAddress, member]))
    for (const [key, endpoint] of endpoints) {
      const member = isCarrierAddress(endpoint) ? owners.get(endpoint) : undefined
      if (member === undefined || this.#keys.get(member.peer.origin)?.has(key) === true) continue
      const { origin, cluster } = member.peer
      if (!member.isBlocked(nowMs))
        this.#options.control.events.add({
          kind: 'refused',
          peer: origin,
          cluster,
          reason: 'datagrams of another tunnel: it carries what belongs to the tunnel of another member'
        })
      member.block(nowMs)
    }
  }
}
