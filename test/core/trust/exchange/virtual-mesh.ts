// Members of a mesh in virtual time: trust sets, exchanges, links with latency and loss, disks and restarts. Frames of
// one link arrive in order, as on a stream. Real time and randomness play no part, so each run can be repeated.
import assert from 'node:assert/strict'
import {
  createTrustExchange,
  type ExchangeEffect,
  isTrustFrame,
  type TrustExchange
} from '../../../../src/core/trust/exchange/exchange.ts'
import type { ExchangeLimits } from '../../../../src/core/trust/exchange/limits.ts'
import type { Origin } from '../../../../src/core/model/values.ts'
import { BOUNDS, type Bounds } from '../../../../src/core/trust/set/bounds.ts'
import type { StatementId } from '../../../../src/core/trust/set/ids.ts'
import type { TrustSet } from '../../../../src/core/trust/set/trust-set.ts'
import { RULES, type Thing, type World } from '../set/world.ts'

const TICK_MS = 200

export interface MeshOptions {
  readonly bounds?: Bounds
  readonly limits?: Partial<ExchangeLimits>
  readonly latencyMs?: number
  /** Whether the next frame is lost. */
  readonly loses?: () => boolean
}

/** One member. */
export class Member {
  readonly origin: Origin
  readonly mesh: VirtualMesh
  readonly disk = new Map<StatementId, Uint8Array>()
  /** Things that it signed or was given, which it adds again after a restart, as the commands of meshctl do. */
  readonly own: Thing[] = []
  readonly offences: string[] = []
  readonly refusals: string[] = []
  readonly inStep: Origin[] = []
  set: TrustSet
  exchange: TrustExchange

  constructor(mesh: VirtualMesh, name: string) {
    this.mesh = mesh
    this.origin = name as Origin
    ;[this.set, this.exchange] = this.#start()
  }

  /** Adds a thing of its own: written first, then handed on. */
  add(thing: Thing): void {
    this.own.push(thing)
    this.#put(thing)
  }

  ids(): readonly StatementId[] {
    return [...this.set.ids()].sort()
  }

  /** Ends the process and starts it again with what the disk holds. Its links are up again at once. */
  restart(disk: ReadonlyMap<StatementId, Uint8Array> = this.disk): void {
    const peers = this.mesh.peersOf(this)
    for (const peer of peers) this.mesh.cut(this, peer)
    const kept = new Map(disk)
    this.disk.clear()
    for (const [id, item] of kept) this.disk.set(id, item)
    ;[this.set, this.exchange] = this.#start()
    for (const thing of this.own) this.#put(thing)
    for (const peer of peers) this.mesh.link(this, peer)
  }

  carryOut(effects: readonly ExchangeEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'send') this.mesh.send(this, effect.to, effect.frame)
      else if (effect.kind === 'store') this.#write(effect.ids)
      else if (effect.kind === 'remove') for (const id of effect.ids) this.disk.delete(id)
      else if (effect.kind === 'inStep') this.inStep.push(effect.peer)
      else if (effect.kind === 'offence') this.offences.push(`${effect.peer}: ${effect.reason}`)
      else if (effect.kind === 'refused') this.refusals.push(`${effect.peer}: ${effect.reason}`)
      else this.mesh.at(1, () => this.tick())
    }
  }

  tick(): void {
    this.carryOut(this.exchange.tick(this.mesh.nowMs))
  }

  #start(): [TrustSet, TrustExchange] {
    const { world, options } = this.mesh
    const set = world.set(RULES, options.bounds ?? BOUNDS)
    const items = [...this.disk.values()].map((item) => {
      const opened = set.open(item)
      assert.ok(opened.kind === 'item', JSON.stringify(opened))
      return opened
    })
    set.addOpened(items)
    const { limits = {} } = options
    return [set, createTrustExchange({ set, crypto: world.crypto, limits })]
  }

  #put({ item }: Thing): void {
    const result = this.set.add(item)
    if (result.kind === 'refused') return
    this.#write(result.added)
    this.carryOut(this.exchange.added(result, this.mesh.nowMs))
  }

  #write(ids: readonly StatementId[]): void {
    for (const id of ids) {
      const item = this.set.itemOf(id)
      if (item !== undefined) this.disk.set(id, item)
    }
  }
}

/** The members, their links and the time. */
export class VirtualMesh {
  readonly world: World
  readonly options: MeshOptions
  readonly members: Member[] = []
  nowMs = 1_000_000
  /** Frames sent, and bytes in them. */
  sent = { frames: 0, bytes: 0 }
  readonly #links = new Map<string, number>()
  readonly #events: { readonly atMs: number; readonly order: number; readonly run: () => void }[] = []
  #count = 0

  constructor(world: World, options: MeshOptions = {}) {
    this.world = world
    this.options = options
  }

  member(): Member {
    const member = new Member(this, `m${this.members.length}`)
    this.members.push(member)
    const tick = () => {
      member.tick()
      this.at(TICK_MS, tick)
    }
    // Members tick at different times.
    this.at((this.members.length * 37) % TICK_MS, tick)
    return member
  }

  link(one: Member, other: Member): void {
    if (one === other || this.#links.has(key(one.origin, other.origin))) return
    this.#links.set(key(one.origin, other.origin), ++this.#count)
    const [head, otherHead] = [one.exchange.head(), other.exchange.head()]
    one.carryOut(one.exchange.peerUp(other.origin, otherHead, this.nowMs))
    other.carryOut(other.exchange.peerUp(one.origin, head, this.nowMs))
  }

  cut(one: Member, other: Member): void {
    if (!this.#links.delete(key(one.origin, other.origin))) return
    one.carryOut(one.exchange.peerDown(other.origin))
    other.carryOut(other.exchange.peerDown(one.origin))
  }

  peersOf(member: Member): readonly Member[] {
    return this.members.filter((other) => this.#links.has(key(member.origin, other.origin)))
  }

  send(from: Member, to: Origin, frame: Uint8Array): void {
    assert.ok(isTrustFrame(frame) && frame.length <= 64 * 1024)
    this.sent.frames++
    this.sent.bytes += frame.length
    const link = this.#links.get(key(from.origin, to))
    const peer = this.members.find(({ origin }) => origin === to)
    if (peer === undefined || link === undefined || this.options.loses?.() === true) return
    this.at(this.options.latencyMs ?? 20, () => {
      if (this.#links.get(key(from.origin, to)) !== link) return
      peer.carryOut(peer.exchange.receive(from.origin, frame, this.nowMs))
    })
  }

  /** Runs something after so many milliseconds. */
  at(afterMs: number, run: () => void): void {
    this.#events.push({ atMs: this.nowMs + afterMs, order: this.#count++, run })
  }

  /** Lets this time pass, or until the condition holds. Returns the milliseconds that passed. */
  run(ms: number, until: () => boolean = () => false): number {
    const [start, end] = [this.nowMs, this.nowMs + ms]
    for (;;) {
      if (until()) break
      const next = this.#next()
      if (next === undefined || next.atMs > end) {
        this.nowMs = end
        break
      }
      this.#events.splice(this.#events.indexOf(next), 1)
      this.nowMs = next.atMs
      next.run()
    }
    return this.nowMs - start
  }

  #next() {
    let first = this.#events[0]
    for (const event of this.#events)
      if (
        first !== undefined &&
        (event.atMs < first.atMs || (event.atMs === first.atMs && event.order < first.order))
      )
        first = event
    return first
  }
}

function key(one: Origin, other: Origin): string {
  return one < other ? `${one} ${other}` : `${other} ${one}`
}
