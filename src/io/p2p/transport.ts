// The transport between agents: libp2p over TCP, noise and yamux, one long-lived stream of frames per neighbour.
// It knows who the peer is (noise proves the PeerId), not whether it may be here: the caller does the mesh handshake on
// frames and says `setAuthenticated`.
import { noise } from '@chainsafe/libp2p-noise'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import type { Libp2p, Libp2pOptions } from 'libp2p'
import type { Origin } from '../../core/model/values.ts'
import { checkAddress, dialAddresses, hostOf, isHere, isOwn, socketKey } from './addresses.ts'
import { boundedYamux } from './bounded-yamux.ts'
import { listenError } from './errors.ts'
import type { Connection } from './frame-stream.ts'
import { InboundBudget } from './inbound-budget.ts'
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

export type { DialState, Target } from './redial.ts'
export type { NeighbourInfo } from './neighbours.ts'

export const MESH_PROTOCOL = '/rhizome/mesh/1'

/** Of the specification: the peer takes it for granted. */
const YAMUX_WINDOW_BYTES = 256 * 1024

/** Called in order per peer: up, frames, down, up, … A throw ends that neighbour and nothing else. */
export type TransportHandlers = NeighbourEvents

interface TransportOptions {
  /** 32-byte Ed25519 seed of the node key; the PeerId follows from it. */
  readonly seed: Uint8Array
  /** Multiaddrs, e.g. /ip4/0.0.0.0/tcp/7946; port 0 = any. Empty: dial only. */
  readonly listen: readonly string[]
  readonly limits?: Partial<TransportLimits>
  readonly handlers: TransportHandlers
  readonly log?: (event: string, fields: object) => void
}

export interface Transport {
  readonly origin: Origin
  /**
   * An address to listen on that this host does not have now is no error: see `networkChanged`.
   * Errors: TransportError PORT_IN_USE, PORT_FORBIDDEN, LISTEN_INVALID, LISTEN_FAILED.
   */
  start(): Promise<void>
  /** Within 2 s; what is queued is sent if the peers take it; every neighbourDown has been called. */
  stop(): Promise<void>
  /** Real ones, with the chosen port and without /p2p/…; a wildcard is expanded to this host's addresses. */
  listenAddresses(): string[]
  /** Of `listen`, those that this host has no address for now. */
  missingAddresses(): readonly string[]
  /**
   * Addresses of this host came, or are `gone`: connections from those end, missing addresses are listened on, and every target that
   * is not connected is dialled at once. Never rejects.
   */
  networkChanged(gone: readonly string[]): Promise<void>
  /** Whom to keep a connection to. Dropping a target does not disconnect it. */
  setTargets(targets: readonly Target[]): void
  /**
   * False: not connected, or its queue is over the bound and the neighbour has been reset. The bytes must not change
   * afterwards. Throws RangeError for an empty frame or one over frameBytesMax.
   */
  send(peer: Origin, frame: Uint8Array): boolean
  /** Calls back as soon as hardly anything is queued for this neighbour; not when it ends before. Of several calls, the last counts. */
  whenSent(peer: Origin, listener: () => void): void
  /** No frame of this neighbour is delivered until `resume`; what it may send meanwhile is bounded by `windowBytesMax`. */
  pause(peer: Origin): void
  /** Frames may be delivered before it returns. */
  resume(peer: Origin): void
  /** To be called before the `frame` handler returns that saw the proof: larger frames may follow at once. */
  setAuthenticated(peer: Origin): void
  /** What is queued is still sent. neighbourDown has been called when this returns; the redial loop goes on. */
  disconnect(peer: Origin, reason: string): void
  neighbours(): readonly NeighbourInfo[]
  dialState(): readonly DialState[]
  /** Inbound connections that are not authenticated yet. */
  strangers(): number
}

/** Errors: TransportError SEED_INVALID. */
export function createTransport(options: TransportOptions): Transport {
  return new Libp2pTransport(options)
}

type ConnectionGater = NonNullable<Libp2pOptions['connectionGater']>

class Libp2pTransport implements Transport {
  readonly origin: Origin
  readonly #options: TransportOptions
  readonly #limits: TransportLimits
  readonly #privateKey: PrivateKey
  readonly #budget: InboundBudget
  readonly #neighbours: Neighbours
  readonly #redialer: Redialer
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
      ended: (peer, livedMs) => this.#redialer.ended(peer, livedMs),
      authenticated: (connection) => this.#budget.release(socketKey(connection.remoteAddr)),
      log: this.#log
    })
  }

  async start(): Promise<void> {
    for (const address of this.#options.listen) checkAddress(address)
    this.#missing = this.#options.listen.filter((address) => !isHere(address))
    const libp2p = await createLibp2p(this.#libp2pOptions())
    await libp2p.handle(
      MESH_PROTOCOL,
      (stream, connection) => {
        this.#budget.handOver(socketKey(connection.remoteAddr))
        void this.#neighbours.add(connection, stream)
      },
      // A peer opens one; a second may be in flight while the first one dies.
      { maxInboundStreams: 2, maxOutboundStreams: 2 }
    )
    // libp2p remembers every PeerId for hours; a stranger can make a new one per connection.
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
    // Its listener waits for every socket without a deadline; ours is the promise of stop().
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
      // libp2p keeps its listeners in a component that its interface does not name.
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

  /** TCP would take minutes to find that an own address has gone, the mesh's pings seconds. */
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
    const connection = await libp2p.dial(await this.#dialAddresses(target, { signal, hasFailed }), { signal })
    const peer = originOf(connection.remotePeer)
    try {
      if (peer === undefined) throw new Error('not an Ed25519 peer')
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

  /** None that is this agent itself; once an attempt over them failed, the one that answers first. */
  async #dialAddresses(target: Target, { signal, hasFailed }: DialOptions): Promise<Multiaddr[]> {
    const others = target.addresses.filter((address) => !this.#isSelf(address))
    if (others.length === 0) throw new Error('each of its addresses is one of this host itself')
    const { addressDialMs, addressesPerTargetMax } = this.#limits
    const bounded = others.slice(0, addressesPerTargetMax)
    const addresses =
      hasFailed && bounded.length > 1
        ? await reachableFirst(bounded, { deadlineMs: addressDialMs, signal })
        : bounded
    return dialAddresses({ ...target, addresses })
  }

  /** An address of this host with a port that is listened on: another site may have the same private address. */
  #isSelf(address: string): boolean {
    const where = hostPortOf(address)
    if (where === undefined) return false
    const ports = this.listenAddresses().map((own) => hostPortOf(own)?.port)
    return ports.includes(where.port) && isOwn(where.host)
  }

  /** Both sides dialled and the peer's connection won. */
  #closeUnused(connection: Connection): void {
    if (connection.streams.some((stream) => stream.protocol === MESH_PROTOCOL)) return
    connection
      .close({ signal: AbortSignal.timeout(this.#limits.closeMs) })
      .catch((error: Error) => connection.abort(error))
  }

  #libp2pOptions(): Libp2pOptions & { start: false } {
    const limits = this.#limits
    return {
      start: false,
      privateKey: this.#privateKey,
      addresses: { listen: this.#options.listen.filter((address) => !this.#missing.includes(address)) },
      transports: [
        tcp({
          // Liveness is the mesh's own; a quiet but living tunnel must not be cut by the default of 2 minutes.
          inboundSocketInactivityTimeout: 0,
          outboundSocketInactivityTimeout: 0
        })
      ],
      connectionEncrypters: [noise()],
      streamMuxers: [
        boundedYamux({
          frameBytesMax: limits.muxerFrameBytesMax,
          init: {
            // One stream is used, one may be parked; the rest is an attempt to use memory.
            maxInboundStreams: 8,
            maxOutboundStreams: 8,
            maxEarlyStreams: 4,
            // It grows from what yamux begins with (256 KiB) while it is used up within four round trips.
            streamOptions: {
              initialStreamWindowSize: YAMUX_WINDOW_BYTES,
              maxStreamWindowSize: Math.max(YAMUX_WINDOW_BYTES, limits.windowBytesMax)
            }
          }
        })
      ],
      // It aborts a connection after one ping that fails, and opens a stream per ping. Neighbours ping inside their frames.
      connectionMonitor: { enabled: false, abortConnectionOnPingFailure: false },
      connectionManager: {
        // Defaults are 300, 5 a second and 10: a site of agents behind one NAT that returns after an outage exceeds them.
        maxConnections: limits.connectionsMax,
        inboundConnectionThreshold: limits.inboundPerSecondMax,
        maxIncomingPendingConnections: limits.unauthenticatedMax,
        inboundUpgradeTimeout: limits.authenticationMs,
        maxParallelDials: limits.dialsMax,
        maxPeerAddrsToDial: limits.addressesPerTargetMax,
        addressDialTimeout: limits.addressDialMs,
        // Keep the caller's order: best first. The default prefers public addresses.
        addressSorter: () => 0,
        // Nothing is tagged keep-alive; the redial loop is ours because this one stops after five retries.
        reconnectRetries: 0
      },
      connectionGater: this.#gater()
    }
  }

  #gater(): ConnectionGater {
    return {
      // Private addresses are this product's daily bread; which addresses are dialled is the caller's decision.
      denyDialMultiaddr: () => false,
      denyInboundConnection: (socket) => {
        const key = socketKey(socket.remoteAddr)
        const admitted = this.#budget.admit({
          key,
          host: hostOf(socket.remoteAddr),
          abort: (error) => socket.abort(error),
          onClose: (listener) => socket.addEventListener('close', listener, { once: true })
        })
        if (!admitted)
          this.#log('inbound refused', { address: key, reason: 'too many that are not authenticated' })
        return !admitted
      }
    }
  }
}

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
