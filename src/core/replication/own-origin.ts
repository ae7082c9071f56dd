// What this agent publishes: batches of its own, at a bounded pace, and a new epoch where its store has lost what it once published.
import { equalBytes } from '../model/bytes.ts'
import type { Crypto } from '../model/crypto.ts'
import { keyOf, type Origin } from '../model/values.ts'
import { comparePositions, verifyHead, type Head, type Position } from './head.ts'
import type { ProtocolLimits } from './limits.ts'
import type { Outbox } from './outbox.ts'
import { OwnRecords } from './own-records.ts'
import type { Persistence } from './persistence.ts'
import type { Broadcast } from './push/broadcast.ts'
import type { ValueChange } from './record.ts'
import type { Change, Replica, Written } from './replica.ts'
import { TokenBucket } from './token-bucket.ts'

interface OwnOriginOptions {
  readonly self: Origin
  /** Ed25519 seed of `self`, 32 bytes. */
  readonly selfSeed: Uint8Array
  readonly crypto: Crypto
  readonly limits: ProtocolLimits
  readonly replica: Replica
  readonly persistence: Persistence
  readonly broadcast: Broadcast
  readonly outbox: Outbox
}

export class OwnOrigin {
  readonly #options: OwnOriginOptions
  readonly #replica: Replica
  readonly #batches: TokenBucket
  /** Changes that wait for a token: one per key, so bounded as the keys are. */
  readonly #unwritten = new Map<string, Change>()
  #records: OwnRecords
  /** A position that a neighbour should hold by now, and when one was last known to hold it or a later one. */
  #watched: Position | undefined
  #heldMs: number | undefined

  constructor(options: OwnOriginOptions) {
    this.#options = options
    this.#replica = options.replica
    this.#records = this.#recordsOf(options.replica)
    const { batchesBurst, batchesPerSecond } = options.limits
    this.#batches = new TokenBucket({ burst: batchesBurst, perSecond: batchesPerSecond })
  }

  /** The replica was restored from the store. */
  restored(): void {
    this.#records = this.#recordsOf(this.#replica)
  }

  /** Every key that is published, or about to be, or waits for room. */
  keys(): readonly string[] {
    return [...new Set([...this.#replica.records.keys(), ...this.#records.keys()])]
  }

  /** Takes changes to be written at once, or with a later tick when too many batches came before. */
  publish(changes: readonly ValueChange[], nowMs: number): void {
    for (const { key, value } of changes)
      if (value && keyOf(value) !== key) throw new Error(`value of key ${keyOf(value)} published as ${key}`)
    for (const change of this.#records.apply(changes)) this.#unwritten.set(change.key, change)
    const leftOut = this.#records.takeNews()
    if (leftOut !== undefined) this.#options.outbox.add({ kind: 'leftOut', leftOut })
    this.write(nowMs)
  }

  /** Pacing bounds how old a change can get, and how many batches others must take. Changes of one key are conflated. */
  write(nowMs: number): void {
    if (this.#unwritten.size === 0 || !this.#batches.take(nowMs)) return
    const changes = [...this.#unwritten.values()]
    this.#unwritten.clear()
    this.#spread(this.#replica.write(changes, this.#options.selfSeed))
  }

  /** When a neighbour was last known to hold these records as they were then; undefined: never. */
  get heldMs(): number | undefined {
    return this.#heldMs
  }

  /** A neighbour holds this position, or a later one. */
  noteHeld(position: Position, nowMs: number): void {
    if (comparePositions(position, this.#watched ?? this.#replica.position) < 0) return
    this.#watched = this.#replica.position
    this.#heldMs = nowMs
  }

  hasSigned(head: Head): boolean {
    const { crypto, self, selfSeed } = this.#options
    return head.origin === self && verifyHead(crypto, crypto.publicKeyOf(selfSeed), head)
  }

  /** A head that this agent has signed. One that is not in its store proves that the store was lost or set back. */
  receiveHead(head: Head): void {
    const held = this.#replica.head
    const order = comparePositions(head, this.#replica.position)
    const isUnknown = order > 0 || (order === 0 && held && !equalBytes(head.bytes, held.bytes))
    if (isUnknown) this.leaveEpoch(head.epoch)
  }

  /** Writes everything in a higher epoch, unless this one has been left already (S5 of protocol.ts). */
  leaveEpoch(left: number): void {
    if (left < this.#replica.epochFloor) return
    const epoch = left + 1
    this.#options.outbox.add({ kind: 'ownRollback', epoch })
    this.#spread(this.#replica.rewrite(epoch, this.#options.selfSeed))
  }

  #spread(written: Written): void {
    const { self, limits, persistence, broadcast, outbox } = this.#options
    if (written.kind === 'refused') return outbox.refuse(self, written.reason)
    const { head } = this.#replica
    if (written.kind === 'unchanged' || !head) return
    persistence.persist(this.#replica, written) // S1 of protocol.ts
    const fromSeq = written.replaced ? 0 : head.prevSeq
    const { operations } = written
    broadcast.spread(this.#replica, { from: self, pushBytesMax: limits.partBytes, fromSeq, operations })
    outbox.add({ kind: 'changed', origins: [self] })
  }

  #recordsOf(replica: Replica): OwnRecords {
    return new OwnRecords({
      limits: this.#options.limits,
      read: (key) => (this.#unwritten.get(key) ?? replica.records.get(key))?.value,
      published: replica.records.values()
    })
  }
}
