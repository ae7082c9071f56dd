/** So many at once, then so many a second; what is not used is saved up to the burst. */
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

  /** `nowMs` never goes back. */
  take(nowMs: number): boolean {
    const earned = ((nowMs - (this.#atMs ?? nowMs)) / 1000) * this.#perSecond
    this.#tokens = Math.min(this.#burst, this.#tokens + earned)
    this.#atMs = nowMs
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
