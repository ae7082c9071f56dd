// What this agent serves to others on the host: DNS, the answers to probes, the feed for CoreDNS. One list, started and stopped as one.
// Invariant: a service that cannot start is a fault of a running agent. The fault is shown, and the start is tried again once a second.
import type { Log } from '../observe/log.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import type { ClusterName, Ip } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'

export type ServiceName = 'dns' | 'probe' | 'feed'

/** What the services tell others. */
export interface Served {
  readonly view: MeshView
  readonly withdrawn: ReadonlySet<ClusterName>
  readonly nodeAddress: Ip | undefined
}

export interface Service {
  readonly name: ServiceName
  /** It listens on the node address, and moves with it. */
  readonly isOnNodeAddress: boolean
  /** Begins to serve, or does nothing where the settings say so. May be called again after it failed or `stop`. */
  start(): Promise<void>
  /** What is served has changed. Without effect while it does not serve. */
  update(served: Served): void
  /** `leaves`: this agent leaves the mesh, so that nothing of it may go on without the agent. */
  stop(options: { readonly leaves: boolean }): Promise<void>
}

export class Services {
  readonly #list: readonly Service[]
  readonly #log: Log
  readonly #faults = new Map<ServiceName, PartFault>()

  constructor(list: readonly Service[], log: Log) {
    this.#list = list
    this.#log = log
  }

  /** What does not work now: for `meshctl status`. */
  get faults(): ReadonlyMap<ServiceName, PartFault> {
    return this.#faults
  }

  async start(): Promise<void> {
    for (const service of this.#list) await this.#start(service)
  }

  /** Starts again what could not start. */
  async retry(): Promise<void> {
    for (const service of this.#list) if (this.#faults.has(service.name)) await this.#start(service)
  }

  /** Starts one again that has ended by itself. */
  async restart(name: ServiceName): Promise<void> {
    for (const service of this.#list) if (service.name === name) await this.#start(service)
  }

  update(served: Served): void {
    for (const service of this.#list) service.update(served)
  }

  /** The node address is another one. */
  async move(signal: AbortSignal): Promise<void> {
    const moved = this.#list.filter(({ isOnNodeAddress }) => isOnNodeAddress)
    await Promise.allSettled(moved.map((service) => service.stop({ leaves: false })))
    if (signal.aborted) return
    for (const service of moved) await this.#start(service)
  }

  async stop(options: { readonly leaves: boolean }): Promise<void> {
    await Promise.all(this.#list.map((service) => service.stop(options)))
  }

  async #start(service: Service): Promise<void> {
    const { name } = service
    try {
      await service.start()
      if (this.#faults.delete(name)) this.#log.info(`${name} runs now`)
    } catch (error) {
      const fault = partFault(name, error)
      if (!samePartFault(this.#faults.get(name), fault))
        this.#log.error({ err: error }, `${name} does not run`)
      this.#faults.set(name, fault)
    }
  }
}
