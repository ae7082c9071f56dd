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
import { RELAY_FRAME_BYTES_MAX } from '../../core/host/relay-frame.ts'
import { DATAGRAM_BYTES_MAX } from '../../core/host/wireguard-datagram.ts'
import type { TransportOptions } from '../../io/p2p/transport.ts'
import type { Control } from '../control/control.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Log } from '../observe/log.ts'
import { relays } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'
import { Carried } from './carried.ts'
import { MemberPath, type PathPeer } from './member-path.ts'
import { changeText, pathOf, type PathNow } from './path-text.ts'
import type { Relay } from './relay-end.ts'
import { Relays } from './relays.ts'

interface TunnelPathsOptions {
  readonly control: Control
  readonly metrics: Pick<Metrics, 'pathDatagrams'>
  readonly log: Pick<Log, 'warn'>
  readonly wireguardPort: number
  /** Megabits per second that are carried for each member, in each direction; 0: nothing is carried. */
  readonly rate: number
  /** Megabits per second that this agent relays for others in all; 0: nothing. */
  readonly relayRate: number
  readonly keepaliveSeconds: number
  /** Called when WireGuard is to send to another address. */
  readonly onAddress: () => void
  /** Called when `wanted` has changed. */
  readonly onWanted: () => void
}

/** What is known of the answers through a tunnel; see PathFacts. */
export type Answers = Pick<PathFacts, 'lastAnswerMs' | 'unanswered' | 'isProbed'>

interface PathsInput {
  readonly nowMs: number
  /** The agents to which this one has a tunnel that begins here. */
  readonly peers: readonly PathPeer[]
  /** The agents that offer to relay. */
  readonly relays: readonly Relay[]
  readonly stats: readonly PeerStats[]
  /** The addresses that this agent publishes for its tunnels. */
  readonly own?: readonly PeerAddress[]
  readonly answers: (origin: Origin) => Answers
}

/**
 * What the transport does with datagrams of neighbours, and with the frames of relays. undefined: this agent carries none, so
 * the transport refuses their streams, and the neighbours know it. A relay needs no data plane.
 */
export function datagramIntakes(
  { host, settings }: { readonly host: object | undefined; readonly settings: Settings },
  paths: () => TunnelPaths
): Pick<TransportOptions, 'datagrams' | 'relayed'> {
  const carries = host !== undefined && settings['tcp-path-rate'] > 0
  const relayed = {
    bytesMax: RELAY_FRAME_BYTES_MAX,
    receive: (peer: Origin, frame: Uint8Array) => paths().relays.received(peer, frame),
    tooLong: (peer: Origin) => paths().relays.tooLong(peer)
  }
  const datagrams = {
    bytesMax: DATAGRAM_BYTES_MAX,
    receive: (peer: Origin, datagram: Uint8Array) => paths().received(peer, datagram)
  }
  return {
    datagrams: carries ? datagrams : undefined,
    relayed: carries || relays(settings) ? relayed : undefined
  }
}

const BYTES_PER_MEGABIT = 125_000
/** Control connections that are made for tunnels without an answer: to other ends, and as many to relays. */
const WANTED_MAX = 32
/** How long a relay is not used for a tunnel, in whose name it has delivered the datagrams of another one. */
const BLOCKED_MS = 60_000

/** The paths of one session. Bounded by the agents to which there are tunnels. */
export class TunnelPaths {
  readonly #options: TunnelPathsOptions
  readonly #members = new Map<Origin, MemberPath>()
  /** Of each member, the keys that it has and had: during a rotation the device has both. */
  readonly #keys = new Map<Origin, ReadonlySet<WireguardKey>>()
  readonly #carried = new Carried('tcp')
  /** The path of each member that was told last. */
  readonly #told = new Map<Origin, string>()
  readonly relays: Relays
  #wanted: readonly Origin[] = []

  constructor(options: TunnelPathsOptions) {
    this.#options = options
    this.relays = new Relays({
      control: options.control,
      bytesPerSecond: options.relayRate * BYTES_PER_MEGABIT,
      onDatagram: (origin, datagram, relay) => this.#members.get(origin)?.received(datagram, relay)
    })
  }

  /** The path of the tunnel to an agent; undefined: there is no tunnel that begins here. */
  of(origin: Origin): PathNow | undefined {
    const member = this.#members.get(origin)
    return member && pathOf(member.peer, member.state, this.relays.end.relay(origin))
  }

  /** Whether a tunnel goes over TCP or a relay now. */
  get isAnyCarried(): boolean {
    return this.#members.values().some(({ state }) => state.isCarried)
  }

  /** The address to which WireGuard is to send for an agent; undefined: the first one that it publishes. */
  address(origin: Origin): PeerAddress | undefined {
    return this.#members.get(origin)?.address
  }

  /**
   * The agents to which a control connection is needed, because a tunnel gets no answer without one: the other ends, and the
   * relays that both ends rank first. In a large mesh they are no neighbours by themselves.
   */
  get wanted(): readonly Origin[] {
    return this.#wanted
  }

  /** Takes a datagram of an authenticated neighbour (invariant 1). */
  received(peer: Origin, datagram: Uint8Array): void {
    const member = this.#members.get(peer)
    if (member === undefined) return this.#carried.count('in', 'refused')
    member.received(datagram)
  }

  /** Judges all paths. Agents to which there is no tunnel any more are forgotten. */
  update({ nowMs, peers, relays: offering, stats, own = [], answers }: PathsInput): void {
    const { control, metrics, rate, keepaliveSeconds } = this.#options
    this.#carried.tell(metrics)
    this.relays.tick(nowMs, metrics)
    if (rate === 0) return
    const { end } = this.relays
    end.update(
      offering,
      peers.map(({ origin }) => origin)
    )
    const present = new Set(peers.map(({ origin }) => origin))
    for (const [origin, member] of this.#members) {
      if (present.has(origin)) continue
      member.close()
      this.#members.delete(origin)
      this.#keys.delete(origin)
      this.#told.delete(origin)
    }
    const endpoints = new Map(stats.map((entry) => [entry.publicKey, entry.peerAddress]))
    for (const peer of peers) {
      const member = this.#member(peer, nowMs)
      this.#keys.set(peer.origin, new Set([...(this.#keys.get(peer.origin) ?? []), peer.key].slice(-2)))
      const neighbour = control.neighbour(peer.origin)
      member.judge(
        peer,
        { endpoint: endpoints.get(peer.key), own },
        {
          nowMs,
          hasCarrier: neighbour !== undefined && member.isCarrying(nowMs),
          carrierHeardMs: neighbour?.heardMs,
          relay: end.facts(peer.origin),
          keepaliveSeconds,
          ...answers(peer.origin)
        }
      )
      this.#tell(member)
      end.judge(peer.origin, { nowMs, ...member.need })
    }
    this.#refuseForeign(endpoints, nowMs)
    this.#want()
  }

  #want(): void {
    const { end } = this.relays
    const ends = [...this.#members.values()].flatMap(({ wantsCarrier, need, peer: { origin } }) =>
      wantsCarrier ? [{ origin, relays: need.wantsRelay ? end.first(origin) : [] }] : []
    )
    const wanted = new Set([
      ...ends.slice(0, WANTED_MAX).map(({ origin }) => origin),
      ...ends.flatMap(({ relays }) => relays).slice(0, WANTED_MAX)
    ])
    if (wanted.size === this.#wanted.length && this.#wanted.every((origin) => wanted.has(origin))) return
    this.#wanted = [...wanted]
    this.#options.onWanted()
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
        send: {
          tcp: (origin, datagram) => control.transport.sendDatagram(origin, datagram),
          relay: (origin, datagram) => this.relays.end.send(origin, datagram)
        },
        rttMs: (origin) => control.neighbour(origin)?.rttMs ?? this.relays.end.rttMs(origin),
        count: { tcp: this.#carried.count, relay: this.relays.carried.count },
        onChange: () => {
          this.#tell(member)
          onAddress()
        },
        onError: (error) => log.warn({ err: error, node: peer.node }, 'no socket to carry the tunnel')
      },
      nowMs
    )
    this.#members.set(peer.origin, member)
    return member
  }

  /** Tells of a change of the path, also from one carrier to another. */
  #tell({ peer, state }: MemberPath): void {
    const { origin, cluster, node } = peer
    const now = pathOf(peer, state, this.relays.end.relay(origin))
    const { path } = now
    if ((this.#told.get(origin) ?? 'direct') === path) return
    this.#told.set(origin, path)
    const reason = changeText(peer, state, now)
    const line = { text: 'path of a tunnel changed', fields: { node, path, reason } }
    this.#options.control.events.add({ kind: 'path', peer: origin, cluster, reason, line })
  }

  /** Blocks the members that have carried the datagrams of others (invariant 2). */
  #refuseForeign(endpoints: ReadonlyMap<WireguardKey, PeerAddress | undefined>, nowMs: number): void {
    const owners = new Map([...this.#members.values()].map((member) => [member.carrierAddress, member]))
    for (const [key, endpoint] of endpoints) {
      const member = isCarrierAddress(endpoint) ? owners.get(endpoint) : undefined
      if (member === undefined || this.#keys.get(member.peer.origin)?.has(key) === true) continue
      const { origin, cluster, node } = member.peer
      const relay = member.relayed(nowMs)
      if (relay !== undefined) {
        this.relays.end.block(origin, relay, nowMs + BLOCKED_MS)
        this.relays.refuse(relay, `it delivers the datagrams of another tunnel as those of ${node}`)
        continue
      }
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
