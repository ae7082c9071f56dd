// The servers of this agent on its host: the DNS responder, the prober, and the feed for CoreDNS. They are started
// and stopped together.
// Invariant: a service that cannot start does not end the agent. The failure is a fault, and the start is tried again
// once a second.
import type { Log } from '../observe/log.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import type { ClusterName, Ip } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'

export type ServiceName = 'dns' | 'probe' | 'feed'

/** The state of the mesh that the services make their answers from. */
export interface Served {
  readonly view: MeshView
  /** Clusters that cannot be reached now: their services are left out of `cluster.all`, and their names stay. */
  readonly withdrawn: ReadonlySet<ClusterName>
  /** The address in a merged zone of each balanced service, by its key; the same map while they are the same. */
  readonly balanced: ReadonlyMap<string, Ip>
  /** undefined: this host has no address inside the pod prefixes. */
  readonly nodeAddress: Ip | undefined
}

/** One server. */
export interface Service {
  readonly name: ServiceName
  /** True when it listens on the node address, so that it has to be started again when that address changes. */
  readonly isOnNodeAddress: boolean
  /**
   * Begins to serve; does nothing when the settings switch it off. May be called again after a failure or after
   * `stop`. Rejects when it cannot serve.
   */
  start(): Promise<void>
  /** Takes a new view, withdrawn clusters or node address. Does nothing while the service does not run. */
  update(served: Served): void
  /** `leaves`: this agent leaves the mesh, so nothing may go on after it. */
  stop(options: { readonly leaves: boolean }): Promise<void>
}

/** The services of one session, with the faults of those that do not run. */
export class Services {
  readonly #list: readonly Service[]
  readonly #log: Log
  readonly #faults = new Map<ServiceName, PartFault>()

  constructor(list: readonly Service[], log: Log) {
    this.#list = list
    this.#log = log
  }

  /** The faults of the services that do not run now, by name; agent/part-watch.ts reports them. */
  get faults(): ReadonlyMap<ServiceName, PartFault> {
    return this.#faults
  }

  /** Starts all services. Never rejects. */
  async start(): Promise<void> {
    for (const service of this.#list) await this.#start(service)
  }

  /** Tries again to start the services that could not start. Called once a second. */
  async retry(): Promise<void> {
    for (const service of this.#list) if (this.#faults.has(service.name)) await this.#start(service)
  }

  /** Starts a service again after its process has ended. */
  async restart(name: ServiceName): Promise<void> {
    for (const service of this.#list) if (service.name === name) await this.#start(service)
  }

  /** Gives all services the present view, withdrawn clusters and node address. Called after each change of the view. */
  update(served: Served): void {
    for (const service of this.#list) service.update(served)
  }

  /**
   * Starts the services on the node address again, because it has changed. All are stopped before the first is
   * started. `signal`: the session stops.
   */
  async move(signal: AbortSignal): Promise<void> {
    const moved = this.#list.filter(({ isOnNodeAddress }) => isOnNodeAddress)
    await Promise.allSettled(moved.map((service) => service.stop({ leaves: false })))
    if (signal.aborted) return
    for (const service of moved) await this.#start(service)
  }

  async stop(options: { readonly leaves: boolean }): Promise<void> {
    await Promise.all(this.#list.map((service) => service.stop(options)))
  }

  /**
   * Starts a service. A failure is logged only when it differs from the one before, since the start is tried each
   * second.
   */
  async #start(service: Service): Promise<void> {
    const { name } = service
    try {
      await service.start()
      if (this.#faults.delete(name)) this.#log.info(`${name} recovered`)
    } catch (error) {
      const fault = partFault(name, error)
      if (!samePartFault(this.#faults.get(name), fault))
        this.#log.error({ err: error }, `${name} failed to start`)
      this.#faults.set(name, fault)
    }
  }
}
