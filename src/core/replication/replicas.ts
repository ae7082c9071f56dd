// The states that this agent holds: one replica for each origin, its own included.
import type { Crypto } from '../model/crypto.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { NOWHERE, type Head, type Position } from './head.ts'
import type { ProtocolLimits } from './limits.ts'
import { StagingBudget, type StagingStep } from './partial-state.ts'
import { Replica } from './replica.ts'
import { RoomBudget, type RoomRefusal, type Size } from './room-budget.ts'

/** The options that all replicas share. */
interface ReplicasOptions {
  readonly self: Origin
  /** The Ed25519 public key of `self`, 32 bytes. */
  readonly publicKey: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly admission: Admission
  readonly limits: ProtocolLimits
  /** Called with each part of an unfinished snapshot that should survive a restart, and when the parts are given up. */
  readonly keep: (origin: Origin, step: StagingStep) => void
  /** Called with the origin of a replica that was removed to make room. */
  readonly evicted: (origin: Origin) => void
}

/**
 * All replicas by origin; at most `originsMax`. A replica is removed when its cluster takes too much room, or when its
 * origin is no member any more.
 */
export class Replicas {
  readonly own: Replica
  readonly #options: ReplicasOptions
  readonly #byOrigin = new Map<Origin, Replica>()
  readonly #unfinished: StagingBudget
  readonly #room: RoomBudget

  constructor(options: ReplicasOptions) {
    this.#options = options
    this.#unfinished = new StagingBudget(options.limits)
    this.#room = new RoomBudget(options.self, options.limits)
    this.own = this.#add(options.self, options.publicKey)
  }

  get size(): number {
    return this.#byOrigin.size
  }

  /** Bytes in memory of all records. */
  get bytes(): number {
    return this.#room.bytes
  }

  /** Bytes of all unfinished deltas. */
  get unfinishedBytes(): number {
    return this.#unfinished.used
  }

  /** All replicas, also those without a head. */
  all(): Iterable<Replica> {
    return this.#byOrigin.values()
  }

  /** The heads of all origins of which a state is held, in the order in which the origins became known. */
  heads(): readonly Head[] {
    return [...this.all()].flatMap(({ head }) => (head ? [head] : []))
  }

  get(origin: Origin): Replica | undefined {
    return this.#byOrigin.get(origin)
  }

  /**
   * Returns the replica of an origin and makes an empty one if needed; undefined when its key is unknown or the limit
   * is reached.
   */
  obtain(origin: Origin): Replica | undefined {
    const known = this.#byOrigin.get(origin)
    if (known) return known
    const { admission, limits } = this.#options
    const publicKey = admission.publicKeyOf(origin)
    if (!publicKey || this.size >= limits.originsMax) return undefined
    if (this.#room.origins(this.#clusterOf(origin)) >= limits.originsPerClusterMax) return undefined
    return this.#add(origin, publicKey)
  }

  /** Notes the size of a replica after its state has changed. */
  note({ origin, size }: Replica): void {
    this.#room.set(origin, this.#clusterOf(origin), size)
  }

  /** Removes a replica with all its unfinished deltas. False when there is none, or it is the own one. */
  remove(origin: Origin): boolean {
    const replica = this.#byOrigin.get(origin)
    if (replica === undefined || replica === this.own) return false
    this.#byOrigin.delete(origin)
    this.#room.drop(origin)
    replica.dropAllStaged()
    return true
  }

  /**
   * Returns the origin with this PeerId as text, when it is known here. The look-up costs less than parsing the PeerId.
   */
  originOf(name: string): Origin | undefined {
    return this.#byOrigin.get(name as Origin)?.origin
  }

  /** The position that is held of an origin; NOWHERE when none is. */
  positionOf(origin: Origin): Position {
    return this.#byOrigin.get(origin)?.position ?? NOWHERE
  }

  #add(origin: Origin, publicKey: Uint8Array): Replica {
    const { crypto, meshId, limits, keep } = this.#options
    const replica = new Replica({
      origin,
      publicKey,
      meshId,
      crypto,
      limits,
      staging: this.#unfinished,
      room: (size) => this.#makeRoom(origin, size),
      keep: (step) => keep(origin, step)
    })
    this.#byOrigin.set(origin, replica)
    return replica
  }

  /** Removes other replicas until this state has room; the reason when it has none (room-budget.ts). */
  #makeRoom(origin: Origin, size: Size): RoomRefusal | undefined {
    const cluster = this.#clusterOf(origin)
    for (;;) {
      const verdict = this.#room.judge(origin, cluster, size)
      if (verdict.kind === 'fits') return undefined
      if (verdict.kind === 'refused') return verdict.reason
      if (!this.remove(verdict.origin)) return 'no room'
      this.#options.evicted(verdict.origin)
    }
  }

  /** An origin without a cluster counts by itself. */
  #clusterOf(origin: Origin): string {
    return this.#options.admission.clusterOf(origin) ?? origin
  }
}
