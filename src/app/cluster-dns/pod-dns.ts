// How the pods of a Kubernetes cluster come to ask us: zones in the cluster's own DNS (the speaker's task), and the admission webhook.
// Both name the Service `rhizome-dns`, whose address is asked for until it is there. What fails is a fault, shown and tried again.
import type { DnsInjection } from '../../core/kube/dns-injection.ts'
import { isFields } from '../../core/model/field-check.ts'
import type { KubeApi } from '../../core/kube/kube-api.ts'
import { createClusterDns, type ClusterDns } from '../../io/cluster-dns/wiring.ts'
import { startWebhook, type Webhook } from '../../io/webhook/webhook.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { Loop } from '../observe/loop.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import type { Settings } from '../settings/settings.ts'

// A new cluster has its zone soon; installers that rewrite the cluster's DNS are followed as soon.
const LOOK_MS = 5000
// Unchanged wishes are applied again this often, since installers rewrite what is theirs.
const APPLY_MS = 60_000
const DNS_SERVICE = 'rhizome-dns'

export interface PodDnsOptions {
  readonly settings: Settings
  readonly api: KubeApi
  readonly namespace: string
  /** Zones of the other clusters and `cluster.all`; empty: none yet. */
  readonly zones: () => readonly string[]
  readonly isSpeaker: () => boolean
  readonly log: Log
}

export class PodDns {
  readonly #options: PodDnsOptions
  readonly #clusterDns: ClusterDns | undefined
  readonly #faults = new Map<string, PartFault>()
  #servers: readonly string[] = []
  #webhook: Webhook | undefined
  #applied = { zones: '', atMs: -Infinity }
  readonly #loop: Loop

  constructor(options: PodDnsOptions) {
    this.#options = options
    this.#loop = new Loop({
      act: () => this.#look(),
      intervalMs: LOOK_MS,
      onError: (error) => options.log.error({ err: error }, 'a pass over the DNS of the pods failed')
    })
    const target = options.settings['cluster-dns']
    this.#clusterDns =
      target === 'off'
        ? undefined
        : createClusterDns({
            api: options.api,
            target,
            namespace: options.settings['cluster-dns-namespace']
          })
  }

  get faults(): readonly PartFault[] {
    return [...this.#faults.values()]
  }

  start(): void {
    if (this.#clusterDns === undefined && this.#options.settings['webhook-listen'] === 'off') return
    this.#loop.start()
  }

  async stop(): Promise<void> {
    await this.#loop.stop()
    await this.#webhook?.stop()
  }

  /** On leaving the mesh. */
  async undo(): Promise<void> {
    await this.#clusterDns?.undo()
    this.#applied = { zones: '', atMs: -Infinity }
  }

  async #look(): Promise<void> {
    await this.#attempt('dns service', async () => {
      this.#servers = await serviceAddresses(this.#options)
    })
    if (this.#webhook === undefined && this.#options.settings['webhook-listen'] !== 'off') {
      await this.#attempt('webhook', async () => {
        this.#webhook = await this.#startWebhook()
      })
    }
    await this.#attempt('cluster dns', () => this.#apply())
  }

  async #apply(): Promise<void> {
    const { zones, isSpeaker, log } = this.#options
    const wanted = zones()
    if (this.#clusterDns === undefined || !isSpeaker() || wanted.length === 0 || this.#servers.length === 0)
      return
    const text = [...wanted, ...this.#servers].join(' ')
    const nowMs = performance.now()
    if (text === this.#applied.zones && nowMs - this.#applied.atMs < APPLY_MS) return
    const changed = await this.#clusterDns.apply({ zones: wanted, servers: this.#servers })
    this.#applied = { zones: text, atMs: nowMs }
    if (changed > 0) log.info({ zones: wanted, objects: changed }, 'the cluster’s own DNS forwards our zones')
  }

  async #startWebhook(): Promise<Webhook> {
    const { settings, api, namespace, log } = this.#options
    const listen = settings['webhook-listen']
    if (listen === 'off') throw new Error('the webhook is switched off')
    const webhook = await startWebhook({
      api,
      ...listen,
      namespace,
      settings: (): DnsInjection => ({
        nameservers: this.#servers,
        clusterDomain: settings['cluster-domain'],
        searches: [],
        ndots: 5
      }),
      onFault: (error) => {
        if (error === undefined) this.#faults.delete('webhook')
        else this.#faults.set('webhook', partFault('webhook', error))
      }
    })
    log.info({ port: webhook.port }, 'admission webhook answers')
    return webhook
  }

  async #attempt(part: string, act: () => Promise<void>): Promise<void> {
    try {
      await act()
      this.#faults.delete(part)
    } catch (error) {
      const fault = partFault(part, error)
      if (!samePartFault(this.#faults.get(part), fault))
        this.#options.log.warn({ err: error }, `${part} does not work`)
      this.#faults.set(part, fault)
    }
  }
}

/** Errors: of the API; AppError when the Service has no address. */
async function serviceAddresses({ api, namespace }: PodDnsOptions): Promise<readonly string[]> {
  const service = await api.request({ path: `/api/v1/namespaces/${namespace}/services/${DNS_SERVICE}` })
  const spec = isFields(service) ? service['spec'] : undefined
  const addresses = isFields(spec) ? spec['clusterIPs'] : undefined
  const usable = Array.isArray(addresses)
    ? addresses.filter((address): address is string => typeof address === 'string' && address !== 'None')
    : []
  if (usable.length === 0) {
    throw new AppError(
      'NO_DNS_SERVICE',
      `Service ${namespace}/${DNS_SERVICE} has no address`,
      'install it with the chart or `meshctl install`'
    )
  }
  return usable
}
