// The states that this agent holds: one replica for each origin, its own included.
import type { Crypto } from '../model/crypto.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { NOWHERE, type Head, type Position } from './head.ts'
import type { ProtocolLimits } from './limits.ts'
import { StagingBudget, type StagingStep } from './partial-state.ts'
import { Replica } from './replica.ts'

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
}

/** All replicas by origin; at most `originsMax`. A replica is never removed. */
export class Replicas {
  readonly own: Replica
  readonly #options: ReplicasOptions
  readonly #byOrigin = new Map<Origin, Replica>()
  readonly #unfinished: StagingBudget

  constructor(options: ReplicasOptions) {
    this.#options = options
    this.#unfinished = new StagingBudget(options.limits)
    this.own = this.#add(options.self, options.publicKey)
  }

  get size(): number {
    return this.#byOrigin.size
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
    return this.#add(origin, publicKey)
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
      keep: (step) => keep(origin, step)
    })
    this.#byOrigin.set(origin, replica)
    return replica
  }
}
