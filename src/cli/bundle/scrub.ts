// Removes secrets from the texts of a bundle. A key is random, so it is recognised by its shape and not by the name of its
// field: each run of letters and digits that is long and mixed enough to be a key is replaced by `[removed]`, unless it is
// on the list of public values. So a secret that a log line quotes by mistake is removed, too, and a public value that is
// not on the list is lost, which does less harm.
// Invariants
//   1. A text reaches the archive only through `clean` (gather.ts).
//   2. The list of public values has PeerIds, by their shape, and values of the fields that `publicValues` of agent.ts names.

/** What stands in the place of a secret. */
export const REMOVED = '[removed]'

/** A PeerId of an Ed25519 key: public, because it names an agent. */
const PEER_ID = /12D3KooW[1-9A-HJ-NP-Za-km-z]{44}(?![1-9A-HJ-NP-Za-km-z])/
/** A file that begins with such a line has one key after the other. */
const PEM = /-----BEGIN [A-Z ]+-----[^]*?(?:-----END [A-Z ]+-----|$)/g
/** The tokens of `meshctl invite` and `meshctl invite gateway`, however short: core/trust/token-text.ts. */
const TOKEN = /\brz[mg]\d_[\w-]*/g
/** The tokens with which pods show who they are (RFC 7519). */
const JWT = /\beyJ[\w-]+\.[\w.-]*/g
/** A name that says what comes after it, as in "private key: …", "nodeSeed":"…", PrivateKey = …, password=…. */
const NAMED =
  /((?:private[ _-]?key|preshared[ _-]?key|seeds?|passphrase|password|secret)["']?\s*[:=]\s*\[?\s*["']?)([\w+/=-]{8,})/gi
/** Bytes that were written as numbers: a list, or an object such as JSON makes of a Uint8Array. */
const NUMBERS = /(?:(?:"\d+"\s*:\s*)?\b\d{1,3}\s*,\s*){15,}(?:"\d+"\s*:\s*)?\d{1,3}\b/g
/** The letters of hexadecimal, base32, base58, base64 and base64url. */
const RUN = /[A-Za-z0-9+/_-]{32,}={0,2}/g

/** Cleans the texts of one bundle, and counts what it has removed. */
export class Scrubber {
  readonly #public = new Set<string>()
  #removed = 0

  /** The number of values that were removed so far. */
  get removed(): number {
    return this.#removed
  }

  /** Adds public values, which stay in the texts that are cleaned from now on. Short ones need no place in the list. */
  allow(values: readonly string[]): void {
    for (const value of values) if (value.length >= 32) this.#public.add(value)
  }

  /** Returns the text without what has the shape of a secret. */
  clean(text: string): string {
    const removed = (): string => {
      this.#removed++
      return REMOVED
    }
    return text
      .replace(PEM, removed)
      .replace(TOKEN, removed)
      .replace(JWT, removed)
      .replace(NAMED, (all, name: string, value: string) =>
        this.#isPublic(value) || /^(?:undefined|null|true|false|\d+)$/.test(value)
          ? all
          : `${name}${removed()}`
      )
      .replace(NUMBERS, removed)
      .replace(RUN, (run) => this.#cleanRun(run, removed))
  }

  /** A run may be a path or a multiaddr with a public value in it. What is left and right of that is judged by itself. */
  #cleanRun(run: string, removed: () => string): string {
    if (!isKeyLike(run) || this.#isPublic(run)) return run
    const found = PEER_ID.exec(run)?.[0] ?? this.#public.values().find((value) => run.includes(value))
    if (found === undefined) return removed()
    const at = run.indexOf(found)
    const left = run.slice(0, at)
    const right = run.slice(at + found.length)
    return `${this.#cleanRun(left, removed)}${found}${this.#cleanRun(right, removed)}`
  }

  #isPublic(value: string): boolean {
    return this.#public.has(value)
  }
}

/**
 * Whether a run may be a key: 32 random bytes have 64 characters in hexadecimal, 52 in base32, 44 in base58 and 43 in base64.
 * Names of Kubernetes have no capital letters, and a part of one between hyphens is shorter than 40 characters.
 */
function isKeyLike(run: string): boolean {
  return (
    /[0-9a-fA-F]{32,}/.test(run) ||
    (run.length >= 40 && /[a-z]/.test(run) && /[A-Z]/.test(run)) ||
    /[a-z2-7]{40,}|[A-Z2-7]{40,}/.test(run)
  )
}
