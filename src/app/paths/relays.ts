// The frames of relays, in both parts of this agent: as an end of its own tunnels (relay-end.ts), and as the relay of the
// tunnels of others (relay-server.ts). The transport calls `received` for each frame.
// Invariant: each refused frame is counted, and told in the events with the neighbour whose connection brought it, at most
// once a second for each reason.
import { RELAY_FRAME_BYTES_MAX, readRelayFrame } from '../../core/host/relay-frame.ts'
import type { Pair } from '../../core/host/relay-table.ts'
import type { Origin } from '../../core/model/values.ts'
import type { Control } from '../control/control.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Carried } from './carried.ts'
import { RelayEnd } from './relay-end.ts'
import { RelayServer } from './relay-server.ts'

interface RelaysOptions {
  readonly control: Control
  /** Bytes a second that this agent relays for others; 0: nothing. */
  readonly bytesPerSecond: number
  /** Takes a datagram for a tunnel of this agent. */
  readonly onDatagram: (origin: Origin, datagram: Uint8Array, relay: Origin) => void
}

const TOLD_MS = 1_000

/** See the head of this file. */
export class Relays {
  readonly end: RelayEnd
  readonly #options: RelaysOptions
  readonly #server: RelayServer
  /** What this agent carries by relays, and what it passes on as one. */
  readonly carried = new Carried('relay')
  readonly #passed = new Carried('relayed')
  /** When each refusal of a neighbour was last told. Bounded by the neighbours: the reasons are those of the code. */
  readonly #told = new Map<string, number>()

  constructor(options: RelaysOptions) {
    const { control, bytesPerSecond } = options
    this.#options = options
    this.end = new RelayEnd({
      self: control.origin,
      isConnected: (relay) => control.neighbour(relay) !== undefined,
      send: (relay, frame) => control.transport.sendRelayed(relay, frame)
    })
    this.#server = new RelayServer({
      bytesPerSecond,
      neighbour: (origin) => control.neighbour(origin),
      clusterOf: (origin) => control.members.agentOf(origin)?.cluster,
      send: (to, frame) => control.transport.sendRelayed(to, frame),
      count: this.#passed.count,
      onRefused: (peer, reason) => this.#tell(peer, reason),
      onPair: (pair, change) => this.#pairChanged(pair, change)
    })
  }

  /** The tunnels that this agent relays now. */
  pairs(): readonly Pair[] {
    return this.#server.pairs()
  }

  /** Takes a frame of an authenticated neighbour. */
  received(peer: Origin, bytes: Uint8Array): void {
    const nowMs = monotonicMs()
    const frame = readRelayFrame(bytes)
    if (frame === undefined)
      return this.refuse(peer, 'it is none, or carries no datagram of WireGuard', 'malformed')
    switch (frame.kind) {
      case 'ask':
        return this.#server.ask(peer, frame.other, nowMs)
      case 'send':
        return this.#server.pass(peer, frame.other, frame.datagram, nowMs)
      case 'ready':
        if (this.end.ready(peer, frame.other, { costMs: frame.costMs, nowMs })) return
        return this.refuse(peer, 'it is ready for a tunnel for which this agent did not ask it')
      case 'deliver': {
        const origin = this.end.sender(peer, frame.other, nowMs)
        if (origin !== undefined) return this.#options.onDatagram(origin, frame.datagram, peer)
        return this.refuse(peer, 'it delivers datagrams for which this agent did not ask it')
      }
      default:
        return frame satisfies never
    }
  }

  /** A neighbour has announced a frame above the limit: its stream has ended. */
  tooLong(peer: Origin): void {
    this.refuse(peer, `it is longer than ${RELAY_FRAME_BYTES_MAX} bytes`, 'malformed')
  }

  /** Called about once a second. */
  tick(nowMs: number, metrics: Pick<Metrics, 'pathDatagrams'>): void {
    this.#server.tick(nowMs)
    this.carried.tell(metrics)
    this.#passed.tell(metrics)
    for (const [key, toldMs] of this.#told) if (nowMs - toldMs > TOLD_MS) this.#told.delete(key)
  }

  /** Counts and tells that a frame of this neighbour was refused. `reason`: a clause for people. */
  refuse(peer: Origin, reason: string, fate: 'malformed' | 'refused' = 'refused'): void {
    this.#passed.count('in', fate)
    this.#tell(peer, reason)
  }

  #tell(peer: Origin, reason: string): void {
    const nowMs = monotonicMs()
    const key = `${peer} ${reason}`
    if (nowMs - (this.#told.get(key) ?? -Infinity) < TOLD_MS) return
    this.#told.set(key, nowMs)
    const { control } = this.#options
    const cluster = control.members.agentOf(peer)?.cluster
    control.events.add({ kind: 'refused', peer, cluster, reason: `relay frame refused because ${reason}` })
  }

  /** Tells of a tunnel that this agent begins to relay, or ends to. */
  #pairChanged({ ends, clusters }: Pair, change: 'begins' | 'ends'): void {
    const { events } = this.#options.control
    const reason = `relays: this agent ${change} to relay the tunnel between clusters ${clusters.join(' and ')}`
    const [peer] = ends
    const line = { text: 'relay of a tunnel', fields: { change, ends, clusters } }
    events.add({ kind: 'path', peer, cluster: clusters[0], reason, line })
  }
}
