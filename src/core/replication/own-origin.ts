// The agent's own origin: it turns changes into signed batches at a bounded pace, and starts a new epoch when a
// neighbour shows a head of this agent that its store does not have (S5 of protocol.ts). own-records.ts chooses and
// checks the values.
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
import type { Replicas } from './replicas.ts'
import { TokenBucket } from '../model/token-bucket.ts'
import { TunnelKeys } from '../trust/tunnel-key.ts'

/** The key of this agent, and the parts of the protocol that an own batch passes through. */
interface OwnOriginOptions {
  readonly self: Origin
  /** Ed25519 seed of `self`, 32 bytes. */
  readonly selfSeed: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly limits: ProtocolLimits
  readonly replica: Replica
  readonly replicas: Pick<Replicas, 'note'>
  readonly persistence: Persistence
  readonly broadcast: Broadcast
  readonly outbox: Outbox
}

/** The writer of one agent's records. */
export class OwnOrigin {
  readonly #options: OwnOriginOptions
  readonly #replica: Replica
  readonly #batches: TokenBucket
  /** Changes that wait for a token of #batches; one for each key, so their number is bounded as that of the keys. */
  readonly #unwritten = new Map<string, Change>()
  readonly #tunnelKeys: TunnelKeys
  #records: OwnRecords
  /**
   * The own position at the latest confirmation by a neighbour, and when that was. The next confirmation must reach it.
   */
  #watched: Position | undefined
  #heldMs: number | undefined

  constructor(options: OwnOriginOptions) {
    this.#options = options
    this.#replica = options.replica
    this.#tunnelKeys = new TunnelKeys(options)
    this.#records = this.#recordsOf(options.replica)
    const { batchesBurst, batchesPerSecond } = options.limits
    this.#batches = new TokenBucket({ burst: batchesBurst, perSecond: batchesPerSecond })
  }

  /** Call it once the replica was restored from the store, so that the published records count against the limits. */
  restored(): void {
    this.#records = this.#recordsOf(this.#replica)
  }

  /** See OwnRecords.used. */
  used(): ReturnType<OwnRecords['used']> {
    return this.#records.used()
  }

  /** All keys that are published, will be published with a later tick, or wait for room. */
  keys(): readonly string[] {
    return [...new Set([...this.#replica.records.keys(), ...this.#records.keys()])]
  }

  /**
   * Takes changes, which are written at once, or with a later tick when too many batches came before. Throws when a
   * value does not belong to its key, which is a fault of the caller.
   */
  publish(changes: readonly ValueChange[], nowMs: number): void {
    for (const { key, value } of changes)
      if (value && keyOf(value) !== key) throw new Error(`value of key ${keyOf(value)} published as ${key}`)
    for (const change of this.#records.apply(changes)) this.#unwritten.set(change.key, change)
    const leftOut = this.#records.takeNews()
    if (leftOut !== undefined) this.#options.outbox.add({ kind: 'leftOut', leftOut })
    this.write(nowMs)
  }

  /**
   * Writes the waiting changes as one batch if the pace allows it. The pace bounds the number of batches that others
   * must take and, because of each key only the last change waits, also the age of a change. Called by `publish` and
   * with each tick.
   */
  write(nowMs: number): void {
    if (this.#unwritten.size === 0 || !this.#batches.take(nowMs)) return
    const changes = [...this.#unwritten.values()]
    this.#unwritten.clear()
    this.#spread(this.#replica.write(changes, this.#options.selfSeed))
  }

  /**
   * When a neighbour last confirmed that it holds this agent's records, at least as they were at the confirmation
   * before; undefined when none ever did.
   */
  get heldMs(): number | undefined {
    return this.#heldMs
  }

  /** A neighbour has shown, by a head or a digest, that it holds this position of this agent. */
  noteHeld(position: Position, nowMs: number): void {
    if (comparePositions(position, this.#watched ?? this.#replica.position) < 0) return
    this.#watched = this.#replica.position
    this.#heldMs = nowMs
  }

  /** True when a head is of this agent and its signature is valid. */
  hasSigned(head: Head): boolean {
    const { crypto, self, selfSeed } = this.#options
    return head.origin === self && verifyHead(crypto, crypto.publicKeyOf(selfSeed), head)
  }

  /**
   * Takes a head that this agent has signed. When the store does not have it, the store was lost or set back, or a
   * second agent runs with the same key; this agent then starts a new epoch.
   */
  receiveHead(head: Head): void {
    const held = this.#replica.head
    const order = comparePositions(head, this.#replica.position)
    const isUnknown = order > 0 || (order === 0 && held && !equalBytes(head.bytes, held.bytes))
    if (isUnknown) this.leaveEpoch(head.epoch)
  }

  /**
   * Writes all records again in the epoch after `left`, unless that epoch has been left already (S5 of protocol.ts).
   */
  leaveEpoch(left: number): void {
    if (left < this.#replica.epochFloor) return
    const epoch = left + 1
    this.#options.outbox.add({ kind: 'ownRollback', epoch })
    this.#spread(this.#replica.rewrite(epoch, this.#options.selfSeed))
  }

  /** Persists a batch, then sends it and tells the readers. */
  #spread(written: Written): void {
    const { self, limits, persistence, broadcast, outbox, replicas } = this.#options
    if (written.kind === 'refused') return outbox.refuse(self, written.reason)
    const { head } = this.#replica
    if (written.kind === 'unchanged' || !head) return
    replicas.note(this.#replica)
    persistence.persist(this.#replica, written) // S1 of protocol.ts
    const fromSeq = written.replaced ? 0 : head.prevSeq
    const { operations } = written
    broadcast.spread(this.#replica, { from: self, pushBytesMax: limits.partBytes, fromSeq, operations })
    outbox.add({ kind: 'changed', origins: [self] })
  }

  /** Returns the chooser of values, which starts from the published records and reads waiting changes before them. */
  #recordsOf(replica: Replica): OwnRecords {
    const { limits, self } = this.#options
    return new OwnRecords({
      limits,
      refusalOf: (value) => this.#tunnelKeys.refusalOf(self, value),
      read: (key) => (this.#unwritten.get(key) ?? replica.records.get(key))?.value,
      published: replica.records.values()
    })
  }
}
