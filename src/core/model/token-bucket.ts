// A token bucket, which limits how often something may happen. replication/own-origin.ts paces the agent's own batches
// with it, trust/exchange the items of a neighbour, app/paths the bytes that are carried for a member.

/**
 * Allows `burst` events at once and `perSecond` events per second after that. Unused tokens are saved, up to `burst`.
 */
export class TokenBucket {
  readonly #burst: number
  readonly #perSecond: number
  #tokens: number
  #atMs: number | undefined

  constructor({ burst, perSecond }: { readonly burst: number; readonly perSecond: number }) {
    this.#burst = burst
    this.#perSecond = perSecond
    this.#tokens = burst
  }

  /** Takes this many tokens if there are as many; false otherwise. `nowMs` must never decrease from call to call. */
  take(nowMs: number, tokens = 1): boolean {
    const earned = ((nowMs - (this.#atMs ?? nowMs)) / 1000) * this.#perSecond
    this.#tokens = Math.min(this.#burst, this.#tokens + earned)
    this.#atMs = nowMs
    if (this.#tokens < tokens) return false
    this.#tokens -= tokens
    return true
  }
}
