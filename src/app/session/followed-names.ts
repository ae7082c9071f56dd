// Resolves the host names in the settings announce and wireguard-address: at the start, and again and again, since a
// name may get another address (dynamic DNS). While a name does not resolve, its last known addresses stay in use,
// and the fault NAME_UNRESOLVED is set.
import { lookup as systemLookup } from 'node:dns/promises'
import { parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import { explain } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'

// The TTL of a dynamic name is about a minute. getaddrinfo(3) does not tell the TTL, so the interval is fixed.
const FOLLOW_MS = 30_000
// After a failure: doubled with each further failure, up to RETRY_MAX_MS.
const RETRY_MIN_MS = 1000
const RETRY_MAX_MS = 30_000
// The start of a session waits this long for the first answers, then goes on without them.
const FIRST_ANSWER_MS = 3000
const FAULT = 'NAME_UNRESOLVED'

/** Resolves a name to its addresses. Rejects, or resolves to an empty list, when there are none. */
export type Lookup = (name: string) => Promise<readonly Ip[]>

/** One name and its state. */
interface Followed {
  addresses: readonly Ip[]
  /** Failures in a row. */
  failures: number
  /** undefined while a lookup is under way. */
  timer: NodeJS.Timeout | undefined
}

/** The names of one session. Each has its own interval and its own retries. */
export class FollowedNames {
  readonly #names = new Map<string, Followed>()
  readonly #options: {
    readonly health: Health
    readonly onChange: () => void
    readonly lookup: Lookup
  }
  #stopped = false

  /** `onChange` is called when the set of addresses of a name has changed. `lookup` is replaced in tests. */
  constructor(
    names: readonly string[],
    options: { readonly health: Health; readonly onChange: () => void; readonly lookup?: Lookup }
  ) {
    this.#options = { lookup: lookupAll, ...options }
    for (const name of names) this.#names.set(name, { addresses: [], failures: 0, timer: undefined })
  }

  /** The last known addresses of each name; an empty list: the name has not been resolved yet. */
  get resolved(): ReadonlyMap<string, readonly Ip[]> {
    return new Map([...this.#names].map(([name, { addresses }]) => [name, addresses]))
  }

  /** Looks all names up. Resolves with the first answers, or without them after FIRST_ANSWER_MS. Never rejects. */
  async start(): Promise<void> {
    if (this.#names.size === 0) return
    const first = Promise.all([...this.#names.keys()].map((name) => this.#look(name)))
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, FIRST_ANSWER_MS)
    await Promise.race([first, promise])
    clearTimeout(timer)
  }

  /** Looks all names up at once. Called after a change of this host's network. */
  refresh(): void {
    for (const [name, followed] of this.#names) {
      if (followed.timer === undefined) continue // a lookup is under way
      clearTimeout(followed.timer)
      void this.#look(name)
    }
  }

  stop(): void {
    this.#stopped = true
    for (const { timer } of this.#names.values()) clearTimeout(timer)
    for (const name of this.#names.keys()) this.#options.health.clear(FAULT, name)
  }

  /** Looks one name up and plans the next lookup. Never rejects. */
  async #look(name: string): Promise<void> {
    const followed = this.#names.get(name)
    if (followed === undefined || this.#stopped) return
    followed.timer = undefined
    const { health, onChange, lookup } = this.#options
    const before = followed.addresses
    try {
      const found = await lookup(name)
      if (found.length === 0) throw new Error('the name has no address')
      // A DNS server may rotate several addresses of a name, so only another set of addresses is a change.
      if (found.toSorted().join() !== before.toSorted().join()) followed.addresses = found
      followed.failures = 0
      health.clear(FAULT, name)
    } catch (error) {
      followed.failures++
      if (!this.#stopped)
        health.set(FAULT, { ...faultOf(name, before, explain(error).message), subject: name })
    }
    if (this.#stopped) return
    const waitMs =
      followed.failures === 0
        ? FOLLOW_MS
        : Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(followed.failures - 1, 10))
    followed.timer = setTimeout(() => void this.#look(name), waitMs)
    if (followed.addresses !== before) onChange()
  }
}

/**
 * A warning while earlier addresses are in use; an error when there are none, since other members are then not told
 * of the address.
 */
function faultOf(name: string, known: readonly Ip[], reason: string) {
  const rest =
    known.length === 0
      ? 'the agent announces no address for this name'
      : `its last known address ${known[0]} is kept`
  return {
    severity: known.length === 0 ? ('error' as const) : ('warning' as const),
    message: `the name ${name} in wireguard-address or announce does not resolve (${reason}): ${rest}`,
    fix: 'correct the name or the DNS of this host, or set an address instead'
  }
}

/** Asks the resolver of the system, with /etc/hosts. IPv4 addresses come first. */
async function lookupAll(name: string): Promise<readonly Ip[]> {
  const found = await systemLookup(name, { all: true, order: 'ipv4first' })
  return found.map(({ address }) => parseIp(address)).filter((ip) => ip !== undefined)
}
