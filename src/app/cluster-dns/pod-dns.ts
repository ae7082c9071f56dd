// Makes the pods of a Kubernetes cluster ask the agents for names of the mesh. There are two ways, each with its
// setting: `cluster-dns` lets the cluster's own DNS forward the zones of the mesh, which only the cluster's speaker
// writes; `webhook-listen` starts an admission webhook that sets dnsConfig of new pods. Both use the address of the
// Service rhizome-dns, which is read from the API. A step that fails is a fault and is tried again at the next check;
// it does not stop the other steps.
import type { DnsInjection } from '../../core/kube/dns-injection.ts'
import { isFields } from '../../core/model/field-check.ts'
import type { KubeApi } from '../../core/kube/kube-api.ts'
import { createClusterDns, type ClusterDns } from '../../io/cluster-dns/wiring.ts'
import { startWebhook, type Webhook } from '../../io/webhook/webhook.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { Loop } from '../../io/timing/loop.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import type { Settings } from '../settings/settings.ts'

// Milliseconds between two checks: the zone of a new cluster is in the cluster's DNS within this time.
const LOOK_MS = 5000
// Milliseconds after which unchanged zones are written again, because installers and operators can overwrite the
// objects of the cluster's DNS.
const APPLY_MS = 60_000
// The chart and `meshctl install` create it in the namespace of the agent.
const DNS_SERVICE = 'rhizome-dns'

/** `namespace` is the namespace of the agents. */
interface PodDnsOptions {
  readonly settings: Settings
  readonly api: KubeApi
  readonly namespace: string
  /**
   * The zones to forward, without a final dot: those of the clusters and `cluster.all`. Empty while the agent is in no
   * mesh.
   */
  readonly zones: () => readonly string[]
  /**
   * Whether this agent speaks for its cluster. Only the speaker writes to the cluster's DNS, so that gateways do not
   * overwrite one another.
   */
  readonly isSpeaker: () => boolean
  readonly log: Log
}

/**
 * Runs both ways: writes the zones to the cluster's DNS, and runs the webhook. One per process, only with a Kubernetes
 * API. PartWatch reads its faults.
 */
export class PodDns {
  readonly #options: PodDnsOptions
  readonly #clusterDns: ClusterDns | undefined
  readonly #faults = new Map<string, PartFault>()
  /** The cluster IPs of rhizome-dns, as last read; empty until then. */
  #servers: readonly string[] = []
  #webhook: Webhook | undefined
  /** The zones and servers that were last written, as one text, and the monotonic time in milliseconds. */
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

  /** At most one fault for each of the steps "dns service", "webhook" and "cluster dns". */
  get faults(): readonly PartFault[] {
    return [...this.#faults.values()]
  }

  /** Starts the checks; does nothing when both settings are off. */
  start(): void {
    if (this.#clusterDns === undefined && this.#options.settings['webhook-listen'] === 'off') return
    this.#loop.start()
  }

  async stop(): Promise<void> {
    await this.#loop.stop()
    await this.#webhook?.stop()
  }

  /**
   * Removes the zones from the cluster's DNS; called when the last gateway of the cluster leaves the mesh. Errors:
   * ClusterDnsError.
   */
  async undo(): Promise<void> {
    await this.#clusterDns?.undo()
    this.#applied = { zones: '', atMs: -Infinity }
  }

  /** One check. The address of the Service comes first, because both other steps use it. */
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

  /**
   * Writes the zones when they have changed, or when APPLY_MS have passed. Without zones nothing is written: an agent
   * that has just started does not know the clusters yet, and removal is the task of `undo`.
   */
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
    if (changed > 0)
      log.info({ zones: wanted, objects: changed }, 'the cluster’s own DNS forwards the zones of the mesh')
  }

  /**
   * Starts the webhook with settings that are read anew for each pod. ndots 5 is the default of Kubernetes for
   * ClusterFirst. Errors: WebhookError.
   */
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
    log.info({ port: webhook.port }, 'admission webhook listening')
    return webhook
  }

  /** Runs one step and keeps its fault. The log has a line when the text of the fault changes, not for each check. */
  async #attempt(part: string, act: () => Promise<void>): Promise<void> {
    try {
      await act()
      this.#faults.delete(part)
    } catch (error) {
      const fault = partFault(part, error)
      if (!samePartFault(this.#faults.get(part), fault))
        this.#options.log.warn({ err: error }, `${part} failed`)
      this.#faults.set(part, fault)
    }
  }
}

/** Reads the cluster IPs of the Service, one or two. Errors: KubeError; AppError NO_DNS_SERVICE when it has none. */
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
      'run `meshctl install`, or install the chart: both make this Service'
    )
  }
  return usable
}
