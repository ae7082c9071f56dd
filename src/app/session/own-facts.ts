// Keeps the facts of this host (local-facts.ts) as the kernel and DNS have them now. It looks at the addresses of the
// host once a second and on hints of the kernel, and reports each change at once, so that peers learn of a new
// address within seconds.
import type { Cidr, ClusterName, Ip, Origin, PeerAddress } from '../../core/model/values.ts'
import { NOTHING_OBSERVED, withTelling } from '../../core/host/observed-addresses.ts'
import type { OwnNetwork } from '../../core/host/own-addresses.ts'
import { readOwnNetwork, watchOwnNetwork, type OwnNetworkWatch } from '../../io/network/own-network.ts'
import { FollowedNames, type Lookup } from './followed-names.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Health } from '../observe/health.ts'
import { localFacts, type LocalFacts, type MeshPrefixes } from './local-facts.ts'
import type { Settings } from '../settings/settings.ts'

// Milliseconds between two readings of the addresses. A reading takes 0.1 ms and needs no tool (io/network). A DHCP
// client takes seconds to change an address, so a shorter interval would gain nothing.
const LOOK_MS = 1000
const FAULT = 'NO_ADDRESS'

/** A change of the facts, or of the addresses of the host. */
export interface FactsChange {
  readonly facts: LocalFacts
  readonly before: LocalFacts
  /** Addresses that this host has lost: connections from them are dead. */
  readonly gone: readonly Ip[]
  /** True when an address of this host came or went. The facts themselves may be the same. */
  readonly moved: boolean
}

/** The sources of the facts, and the callback for changes. */
interface OwnFactsOptions {
  readonly settings: Settings
  /** Returns the prefixes of this cluster. */
  readonly prefixes: () => MeshPrefixes
  /** Returns the pod prefixes of this host alone; undefined: none, or not known. */
  readonly nodePrefixes?: () => readonly Cidr[] | undefined
  readonly origin: Origin
  /** Returns the multiaddrs on which the transport listens. */
  readonly listening: () => readonly string[]
  readonly health: Health
  /** Called after each change. During `start` it is called only when a name in the settings resolves. */
  readonly onChange: (change: FactsChange) => void
  /** Resolves names; tests replace it. */
  readonly lookup?: Lookup
}

/** The facts during one session. */
export class OwnFacts {
  readonly #options: OwnFactsOptions
  readonly #names: FollowedNames
  #network: OwnNetwork = { addresses: [], defaultSources: [], innerBridges: new Set() }
  #facts: LocalFacts = { nodeAddress: undefined, wireguardAddresses: [], multiaddrs: [] }
  #observed = NOTHING_OBSERVED
  /** undefined before `start` has read the addresses. */
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

  /** The present facts; without any address before `start`. */
  get current(): LocalFacts {
    return this.#facts
  }

  /**
   * Reads the facts, and follows them from then on. Must be called after the transport listens. Waits up to 3 s for
   * names in settings. Never rejects.
   */
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

  /** Reads the addresses at once. Called when the kernel has hinted that they may have changed. */
  look(): void {
    this.#watch?.look()
  }

  /** Computes the facts again, because the cluster's prefixes or the transport's listen addresses have changed. */
  refresh(): void {
    if (this.#watch !== undefined) this.#settle(this.#network)
  }

  /** A gateway of another cluster has told at which address it sees the tunnel of this host. */
  told(cluster: ClusterName, address: PeerAddress): void {
    const before = this.#observed.addresses
    const { podPrefixes, servicePrefixes } = this.#options.prefixes()
    this.#observed = withTelling(
      this.#observed,
      { cluster, address, nowMs: monotonicMs() },
      { own: this.#network.addresses.map(({ ip }) => ip), prefixes: [...podPrefixes, ...servicePrefixes] }
    )
    if (this.#observed.addresses !== before) this.refresh()
  }

  stop(): void {
    this.#watch?.stop()
    this.#names.stop()
    this.#options.health.clear(FAULT)
  }

  /** Computes the facts for these addresses of the host and reports what has changed. */
  #settle(network: OwnNetwork): void {
    const [had, has] = [this.#network, network].map(({ addresses }) => new Set(addresses.map(({ ip }) => ip)))
    const before = this.#facts
    const gone = [...(had ?? [])].filter((ip) => has?.has(ip) !== true)
    const moved = gone.length > 0 || [...(has ?? [])].some((ip) => had?.has(ip) !== true)
    if (gone.length > 0) this.#observed = NOTHING_OBSERVED // this host may be behind another NAT now
    this.#network = network
    this.#facts = this.#made()
    this.#judge()
    if (!moved && JSON.stringify(before) === JSON.stringify(this.#facts)) return
    this.#options.onChange({ facts: this.#facts, before, gone, moved })
  }

  #made(): LocalFacts {
    const { settings, prefixes, origin, listening, nodePrefixes } = this.#options
    return localFacts(settings, prefixes(), {
      network: this.#network,
      listening: listening(),
      origin,
      resolved: this.#names.resolved,
      nodePrefixes: nodePrefixes?.(),
      observed: this.#observed.addresses
    })
  }

  /** Sets the fault NO_ADDRESS when this agent listens and has no address that other members could dial. */
  #judge(): void {
    const { health, settings } = this.#options
    if (this.#facts.multiaddrs.length > 0 || settings.listen.length === 0) return health.clear(FAULT)
    health.set(FAULT, {
      severity: 'warning',
      message: 'this host has no address that other members could dial',
      fix: 'give the host an address, or set `announce` and `wireguard-address` to addresses at which other members reach it'
    })
  }
}
