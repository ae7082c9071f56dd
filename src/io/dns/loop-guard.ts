// Finds upstreams that forward our questions back to us, over any number of hops. A question that comes in while the same question is under
// way may be our own. Then a name that nobody else can know is asked of the upstream: if this process is asked for it, the upstream leads
// back here. Normal questions carry no mark, and an upstream that is no loop gets one more question every PROBE_INTERVAL_MS at most.
import { randomBytes } from 'node:crypto'

interface LoopGuardOptions<U> {
  /** Sends the question for this name to the upstream; the reply does not matter. */
  readonly probe: (upstream: U, name: string) => void
  readonly onLoop: (upstream: U) => void
  readonly nowMs: () => number
}

// An upstream that was none may become a loop, but a popular name is asked by many at once: one question in ten seconds is no burden.
const PROBE_INTERVAL_MS = 10_000
// As long as an upstream may take to hand the question round, with retries.
const PROBE_LIFE_MS = 10_000
const NONCE_BYTES = 16
/** RFC 6761, 6.4: resolvers answer names below `invalid` themselves, so the probe does not reach the root servers. */
const SUFFIX = '.loop-probe.rhizome.invalid'

export class LoopGuard<U> {
  readonly #options: LoopGuardOptions<U>
  readonly #probedMs = new Map<U, number>()
  /** Names under way; at most one per upstream in PROBE_INTERVAL_MS. */
  readonly #names = new Map<string, { readonly upstream: U; readonly untilMs: number }>()

  constructor(options: LoopGuardOptions<U>) {
    this.#options = options
  }

  /** A question that is under way at `upstream` was asked again. */
  suspect(upstream: U): void {
    const nowMs = this.#options.nowMs()
    if (nowMs - (this.#probedMs.get(upstream) ?? -Infinity) < PROBE_INTERVAL_MS) return
    this.#probedMs.set(upstream, nowMs)
    for (const [name, { untilMs }] of this.#names) if (untilMs < nowMs) this.#names.delete(name)
    const name = randomBytes(NONCE_BYTES).toString('hex') + SUFFIX
    this.#names.set(name, { upstream, untilMs: nowMs + PROBE_LIFE_MS })
    this.#options.probe(upstream, name)
  }

  /** True: the name (in lower case) is a probe of ours that has come back. */
  isProbe(name: string): boolean {
    if (!name.endsWith(SUFFIX)) return false
    const found = this.#names.get(name)
    if (found === undefined) return false
    this.#names.delete(name)
    // It may be suspected again as soon as it is used again.
    this.#probedMs.delete(found.upstream)
    this.#options.onLoop(found.upstream)
    return true
  }

  forget(upstream: U): void {
    this.#probedMs.delete(upstream)
  }
}
