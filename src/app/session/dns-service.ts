// The DNS responder of this agent. It is a process of its own (io/dns/process, docs/decisions/0044) that continues to
// answer while the agent restarts. This file starts it, gives it settings and names, and receives its counts and
// problems.
import type { Cidr, Ip } from '../../core/model/values.ts'
import { lookup, type LookupAnswer } from '../../io/dns/lookup.ts'
import { createDnsProcess, endDnsProcess, type DnsProcess } from '../../io/dns/process/client.ts'
import type { ServerSettings } from '../../io/dns/process/protocol.ts'
import type { AgentView } from '../../core/view/view.ts'
import { countDnsQueries, dnsClients, dnsControlPath, replaceDnsProblems } from './dns-clients.ts'
import type { Health } from '../observe/health.ts'
import { dnsAddresses, dnsUpstreams } from './local-facts.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Settings } from '../settings/settings.ts'
import type { Served, Service } from './services.ts'

/** The sources of the responder's settings and names, and the receivers of its counts and problems. */
interface DnsServiceOptions {
  readonly settings: Settings
  /** Version of the agent. A responder of another version is replaced. */
  readonly software: string
  readonly log: Log
  readonly metrics: Metrics
  readonly health: Health
  /** Returns the present view and what belongs to it. */
  readonly served: () => Served
  /**
   * Returns false while records may be missing because of a damaged disk: then names that the responder has are not
   * removed.
   */
  readonly isWhole: () => boolean
  /** Returns the pod prefixes of this cluster, whose pods may ask. */
  readonly podPrefixes: () => readonly Cidr[]
  /** Returns the agents of this cluster, whose hosts may ask. */
  readonly ownAgents: () => readonly AgentView[]
  /** Called when the process has ended without an order to do so. The caller starts the service again. */
  readonly onGone: () => void
}

/** The service `dns`: the agent's side of the DNS responder. */
export class DnsService implements Service {
  readonly name = 'dns'
  readonly isOnNodeAddress = true
  readonly #options: DnsServiceOptions
  /** undefined: the responder is switched off, or not started. */
  #process: DnsProcess | undefined
  #nodeAddresses: readonly Ip[] = []

  constructor(options: DnsServiceOptions) {
    this.#options = options
  }

  /**
   * The first of the addresses on which the responder listens: "10.1.0.1:53", "[2001:db8::1]:53". undefined: it does
   * not listen.
   */
  get address(): string | undefined {
    const [first] = this.#process?.listening ?? []
    return first && hostPort(first)
  }

  /**
   * Finds the running process or starts one. With `dns-listen: off` it ends a process that an earlier run has left.
   * Errors: DnsError, for example when the port is taken.
   */
  async start(): Promise<void> {
    const { settings, log } = this.#options
    const listen = dnsAddresses(settings, this.#options.served().nodeAddress)
    const control = dnsControlPath(settings)
    if (listen.length === 0) {
      await endDnsProcess(control)
      return
    }
    const process = (this.#process ??= this.#create(control, listen))
    await process.start()
    log.info({ addresses: process.listening, pid: process.pid }, 'DNS listening')
  }

  /** Sends changed settings and names to the process. */
  update(): void {
    this.#process?.set(this.#serverSettings())
    this.#process?.update()
  }

  /**
   * Disconnects from the process, which then answers for the time of the setting dns-outlive-seconds with the names
   * that it has. When the agent leaves the mesh, the process is ended.
   */
  async stop({ leaves }: { readonly leaves: boolean }): Promise<void> {
    const process = this.#process
    // `#process` is cleared only when the process has ended: after a failure the next leave ends the process.
    if (leaves) await process?.end()
    else process?.detach()
    this.#process = undefined
  }

  /** `addresses`: InternalIP addresses of the Nodes of this cluster. They may ask the responder. */
  setNodeAddresses(addresses: readonly Ip[]): void {
    this.#nodeAddresses = addresses
    this.#process?.set(this.#serverSettings())
  }

  /**
   * Asks the responder's upstreams for a name that is not of the mesh, for `meshctl dns`. This process asks, not the
   * responder.
   */
  lookup(question: { readonly name: string; readonly type: string }): Promise<LookupAnswer> {
    return lookup({
      ...question,
      upstreams: dnsUpstreams(this.#options.settings),
      listening: this.#process?.listening ?? []
    })
  }

  /** Creates the client of the process. The process is started by its `start`. */
  #create(control: string, listen: readonly { address: string; port: number }[]): DnsProcess {
    const { software, served, isWhole, metrics, health, log, onGone } = this.#options
    return createDnsProcess({
      control,
      version: software,
      listen,
      settings: this.#serverSettings(),
      state: () => {
        const { view, withdrawn, balanced, nodeAddress } = served()
        const serverAddresses = nodeAddress === undefined ? [] : [nodeAddress]
        return { view, withdrawn, balanced, serverAddresses, isWhole: isWhole() }
      },
      onCounts: (counts) => countDnsQueries(metrics, counts),
      onWarning: (message) => log.warn(message),
      onProblems: (problems) => replaceDnsProblems(health, problems),
      onGone: () => {
        log.error('the DNS responder ended unexpectedly; the agent starts another one')
        onGone()
      }
    })
  }

  #serverSettings(): ServerSettings {
    const { settings, podPrefixes, ownAgents } = this.#options
    return {
      upstreams: dnsUpstreams(settings),
      allow: dnsClients({
        settings,
        podPrefixes: podPrefixes(),
        agents: ownAgents(),
        nodeAddresses: this.#nodeAddresses
      }),
      outliveSeconds: settings['dns-outlive-seconds']
    }
  }
}

/** "10.1.0.1:53", with an IPv6 address in brackets. */
function hostPort({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
