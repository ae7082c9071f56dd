// A hostile peer: it has real keys, speaks libp2p as an agent does, and sends whatever a claim wants. It uses the code of the agent for what must be right (Noise,
// frames, the handshake, the exchange of the trust set), so that an attack fails at the check under test and not before it.
// Invariants
//   1. It never answers by itself, but for the handshake that a claim started, pings, and the exchange of the trust set.
//   2. It touches nothing outside of loopback, and `stop` ends all of its connections.
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Origin } from '../../src/core/model/values.ts'
import { publicKeyOf } from '../../src/core/model/identity.ts'
import { certifyAgent, certifyCluster } from '../../src/core/trust/author/join.ts'
import { createHandshake, type HandshakeSelf } from '../../src/core/trust/door/handshake.ts'
import type { HandshakeOutcome } from '../../src/core/trust/door/port.ts'
import { decodeReject } from '../../src/core/trust/door/frames.ts'
import {
  createTrustExchange,
  isTrustFrame,
  type ExchangeEffect
} from '../../src/core/trust/exchange/exchange.ts'
import { decodeInviteToken } from '../../src/core/trust/invite-token.ts'
import { openCredential } from '../../src/core/trust/members/credential.ts'
import { createMembers, type Members } from '../../src/core/trust/members/members.ts'
import type { MeshRoots } from '../../src/core/trust/set/mesh-roots.ts'
import { decodeFrame, encodeFrame } from '../../src/core/wire/messages.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { createTransport, type Transport } from '../../src/io/p2p/transport.ts'
import { eventually } from '../eventually.ts'

export const crypto = createCrypto()
const DIALS = 4

/** What the holder of a token has made of it: a cluster key with its certificate. No member has admitted it yet. */
export interface Redeemed {
  readonly roots: MeshRoots
  readonly clusterSeed: Uint8Array
  readonly certItem: Uint8Array
  /** Multiaddrs of the doors that the token names. */
  readonly doors: readonly string[]
}

/** How a handshake ended; `down`: the connection ended before. */
export type Ended = HandshakeOutcome | { readonly kind: 'down'; readonly reason: string }

type Shows = HandshakeSelf['shows']

/** One connection of an attacker. */
interface Line {
  onFrame: (frame: Uint8Array) => void
  onDown: (reason: string) => void
  /** The first frame of replication has come: the agent counts this peer as a neighbour. */
  isIn: boolean
}

/** Makes a cluster key by a token, as `join` does. Throws when the token is damaged. */
export function redeem(token: string, clusterSeed: Uint8Array = randomBytes(32)): Redeemed {
  const opened = decodeInviteToken(token, {
    crypto,
    nowSeconds: Math.floor(Date.now() / 1000),
    meshId: undefined
  })
  if (opened.kind === 'refused') throw new Error(opened.message)
  const { roots, inviteItem, inviteSeed, bootstrap } = opened
  const { item } = certifyCluster({ crypto, roots }, { inviteItem, inviteSeed, clusterSeed })
  return { roots, clusterSeed, certItem: item, doors: bootstrap }
}

/** The credential of an agent of a cluster, signed by the cluster's key. */
export function credentialFor(
  { roots, clusterSeed }: Pick<Redeemed, 'roots' | 'clusterSeed'>,
  clusterItem: Uint8Array,
  agentSeed: Uint8Array,
  generation = 1
): Uint8Array {
  const named = { node: 'gw', roles: ['gateway' as const], generation }
  return certifyAgent({ crypto, roots }, { clusterItem, clusterSeed, agentSeed, ...named }).bytes
}

/** See the head of this file. */
export class Attacker {
  readonly seed: Uint8Array
  readonly roots: MeshRoots
  readonly members: Members
  readonly transport: Transport
  readonly #lines = new Map<Origin, Line>()
  readonly #rejected = new Map<Origin, string>()
  readonly #exchange: ReturnType<typeof createTrustExchange>
  readonly #ticks: NodeJS.Timeout
  /** False: pings are not answered, as by a peer that is dead. */
  answersPings = true
  /** Told each frame of replication. */
  onFrame: (frame: Uint8Array) => void = () => undefined
  /** Told each frame of a relay. */
  onRelayed: (frame: Uint8Array) => void = () => undefined

  private constructor(roots: MeshRoots, seed: Uint8Array) {
    this.roots = roots
    this.seed = seed
    this.members = createMembers({ crypto, roots, owners: new Map(), generations: new Map() })
    this.#exchange = createTrustExchange({ set: this.members.set, crypto })
    this.transport = createTransport({
      seed,
      listen: [],
      relayed: { bytesMax: 1024 * 1024, receive: (_, frame) => this.onRelayed(frame) },
      limits: { queueBytesMax: 64 * 1024 * 1024, redialMinMs: 600_000, redialMaxMs: 600_000 },
      handlers: {
        neighbourUp: (peer) => void this.#lines.set(peer, newLine()),
        frame: (peer, frame) => this.#lines.get(peer)?.onFrame(frame),
        neighbourDown: (peer, reason) => {
          this.#lines.get(peer)?.onDown(reason)
          this.#lines.delete(peer)
          this.#exchange.peerDown(peer)
        }
      }
    })
    this.#ticks = setInterval(() => this.#carryOut(this.#exchange.tick(performance.now())), 200)
  }

  static async create(roots: MeshRoots, seed: Uint8Array = randomBytes(32)): Promise<Attacker> {
    const attacker = new Attacker(roots, seed)
    await attacker.transport.start()
    return attacker
  }

  get origin(): Origin {
    return this.transport.origin
  }

  async stop(): Promise<void> {
    clearInterval(this.#ticks)
    await this.transport.stop()
  }

  /** Connects; the agent has proved its PeerId, and nothing is said yet. Resolves with false when it lets nobody in. */
  async dial(door: string): Promise<boolean> {
    const to = originOfDoor(door)
    // After a refusal the connection before may not have ended yet.
    this.transport.disconnect(to, 'dials again')
    await eventually(() => !this.#lines.has(to))
    // The agent may still hold the connection before, and then ends the new one.
    for (let attempt = 0; attempt < DIALS && !this.#lines.has(to); attempt++) {
      if (attempt > 0) await sleep(200 * attempt)
      this.transport.setTargets([])
      this.transport.setTargets([{ origin: to, addresses: [door] }])
      const failed = (): boolean =>
        this.transport.dialState().some(({ lastError }) => lastError !== undefined)
      await eventually(() => this.#lines.has(to) || failed())
    }
    return this.#lines.has(to)
  }

  isConnected(door: string): boolean {
    return this.#lines.has(originOfDoor(door))
  }

  /** Whether the agent has told this peer of records. */
  isIn(door: string): boolean {
    return this.#lines.get(originOfDoor(door))?.isIn === true
  }

  /** Bytes that were sent and not taken yet. */
  queuedBytes(door: string): number {
    const to = originOfDoor(door)
    return this.transport.neighbours().find(({ origin }) => origin === to)?.queuedBytes ?? 0
  }

  /** Sends one frame; false when the connection is over. */
  send(door: string, frame: Uint8Array): boolean {
    return this.transport.send(originOfDoor(door), frame)
  }

  /**
   * Runs a handshake. `tamper` changes frames on their way out, or drops them. `nowMs` is the clock that the Hello shows.
   */
  shake(
    door: string,
    shows: Shows,
    options: {
      readonly nowMs?: number
      readonly as?: Origin
      readonly tamper?: (frame: Uint8Array) => Uint8Array | undefined
      /** Every frame that the agent sent. */
      readonly seen?: (frame: Uint8Array) => void
    } = {}
  ): Promise<Ended> {
    const to = originOfDoor(door)
    const line = this.#lines.get(to)
    if (line === undefined) return Promise.resolve({ kind: 'down', reason: 'not connected' })
    const { set } = this.members
    const nowMs = options.nowMs ?? Date.now()
    const handshake = createHandshake({
      crypto,
      self: {
        origin: options.as ?? this.origin,
        seed: this.seed,
        meshId: this.roots.meshId,
        software: 'hostile',
        shows
      },
      remote: to,
      initiator: true,
      nowMs,
      door: {
        openCredential: (bytes) => openCredential(set, bytes),
        openItem: (bytes) => set.open(bytes),
        verdictOn: (credential) => this.members.verdictOn(credential),
        knowsGateway: () => false
      }
    })
    const send = (frames: readonly Uint8Array[]): void => {
      for (const frame of frames) {
        const changed = options.tamper ? options.tamper(frame) : frame
        if (changed !== undefined) this.transport.send(to, changed)
      }
    }
    return new Promise((resolve) => {
      line.onDown = (reason) => resolve({ kind: 'down', reason })
      line.onFrame = (frame) => {
        options.seen?.(frame)
        const { send: replies, outcome } = handshake.receive(frame, nowMs)
        send(replies)
        if (outcome === undefined) return
        if (outcome.kind === 'accepted') this.#accepted(to, line, outcome)
        resolve(outcome)
      }
      send(handshake.start())
    })
  }

  /** Connects and knocks with a redeemed token; once more where the connection ended without an answer. */
  async knock(door: string, redeemed: Redeemed, nowMs?: number): Promise<Ended> {
    const { certItem, clusterSeed } = redeemed
    const shows: Shows = { kind: 'newcomer', certItem, clusterSeed }
    for (let attempt = 1; ; attempt++) {
      await this.dial(door)
      const ended = await this.shake(door, shows, nowMs === undefined ? {} : { nowMs })
      if (ended.kind !== 'down' || attempt === DIALS) return ended
    }
  }

  /** Connects as a member, and waits until the agent tells records. Errors: how the handshake ended. */
  async enter(door: string, credential: Uint8Array): Promise<void> {
    if (!this.isConnected(door)) await this.dial(door)
    const ended = await this.shake(door, { kind: 'member', credential, trustHead: this.#exchange.head() })
    if (ended.kind !== 'accepted') throw new Error(`not accepted: ${textOf(ended)}`)
    await eventually(() => this.isIn(door))
  }

  /** Joins as an honest newcomer does, and stays connected as a member. Returns its new standing. */
  async join(door: string, redeemed: Redeemed): Promise<{ clusterItem: Uint8Array; credential: Uint8Array }> {
    const ended = await this.knock(door, redeemed)
    if (ended.kind !== 'admitted') throw new Error(`not admitted: ${textOf(ended)}`)
    const credential = credentialFor(redeemed, ended.bytes, this.seed)
    await this.enter(door, credential)
    return { clusterItem: ended.bytes, credential }
  }

  /** Offers encoded items of trust, as a neighbour hands on what is new. */
  offer(door: string, items: readonly Uint8Array[]): void {
    this.send(door, encodeFrame({ trustItems: { items: [...items] } }))
  }

  /** Why the agent turned this peer away after the handshake, the last time that it did; '' when it never has. */
  turnedAway(door: string): string {
    return this.#rejected.get(originOfDoor(door)) ?? ''
  }

  #accepted(to: Origin, line: Line, { trustHead }: Extract<Ended, { kind: 'accepted' }>): void {
    line.onDown = () => undefined
    line.onFrame = (frame) => {
      if (isTrustFrame(frame)) return this.#carryOut(this.#exchange.receive(to, frame, performance.now()))
      const rejected = decodeReject(frame)
      if (rejected !== undefined) return void this.#rejected.set(to, `${rejected.code}: ${rejected.detail}`)
      line.isIn = true
      this.onFrame(frame)
      const id = decodeFrame(frame)?.ping?.id
      if (id !== undefined && this.answersPings) this.transport.send(to, encodeFrame({ pong: { id } }))
    }
    this.transport.setAuthenticated(to)
    this.#carryOut(this.#exchange.peerUp(to, trustHead, performance.now()))
  }

  #carryOut(effects: readonly ExchangeEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.transport.send(effect.to, effect.frame)
      if (effect.kind === 'more') setImmediate(() => this.#carryOut(this.#exchange.tick(performance.now())))
    }
  }
}

/** The PeerId at the end of a multiaddr. */
export function originOfDoor(door: string): Origin {
  const origin = door.slice(door.lastIndexOf('/') + 1)
  if (publicKeyOf(origin) === undefined) throw new Error(`no PeerId in ${door}`)
  return origin as Origin
}

/** How a handshake ended, in a few words. */
export function textOf(ended: Ended): string {
  if (ended.kind === 'refused') return `${ended.code}: ${ended.detail}`
  return ended.kind === 'down' ? `down: ${ended.reason}` : ended.kind
}

function newLine(): Line {
  return { onFrame: () => undefined, onDown: () => undefined, isIn: false }
}
