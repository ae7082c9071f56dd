// Decides which control connections this agent keeps: it gives the transport the targets (dial-targets.ts), follows
// moves of this host, and reports listen addresses that the host does not have.
import type { Ip, Origin } from '../../core/model/values.ts'
import { hostOfMultiaddr } from '../../core/model/outer-address.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Control } from '../control/control.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import { roleOf } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'
import { dialTargets } from './dial-targets.ts'
import { LinkCalls } from './link-calls.ts'
import { overlayAgents } from './members.ts'
import { Sightings } from './sightings.ts'

/** The control plane, and the addresses at which this agent can be dialled. */
interface DialerOptions {
  readonly settings: Pick<Settings, 'listen' | 'role'>
  readonly control: Control
  readonly health: Health
  readonly log: Log
  /** Returns this agent's multiaddrs, best first; empty: no other member can dial it. */
  readonly addresses: () => readonly string[]
  /** Returns the multiaddrs of the token's members. */
  readonly bootstrap: () => readonly string[]
  /** Whether a member has admitted this agent. */
  readonly isMember: () => boolean
  /** Returns the agents whose tunnels need a control connection now. */
  readonly wanted: () => readonly Origin[]
  /** Called when a member was seen at a new address: the next `update` dials it there. */
  readonly onSighting: () => void
}

/** The dialer of one session. */
export class Dialer {
  readonly #options: DialerOptions
  readonly #sightings = new Sightings()
  readonly #calls: LinkCalls

  constructor(options: DialerOptions) {
    const { settings, control, log, addresses, onSighting } = options
    this.#options = options
    this.#calls = new LinkCalls({
      listen: settings.listen,
      control,
      addresses,
      others: () => overlayAgents(control.view(), control.origin, roleOf(settings)),
      onCall: (origin, address) => {
        if (this.#sightings.called(origin, address)) onSighting()
      },
      log
    })
  }

  /** Reports missing listen addresses and starts the beacons. Must be called after the transport listens. */
  start(): void {
    this.#judgeListening()
    this.#calls.start()
  }

  /** Computes the targets from the present view. Called after each change of the view. */
  update(): void {
    const { control, addresses, bootstrap, isMember, wanted } = this.#options
    const view = control.view()
    const role = roleOf(this.#options.settings)
    const others = overlayAgents(view, control.origin, role)
    const clusters = new Map<string, string>()
    for (const { name, agents } of view.clusters.values())
      for (const { origin } of agents) clusters.set(origin, name)
    for (const { origin } of others) {
      const neighbour = control.neighbour(origin)
      if (neighbour !== undefined) this.#sightings.connected(neighbour)
    }
    control.transport.setTargets(
      dialTargets({
        self: control.origin,
        isDialable: addresses().length > 0 && role === 'gateway',
        isLeaf: role === 'node',
        bootstrap: bootstrap(),
        isMember: isMember(),
        others: others.filter(({ origin }) => !control.isBanned(origin)),
        // One that no member hears is away: its tunnel is silent for all, and its neighbours dial it anyway.
        wanted: new Set(wanted().filter((origin) => control.liveness(origin) !== 'dead')),
        clusterOf: (origin) => clusters.get(origin),
        sighting: (origin) => this.#sightings.of(origin),
        nowMs: monotonicMs()
      })
    )
  }

  /**
   * Tells the transport that addresses of this host came or are `gone`. The transport ends connections from those and
   * dials all targets that are not connected at once.
   */
  async hostMoved(gone: readonly Ip[]): Promise<void> {
    await this.#options.control.transport.networkChanged(gone)
    this.#judgeListening()
  }

  /** Starts a series of beacons, to find members that have moved together with this host. */
  call(): void {
    this.#calls.call()
  }

  /**
   * Yields the multiaddrs of open control connections and of the token's members, which must stay outside the tunnel.
   * Connections that run through the tunnel itself are left out.
   */
  *controlAddresses(): Iterable<string> {
    const { control, bootstrap } = this.#options
    const agents = [...control.view().clusters.values()].flatMap((cluster) => cluster.agents)
    const inside = new Set<string>(agents.flatMap(({ agent }) => agent.tunnelAddress ?? []))
    for (const origin of control.neighbours()) {
      const address = control.neighbour(origin)?.address ?? ''
      if (!inside.has(hostOfMultiaddr(address))) yield address
    }
    yield* bootstrap()
  }

  /**
   * Sets the fault LISTEN_ADDRESS_MISSING for each address of the setting listen that this host does not have now.
   */
  #judgeListening(): void {
    const { health, control } = this.#options
    health.replace(
      'LISTEN_ADDRESS_MISSING',
      control.transport.missingAddresses().map((address) => ({
        subject: address,
        severity: 'error' as const,
        message: `this host does not have the address of the setting listen = ${address}, so other members cannot dial this agent there`,
        fix: 'add the address to this host, and the agent listens on it at once; or set `listen` to /ip4/0.0.0.0/tcp/<port>'
      }))
    )
  }
}
