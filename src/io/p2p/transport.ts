// The transport between agents: libp2p over TCP with noise and yamux, and one long-lived stream of frames per peer.
// noise proves the PeerId of a peer, but not that it is a member: the caller (app/control) runs the handshake of the
// mesh in frames and then calls `setAuthenticated`. Limits and their reasons: limits.ts.
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import type { Libp2p } from 'libp2p'
import type { Origin } from '../../core/model/values.ts'
import { checkAddress, dialAddresses, isHere, isOwn, socketKey, usable } from './addresses.ts'
import { listenError } from './errors.ts'
import type { Connection } from './frame-stream.ts'
import {
  DATAGRAM_PROTOCOL,
  Datagrams,
  RELAY_PROTOCOL,
  type DatagramIntake,
  type DatagramOutcome
} from './datagrams.ts'
import { createGater } from './gater.ts'
import { InboundBudget } from './inbound-budget.ts'
import { libp2pOptions } from './libp2p-options.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import type { TransportLimits } from './limits.ts'
import { Neighbours } from './neighbours.ts'
import type { NeighbourEvents, NeighbourInfo } from './neighbours.ts'
import { originOf } from './origin.ts'
import { privateKeyOf, type PrivateKey } from './private-key.ts'
import { ownAddressOfConnections } from './own-sockets.ts'
import { hostPortOf, reachableFirst } from './reach.ts'
import { Redialer } from './redial.ts'
import type { DialOptions, DialState, Target } from './redial.ts'
import { answering, orImpostor, unprovenOf } from './unproven.ts'

export type { DialState, Target } from './redial.ts'
export type { NeighbourInfo } from './neighbours.ts'

export const MESH_PROTOCOL = '/rhizome/mesh/1'

/** Called in this order for each peer: up, frames, down, up, … An exception ends that neighbour only. */
export type TransportHandlers = NeighbourEvents

export interface TransportOptions {
  /** 32-byte Ed25519 seed of the node key; the PeerId follows from it. */
  readonly seed: Uint8Array
  /** Multiaddrs such as /ip4/0.0.0.0/tcp/7946. Port 0 takes a free port; with an empty list the agent only dials. */
  readonly listen: readonly string[]
  readonly limits?: Partial<TransportLimits>
  readonly handlers: TransportHandlers
  /** Returns whether connections with this peer are refused now, in both directions. */
  readonly isBanned?: (peer: Origin) => boolean
  /** Returns whether the peer is a known member, for which a place is kept while strangers take all others. */
  readonly isMember?: (peer: Origin) => boolean
  /** Takes the datagrams of authenticated neighbours. When left out, this agent carries no datagrams. */
  readonly datagrams?: DatagramIntake | undefined
  /** The same for the frames between an agent and its relay. */
  readonly relayed?: DatagramIntake | undefined
  readonly log?: (event: string, fields: object) => void
}

/** The transport of one agent. Methods with a peer that is no neighbour do nothing. */
export interface Transport {
  readonly origin: Origin
  /**
   * Starts to listen. An address that this host does not have now is no error; `networkChanged` listens on it later.
   * Rejects with TransportError PORT_IN_USE, PORT_FORBIDDEN, ADDRESS_UNAVAILABLE, LISTEN_INVALID or LISTEN_FAILED.
   */
  start(): Promise<void>
  /** Ends within 2 s. Queued frames are sent if the peers read them; every neighbourDown has been called. */
  stop(): Promise<void>
  /** The addresses in use: with the real port, without /p2p/…, and each address of this host for a wildcard. */
  listenAddresses(): string[]
  /** The addresses of `listen` that this host does not have now. */
  missingAddresses(): readonly string[]
  /**
   * Call it when this host has new addresses or has lost those in `gone`. Connections from lost addresses end, missing
   * addresses are listened on, and every target that is not connected is dialled at once. Never rejects.
   */
  networkChanged(gone: readonly string[]): Promise<void>
  /** Replaces the peers to keep connected. A peer that is not named any more stays connected. Throws before `start`. */
  setTargets(targets: readonly Target[]): void
  /**
   * Returns false when the peer is not connected, or was reset now because more than queueBytesMax bytes are queued.
   * The bytes must not change afterwards. Throws RangeError for an empty frame or one over frameBytesMax.
   */
  send(peer: Origin, frame: Uint8Array): boolean
  /** Sends a datagram beside the frames, or drops it (datagrams.ts). */
  sendDatagram(peer: Origin, datagram: Uint8Array): DatagramOutcome
  /** The same for a frame to or from a relay. The first few wait while the stream is opened. */
  sendRelayed(peer: Origin, frame: Uint8Array): DatagramOutcome
  /** Calls back once when the peer's send queue has drained, unless it ends before. A later call replaces this one. */
  whenSent(peer: Origin, listener: () => void): void
  /** Delivers no frame of this neighbour until `resume`. Meanwhile it can send at most windowBytesMax bytes. */
  pause(peer: Origin): void
  /** Delivers the frames that have arrived, in their turn. */
  resume(peer: Origin): void
  /** Call it in the handler of the frame that authenticates the peer, because a larger frame may follow at once. */
  setAuthenticated(peer: Origin): void
  /** Queued frames are still sent. neighbourDown has been called when this returns; a target is dialled again later. */
  disconnect(peer: Origin, reason: string): void
  /** The same at once: queued frames are dropped, and nothing more is read. */
  reset(peer: Origin, reason: string): void
  neighbours(): readonly NeighbourInfo[]
  dialState(): readonly DialState[]
  /** The number of inbound connections that are not authenticated yet. */
  strangers(): number
}

/** Creates a transport that is not started. Throws TransportError SEED_INVALID. */
export function createTransport(options: TransportOptions): Transport {
  return new Libp2pTransport(options)
}

class Libp2pTransport implements Transport {
  readonly origin: Origin
  readonly #options: TransportOptions
  readonly #limits: TransportLimits
  readonly #privateKey: PrivateKey
  readonly #budget: InboundBudget
  readonly #neighbours: Neighbours
  readonly #redialer: Redialer
  readonly #datagrams: Datagrams
  readonly #relayed: Datagrams
  readonly #isBanned: (peer: Origin) => boolean
  readonly #log: (event: string, fields: object) => void
  #libp2p: Libp2p | undefined
  #missing: readonly string[] = []

  constructor(options: TransportOptions) {
    this.#options = options
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.#privateKey = privateKeyOf(options.seed)
    const origin = originOf(peerIdFromPrivateKey(this.#privateKey))
    if (origin === undefined) throw new Error('an Ed25519 seed gave another kind of PeerId')
    this.origin = origin
    this.#isBanned = options.isBanned ?? (() => false)
    this.#log = options.log ?? (() => undefined)
    this.#budget = new InboundBudget(this.#limits)
    this.#redialer = new Redialer({
      limits: this.#limits,
      random: Math.random,
      connected: (peer) => this.#neighbours.has(peer),
      dial: (target, options) => this.#dial(target, options)
    })
    this.#neighbours = new Neighbours({
      self: this.origin,
      limits: this.#limits,
      events: options.handlers,
      ended: (peer, livedMs) => {
        this.#datagrams.ended(peer)
        this.#relayed.ended(peer)
        this.#redialer.ended(peer, livedMs)
      },
      authenticated: (connection) => this.#budget.release(socketKey(connection.remoteAddr)),
      log: this.#log
    })
    const lane = {
      limits: this.#limits,
      turns: this.#neighbours.turns,
      connection: (peer: Origin) => this.#neighbours.connectionOf(peer),
      log: this.#log
    }
    const [intake, relayed] = [options.datagrams, options.relayed]
    this.#datagrams = new Datagrams({ ...lane, protocol: DATAGRAM_PROTOCOL, intake, waitBytesMax: 0 })
    this.#relayed = new Datagrams({ ...lane, protocol: RELAY_PROTOCOL, intake: relayed, waitBytesMax: 8192 })
  }

  async start(): Promise<void> {
    for (const address of this.#options.listen) checkAddress(address)
    const listen = usable(this.#options.listen)
    this.#missing = listen.filter((address) => !isHere(address))
    const libp2p = await createLibp2p(
      libp2pOptions({
        limits: this.#limits,
        privateKey: this.#privateKey,
        listen: listen.filter((address) => !this.#missing.includes(address)),
        gater: createGater({
          budget: this.#budget,
          isBanned: this.#isBanned,
          isMember: this.#options.isMember ?? (() => false),
          log: this.#log
        })
      })
    )
    await libp2p.handle(
      MESH_PROTOCOL,
      (stream, connection) => {
        this.#budget.handOver(socketKey(connection.remoteAddr))
        void this.#neighbours.add(connection, stream)
      },
      // A peer opens one stream; a second one may arrive before the first one has ended here.
      { maxInboundStreams: 2, maxOutboundStreams: 2 }
    )
    for (const lane of [this.#datagrams, this.#relayed]) await lane.listen(libp2p)
    // libp2p remembers every PeerId for hours, and a stranger can use a new one for each connection.
    libp2p.addEventListener('peer:disconnect', ({ detail: peer }) => {
      libp2p.peerStore.delete(peer).catch((error: unknown) => this.#log('peer store', { error }))
    })
    try {
      await libp2p.start()
    } catch (error) {
      throw listenError(error, this.#options.listen)
    }
    this.#libp2p = libp2p
    this.#log('listening', { addresses: this.listenAddresses(), origin: this.origin })
  }

  async stop(): Promise<void> {
    const libp2p = this.#libp2p
    this.#redialer.stop()
    await this.#neighbours.closeAll('this agent stops')
    if (libp2p === undefined) return
    this.#libp2p = undefined
    // libp2p waits without a deadline until every socket has closed; stop() promises to end in time.
    const inTime = await within(Promise.resolve(libp2p.stop()), this.#limits.closeMs * 2)
    if (!inTime) {
      this.#log('stopped by force', { connections: libp2p.getConnections().length })
      for (const connection of libp2p.getConnections()) connection.abort(new Error('stopped by force'))
    }
  }

  listenAddresses(): string[] {
    const addresses = this.#libp2p?.getMultiaddrs() ?? []
    return addresses.map((address) => address.toString().replace(/\/p2p\/[^/]+$/, ''))
  }

  missingAddresses(): readonly string[] {
    return this.#missing
  }

  async networkChanged(gone: readonly string[]): Promise<void> {
    await this.#listenOnMissing()
    if (gone.length > 0) await this.#dropDead(new Set(gone))
    this.#redialer.hurry()
  }

  async #listenOnMissing(): Promise<void> {
    const come = this.#missing.filter(isHere)
    if (come.length === 0 || this.#libp2p === undefined) return
    this.#missing = this.#missing.filter((address) => !come.includes(address))
    try {
      // The transport manager, which can add listeners, is not part of libp2p's public interface.
      const { components } = this.#libp2p as Libp2p & {
        readonly components: { readonly transportManager: { listen(addresses: Multiaddr[]): Promise<void> } }
      }
      await components.transportManager.listen(come.map((address) => multiaddr(address)))
      this.#log('listening', { addresses: this.listenAddresses() })
    } catch (error) {
      this.#missing = [...this.#missing, ...come]
      this.#log('cannot listen', { addresses: come, error })
    }
  }

  /**
   * Resets connections from addresses that this host has lost. Otherwise the mesh's pings would find them dead after
   * seconds, and TCP after minutes.
   */
  async #dropDead(gone: ReadonlySet<string>): Promise<void> {
    const own = await ownAddressOfConnections()
    for (const { origin, address } of this.#neighbours.list()) {
      const remote = hostPortOf(address)
      const ownAddress = remote && own.get(`${remote.host} ${remote.port}`)
      if (ownAddress !== undefined && gone.has(ownAddress))
        this.#neighbours.reset(origin, `this host lost its address ${ownAddress}`)
    }
  }

  setTargets(targets: readonly Target[]): void {
    if (this.#libp2p === undefined) throw new Error('setTargets before start')
    this.#redialer.setTargets(
      targets.filter((target) => target.origin !== this.origin && target.addresses.length > 0)
    )
  }

  send(peer: Origin, frame: Uint8Array): boolean {
    return this.#neighbours.send(peer, frame)
  }

  sendDatagram(peer: Origin, datagram: Uint8Array): DatagramOutcome {
    return this.#datagrams.send(peer, datagram)
  }

  sendRelayed(peer: Origin, frame: Uint8Array): DatagramOutcome {
    return this.#relayed.send(peer, frame)
  }

  whenSent(peer: Origin, listener: () => void): void {
    this.#neighbours.whenSent(peer, listener)
  }

  pause(peer: Origin): void {
    this.#neighbours.pause(peer)
  }

  resume(peer: Origin): void {
    this.#neighbours.resume(peer)
  }

  setAuthenticated(peer: Origin): void {
    this.#neighbours.setAuthenticated(peer)
  }

  disconnect(peer: Origin, reason: string): void {
    this.#neighbours.disconnect(peer, reason)
  }

  reset(peer: Origin, reason: string): void {
    this.#neighbours.reset(peer, reason)
  }

  neighbours(): readonly NeighbourInfo[] {
    return this.#neighbours.list()
  }

  dialState(): readonly DialState[] {
    return this.#redialer.state()
  }

  strangers(): number {
    return this.#budget.strangers
  }

  async #dial(target: Target, { signal, hasFailed }: DialOptions): Promise<Origin> {
    const libp2p = this.#libp2p
    if (libp2p === undefined) throw new Error('not started')
    if (target.origin !== undefined && this.#isBanned(target.origin)) throw new Error(BANNED)
    const addresses = await this.#dialAddresses(target, { signal, hasFailed })
    const connection = await orImpostor(libp2p.dial(addresses, { signal }), target, signal)
    const peer = originOf(connection.remotePeer)
    try {
      if (peer === undefined) throw new Error('not an Ed25519 peer')
      if (this.#isBanned(peer)) throw new Error(BANNED)
      if (peer !== (target.origin ?? peer)) throw new Error(`another peer answered: ${peer}`)
      if (this.#neighbours.has(peer)) {
        this.#closeUnused(connection)
        return peer
      }
      const stream = await connection.newStream(MESH_PROTOCOL, { signal })
      const outcome = await this.#neighbours.add(connection, stream)
      if (outcome.kind === 'ended') throw new Error(outcome.reason)
      return peer
    } catch (error) {
      const wanted = peer !== undefined && this.#neighbours.has(peer)
      if (!wanted) connection.abort(error instanceof Error ? error : new Error('dial failed'))
      throw error
    }
  }

  /** The target's addresses without those of this agent; after a failed attempt, the first that answers is in front. */
  async #dialAddresses(target: Target, { signal, hasFailed }: DialOptions): Promise<Multiaddr[]> {
    const others = target.addresses.filter((address) => !this.#isSelf(address))
    if (others.length === 0) throw new Error('all its addresses are addresses of this host')
    const { addressDialMs, addressesPerTargetMax } = this.#limits
    const bounded = others.slice(0, addressesPerTargetMax)
    const chosen = { ...target, addresses: bounded }
    if (unprovenOf(chosen).length > 0)
      return dialAddresses({ ...target, addresses: await answering(chosen, signal) })
    const addresses =
      hasFailed && bounded.length > 1
        ? await reachableFirst(bounded, { deadlineMs: addressDialMs, signal })
        : bounded
    return dialAddresses({ ...target, addresses })
  }

  /** True for an address and port on which this host listens. Another site may have the same private address. */
  #isSelf(address: string): boolean {
    const where = hostPortOf(address)
    if (where === undefined) return false
    const ports = this.listenAddresses().map((own) => hostPortOf(own)?.port)
    return ports.includes(where.port) && isOwn(where.host)
  }

  /** Closes the connection of a dial that was not needed, because the peer's own dial has won. */
  #closeUnused(connection: Connection): void {
    if (connection.streams.some((stream) => stream.protocol === MESH_PROTOCOL)) return
    connection
      .close({ signal: AbortSignal.timeout(this.#limits.closeMs) })
      .catch((error: Error) => connection.abort(error))
  }
}

const BANNED = 'banned for now: it sent too many malformed or badly signed frames'

/** Resolves with whether the work has settled within `ms` milliseconds, successfully or not. Never rejects. */
async function within(work: Promise<unknown>, ms: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const timer = setTimeout(() => resolve(false), ms)
  work.then(
    () => resolve(true),
    () => resolve(true)
  )
  const inTime = await promise
  clearTimeout(timer)
  return inTime
}
