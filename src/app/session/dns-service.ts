// The DNS responder of this agent: a process of its own (io/dns/process) that outlives a restart of the agent.
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

export interface DnsServiceOptions {
  readonly settings: Settings
  readonly software: string
  readonly log: Log
  readonly metrics: Metrics
  readonly health: Health
  readonly served: () => Served
  /** False: what is missing in the view is no reason to take back a name. */
  readonly isWhole: () => boolean
  readonly podPrefixes: () => readonly Cidr[]
  /** The gateways of the own cluster. */
  readonly ownAgents: () => readonly AgentView[]
  /** The process has ended by itself. */
  readonly onGone: () => void
}

export class DnsService implements Service {
  readonly name = 'dns'
  readonly isOnNodeAddress = true
  readonly #options: DnsServiceOptions
  /** undefined: it does not serve. */
  #process: DnsProcess | undefined
  #nodeAddresses: readonly Ip[] = []

  constructor(options: DnsServiceOptions) {
    this.#options = options
  }

  /** "10.1.0.1:53", the first of the addresses that it listens on. */
  get address(): string | undefined {
    const [first] = this.#process?.listening ?? []
    return first && hostPort(first)
  }

  async start(): Promise<void> {
    const { settings, log } = this.#options
    const listen = dnsAddresses(settings, this.#options.served().nodeAddress)
    const control = dnsControlPath(settings)
    if (listen.length === 0) return endDnsProcess(control)
    const process = (this.#process ??= this.#create(control, listen))
    await process.start()
    log.info({ addresses: process.listening, pid: process.pid }, 'DNS answers')
  }

  update(): void {
    this.#process?.set(this.#serverSettings())
    this.#process?.update()
  }

  /** The process goes on for a while with the names that it has; but not where the agent leaves the mesh. */
  async stop({ leaves }: { readonly leaves: boolean }): Promise<void> {
    const process = this.#process
    this.#process = undefined
    if (leaves) await process?.end()
    else process?.detach()
  }

  /** `addresses`: of the Nodes of this cluster, where Kubernetes tells; their questions are answered. */
  setNodeAddresses(addresses: readonly Ip[]): void {
    this.#nodeAddresses = addresses
    this.#process?.set(this.#serverSettings())
  }

  /** What the responder's upstreams say to a name that is not of the mesh. */
  lookup(question: { readonly name: string; readonly type: string }): Promise<LookupAnswer> {
    return lookup({
      ...question,
      upstreams: dnsUpstreams(this.#options.settings),
      listening: this.#process?.listening ?? []
    })
  }

  #create(control: string, listen: readonly { address: string; port: number }[]): DnsProcess {
    const { software, served, isWhole, metrics, health, log, onGone } = this.#options
    return createDnsProcess({
      control,
      version: software,
      listen,
      settings: this.#serverSettings(),
      state: () => {
        const { view, withdrawn, nodeAddress } = served()
        const serverAddresses = nodeAddress === undefined ? [] : [nodeAddress]
        return { view, withdrawn, serverAddresses, isWhole: isWhole() }
      },
      onCounts: (counts) => countDnsQueries(metrics, counts),
      onWarning: (message) => log.warn(message),
      onProblems: (problems) => replaceDnsProblems(health, problems),
      onGone: () => {
        log.error('the DNS responder ended by itself: another one is started')
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

function hostPort({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
