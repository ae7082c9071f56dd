// Finds upstreams that forward our questions back to us, over any number of hops. When a question arrives while the
// same question is already waiting at an upstream, it may be our own. The guard then asks that upstream for a random
// name that only this process knows. If this process receives a question for that name, the upstream leads back here.
// Normal questions carry no mark, and each upstream gets at most one probe every PROBE_INTERVAL_MS.
import { randomBytes } from 'node:crypto'

/** `U` identifies an upstream; the guard compares it by identity only. */
interface LoopGuardOptions<U> {
  /** Sends the question for this name to the upstream; the reply does not matter. */
  readonly probe: (upstream: U, name: string) => void
  /** Called when a probe of this upstream has come back. */
  readonly onLoop: (upstream: U) => void
  /** A monotonic clock in milliseconds. */
  readonly nowMs: () => number
}

// A healthy upstream may become part of a loop, and many clients may ask a popular name at once. One probe in ten
// seconds is a small load.
const PROBE_INTERVAL_MS = 10_000
// A probe is recognised for as long as an upstream may need to pass the question around, with retries.
const PROBE_LIFE_MS = 10_000
// 128 random bits: no client can guess the name and so accuse a healthy upstream.
const NONCE_BYTES = 16
/** Resolvers answer names below `invalid` themselves (RFC 6761, 6.4), so the probe does not reach the root servers. */
const SUFFIX = '.loop-probe.rhizome.invalid'

/** The loop guard of one forwarder, which calls `suspect` and stops asking the upstreams that `onLoop` names. */
export class LoopGuard<U> {
  readonly #options: LoopGuardOptions<U>
  /** The time of the last probe of each upstream. */
  readonly #probedMs = new Map<U, number>()
  /** The probe names that are waiting; at most one per upstream in PROBE_INTERVAL_MS. */
  readonly #names = new Map<string, { readonly upstream: U; readonly untilMs: number }>()

  constructor(options: LoopGuardOptions<U>) {
    this.#options = options
  }

  /** Call when a question arrives that is already waiting at `upstream`. Sends a probe if one is due. */
  suspect(upstream: U): void {
    const nowMs = this.#options.nowMs()
    if (nowMs - (this.#probedMs.get(upstream) ?? -Infinity) < PROBE_INTERVAL_MS) return
    this.#probedMs.set(upstream, nowMs)
    for (const [name, { untilMs }] of this.#names) if (untilMs < nowMs) this.#names.delete(name)
    const name = randomBytes(NONCE_BYTES).toString('hex') + SUFFIX
    this.#names.set(name, { upstream, untilMs: nowMs + PROBE_LIFE_MS })
    this.#options.probe(upstream, name)
  }

  /** Returns true if the name (in lower case) is a probe that has come back, and then calls `onLoop`. */
  isProbe(name: string): boolean {
    if (!name.endsWith(SUFFIX)) return false
    const found = this.#names.get(name)
    if (found === undefined) return false
    this.#names.delete(name)
    // The upstream may be probed again as soon as it is used again.
    this.#probedMs.delete(found.upstream)
    this.#options.onLoop(found.upstream)
    return true
  }

  /** Call when the upstream is no longer used: the time of its last probe is dropped. */
  forget(upstream: U): void {
    this.#probedMs.delete(upstream)
  }
}
