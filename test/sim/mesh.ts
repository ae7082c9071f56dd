// A mesh in memory and in virtual time, over the very same protocol code as the daemon. Frames are delayed, lost,
// repeated and overtaken; connections are cut, one way or both; readers are slow; agents stall, are killed between two
// effects, come back with disks wiped or set back, and with clocks that are wrong by a year. After every step, for what it changed:
//   - what a replica shows at a head is the fold of its origin's operations up to that head, each signed by its origin (so
//     nothing deleted is seen, and nothing between two batches);
//   - a replica's (epoch, seq) has not gone back, and an origin once held stays held (so silence withdraws nothing);
//   - a record is in a view exactly when this version knows its kind, and passed on in any case;
//   - no delta leads to another state than the one signed, unless its origin has lost its disk or has a twin: so who answers
//     a pull leaves nothing out, and who has forgotten a deletion says so;
//   - unfinished deltas and pulls are under their caps;
//   - no frame counts as an offence of the neighbour that sent it, because all agents here are honest.
import assert from 'node:assert/strict'
import type { Crypto } from '../../src/core/model/crypto.ts'
import {
  comparePositions,
  NOWHERE,
  readHead,
  type Head,
  type Position
} from '../../src/core/replication/head.ts'
import { PROTOCOL_LIMITS, type ProtocolLimits } from '../../src/core/replication/limits.ts'
import type { Origin, Value } from '../../src/core/model/values.ts'
import { originOf, publicKeyOf } from '../../src/core/model/identity.ts'
import { chooseNeighbours } from '../../src/core/replication/push/overlay.ts'
import {
  createProtocol,
  type Effect,
  type Persist,
  type PersistPart,
  type Protocol
} from '../../src/core/replication/protocol.ts'
import type { Admission } from '../../src/core/trust/admission.ts'
import { decodeValue, encodeValue } from '../../src/core/wire/value-codec.ts'
import type { StoredRecord } from '../../src/core/replication/record.ts'
import { decodeFrame, decodeSignedHead, encodeFrame } from '../../src/core/wire/messages.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { EventQueue } from './event-queue.ts'
import { Random } from './random.ts'
import { isOfNextKind, received, sent, writingAs, type Version } from './versions.ts'

export interface MeshOptions {
  readonly seed: number
  readonly agents: number
  /** Which agents can be connected at all. */
  readonly linked?: (left: number, right: number) => boolean
  readonly limits?: Partial<ProtocolLimits>
  /** Ed25519 unless given. */
  readonly crypto?: Crypto
  /** Connections as the overlay chooses them, kept up by the agents themselves; else everyone linked, by the test. */
  readonly overlay?: boolean
  /** Who can be dialled; everyone unless given. */
  readonly dialable?: (agent: number) => boolean
  /** One-way milliseconds; random up to delayMaxMs unless given. */
  readonly latencyMs?: (from: number, to: number) => number
  /** False: no checks after each step, for measuring. */
  readonly checked?: boolean
  /** Everyone's certificates are known to everyone from the start. */
  readonly admitted?: boolean
  /** What this agent's wire loses. */
  readonly filter?: (agent: number, frame: Uint8Array) => Uint8Array | undefined
}

interface Disk {
  readonly origins: Map<
    Origin,
    { head: Uint8Array; credential: Uint8Array | undefined; records: Map<string, StoredRecord> }
  >
  /** States that are not whole yet. */
  readonly parts: Map<Origin, Parts>
}

interface Parts extends Pick<PersistPart, 'head' | 'atSeq' | 'lastSeq'> {
  readonly credential: Uint8Array | undefined
  readonly records: Map<string, StoredRecord>
}

export interface Agent {
  readonly index: number
  readonly origin: Origin
  readonly seed: Uint8Array
  disk: Disk
  backup: Disk
  protocol: Protocol
  up: boolean
  /** The fold of its own operations, as it persisted them: key to encoded value. */
  model: Map<string, Uint8Array>
  /** What this life was told to publish. */
  wanted: Map<string, Uint8Array>
  seen: Map<Origin, Position>
  boots: number
  /** Added to the time that it is told: a clock that is wrong. */
  clockMs: number
  /** It does nothing before: its machine is paused. */
  stalledUntilMs: number
  version: Version
  /** It is killed as soon as it holds a part of a state, or between two effects of taking one over. */
  doomed: 'midSnapshot' | 'midWrite' | undefined
  /** Nobody reaches it, nor it anybody, until it is let back. */
  away: boolean
  /** Half-open: it has died, and nobody's connection to it has noticed. */
  silent: boolean
  /** What its connections take, bytes a millisecond each. */
  bytesPerMs: number
  targets: readonly number[]
  readonly links: Set<number>
  readonly sent: Traffic
  readonly aborted: { readonly atMs: number; readonly peer: number }[]
}

export interface Traffic {
  frames: number
  bytes: number
  deltas: number
  heads: number
  pulls: number
}

type Event =
  | { readonly kind: 'tick'; readonly atMs: number; readonly agent: number; readonly boot: number }
  | { readonly kind: 'redial'; readonly atMs: number }
  | { readonly kind: 'act'; readonly atMs: number; readonly act: () => void }
  | {
      readonly kind: 'frame'
      readonly atMs: number
      readonly from: number
      readonly to: number
      /** Which connection of the two: what was in flight dies with it. */
      readonly generation: number
      readonly frame: Uint8Array
    }

export interface Faults {
  /** Frames that vanish while the connection lives: worse than any TCP. */
  loss: number
  /** Frames of which a packet is lost and sent again by TCP: late, with all behind it. */
  retransmit: number
  duplicate: number
  delayMaxMs: number
  /** Frames of one link may overtake each other. */
  reorder: boolean
}

export const CALM: Faults = { loss: 0, retransmit: 0, duplicate: 0, delayMaxMs: 20, reorder: false }
export const STORMY: Faults = {
  loss: 0.05,
  retransmit: 0.05,
  duplicate: 0.05,
  delayMaxMs: 120,
  reorder: true
}
const TICK_MS = 200
const REDIAL_MS = 1000
// TCP's smallest retransmission timeout on Linux; a round trip more when the packet was not the last.
const RTO_MIN_MS = 200
const QUEUE_BYTES_MAX = 8 * 1024 * 1024
const MESH_ID = new Uint8Array(32).fill(7)
const ed25519 = createCrypto()

export class Mesh {
  readonly random: Random
  readonly agents: Agent[]
  nowMs = 0
  faults: Faults = CALM
  refused = new Map<string, number>()
  /** Whole states taken over an older one of the same epoch: somebody was below the floor. */
  pastFloor = 0
  /** Unfinished states found on a disk, and states that became whole out of parts on disk. */
  partsRestored = 0
  partsAdopted = 0
  /** Records seen whose kind this version does not know. */
  unknownKinds = 0
  /** Called with every state that an agent takes over. */
  onChanged: ((agent: Agent, origin: Origin) => void) | undefined
  readonly #options: MeshOptions
  readonly #crypto: Crypto
  readonly #limits: ProtocolLimits
  readonly #byOrigin = new Map<Origin, Agent[]>()
  /** Fold of an origin's operations at each head it ever persisted, by the bytes of the head. */
  readonly #oracle = new Map<string, ReadonlyMap<string, Uint8Array>>()
  readonly #queue = new EventQueue<Event>()
  /** Connections by `left * PAIR + right`, with their number. */
  readonly #links = new Map<number, number>()
  #generation = 0
  readonly #busyUntilMs = new Map<number, number>()
  readonly #queuedBytes = new Map<number, number>()
  readonly #cut = new Set<number>()
  /** Origins that may have signed two states for one position: they had a twin, or lost or set back a disk. */
  readonly #forked = new Set<Origin>()
  readonly #everyone: Admission | undefined

  constructor(options: MeshOptions) {
    this.#options = options
    this.#crypto = options.crypto ?? ed25519
    this.#limits = { ...PROTOCOL_LIMITS, ...options.limits }
    this.random = new Random(options.seed)
    this.agents = []
    for (let index = 0; index < options.agents; index++) this.#newAgent(index)
    if (options.admitted) this.#everyone = everyoneAdmitted(this.agents.map(({ origin }) => origin))
    for (const agent of this.agents) this.#boot(agent)
    if (options.overlay) {
      this.#chooseTargets()
      this.#redial()
    } else this.connectAll()
  }

  // ------------------------------------------------------------------ what a test does

  storm(): void {
    this.faults = STORMY
  }

  /** No more faults; who is paused still wakes at its time. */
  calm(): void {
    this.faults = CALM
    this.#cut.clear()
    this.#plans++
    for (const agent of this.agents)
      Object.assign(agent, { bytesPerMs: Infinity, doomed: undefined, away: false })
  }

  publish(
    agent: Agent,
    changes: readonly { key: string; value: Value | undefined }[],
    killAt?: number
  ): void {
    if (!this.#runs(agent)) return
    const effects = writingAs(agent.version, () => {
      for (const { key, value } of changes) {
        if (value) agent.wanted.set(key, encodeValue(value))
        else agent.wanted.delete(key)
      }
      return agent.protocol.publish(changes, this.#timeOf(agent))
    })
    this.#carryOut(agent, effects, killAt)
  }

  /** Something that happens later, unless the faults stop before. */
  after(ms: number, act: () => void): void {
    const plans = this.#plans
    const unlessCalm = () => {
      if (plans === this.#plans) act()
    }
    this.#queue.add({ kind: 'act', atMs: this.nowMs + ms, act: unlessCalm })
  }

  /** It runs on, alone; and is let back. */
  sendAway(agent: Agent): void {
    agent.away = true
    for (const other of agent.links) this.disconnect(agent, this.#agent(other))
  }

  letBack(agent: Agent): void {
    agent.away = false
    if (!this.#options.overlay) for (const other of this.agents) this.connect(agent, other)
  }

  /** kill -9: what was not persisted is gone. */
  kill(agent: Agent): void {
    if (!agent.up) return
    agent.up = false
    agent.silent = false
    agent.doomed = undefined
    for (const other of agent.links) this.disconnect(agent, this.#agent(other))
  }

  /** It dies, and no connection is closed. */
  die(agent: Agent): void {
    agent.silent = true
  }

  start(agent: Agent, disk: 'kept' | 'wiped' | 'backup' = 'kept'): void {
    if (agent.up) return
    if (disk !== 'kept') {
      agent.seen = new Map()
      this.#forked.add(agent.origin)
    }
    if (disk === 'wiped') agent.disk = { origins: new Map(), parts: new Map() }
    if (disk === 'backup') agent.disk = copyDisk(agent.backup)
    this.#boot(agent)
    if (!this.#options.overlay) for (const other of this.agents) this.connect(agent, other)
  }

  backUp(agent: Agent): void {
    agent.backup = copyDisk(agent.disk)
  }

  /** A second writer with the same key: a copied disk on another host. */
  twin(of: Agent): Agent {
    this.#forked.add(of.origin)
    const twin = this.#newAgent(this.agents.length, of)
    twin.version = of.version
    twin.disk = copyDisk(of.disk)
    this.#boot(twin)
    return twin
  }

  /** It tells everyone it is connected to of a head of this origin that does not exist. */
  claim(agent: Agent, of: Agent): void {
    if (!this.#runs(agent)) return
    const { epoch, seq } = agent.protocol.head(of.origin) ?? { epoch: 1, seq: 0 }
    const [ahead, check] = [1 + this.random.below(1000), this.random.below(2 ** 32)]
    const frame = encodeFrame({ heads: { heads: [{ origin: of.origin, epoch, seq: seq + ahead, check }] } })
    for (const other of agent.links) this.#transmit(agent, this.#agent(other).origin, frame)
  }

  connectAll(): void {
    for (const left of this.agents) for (const right of this.agents) this.connect(left, right)
  }

  connect(left: Agent, right: Agent): void {
    if (left.index >= right.index) {
      if (left !== right) this.connect(right, left)
      return
    }
    const possible = this.#options.linked?.(left.index, right.index) ?? true
    if (!possible || !this.#runs(left) || !this.#runs(right) || left.links.has(right.index)) return
    // One connection per PeerId.
    if (this.#linkedAgent(left, right.origin) || this.#linkedAgent(right, left.origin)) return
    if (left.away || right.away) return
    if (left.origin === right.origin || this.#isCut(left, right) || this.#isCut(right, left)) return
    this.#links.set(left.index * PAIR + right.index, ++this.#generation)
    left.links.add(right.index)
    right.links.add(left.index)
    for (const [agent, other] of [
      [left, right],
      [right, left]
    ] as const) {
      this.#queuedBytes.delete(agent.index * PAIR + other.index)
      admissionOf(agent).admit(other.origin, credentialOf(other.origin)) // the handshake
      this.#carryOut(agent, agent.protocol.peerUp(other.origin, this.#timeOf(agent)))
    }
  }

  disconnect(left: Agent, right: Agent): void {
    if (left.index > right.index) return this.disconnect(right, left)
    if (!this.#links.delete(left.index * PAIR + right.index)) return
    left.links.delete(right.index)
    right.links.delete(left.index)
    if (left.up) this.#carryOut(left, left.protocol.peerDown(right.origin))
    if (right.up) this.#carryOut(right, right.protocol.peerDown(left.origin))
  }

  /** Frames from `from` to `to` vanish. */
  cut(from: Agent, to: Agent): void {
    this.#cut.add(from.index * PAIR + to.index)
  }

  heal(): void {
    this.#cut.clear()
  }

  run(ms: number): void {
    const untilMs = this.nowMs + ms
    for (let event = this.#queue.next(untilMs); event; event = this.#queue.next(untilMs)) {
      this.nowMs = Math.max(this.nowMs, event.atMs)
      this.#handle(event)
    }
    this.nowMs = untilMs
  }

  /** Milliseconds until all heads and hashes agree; throws when they do not within `maxMs`. */
  settle(maxMs: number, stepMs = TICK_MS): number {
    const startMs = this.nowMs
    for (;;) {
      const difference = this.difference()
      if (difference === undefined) return this.nowMs - startMs
      if (this.nowMs - startMs > maxMs) assert.fail(`not in step after ${maxMs} ms: ${difference}`)
      this.run(stepMs)
    }
  }

  /** Everyone shows of itself what it was told to publish; pacing has let it through by now. */
  checkWanted(): void {
    for (const agent of this.agents.filter(({ up }) => up)) {
      const shown = [...agent.protocol.records(agent.origin)].map(
        ([key, { value }]) => `${key}=${hex(value)}`
      )
      const wanted = [...agent.wanted].map(([key, value]) => `${key}=${hex(value)}`)
      assert.deepEqual(shown.sort(), wanted.sort(), `agent ${agent.index} has not published what it was told`)
    }
  }

  /** Nobody who runs is dead to anyone who runs. */
  checkAlive(): void {
    const running = this.agents.filter(({ up, silent }) => up && !silent)
    for (const agent of running) {
      const dead = running.filter(({ origin }) => agent.protocol.liveness(origin) === 'dead')
      assert.deepEqual(
        dead.map(({ index }) => index),
        [],
        `agent ${agent.index} takes living agents for dead`
      )
    }
  }

  difference(): string | undefined {
    const [first, ...rest] = this.agents.filter((agent) => agent.up && !agent.silent)
    if (!first) return undefined
    for (const origin of this.#byOrigin.keys()) {
      const wanted = describe(first, origin)
      for (const agent of rest) {
        const held = describe(agent, origin)
        if (held !== wanted)
          return `origin ${this.#name(origin)}: agent 0 has ${wanted}, agent ${agent.index} has ${held}`
      }
    }
    return undefined
  }

  /** The agents know each other's round trips, as after some days: whom would they choose? */
  chooseWithRoundTrips(): void {
    this.#chooseTargets((left, right) => 2 * (this.#options.latencyMs?.(left, right) ?? 0))
    for (const agent of this.agents) {
      for (const other of agent.links) {
        if (!agent.targets.includes(other) && !this.#agent(other).targets.includes(agent.index))
          this.disconnect(agent, this.#agent(other))
      }
    }
    for (const agent of this.agents)
      for (const other of agent.targets) this.connect(agent, this.#agent(other))
  }

  resetTraffic(): void {
    for (const { sent } of this.agents) Object.assign(sent, noTraffic())
  }

  // ------------------------------------------------------------------ inside

  #newAgent(index: number, twinOf?: Agent): Agent {
    const seed = twinOf?.seed ?? this.#crypto.sha256(new TextEncoder().encode(`agent ${index}`))
    const origin = originOf(this.#crypto.publicKeyOf(seed))
    const disk: Disk = { origins: new Map(), parts: new Map() }
    const agent: Agent = {
      index,
      origin,
      seed,
      disk,
      backup: disk,
      protocol: this.#newProtocol({ origin, seed }, newAdmission(origin)),
      up: false,
      model: new Map(),
      wanted: new Map(),
      seen: new Map(),
      boots: 0,
      clockMs: 0,
      stalledUntilMs: 0,
      version: 'this',
      doomed: undefined,
      away: false,
      silent: false,
      bytesPerMs: Infinity,
      targets: [],
      links: new Set(),
      sent: noTraffic(),
      aborted: []
    }
    this.agents.push(agent)
    this.#byOrigin.set(origin, [...(this.#byOrigin.get(origin) ?? []), agent])
    return agent
  }

  #newProtocol(
    { origin, seed, clockMs = 0 }: Pick<Agent, 'origin' | 'seed'> & Partial<Pick<Agent, 'clockMs'>>,
    admission: Admission
  ): Protocol {
    const { limits } = this.#options
    const protocol = createProtocol({
      self: origin,
      selfSeed: seed,
      meshId: MESH_ID,
      crypto: this.#crypto,
      admission,
      incarnation: Math.max(0, Math.round(this.nowMs + clockMs)),
      ...(limits ? { limits } : {})
    })
    admissions.set(protocol, admission)
    return protocol
  }

  #boot(agent: Agent): void {
    agent.protocol = this.#newProtocol(agent, this.#everyone ?? newAdmission(agent.origin))
    agent.up = true
    agent.silent = false
    agent.stalledUntilMs = 0
    agent.boots++
    const own = agent.disk.origins.get(agent.origin)
    agent.model = new Map(own ? this.#oracle.get(headName(own.head)) : [])
    agent.wanted = new Map(agent.model)
    const stored = [...agent.disk.origins].map(([origin, { head, credential, records }]) => ({
      origin,
      head,
      credential,
      records: [...records.values()]
    }))
    const parts = [...agent.disk.parts].map(([origin, kept]) => ({
      origin,
      ...kept,
      records: [...kept.records.values()]
    }))
    const effects = agent.protocol.restore(stored, parts)
    if (agent.protocol.load().stagingBytes > 0) this.partsRestored++
    assert.deepEqual(
      effects.filter(({ kind }) => kind === 'damaged'),
      []
    )
    this.#carryOut(agent, effects)
    const atMs = this.nowMs + this.random.below(TICK_MS)
    this.#queue.add({ kind: 'tick', atMs, agent: agent.index, boot: agent.boots })
  }

  #handle(event: Event): void {
    if (event.kind === 'redial') return this.#redial()
    if (event.kind === 'tick') return this.#tick(event)
    if (event.kind === 'act') return event.act()
    const [from, to] = [this.#agent(event.from), this.#agent(event.to)]
    const direction = event.from * PAIR + event.to
    if (this.#links.get(linkOf(from, to)) !== event.generation) return
    if (to.stalledUntilMs > this.nowMs && !to.silent)
      return this.#queue.add({ ...event, atMs: to.stalledUntilMs })
    this.#queuedBytes.set(direction, (this.#queuedBytes.get(direction) ?? 0) - event.frame.length)
    if (to.silent || !to.up || this.#cut.has(direction)) return
    const known = received(to.version, event.frame)
    const frame = known && this.#options.filter ? this.#options.filter(to.index, known) : known
    if (!frame) return
    const effects = writingAs(to.version, () => to.protocol.receive(from.origin, frame, this.#timeOf(to)))
    if (this.#options.checked !== false) this.#checkRefusals(effects, frame)
    this.#carryOut(to, effects, this.#deathIn(to, effects))
  }

  /** Which effect a doomed agent does not live to see. */
  #deathIn(agent: Agent, effects: readonly Effect[]): number | undefined {
    if (agent.doomed === 'midSnapshot' && agent.protocol.load().stagingBytes > 0) return 0
    const persisted = effects.findIndex(({ kind }) => kind === 'persist')
    return agent.doomed === 'midWrite' && persisted >= 0 ? persisted + this.random.below(2) : undefined
  }

  #tick({ agent: index, boot }: { agent: number; boot: number }): void {
    const agent = this.#agent(index)
    if (!agent.up || agent.boots !== boot) return
    const atMs = Math.max(this.nowMs + TICK_MS, agent.stalledUntilMs)
    this.#queue.add({ kind: 'tick', atMs, agent: index, boot })
    if (!this.#runs(agent)) return
    const effects = writingAs(agent.version, () => agent.protocol.tick(this.#timeOf(agent)))
    this.#carryOut(agent, effects)
  }

  #carryOut(agent: Agent, effects: readonly Effect[], killAt = Infinity): void {
    for (const [index, effect] of effects.entries()) {
      if (index >= killAt) return this.kill(agent)
      if (!agent.up) return
      if (effect.kind === 'send') this.#transmit(agent, effect.to, effect.frame)
      else if (effect.kind === 'whenSent') this.#whenSent(agent, effect.to)
      else if (effect.kind === 'persist') this.#persist(agent, effect)
      else if (effect.kind === 'persistPart') keepPart(agent.disk, effect)
      else if (effect.kind === 'dropParts') agent.disk.parts.delete(effect.origin)
      else if (effect.kind === 'refused')
        this.refused.set(effect.reason, (this.refused.get(effect.reason) ?? 0) + 1)
      else if (effect.kind === 'abort') this.#reconnect(agent, effect.peer)
      else if (effect.kind === 'changed') {
        for (const origin of effect.origins) {
          this.onChanged?.(agent, origin)
          if (this.#options.checked !== false) this.#check(agent, origin)
        }
      }
    }
    if (this.#options.checked !== false) this.#checkCaps(agent)
  }

  #persist(agent: Agent, { origin, head, epoch, replace, adopts, operations, credential }: Persist): void {
    if (this.#options.checked === false) return
    if (replace && origin !== agent.origin && agent.seen.get(origin)?.epoch === epoch) this.pastFloor++
    const stored = agent.disk.origins.get(origin) ?? {
      head,
      credential: undefined,
      records: new Map<string, StoredRecord>()
    }
    if (replace) stored.records.clear()
    if (adopts !== undefined) {
      const parts = agent.disk.parts.get(origin)
      assert.equal(parts?.lastSeq, adopts, `agent ${agent.index} takes over parts that it has not kept`)
      for (const [key, record] of parts?.records ?? []) stored.records.set(key, record)
      agent.disk.parts.delete(origin)
      this.partsAdopted++
    }
    for (const { key, seq, value } of operations) {
      if (value) stored.records.set(key, { key, seq, value })
      else stored.records.delete(key)
    }
    agent.disk.origins.set(origin, {
      head,
      credential: credential ?? stored.credential,
      records: stored.records
    })
    if (origin !== agent.origin) return
    if (replace) agent.model.clear()
    for (const { key, value } of operations) {
      if (value) agent.model.set(key, value)
      else agent.model.delete(key)
    }
    this.#oracle.set(headName(head), new Map(agent.model))
  }

  #transmit(from: Agent, to: Origin, whole: Uint8Array): void {
    const target = this.#linkedAgent(from, to)
    const said = this.#options.filter ? this.#options.filter(from.index, whole) : whole
    if (!target || !said) return
    for (const frame of sent(from.version, said)) this.#carry(from, target, frame)
    for (let pair = this.#reset.pop(); pair; pair = this.#reset.pop()) this.disconnect(...pair)
  }

  #carry(from: Agent, target: Agent, frame: Uint8Array): void {
    count(from.sent, frame)
    const generation = this.#links.get(linkOf(from, target))
    const direction = from.index * PAIR + target.index
    const { loss, duplicate, retransmit, reorder } = this.faults
    for (let copy = 0; copy < (duplicate > 0 && this.random.chance(duplicate) ? 2 : 1); copy++) {
      if (loss > 0 && this.random.chance(loss)) continue
      const latencyMs = this.#latencyMs(from.index, target.index)
      let atMs = this.nowMs + latencyMs
      if (retransmit > 0 && this.random.chance(retransmit)) atMs += RTO_MIN_MS + 2 * latencyMs
      if (!reorder) atMs = Math.max(atMs, this.#busyUntilMs.get(direction) ?? 0)
      if (target.bytesPerMs < Infinity)
        atMs = Math.max(atMs, this.#busyUntilMs.get(direction) ?? 0) + frame.length / target.bytesPerMs
      this.#busyUntilMs.set(direction, atMs)
      const queued = (this.#queuedBytes.get(direction) ?? 0) + frame.length
      this.#queuedBytes.set(direction, queued)
      if (generation === undefined) continue
      this.#queue.add({ kind: 'frame', atMs, from: from.index, to: target.index, generation, frame })
      if (queued > QUEUE_BYTES_MAX) this.#reset.push([from, target])
    }
  }

  /** Its last frame has arrived, and it is not paused. */
  #whenSent(from: Agent, to: Origin): void {
    const target = this.#linkedAgent(from, to)
    if (!target) return
    const direction = from.index * PAIR + target.index
    const generation = this.#links.get(linkOf(from, target))
    const act = () => {
      if (this.#links.get(linkOf(from, target)) !== generation || !from.up || from.silent) return
      if (from.stalledUntilMs > this.nowMs) this.#queue.add({ kind: 'act', atMs: from.stalledUntilMs, act })
      else this.#carryOut(from, from.protocol.sent(to))
    }
    this.#queue.add({ kind: 'act', atMs: Math.max(this.nowMs, this.#busyUntilMs.get(direction) ?? 0), act })
  }

  readonly #reset: [Agent, Agent][] = []
  #plans = 0

  #latencyMs(from: number, to: number): number {
    const { latencyMs } = this.#options
    if (!latencyMs) return 1 + this.random.below(this.faults.delayMaxMs)
    // A tenth of jitter, and a tenth of a millisecond within the host.
    return latencyMs(from, to) * (1 + 0.1 * this.random.next()) + 0.1
  }

  #reconnect(agent: Agent, peer: Origin): void {
    const other = this.#linkedAgent(agent, peer)
    if (!other) return
    agent.aborted.push({ atMs: this.nowMs, peer: other.index })
    this.disconnect(agent, other)
    if (!this.#options.overlay) this.connect(agent, other)
  }

  #chooseTargets(rttMs?: (left: number, right: number) => number): void {
    const dialable = this.#options.dialable ?? (() => true)
    for (const agent of this.agents) {
      const members = this.agents
        .filter((other) => other !== agent)
        .map((other) => ({
          origin: other.origin,
          dialable: dialable(other.index),
          rttMs: rttMs?.(agent.index, other.index)
        }))
      const chosen = chooseNeighbours({
        self: agent.origin,
        dialable: dialable(agent.index),
        members,
        round: 0
      })
      agent.targets = chosen.flatMap((origin) => this.#byOrigin.get(origin)?.[0]?.index ?? [])
    }
  }

  #redial(): void {
    for (const agent of this.agents)
      for (const other of agent.targets) this.connect(agent, this.#agent(other))
    this.#queue.add({ kind: 'redial', atMs: this.nowMs + REDIAL_MS })
  }

  #check(agent: Agent, origin: Origin): void {
    const head = agent.protocol.head(origin)
    const before = agent.seen.get(origin) ?? NOWHERE
    const name = `agent ${agent.index}, origin ${this.#name(origin)} at ${describePosition(head ?? NOWHERE)}`
    assert.ok(
      comparePositions(head ?? NOWHERE, before) >= 0,
      `${name} went back from ${describePosition(before)}`
    )
    if (!head) return
    agent.seen.set(origin, { epoch: head.epoch, seq: head.seq })
    const fold = this.#oracle.get(hex(head.bytes))
    assert.ok(fold, `${name} was never published`)
    const records = agent.protocol.records(origin)
    assert.equal(records.size, fold.size, `${name} is not the fold of the operations`)
    for (const [key, { value }] of records) {
      const wanted = fold.get(key)
      assert.ok(wanted && Buffer.compare(value, wanted) === 0, `${name} shows a wrong ${key}`)
      const decoded = decodeValue(key, value)
      if (isOfNextKind(value)) this.unknownKinds++
      assert.equal(decoded.kind, isOfNextKind(value) ? 'invalid' : 'value', `${name}: ${key} in a view`)
    }
    for (const seen of agent.seen.keys())
      assert.ok(agent.protocol.head(seen), `agent ${agent.index} lost origin ${this.#name(seen)}`)
  }

  #checkRefusals(effects: readonly Effect[], frame: Uint8Array): void {
    const offence = effects.find((effect) => effect.kind === 'refused' && effect.isOffence)
    assert.equal(offence, undefined, 'an honest agent is taken for an offender')
    if (!effects.some((effect) => effect.kind === 'refused' && effect.reason === 'state hash mismatch'))
      return
    const head = readHead(decodeFrame(frame)?.delta?.head ?? null, MESH_ID)
    const isForked = typeof head !== 'string' && this.#forked.has(head.origin)
    assert.ok(
      isForked,
      `a delta of ${typeof head === 'string' ? head : this.#name(head.origin)} left something out`
    )
  }

  #checkCaps(agent: Agent): void {
    const { stagingBytes, pulls } = agent.protocol.load()
    assert.ok(
      stagingBytes <= this.#limits.stagingBytesMax,
      `agent ${agent.index} holds ${stagingBytes} B unfinished`
    )
    assert.ok(pulls <= this.#limits.pullsMax, `agent ${agent.index} has ${pulls} pulls under way`)
  }

  #isCut(from: Agent, to: Agent): boolean {
    return this.#cut.has(from.index * PAIR + to.index)
  }

  #runs(agent: Agent): boolean {
    return agent.up && !agent.silent && agent.stalledUntilMs <= this.nowMs
  }

  #timeOf(agent: Agent): number {
    return this.nowMs + agent.clockMs
  }

  #agent(index: number): Agent {
    const agent = this.agents[index]
    if (!agent) throw new Error(`no agent ${index}`)
    return agent
  }

  #linkedAgent(from: Agent, to: Origin): Agent | undefined {
    return this.#byOrigin.get(to)?.find(({ index }) => from.links.has(index))
  }

  #name(origin: Origin): number | undefined {
    return this.#byOrigin.get(origin)?.[0]?.index
  }
}

const PAIR = 65_536

function describe(agent: Agent, origin: Origin): string {
  const head = agent.protocol.head(origin)
  return head ? `${describePosition(head)} ${hex(head.bytes).slice(-8)}` : 'nothing'
}

function describePosition({ epoch, seq }: Position | Head): string {
  return `(${epoch}, ${seq})`
}

const admissions = new WeakMap<Protocol, Admission>()

function admissionOf(agent: Agent): Admission {
  const admission = admissions.get(agent.protocol)
  if (!admission) throw new Error('not booted')
  return admission
}

export function credentialOf(origin: Origin): Uint8Array {
  return new TextEncoder().encode(`credential of ${origin}`)
}

/** Takes exactly the credential that names the origin. */
export function newAdmission(self: Origin): Admission {
  const credentials = new Map([[self, credentialOf(self)]])
  return {
    isAdmitted: (origin) => credentials.has(origin),
    clusterOf: () => undefined,
    admit(origin, credential) {
      if (hex(credential) !== hex(credentialOf(origin)))
        return { kind: 'refused', reason: 'wrong credential' }
      credentials.set(origin, credential)
      return { kind: 'admitted' }
    },
    credentialOf: (origin) => credentials.get(origin),
    publicKeyOf
  }
}

/** One for all agents: certificates have long been exchanged. */
function everyoneAdmitted(origins: readonly Origin[]): Admission {
  const keys = new Map(origins.map((origin) => [origin, publicKeyOf(origin)]))
  const credentials = new Map(origins.map((origin) => [origin, credentialOf(origin)]))
  return {
    isAdmitted: (origin) => credentials.has(origin),
    clusterOf: () => undefined,
    admit: () => ({ kind: 'admitted' }),
    credentialOf: (origin) => credentials.get(origin),
    publicKeyOf: (origin) => keys.get(origin)
  }
}

function noTraffic(): Traffic {
  return { frames: 0, bytes: 0, deltas: 0, heads: 0, pulls: 0 }
}

// The first byte of a Frame is the tag of the message in it.
const HEADS_TAG = (4 << 3) | 2
const PULL_TAG = (5 << 3) | 2
const DELTA_TAG = (6 << 3) | 2

function count(traffic: Traffic, frame: Uint8Array): void {
  traffic.frames++
  traffic.bytes += frame.length
  if (frame[0] === DELTA_TAG) traffic.deltas++
  else if (frame[0] === HEADS_TAG) traffic.heads++
  else if (frame[0] === PULL_TAG) traffic.pulls++
}

function keepPart(disk: Disk, part: PersistPart): void {
  const { origin, head, atSeq, afterSeq, lastSeq, operations, credential } = part
  const before = afterSeq > 0 ? disk.parts.get(origin) : undefined
  assert.equal(before?.lastSeq ?? 0, afterSeq, 'a part goes on after the one before')
  const records = before?.records ?? new Map<string, StoredRecord>()
  for (const { key, seq, value } of operations) {
    if (value) records.set(key, { key, seq, value })
    else records.delete(key)
  }
  disk.parts.set(origin, { head, atSeq, lastSeq, credential: credential ?? before?.credential, records })
}

function copyDisk(disk: Disk): Disk {
  return {
    parts: new Map(
      [...disk.parts].map(([origin, kept]) => [origin, { ...kept, records: new Map(kept.records) }])
    ),
    origins: new Map(
      [...disk.origins].map(([origin, { head, credential, records }]) => [
        origin,
        { head, credential, records: new Map(records) }
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

function linkOf(left: Agent, right: Agent): number {
  return Math.min(left.index, right.index) * PAIR + Math.max(left.index, right.index)
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
