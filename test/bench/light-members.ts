// Members that cost little, so that a thousand fit into two processes: libp2p, the handshake and the replication protocol are the
// real ones. What is left out is what nobody else sees: the disk, the view, and the states of those origins of which there is
// no news. All members had the same of them on disk, so one copy serves all, and what a member says of it (heads on connect,
// digests in pings) is made from that copy. An origin of which there is news is restored from it first, as if it had been there.
import type { Crypto } from '../../src/core/model/crypto.ts'
import { HeadsDigest } from '../../src/core/replication/digest.ts'
import { checkOf, comparePositions, readHead, type Head } from '../../src/core/replication/head.ts'
import { publicKeyOf } from '../../src/core/model/identity.ts'
import { keyOf, type Origin } from '../../src/core/model/values.ts'
import {
  createProtocol,
  type Effect,
  type Protocol,
  type StoredOrigin
} from '../../src/core/replication/protocol.ts'
import { createHandshake, type Handshake, type HandshakeSelf } from '../../src/core/trust/door/handshake.ts'
import type { DoorPort } from '../../src/core/trust/door/port.ts'
import { createTrustExchange, isTrustFrame, type TrustHead } from '../../src/core/trust/exchange/exchange.ts'
import { openCredential } from '../../src/core/trust/members/credential.ts'
import { decodeFrame, decodeSignedHead, encodeFrame } from '../../src/core/wire/messages.ts'
import { createTransport, type Transport } from '../../src/io/p2p/transport.ts'
import { rememberingCrypto, sharedMs, type AgentSpec } from './agents.ts'
import type { Member } from './agent-process.ts'
import { bytes, marker } from './values.ts'
import { membersOf, type World as Stored } from './world.ts'

export interface LightFacts {
  readonly members: number
  readonly connected: number
  /** Members that hold all that there is. */
  readonly whole: number
  /** When the last of these became so. */
  readonly wholeMs: number
  readonly refused: Readonly<Record<string, number>>
}

interface Known {
  readonly stored: StoredOrigin
  readonly head: Head
}

interface World {
  readonly known: ReadonlyMap<Origin, Known>
  readonly digest: number
  /** Heads of everything, as they are told on connect. */
  readonly heads: readonly Uint8Array[]
  readonly crypto: Crypto
  /** Credentials are checked at the door, by one trust set for all, since each member would find the same. */
  readonly door: DoorPort
  /** Of the trust set, which all members have alike: the exchange has nothing to do. */
  readonly trustHead: TrustHead
}

const TICK_MS = 200
const HEADS_PER_FRAME = 1000

export class LightMembers {
  readonly #members: readonly LightMember[]
  #timers: NodeJS.Timeout[] = []

  constructor(options: {
    readonly specs: readonly AgentSpec[]
    readonly world: Stored
    readonly dials: AgentSpec
  }) {
    const { specs, dials } = options
    const world = worldFrom(options.world, dials)
    this.#members = specs.map((spec) => new LightMember(spec, world))
  }

  async start(): Promise<void> {
    for (const member of this.#members) await member.transport.start()
    this.#timers = this.#members.map((member, index) =>
      // Not all in one turn of the loop: they are many machines.
      setInterval(() => member.tick(), TICK_MS + (index % 7))
    )
  }

  dial(to: Member, changed: readonly Origin[]): void {
    for (const [index, member] of this.#members.entries()) {
      member.expect(changed)
      if (changed.includes(member.spec.origin)) member.change(1 + index)
      member.transport.setTargets([to])
    }
  }

  facts(): LightFacts {
    const whole = this.#members.filter(({ wholeMs }) => wholeMs !== undefined)
    const refused: Record<string, number> = {}
    for (const each of this.#members)
      for (const [reason, count] of each.refused) refused[reason] = (refused[reason] ?? 0) + count
    return {
      members: this.#members.length,
      connected: this.#members.filter(({ isConnected }) => isConnected).length,
      whole: whole.length,
      wholeMs: Math.max(0, ...whole.map(({ wholeMs = 0 }) => wholeMs)),
      refused
    }
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await Promise.all(this.#members.map(({ transport }) => transport.stop()))
  }
}

class LightMember {
  readonly spec: AgentSpec
  readonly transport: Transport
  readonly refused = new Map<string, number>()
  wholeMs: number | undefined
  readonly #world: World
  readonly #protocol: Protocol
  readonly #handshakes = new Map<Origin, Handshake>()
  /** The digests of what the protocol holds, now and as the world has it. */
  readonly #held = new HeadsDigest()
  readonly #before = new HeadsDigest()
  readonly #loaded = new Set<Origin>()
  /** Origins of which there will be news that has not come; undefined before the outage ends. */
  #missing: Set<Origin> | undefined

  constructor(spec: AgentSpec, world: World) {
    this.spec = spec
    this.#world = world
    const { crypto } = world
    this.#protocol = createProtocol({
      self: spec.origin,
      selfSeed: bytes(spec.seed),
      meshId: bytes(spec.meshId),
      crypto,
      admission: {
        isAdmitted: (origin) => world.known.has(origin),
        clusterOf: () => undefined,
        admit: () => ({ kind: 'admitted' }),
        credentialOf: (origin) => world.known.get(origin)?.stored.credential,
        publicKeyOf
      },
      // A mesh of a thousand, though this one holds a part of it.
      limits: { directMax: 0 }
    })
    this.transport = createTransport({
      seed: bytes(spec.seed),
      listen: [],
      handlers: {
        neighbourUp: (peer, { inbound }) => this.#meet(peer, inbound),
        frame: (peer, frame) => this.#receive(peer, frame),
        neighbourDown: (peer) => {
          if (!this.#handshakes.delete(peer)) this.#carryOut(this.#protocol.peerDown(peer))
        }
      }
    })
    this.#load(spec.origin)
  }

  get isConnected(): boolean {
    return this.#protocol.peers().length > 0
  }

  expect(origins: readonly Origin[]): void {
    this.#missing = new Set(origins)
  }

  change(change: number): void {
    const value = marker(this.spec, change)
    this.#carryOut(this.#protocol.publish([{ key: keyOf(value), value }], performance.now()))
  }

  tick(): void {
    this.#carryOut(this.#protocol.tick(performance.now()))
  }

  #meet(peer: Origin, inbound: boolean): void {
    const { crypto, door, trustHead } = this.#world
    const shows: HandshakeSelf['shows'] = {
      kind: 'member',
      credential: bytes(this.spec.credential),
      trustHead
    }
    const handshake = createHandshake({
      crypto,
      self: {
        origin: this.spec.origin,
        seed: bytes(this.spec.seed),
        meshId: bytes(this.spec.meshId),
        software: 'bench',
        shows
      },
      remote: peer,
      door,
      initiator: !inbound,
      nowMs: Date.now()
    })
    this.#handshakes.set(peer, handshake)
    for (const frame of handshake.start()) this.transport.send(peer, frame)
  }

  #receive(peer: Origin, frame: Uint8Array): void {
    const handshake = this.#handshakes.get(peer)
    if (handshake === undefined) return this.#hear(peer, frame)
    const { send, outcome } = handshake.receive(frame, Date.now())
    for (const reply of send) this.transport.send(peer, reply)
    if (outcome === undefined) return
    this.#handshakes.delete(peer)
    if (outcome.kind !== 'accepted') {
      this.#count(`handshake ${outcome.kind === 'refused' ? outcome.code : outcome.kind}`)
      return this.transport.disconnect(peer, 'the handshake has failed')
    }
    this.transport.setAuthenticated(peer)
    for (const heads of this.#world.heads) this.transport.send(peer, heads)
    this.#carryOut(this.#protocol.peerUp(peer, performance.now()))
  }

  /** What is no news to the world is none to the protocol; of what is, it holds what the world did. */
  #hear(peer: Origin, frame: Uint8Array): void {
    if (isTrustFrame(frame)) return
    const message = decodeFrame(frame)
    let heard = frame
    if (message?.heads) {
      const news = message.heads.heads.filter((ref) => {
        const known = this.#world.known.get(ref.origin as Origin)
        return known === undefined || comparePositions(ref, known.head) > 0
      })
      for (const { origin } of news) this.#load(origin as Origin)
      heard = encodeFrame({ heads: { heads: news.map((ref) => ({ ...ref })) } })
    } else if (message?.delta) {
      const head = readHead(message.delta.head, bytes(this.spec.meshId))
      if (typeof head !== 'string') this.#load(head.origin)
    } else if (message?.pull) this.#load(message.pull.origin as Origin)
    this.#carryOut(this.#protocol.receive(peer, heard, performance.now()))
  }

  #load(origin: Origin): void {
    const known = this.#world.known.get(origin)
    if (known === undefined || this.#loaded.has(origin)) return
    this.#loaded.add(origin)
    this.#before.set(known.head)
    this.#carryOut(this.#protocol.restore([known.stored]))
  }

  #carryOut(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.transport.send(effect.to, this.#withDigest(effect.frame))
      else if (effect.kind === 'whenSent')
        this.transport.whenSent(effect.to, () => this.#carryOut(this.#protocol.sent(effect.to)))
      else if (effect.kind === 'changed') this.#took(effect.origins)
      else if (effect.kind === 'abort') this.transport.disconnect(effect.peer, effect.reason)
      else if (effect.kind === 'refused') this.#count(effect.reason)
    }
  }

  #took(origins: readonly Origin[]): void {
    for (const origin of origins) {
      const head = this.#protocol.head(origin)
      const before = this.#world.known.get(origin)?.head
      if (head === undefined) continue
      this.#held.set(head)
      if (before === undefined || comparePositions(head, before) > 0) this.#missing?.delete(origin)
    }
    this.#lookWhole()
  }

  #lookWhole(): void {
    if (this.#missing?.size === 0) this.wholeMs ??= sharedMs()
  }

  /** Of all that it holds, though the protocol knows of a part only. */
  #withDigest(frame: Uint8Array): Uint8Array {
    if (frame[0] !== PING_TAG) return frame
    const ping = decodeFrame(frame)?.ping
    if (!ping) return frame
    const digest = (this.#world.digest - this.#before.value + this.#held.value) >>> 0
    return encodeFrame({ ping: { id: ping.id, digest } })
  }

  #count(reason: string): void {
    this.refused.set(reason, (this.refused.get(reason) ?? 0) + 1)
  }
}

const PING_TAG = (7 << 3) | 2

function worldFrom({ specs, origins }: Stored, dials: AgentSpec): World {
  const meshId = bytes(dials.meshId)
  const crypto = rememberingCrypto()
  const members = membersOf(crypto, specs)
  const { set } = members
  const door: DoorPort = {
    openCredential: (credential) => openCredential(set, credential),
    openItem: (item) => set.open(item),
    verdictOn: (credential) => members.verdictOn(credential),
    knowsGateway: () => false
  }
  const trustHead = createTrustExchange({ set, crypto }).head()
  const sum = new HeadsDigest()
  const known = new Map<Origin, Known>()
  for (const { origin, head: signed, credential, records } of origins) {
    const head = readHead(decodeSignedHead(bytes(signed)) ?? null, meshId)
    if (typeof head === 'string') throw new Error(`a ${head} head in the world`)
    sum.set(head)
    const stored = records.map(({ key, seq, value }) => ({ key, seq, value: bytes(value) }))
    known.set(origin, {
      head,
      stored: { origin, head: bytes(signed), credential: bytes(credential), records: stored }
    })
  }
  const refs = [...known.values()].map(({ head }) => {
    const { origin, epoch, seq } = head
    return { origin, epoch, seq, check: checkOf(head) }
  })
  const heads: Uint8Array[] = []
  for (let start = 0; start < refs.length; start += HEADS_PER_FRAME)
    heads.push(encodeFrame({ heads: { heads: refs.slice(start, start + HEADS_PER_FRAME) } }))
  return { known, digest: sum.value, heads, crypto, door, trustHead }
}
