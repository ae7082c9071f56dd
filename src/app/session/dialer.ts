// Keeps the control connections: whom this agent dials (dial-targets.ts), and from which of its own addresses it can be dialled.
import type { Ip } from '../../core/model/values.ts'
import { hostOfMultiaddr } from '../../core/host/surroundings.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Control } from '../control/control.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Settings } from '../settings/settings.ts'
import { dialTargets } from './dial-targets.ts'
import { LinkCalls } from './link-calls.ts'
import { otherAgents } from './members.ts'
import { Sightings } from './sightings.ts'

export interface DialerOptions {
  readonly settings: Pick<Settings, 'listen'>
  readonly control: Control
  readonly health: Health
  readonly log: Log
  /** Own multiaddrs, best first. */
  readonly addresses: () => readonly string[]
  readonly bootstrap: () => readonly string[]
  /** A member is dialled somewhere else after the next update. */
  readonly onSighting: () => void
}

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
      others: () => otherAgents(control.view(), control.origin),
      onCall: (origin, address) => {
        if (this.#sightings.called(origin, address)) onSighting()
      },
      log
    })
  }

  /** To be called once the transport listens. */
  start(): void {
    this.#judgeListening()
    this.#calls.start()
  }

  /** Follows the view. */
  update(): void {
    const { control, addresses, bootstrap } = this.#options
    const others = otherAgents(control.view(), control.origin)
    for (const { origin } of others) {
      const neighbour = control.neighbour(origin)
      if (neighbour !== undefined) this.#sightings.connected(neighbour)
    }
    control.transport.setTargets(
      dialTargets({
        self: control.origin,
        isDialable: addresses().length > 0,
        bootstrap: bootstrap(),
        others,
        sighting: (origin) => this.#sightings.of(origin),
        nowMs: monotonicMs()
      })
    )
  }

  /** Own addresses came, or are `gone`: members are reached again from where this host is now. */
  async hostMoved(gone: readonly Ip[]): Promise<void> {
    await this.#options.control.transport.networkChanged(gone)
    this.#judgeListening()
  }

  /** Looks for members that moved with this host. */
  call(): void {
    this.#calls.call()
  }

  /** Multiaddrs of open control connections and of the token's members. Connections through the tunnel itself are left out. */
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

  #judgeListening(): void {
    const { health, control } = this.#options
    health.replace(
      'LISTEN_ADDRESS_MISSING',
      control.transport.missingAddresses().map((address) => ({
        subject: address,
        severity: 'error' as const,
        message: `this host does not have the address of the setting listen = ${address}, so nobody can dial it there`,
        fix: 'it is listened on as soon as the host has it; otherwise set `listen` to /ip4/0.0.0.0/tcp/<port>'
      }))
    )
  }
}
