// Counts signature checks, so that the control plane knows how many a frame has caused (core/replication/check-budget.ts).
import type { Crypto } from '../../core/model/crypto.ts'

/** A crypto that counts its checks. */
export class CheckCounter {
  readonly crypto: Crypto
  #checks = 0

  constructor(crypto: Crypto) {
    this.crypto = {
      ...crypto,
      verify: (...parts) => {
        this.#checks++
        return crypto.verify(...parts)
      }
    }
  }

  /** The number of checks since the start. */
  get checks(): number {
    return this.#checks
  }
}
