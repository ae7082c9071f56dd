// A mesh in memory and in virtual time, over the very same protocol code as the daemon. Frames are delayed, lost,
// repeated and overtaken; agents are killed between two effects; disks are wiped or set back. After every step:
//   - what a replica shows at a head is the fold of its origin's operations up to that head (so nothing deleted is seen);
//   - a replica's (epoch, seq) has not gone back.
import assert from 'node:assert/strict'
import { comparePositions, NOWHERE, readHead, type Position } from '../../src/core/head.ts'
import type { ProtocolLimits } from '../../src/core/limits.ts'
import type { Origin, Value } from '../../src/core/model.ts'
import { originOf, publicKeyOf } from '../../src/core/origin.ts'
import {
  createProtocol,
  type Admission,
  type Effect,
  type Persist,
  type Protocol
} from '../../src/core/protocol.ts'
import { encodeValue } from '../../src/core/codec.ts'
import type { StoredRecord } from '../../src/core/record.ts'
import { decodeSignedHead } from '../../src/core/wire.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { Random } from './random.ts'

export interface MeshOptions {
  readonly seed: number
  readonly agents: number
  /** Which agents can be connected at all. */
  readonly linked?: (left: number, right: number) => boolean
  readonly limits?: Partial<ProtocolLimits>
}

interface Disk {
  readonly origins: Map<
    Origin,
    { head: Uint8Array; chain: Uint8Array | undefined; records: Map<string, StoredRecord> }
  >
}

interface Agent {
  readonly index: number
  readonly origin: Origin
  readonly seed: Uint8Array
  disk: Disk
  backup: Disk
  protocol: Protocol
  up: boolean
  /** What this life has published, key to encoded value: the model. */
  model: Map<string, Uint8Array>
  seen: Map<Origin, Position>
  boots: number
}

interface InFlight {
  readonly atMs: number
  readonly from: number
  readonly to: number
  /** Which connection of the two: what was in flight dies with it. */
  readonly link: string
  readonly frame: Uint8Array
}

interface Faults {
  loss: number
  duplicate: number
  delayMaxMs: number
  /** Frames of one link may overtake each other. */
  reorder: boolean
}

const CALM: Faults = { loss: 0, duplicate: 0, delayMaxMs: 20, reorder: false }
const STORMY: Faults = { loss: 0.05, duplicate: 0.05, delayMaxMs: 120, reorder: true }
const TICK_MS = 200
const MESH_ID = new Uint8Array(32).fill(7)
const crypto = createCrypto()

export class Mesh {
  readonly random: Random
  readonly agents: readonly Agent[]
  nowMs = 0
  faults: Faults = CALM
  refused = new Map<string, number>()
  readonly #options: MeshOptions
  /** Fold of an origin's operations at each head it ever persisted, by the bytes of the head. */
  readonly #oracle = new Map<string, ReadonlyMap<string, Uint8Array>>()
  readonly #links = new Set<string>()
  readonly #queue: InFlight[] = []
  #linkGeneration = 0
  readonly #lastOnLink = new Map<string, number>()
  readonly #generations = new Map<string, number>()

  constructor(options: MeshOptions) {
    this.#options = options
    this.random = new Random(options.seed)
    this.agents = Array.from({ length: options.agents }, (_, index) => this.#newAgent(index))
    for (const agent of this.agents) this.#boot(agent)
    this.connectAll()
  }

  // ------------------------------------------------------------------ what a test does

  storm(): void {
    this.faults = STORMY
  }

  calm(): void {
    this.faults = CALM
  }

  publish(
    agent: Agent,
    changes: readonly { key: string; value: Value | undefined }[],
    killAt?: number
  ): void {
    if (!agent.up) return
    for (const { key, value } of changes) {
      if (value) agent.model.set(key, encodeValue(value))
      else agent.model.delete(key)
    }
    this.#carryOut(agent, agent.protocol.publish(changes, this.nowMs), killAt)
  }

  /** kill -9: what was not persisted is gone. */
  kill(agent: Agent): void {
    if (!agent.up) return
    agent.up = false
    for (const other of this.agents) this.disconnect(agent, other)
  }

  start(agent: Agent, disk: 'kept' | 'wiped' | 'backup' = 'kept'): void {
    if (agent.up) return
    if (disk !== 'kept') agent.seen = new Map()
    if (disk === 'wiped') agent.disk = { origins: new Map() }
    if (disk === 'backup') agent.disk = copyDisk(agent.backup)
    this.#boot(agent)
    for (const other of this.agents) this.connect(agent, other)
  }

  backUp(agent: Agent): void {
    agent.backup = copyDisk(agent.disk)
  }

  connectAll(): void {
    for (const left of this.agents) for (const right of this.agents) this.connect(left, right)
  }

  connect(left: Agent, right: Agent): void {
    const link = linkName(left, right)
    if (left.index >= right.index) {
      if (left !== right) this.connect(right, left)
      return
    }
    const possible = this.#options.linked?.(left.index, right.index) ?? true
    if (!possible || !left.up || !right.up || this.#links.has(link)) return
    this.#links.add(link)
    this.#generations.set(link, ++this.#linkGeneration)
    for (const [agent, other] of [
      [left, right],
      [right, left]
    ] as const) {
      admissionOf(agent).admit(other.origin, chainOf(other.origin)) // the handshake
      this.#carryOut(agent, agent.protocol.peerUp(other.origin, this.nowMs))
    }
  }

  disconnect(left: Agent, right: Agent): void {
    if (!this.#links.delete(linkName(left, right))) return
    if (left.up) this.#carryOut(left, left.protocol.peerDown(right.origin))
    if (right.up) this.#carryOut(right, right.protocol.peerDown(left.origin))
  }

  run(ms: number): void {
    const untilMs = this.nowMs + ms
    while (this.nowMs < untilMs) {
      const nextTickMs = Math.floor(this.nowMs / TICK_MS + 1) * TICK_MS
      this.#deliverUntil(Math.min(nextTickMs, untilMs))
      if (this.nowMs !== nextTickMs) continue
      for (const agent of this.agents) if (agent.up) this.#carryOut(agent, agent.protocol.tick(this.nowMs))
    }
  }

  /** Milliseconds until all heads and hashes agree; throws when they do not within `maxMs`. */
  settle(maxMs: number): number {
    const startMs = this.nowMs
    for (;;) {
      const difference = this.difference()
      if (difference === undefined) return this.nowMs - startMs
      if (this.nowMs - startMs > maxMs) assert.fail(`not in step after ${maxMs} ms: ${difference}`)
      this.run(TICK_MS)
    }
  }

  difference(): string | undefined {
    const [first, ...rest] = this.agents.filter(({ up }) => up)
    if (!first) return undefined
    for (const origin of this.agents.map((agent) => agent.origin)) {
      const wanted = describe(first, origin)
      for (const agent of rest) {
        const held = describe(agent, origin)
        if (held !== wanted)
          return `origin ${this.#name(origin)}: agent 0 has ${wanted}, agent ${agent.index} has ${held}`
      }
    }
    return undefined
  }

  // ------------------------------------------------------------------ inside

  #newAgent(index: number): Agent {
    const seed = crypto.sha256(new TextEncoder().encode(`agent ${index}`))
    const origin = originOf(crypto.publicKeyOf(seed))
    const protocol = createProtocol({
      self: origin,
      selfSeed: seed,
      meshId: MESH_ID,
      crypto,
      admission: newAdmission(origin)
    })
    const disk: Disk = { origins: new Map() }
    return {
      index,
      origin,
      seed,
      disk,
      backup: disk,
      protocol,
      up: false,
      model: new Map(),
      seen: new Map(),
      boots: 0
    }
  }

  #boot(agent: Agent): void {
    const admission = newAdmission(agent.origin)
    const { limits } = this.#options
    agent.protocol = createProtocol({
      self: agent.origin,
      selfSeed: agent.seed,
      meshId: MESH_ID,
      crypto,
      admission,
      ...(limits ? { limits } : {})
    })
    admissions.set(agent.protocol, admission)
    agent.up = true
    agent.boots++
    const own = agent.disk.origins.get(agent.origin)
    agent.model = new Map(own ? this.#oracle.get(headName(own.head)) : [])
    const stored = [...agent.disk.origins].map(([origin, { head, chain, records }]) => ({
      origin,
      head,
      chain,
      records: [...records.values()]
    }))
    const effects = agent.protocol.restore(stored)
    assert.deepEqual(
      effects.filter(({ kind }) => kind === 'damaged'),
      []
    )
    this.#carryOut(agent, effects)
  }

  #deliverUntil(ms: number): void {
    for (;;) {
      const next = this.#queue[0]
      if (!next || next.atMs > ms) break
      this.#queue.shift()
      this.nowMs = next.atMs
      const [from, to] = [this.agents[next.from], this.agents[next.to]]
      if (!from || !to || `${linkName(from, to)} ${this.#generations.get(linkName(from, to))}` !== next.link)
        continue
      if (!this.#links.has(linkName(from, to))) continue
      this.#carryOut(to, to.protocol.receive(from.origin, next.frame, this.nowMs))
    }
    this.nowMs = ms
  }

  #carryOut(agent: Agent, effects: readonly Effect[], killAt = Infinity): void {
    for (const [index, effect] of effects.entries()) {
      if (index >= killAt) return this.kill(agent)
      if (!agent.up) return
      if (effect.kind === 'send') this.#transmit(agent, effect.to, effect.frame)
      else if (effect.kind === 'persist') this.#persist(agent, effect)
      else if (effect.kind === 'refused')
        this.refused.set(effect.reason, (this.refused.get(effect.reason) ?? 0) + 1)
      else if (effect.kind === 'abort') this.#reconnect(agent, effect.peer)
    }
    this.#check(agent)
  }

  #persist(agent: Agent, { origin, head, replace, operations, chain }: Persist): void {
    const stored = agent.disk.origins.get(origin) ?? {
      head,
      chain: undefined,
      records: new Map<string, StoredRecord>()
    }
    if (replace) stored.records.clear()
    for (const { key, seq, value } of operations) {
      if (value) stored.records.set(key, { key, seq, value })
      else stored.records.delete(key)
    }
    agent.disk.origins.set(origin, { head, chain: chain ?? stored.chain, records: stored.records })
    if (origin === agent.origin) this.#oracle.set(headName(head), new Map(agent.model))
  }

  #transmit(from: Agent, to: Origin, frame: Uint8Array): void {
    const target = this.agents.find(({ origin }) => origin === to)
    if (!target) return
    const link = linkName(from, target)
    const { loss, duplicate, delayMaxMs, reorder } = this.faults
    for (let copy = 0; copy < (this.random.chance(duplicate) ? 2 : 1); copy++) {
      if (this.random.chance(loss)) continue
      const direction = `${from.index}>${target.index}`
      let atMs = this.nowMs + 1 + this.random.below(delayMaxMs)
      if (!reorder) atMs = Math.max(atMs, this.#lastOnLink.get(direction) ?? 0)
      this.#lastOnLink.set(direction, atMs)
      this.#enqueue({
        atMs,
        from: from.index,
        to: target.index,
        link: `${link} ${this.#generations.get(link)}`,
        frame: new Uint8Array(frame)
      })
    }
  }

  #enqueue(item: InFlight): void {
    let at = this.#queue.length
    while (at > 0 && (this.#queue[at - 1]?.atMs ?? 0) > item.atMs) at--
    this.#queue.splice(at, 0, item)
  }

  #reconnect(agent: Agent, peer: Origin): void {
    const other = this.agents.find(({ origin }) => origin === peer)
    if (!other) return
    this.disconnect(agent, other)
    this.connect(agent, other)
  }

  #check(agent: Agent): void {
    for (const head of agent.protocol.heads()) {
      const name = `agent ${agent.index}, origin ${this.#name(head.origin)} at (${head.epoch}, ${head.seq})`
      const before = agent.seen.get(head.origin) ?? NOWHERE
      assert.ok(
        comparePositions(head, before) >= 0,
        `${name} went back from (${before.epoch}, ${before.seq})`
      )
      agent.seen.set(head.origin, { epoch: head.epoch, seq: head.seq })
      const fold = this.#oracle.get(hex(head.bytes))
      assert.ok(fold, `${name} was never published`)
      const records = agent.protocol.records(head.origin)
      const shown = [...records].map(([key, { value }]) => `${key}=${hex(value)}`).sort()
      const wanted = [...fold].map(([key, value]) => `${key}=${hex(value)}`).sort()
      assert.deepEqual(shown, wanted, `${name} is not the fold of the operations`)
    }
  }

  #name(origin: Origin): number {
    return this.agents.findIndex((agent) => agent.origin === origin)
  }
}

function describe(agent: Agent, origin: Origin): string {
  const head = agent.protocol.heads().find((head) => head.origin === origin)
  return head ? `(${head.epoch}, ${head.seq}) ${hex(head.bytes).slice(-8)}` : 'nothing'
}

const admissions = new WeakMap<Protocol, Admission>()

function admissionOf(agent: Agent): Admission {
  const admission = admissions.get(agent.protocol)
  if (!admission) throw new Error('not booted')
  return admission
}

export function chainOf(origin: Origin): Uint8Array {
  return new TextEncoder().encode(`chain of ${origin}`)
}

/** Takes exactly the chain that names the origin. */
export function newAdmission(self: Origin): Admission {
  const chains = new Map([[self, chainOf(self)]])
  return {
    isAdmitted: (origin) => chains.has(origin),
    admit(origin, chain) {
      if (hex(chain) !== hex(chainOf(origin))) return { kind: 'refused', reason: 'wrong chain' }
      chains.set(origin, chain)
      return { kind: 'admitted' }
    },
    chainOf: (origin) => chains.get(origin),
    publicKeyOf
  }
}

function copyDisk(disk: Disk): Disk {
  return {
    origins: new Map(
      [...disk.origins].map(([origin, { head, chain, records }]) => [
        origin,
        { head, chain, records: new Map(records) }
      ])
    )
  }
}

/** The head's own bytes: what is signed. */
function headName(signedHead: Uint8Array): string {
  const head = readHead(decodeSignedHead(signedHead) ?? null, MESH_ID)
  if (typeof head === 'string') throw new Error(`persisted head is ${head}`)
  return hex(head.bytes)
}

function linkName(left: Agent, right: Agent): string {
  return `${Math.min(left.index, right.index)}-${Math.max(left.index, right.index)}`
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
