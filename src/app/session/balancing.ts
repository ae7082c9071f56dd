// The services that a policy balances over clusters, as this agent sees them now: the list of the view, the addresses
// for the names, and the facts on which the choice of clusters depends. Load balancer, names and admin API share it.
import { gatewaysOf } from '../../core/host/nodes.ts'
import { steadyRtts, type SteadyRtts } from '../../core/host/steady-rtts.ts'
import type { ChoiceFacts } from '../../core/host/merged-services.ts'
import type { Place } from '../../core/model/topology.ts'
import type { Cidr, ClusterName, Ip } from '../../core/model/values.ts'
import { compareClusters, type Settlement } from '../../core/trust/members/settlement.ts'
import { balancedServices, type BalancedServices } from '../../core/view/balanced.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { Control } from '../control/control.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Settings } from '../settings/settings.ts'
import type { PathWatch } from './path-watch.ts'
import type { Served } from './services.ts'

interface BalancingOptions {
  readonly control: Pick<Control, 'view' | 'members'>
  readonly settings: Settings
  readonly paths: () => Pick<PathWatch, 'withdrawn' | 'tunnels'>
}

/** Made once for each session. It remembers the list of the last view, and steady round trips. */
export class Balancing {
  /** Addresses of balanced services belong to it. */
  readonly prefix: Cidr
  readonly #options: BalancingOptions
  #made:
    | { readonly view: MeshView; readonly settlement: Settlement; readonly services: BalancedServices }
    | undefined
  #addresses: ReadonlyMap<string, Ip> = new Map()
  #rtts: SteadyRtts = new Map()
  /** The zone of this host's Node; '' without one. */
  #nodeZone = ''

  constructor(options: BalancingOptions) {
    this.#options = options
    this.prefix = options.settings['balance-cidr']
  }

  /** The balanced services; the same map for the same view. */
  services(): BalancedServices {
    const { control } = this.#options
    const view = control.view()
    const settlement = control.members.settlement()
    if (this.#made?.view === view && this.#made.settlement === settlement) return this.#made.services
    const services = balancedServices(view, {
      prefix: this.prefix,
      order: (left, right) => {
        const [a, b] = [settlement.get(left), settlement.get(right)]
        return a === undefined || b === undefined ? 0 : compareClusters(a, b)
      }
    })
    this.#made = { view, settlement, services }
    return services
  }

  /** The address of each balanced service by its key; the same map while the addresses are the same. */
  addresses(): ReadonlyMap<string, Ip> {
    const services = this.services()
    const isSame =
      services.size === this.#addresses.size &&
      services.values().every(({ key, address }) => this.#addresses.get(key) === address)
    if (!isSame) this.#addresses = new Map([...services.values()].map(({ key, address }) => [key, address]))
    return this.#addresses
  }

  /** What the services on this host make their answers from. `nodeAddress`: of this host, undefined without one. */
  served(nodeAddress: Ip | undefined): Served {
    const { control, paths } = this.#options
    return {
      view: control.view(),
      withdrawn: paths().withdrawn,
      balanced: this.addresses(),
      nodeAddress
    }
  }

  /** Where this host is: the setting zone comes before the label of its Node. */
  place(): Place {
    const { settings } = this.#options
    return { zone: settings.zone === '' ? this.#nodeZone : settings.zone, node: settings['node-name'] }
  }

  /** Takes the zone of this host's Node. Returns whether the place of this host has changed. */
  setNodeZone(zone: string): boolean {
    const before = this.place().zone
    this.#nodeZone = zone
    return this.place().zone !== before
  }

  /** What the choice of clusters depends on. Each call counts as one measurement of the round trips. */
  facts(): ChoiceFacts {
    const { control, paths } = this.#options
    const { tunnels, withdrawn } = paths()
    const view = control.view()
    const measured = new Map<ClusterName, number | undefined>()
    for (const cluster of view.clusters.values()) {
      if (cluster.name === view.self) continue
      // The least of the last 15 s would show a fast moment for 15 s, which is longer than a change has to last.
      const rtts = gatewaysOf(cluster).flatMap(({ origin }) => tunnels.of(origin)?.medianRttMs ?? [])
      measured.set(cluster.name, rtts.length === 0 ? undefined : Math.min(...rtts))
    }
    this.#rtts = steadyRtts(this.#rtts, measured, monotonicMs())
    return {
      self: view.self,
      isWithdrawn: (cluster) => withdrawn.has(cluster),
      rttMs: (cluster) => this.#rtts.get(cluster)?.rttMs,
      place: this.place()
    }
  }
}
