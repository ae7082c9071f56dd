// The states that this agent holds: one replica for each origin, its own included.
import type { Crypto } from '../model/crypto.ts'
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { NOWHERE, type Head, type Position } from './head.ts'
import type { ProtocolLimits } from './limits.ts'
import { StagingBudget, type StagingStep } from './partial-state.ts'
import { Replica } from './replica.ts'

interface ReplicasOptions {
  readonly self: Origin
  readonly publicKey: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly admission: Admission
  readonly limits: ProtocolLimits
  /** Called with each step of an unfinished state that should survive a restart. */
  readonly keep: (origin: Origin, step: StagingStep) => void
}

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

  all(): Iterable<Replica> {
    return this.#byOrigin.values()
  }

  heads(): readonly Head[] {
    return [...this.all()].flatMap(({ head }) => (head ? [head] : []))
  }

  get(origin: Origin): Replica | undefined {
    return this.#byOrigin.get(origin)
  }

  /** The replica of an origin, made where there is none. Undefined when its key is not known or the mesh is full. */
  obtain(origin: Origin): Replica | undefined {
    const known = this.#byOrigin.get(origin)
    if (known) return known
    const { admission, limits } = this.#options
    const publicKey = admission.publicKeyOf(origin)
    if (!publicKey || this.size >= limits.originsMax) return undefined
    return this.#add(origin, publicKey)
  }

  /** The origin of this name when it is held: finding a name costs less than parsing it. */
  originOf(name: string): Origin | undefined {
    return this.#byOrigin.get(name as Origin)?.origin
  }

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
