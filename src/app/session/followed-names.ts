// Host names in settings: resolved at start, again with patience, and the last known addresses are kept while there is no answer.
import { lookup as systemLookup } from 'node:dns/promises'
import { parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import { explain } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'

// A dynamic name has a life of a minute or so; getaddrinfo tells none.
const FOLLOW_MS = 30_000
const RETRY_MIN_MS = 1000
const RETRY_MAX_MS = 30_000
// One start waits this long for its first answers; then it goes on without them.
const FIRST_ANSWER_MS = 3000
const FAULT = 'NAME_UNRESOLVED'

export type Lookup = (name: string) => Promise<readonly Ip[]>

interface Followed {
  addresses: readonly Ip[]
  failures: number
  timer: NodeJS.Timeout | undefined
}

export class FollowedNames {
  readonly #names = new Map<string, Followed>()
  readonly #options: {
    readonly health: Health
    readonly onChange: () => void
    readonly lookup: Lookup
  }
  #stopped = false

  constructor(
    names: readonly string[],
    options: { readonly health: Health; readonly onChange: () => void; readonly lookup?: Lookup }
  ) {
    this.#options = { lookup: lookupAll, ...options }
    for (const name of names) this.#names.set(name, { addresses: [], failures: 0, timer: undefined })
  }

  get resolved(): ReadonlyMap<string, readonly Ip[]> {
    return new Map([...this.#names].map(([name, { addresses }]) => [name, addresses]))
  }

  /** Resolves with the first answers, or without them after FIRST_ANSWER_MS. */
  async start(): Promise<void> {
    if (this.#names.size === 0) return
    const first = Promise.all([...this.#names.keys()].map((name) => this.#look(name)))
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, FIRST_ANSWER_MS)
    await Promise.race([first, promise])
    clearTimeout(timer)
  }

  /** Asks at once, as after a change of this host's network. */
  refresh(): void {
    for (const [name, followed] of this.#names) {
      if (followed.timer === undefined) continue // under way
      clearTimeout(followed.timer)
      void this.#look(name)
    }
  }

  stop(): void {
    this.#stopped = true
    for (const { timer } of this.#names.values()) clearTimeout(timer)
    for (const name of this.#names.keys()) this.#options.health.clear(FAULT, name)
  }

  /** Never rejects. */
  async #look(name: string): Promise<void> {
    const followed = this.#names.get(name)
    if (followed === undefined || this.#stopped) return
    followed.timer = undefined
    const { health, onChange, lookup } = this.#options
    const before = followed.addresses
    try {
      const found = await lookup(name)
      if (found.length === 0) throw new Error('it has no address')
      // A name with several addresses is answered in turns: only another set is a change.
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

function faultOf(name: string, known: readonly Ip[], reason: string) {
  const rest = known.length === 0 ? 'others are not told of it' : `its last known address ${known[0]} is kept`
  return {
    severity: known.length === 0 ? ('error' as const) : ('warning' as const),
    message: `the name ${name} in wireguard-address or announce does not resolve (${reason}): ${rest}`,
    fix: 'mend the name or the DNS of this host, or set an address instead'
  }
}

async function lookupAll(name: string): Promise<readonly Ip[]> {
  const found = await systemLookup(name, { all: true, order: 'ipv4first' })
  return found.map(({ address }) => parseIp(address)).filter((ip) => ip !== undefined)
}
