// What this host says of itself, kept as the kernel and DNS have it: addresses that come, go or change are told at once.
import type { Ip, Origin } from '../../core/model/values.ts'
import type { OwnNetwork } from '../../core/host/own-addresses.ts'
import { readOwnNetwork, watchOwnNetwork, type OwnNetworkWatch } from '../../io/network/own-network.ts'
import { FollowedNames, type Lookup } from './followed-names.ts'
import type { Health } from '../observe/health.ts'
import { localFacts, type LocalFacts, type MeshPrefixes } from './local-facts.ts'
import type { Settings } from '../settings/settings.ts'

// A DHCP client takes seconds anyway; a look costs 0.1 ms.
const LOOK_MS = 1000
const FAULT = 'NO_ADDRESS'

export interface FactsChange {
  readonly facts: LocalFacts
  readonly before: LocalFacts
  /** Addresses that this host had and has no more: connections from them are dead. */
  readonly gone: readonly Ip[]
  /** An address of this host came or went. */
  readonly moved: boolean
}

export interface OwnFactsOptions {
  readonly settings: Settings
  readonly prefixes: () => MeshPrefixes
  readonly origin: Origin
  readonly listening: () => readonly string[]
  readonly health: Health
  readonly onChange: (change: FactsChange) => void
  readonly lookup?: Lookup
}

export class OwnFacts {
  readonly #options: OwnFactsOptions
  readonly #names: FollowedNames
  #network: OwnNetwork = { addresses: [], defaultSources: [], innerBridges: new Set() }
  #facts: LocalFacts = { nodeAddress: undefined, wireguardAddresses: [], multiaddrs: [] }
  #watch: OwnNetworkWatch | undefined

  constructor(options: OwnFactsOptions) {
    const { settings, health, lookup } = options
    this.#options = options
    const names = [...settings['wireguard-address'], ...settings.announce].flatMap((address) =>
      address.kind === 'name' ? [address.name] : []
    )
    this.#names = new FollowedNames([...new Set(names)], {
      health,
      onChange: () => this.#settle(this.#network),
      ...(lookup === undefined ? {} : { lookup })
    })
  }

  get current(): LocalFacts {
    return this.#facts
  }

  /** Knows the facts when it resolves, and follows them from then on. */
  async start(): Promise<void> {
    await this.#names.start()
    this.#network = await readOwnNetwork()
    this.#facts = this.#made()
    this.#judge()
    this.#watch = watchOwnNetwork({
      intervalMs: LOOK_MS,
      known: this.#network,
      onChange: (network) => {
        this.#names.refresh()
        this.#settle(network)
      }
    })
  }

  /** A hint that the kernel changed something. */
  look(): void {
    this.#watch?.look()
  }

  /** Another own prefix, or another port that is listened on. */
  refresh(): void {
    if (this.#watch !== undefined) this.#settle(this.#network)
  }

  stop(): void {
    this.#watch?.stop()
    this.#names.stop()
    this.#options.health.clear(FAULT)
  }

  #settle(network: OwnNetwork): void {
    const [had, has] = [this.#network, network].map(({ addresses }) => new Set(addresses.map(({ ip }) => ip)))
    const before = this.#facts
    this.#network = network
    this.#facts = this.#made()
    this.#judge()
    const gone = [...(had ?? [])].filter((ip) => has?.has(ip) !== true)
    const moved = gone.length > 0 || [...(has ?? [])].some((ip) => had?.has(ip) !== true)
    if (!moved && JSON.stringify(before) === JSON.stringify(this.#facts)) return
    this.#options.onChange({ facts: this.#facts, before, gone, moved })
  }

  #made(): LocalFacts {
    const { settings, prefixes, origin, listening } = this.#options
    return localFacts(settings, prefixes(), {
      network: this.#network,
      listening: listening(),
      origin,
      resolved: this.#names.resolved
    })
  }

  #judge(): void {
    const { health, settings } = this.#options
    if (this.#facts.multiaddrs.length > 0 || settings.listen.length === 0) return health.clear(FAULT)
    health.set(FAULT, {
      severity: 'warning',
      message: 'this host has no address that other members could dial',
      fix: 'give the host an address, or set `announce` and `wireguard-address` to those that reach it from outside'
    })
  }
}
