// Where this cluster's services come from: a folder of manifests, or a Kubernetes API. Both report snapshots. With a
// Kubernetes API, a Lease (coordination.k8s.io/v1) decides which agent of the cluster is the speaker, that is,
// publishes the services. The gateways of a site with folders decide without a Lease (session/site-speaker.ts).
import { join } from 'node:path'
import { changes, type CatalogOptions, type Change, type Problem } from '../../core/catalog/catalog.ts'
import type { ExportPolicy } from '../../core/catalog/export-policy.ts'
import { parseSelector } from '../../core/kube/label-selector.ts'
import type { KubeApi } from '../../core/kube/kube-api.ts'
import type { Cidr, Ip, Origin, Snapshot } from '../../core/model/values.ts'
import { openKubeClient, runsInPod } from '../../io/kube/client.ts'
import type { Prefixes } from '../../core/model/prefixes.ts'
import { discoverCidrs } from '../../io/kube/discover-cidrs.ts'
import { createKubeSource, type OwnMulticluster } from '../../io/kube/kube-source.ts'
import { createElector, type Elector, type Leadership } from '../../io/kube/lease.ts'
import { Loop } from '../../io/timing/loop.ts'
import { createManifestSource } from '../../io/manifests/manifest-source.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { partFault, type PartFault } from '../observe/part-fault.ts'
import { monotonicMs } from '../observe/clock.ts'
import { SiteSpeaker, type SiteFacts } from '../session/site-speaker.ts'
import type { Settings } from '../settings/settings.ts'

export type SourceKind = 'folder' | 'kubernetes'

/** A source, as the agent uses it. It lives as long as the process. */
export interface Source {
  readonly kind: SourceKind
  /** The folder, or the URL of the API server, for `meshctl status`. */
  readonly path: string
  /**
   * Why the Lease cannot be kept now; undefined: all works, or there is no Lease. Problems with objects are reported
   * by onSnapshot.
   */
  readonly fault: PartFault | undefined
  /**
   * The API of a Kubernetes source, the namespace of the agent's own objects (Lease, Secret), and this cluster's side of
   * the Multi-Cluster Services API, undefined with the setting mcs=off; undefined for a folder.
   */
  readonly kubernetes:
    | {
        readonly api: KubeApi
        readonly namespace: string
        readonly multicluster: OwnMulticluster | undefined
      }
    | undefined
  /**
   * Starts to campaign as a candidate for the speaker. Called when this agent has become a member; `origin` is its
   * PeerId, the holder identity in the Lease.
   */
  campaign(origin: Origin): void
  /** Ends the campaign and gives the Lease back, so that another candidate does not wait until it expires. */
  resign(): Promise<void>
  /** Resolves after the first snapshot, or after the first attempt to read it has failed. */
  start(): Promise<void>
  /** Reads again, soon. Called when the prefixes that objects must lie in have changed. */
  refresh(): void
  /**
   * Returns the pod and service prefixes that the cluster itself has configured; empty for a folder. `named`: prefixes
   * that a person has named, which count instead of those of the cluster. Errors: KubeError; AppError BAD_ARGUMENT when
   * pod and service prefixes overlap, when a Node lies in a service prefix, or with `named` when some are not known.
   */
  discover(named?: Partial<Prefixes>): Promise<FoundPrefixes>
  /** Resigns and ends the source. */
  stop(): Promise<void>
}

/** The prefixes that `discover` found. */
export interface FoundPrefixes {
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  /**
   * False: the pod prefixes are those of the present Nodes only, so a Node that is added later has pods outside of
   * them.
   */
  readonly isWholeCluster: boolean
}

/** A Node of the cluster. */
export interface KubeNode {
  readonly name: string
  /** spec.podCIDRs; empty where the network plugin assigns addresses by another method. */
  readonly podCidrs: readonly Cidr[]
  /** False for a Node of another system, on which no agent runs. */
  readonly isLinux: boolean
  /** The label topology.kubernetes.io/zone; '' without it. */
  readonly zone: string
}

/** The Node that this agent runs on, as Kubernetes describes it. */
export type OwnNode = Pick<KubeNode, 'podCidrs' | 'zone'>

/** Tells of a snapshot whether it is complete, and how it differs from the one before. */
export interface SourceState {
  /** False until everything was read once: until then an empty snapshot means "not known", not "no services". */
  readonly whole: boolean
  /** The differences from the snapshot reported before. */
  readonly changes: readonly Change[]
}

/** The options of a source. Each callback is called with complete values, not with differences. */
export interface SourceOptions {
  readonly settings: Settings
  /** The prefixes and the name of this cluster, which are known only after a join; read with each snapshot. */
  readonly catalogOptions: () => CatalogOptions
  /** Called with the first snapshot, and after each change of the snapshot or of the problems. */
  readonly onSnapshot: (snapshot: Snapshot, problems: readonly Problem[], state: SourceState) => void
  /** Called when this agent becomes the speaker of its cluster, and when it stops being it. */
  readonly onLeadership: (leadership: Leadership) => void
  /** Called with the Node that this agent runs on; all is empty when no Node has the name of the setting node-name. */
  readonly onOwnNode: (node: OwnNode) => void
  /** Called with all Nodes when they change. */
  readonly onNodes?: (nodes: readonly KubeNode[]) => void
  /** Called with the InternalIP addresses of all Nodes when they change. */
  readonly onNodeAddresses?: (addresses: readonly Ip[]) => void
  /** Returns the lowest term in which this agent may publish (session/speaker.ts). */
  readonly termFloor: () => number
  /** Returns what is known of the gateways of this cluster; undefined while it is in no mesh. Called once a second. */
  readonly siteFacts: () => SiteFacts | undefined
  readonly log: Log
}

// Milliseconds between two decisions of a gateway of a site without a Lease.
const SITE_LOOK_MS = 1000
/** Name of the Lease of the speaker. All agents of a cluster must use the same. */
export const SPEAKER_LEASE = 'rhizome-speaker'

/**
 * Returns the kind of source that the settings choose. `auto` takes Kubernetes when a kubeconfig is set or the agent
 * runs in a pod.
 */
export function sourceKind(settings: Settings): SourceKind {
  if (settings.source !== 'auto') return settings.source
  return settings.kubeconfig !== '' || runsInPod() ? 'kubernetes' : 'folder'
}

/**
 * Opens the source without reading it; `start` reads it. Errors: KubeError BAD_CONFIG, AppError BAD_SETTING for
 * export-selector.
 */
export function openSource(options: SourceOptions): Promise<Source> {
  return sourceKind(options.settings) === 'folder' ? openFolder(options) : openKubernetes(options)
}

async function openFolder({
  settings,
  catalogOptions,
  onSnapshot,
  onLeadership,
  siteFacts,
  log
}: SourceOptions): Promise<Source> {
  let told: Snapshot = { services: [], endpointSlices: [] }
  const source = createManifestSource({
    folder: settings.manifests,
    memory: join(settings['state-dir'], 'manifests'),
    catalogOptions,
    policy: exportPolicy(settings),
    onSnapshot: (snapshot, problems, { whole }) => {
      const before = told
      told = snapshot
      onSnapshot(snapshot, problems, { whole, changes: changes(before, snapshot) })
    }
  })
  const election = siteElection({ siteFacts, onLeadership, log })
  return {
    kind: 'folder',
    path: settings.manifests,
    fault: undefined,
    kubernetes: undefined,
    campaign: () => election.start(),
    resign: () => election.stop(),
    start: () => source.start(),
    refresh: () => source.refresh(),
    discover: async () => ({ podPrefixes: [], servicePrefixes: [], isWholeCluster: true }),
    stop: async () => {
      await election.stop()
      await source.stop()
    }
  }
}

/** Decides once a second whether this gateway speaks, from `start` to `stop`. */
function siteElection({
  siteFacts,
  onLeadership,
  log
}: Pick<SourceOptions, 'siteFacts' | 'onLeadership' | 'log'>): {
  readonly start: () => void
  readonly stop: () => Promise<void>
} {
  let loop: Loop | undefined
  let told: Leadership = { leader: false }
  const tell = (leadership: Leadership): void => {
    if (JSON.stringify(leadership) === JSON.stringify(told)) return
    told = leadership
    log.info({ ...leadership }, 'speaker of this cluster')
    onLeadership(leadership)
  }
  return {
    start() {
      if (loop !== undefined) return
      const speaker = new SiteSpeaker(monotonicMs())
      const decide = (): void => {
        const facts = siteFacts()
        if (facts !== undefined) tell(speaker.decide(facts, monotonicMs()))
      }
      // At once, so that the services of a site with one gateway do not wait.
      decide()
      loop = new Loop({ act: async () => decide(), intervalMs: SITE_LOOK_MS, firstMs: SITE_LOOK_MS })
      loop.start()
    },
    async stop() {
      await loop?.stop()
      loop = undefined
      tell({ leader: false })
    }
  }
}

async function openKubernetes(options: SourceOptions): Promise<Source> {
  const { settings, catalogOptions, onSnapshot, onLeadership, log } = options
  const policy = exportPolicy(settings)
  const client = await openKubeClient(settings.kubeconfig === '' ? {} : { kubeconfig: settings.kubeconfig })
  const source = createKubeSource({
    client,
    catalogOptions,
    onSnapshot,
    policy,
    exports: settings.mcs !== 'off',
    onNodes: (nodes) => {
      options.onNodes?.(nodes)
      const own = nodes.find(({ name }) => name === settings['node-name'])
      options.onOwnNode({ podCidrs: own?.podCidrs ?? [], zone: own?.zone ?? '' })
      options.onNodeAddresses?.(nodes.flatMap(({ internalIps }) => internalIps))
    }
  })
  const namespace = settings.namespace === '' ? client.namespace : settings.namespace
  let fault: PartFault | undefined
  let elector: Elector | undefined
  const electorOf = (identity: Origin): Elector =>
    createElector({
      client,
      namespace,
      name: SPEAKER_LEASE,
      identity,
      termFloor: options.termFloor,
      onChange: (leadership) => {
        log.info({ ...leadership }, 'speaker of this cluster')
        onLeadership(leadership)
      },
      onTrouble: (trouble) => {
        // The Lease is asked for every two seconds, while the source may wait up to 30 s after a failure. When the
        // API server answers for the Lease again, the source need not wait any longer.
        if (fault !== undefined && trouble === undefined) source.refresh()
        fault = trouble && partFault('lease', trouble)
        if (trouble !== undefined)
          log.warn({ err: trouble }, `the Lease ${SPEAKER_LEASE} could not be renewed`)
      }
    })
  const resign = async (): Promise<void> => {
    await elector?.stop()
    elector = undefined
  }
  return {
    kind: 'kubernetes',
    path: client.server,
    get fault() {
      return fault
    },
    kubernetes: {
      api: client,
      namespace,
      multicluster: settings.mcs !== 'off' ? source.multicluster : undefined
    },
    campaign(origin) {
      elector ??= electorOf(origin)
      elector.start()
    },
    resign,
    start: () => source.start(),
    refresh: () => source.refresh(),
    discover: async (named) => {
      const found = await discoverCidrs({ client, ...named })
      const { podPrefixes, servicePrefixes, from, conflicts, problems } = found
      const [conflict] = conflicts
      if (conflict !== undefined) throw new AppError('BAD_ARGUMENT', conflict.message, conflict.fix)
      // A join passes nothing: it has the prefixes of its token, so those of the cluster need not be known. An init
      // cannot choose prefixes for a cluster that has some.
      if (named !== undefined)
        for (const { message, fix, level } of problems) {
          if (level === 'error') throw new AppError('BAD_ARGUMENT', message, fix)
          log.warn({ fix }, message)
        }
      return { podPrefixes, servicePrefixes, isWholeCluster: from.pods !== 'nodes' }
    },
    async stop() {
      await resign()
      await source.stop()
      client.close()
    }
  }
}

/** Reads which Services the settings export. Errors: AppError BAD_SETTING. */
function exportPolicy(settings: Settings): ExportPolicy {
  const selector = parseSelector(settings['export-selector'])
  if (selector.kind === 'invalid') {
    throw new AppError(
      'BAD_SETTING',
      `setting export-selector: ${selector.reason}`,
      'write it like "team=shop,tier in (web,api)"'
    )
  }
  return {
    unmarked: settings.export === 'all' ? 'export' : 'keep',
    namespaces: settings['export-namespaces'],
    exceptNamespaces: settings['export-except-namespaces'],
    selector: selector.selector
  }
}
