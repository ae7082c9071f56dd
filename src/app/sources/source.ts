// Where this cluster's services come from: a folder of manifests, or a Kubernetes API. Both tell snapshots; with a Kubernetes API
// a Lease says which agent of the cluster speaks, a lone agent beside a folder speaks for itself.
import { join } from 'node:path'
import { changes, type CatalogOptions, type Change, type Problem } from '../../core/catalog/catalog.ts'
import type { ExportPolicy } from '../../core/catalog/export-policy.ts'
import { parseSelector } from '../../core/kube/label-selector.ts'
import type { KubeApi } from '../../core/kube/kube-api.ts'
import type { Cidr, Ip, Origin, Snapshot } from '../../core/model/values.ts'
import { openKubeClient, runsInPod } from '../../io/kube/client.ts'
import { discoverCidrs } from '../../io/kube/discover-cidrs.ts'
import { createKubeSource } from '../../io/kube/kube-source.ts'
import { createElector, type Elector, type Leadership } from '../../io/kube/lease.ts'
import { createManifestSource } from '../../io/manifests/manifest-source.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { partFault, type PartFault } from '../observe/part-fault.ts'
import type { Settings } from '../settings/settings.ts'

export type SourceKind = 'folder' | 'kubernetes'

export interface Source {
  readonly kind: SourceKind
  /** The folder, or the URL of the API server. */
  readonly path: string
  /** What does not work now. */
  readonly fault: PartFault | undefined
  /** Of a Kubernetes source: for whatever else is written there, in this namespace. */
  readonly kubernetes: { readonly api: KubeApi; readonly namespace: string } | undefined
  /** In a mesh from now on, under this PeerId: this agent may speak for its cluster. */
  stand(origin: Origin): void
  /** Gives that up, so that another need not wait. */
  resign(): Promise<void>
  /** Resolves after the first snapshot or the first failure of it. */
  start(): Promise<void>
  /** The prefixes that objects must lie in have changed. */
  refresh(): void
  /** Pod and service prefixes as the cluster itself knows them; empty from a folder. Errors: KubeError. */
  discover(): Promise<FoundPrefixes>
  stop(): Promise<void>
}

export interface FoundPrefixes {
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  /** False: those of today's Nodes only, so that the pods of a Node that is added later would lie outside. */
  readonly isWholeCluster: boolean
}

export interface KubeNode {
  readonly name: string
  /** Empty where the network plugin hands out addresses in its own way. */
  readonly podCidrs: readonly Cidr[]
}

export interface SourceState {
  /** False until all was read once: an empty snapshot means "not known" until then. */
  readonly whole: boolean
  /** What differs from the snapshot told before. */
  readonly changes: readonly Change[]
}

export interface SourceOptions {
  readonly settings: Settings
  readonly catalogOptions: () => CatalogOptions
  readonly onSnapshot: (snapshot: Snapshot, problems: readonly Problem[], state: SourceState) => void
  readonly onLeadership: (leadership: Leadership) => void
  /** Pod prefixes of the node that this agent runs on, where Kubernetes gives it any. */
  readonly onNodePrefixes: (prefixes: readonly Cidr[]) => void
  /** All Nodes, whenever they change. */
  readonly onNodes?: (nodes: readonly KubeNode[]) => void
  /** InternalIPs of all Nodes, whenever they change. */
  readonly onNodeAddresses?: (addresses: readonly Ip[]) => void
  /** The least term to speak with. */
  readonly termFloor: () => number
  readonly log: Log
}

const LEASE = 'rhizome-speaker'

export function sourceKind(settings: Settings): SourceKind {
  if (settings.source !== 'auto') return settings.source
  return settings.kubeconfig !== '' || runsInPod() ? 'kubernetes' : 'folder'
}

/** Errors: KubeError BAD_CONFIG, AppError BAD_SETTING. */
export function openSource(options: SourceOptions): Promise<Source> {
  return sourceKind(options.settings) === 'folder' ? openFolder(options) : openKubernetes(options)
}

async function openFolder({
  settings,
  catalogOptions,
  onSnapshot,
  onLeadership
}: SourceOptions): Promise<Source> {
  let told: Snapshot = { services: [], endpointSlices: [] }
  const source = createManifestSource({
    folder: settings.manifests,
    memory: join(settings['state-dir'], 'manifests'),
    catalogOptions,
    onSnapshot: (snapshot, problems, { whole }) => {
      const before = told
      told = snapshot
      onSnapshot(snapshot, problems, { whole, changes: changes(before, snapshot) })
    }
  })
  return {
    kind: 'folder',
    path: settings.manifests,
    fault: undefined,
    kubernetes: undefined,
    stand: () => onLeadership({ leader: true, term: 1 }),
    resign: async () => onLeadership({ leader: false }),
    start: () => source.start(),
    refresh: () => source.refresh(),
    discover: async () => ({ podPrefixes: [], servicePrefixes: [], isWholeCluster: true }),
    stop: () => source.stop()
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
    onNodes: (nodes) => {
      options.onNodes?.(nodes)
      options.onNodePrefixes(nodes.find(({ name }) => name === settings['node-name'])?.podCidrs ?? [])
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
      name: LEASE,
      identity,
      termFloor: options.termFloor,
      onChange: (leadership) => {
        log.info({ ...leadership }, 'speaker of this cluster')
        onLeadership(leadership)
      },
      onTrouble: (trouble) => {
        // Asked every two seconds, while the source may wait for half a minute: once this answers again, so will the rest.
        if (fault !== undefined && trouble === undefined) source.refresh()
        fault = trouble && partFault('lease', trouble)
        if (trouble !== undefined) log.warn({ err: trouble }, 'the Lease cannot be kept')
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
    kubernetes: { api: client, namespace },
    stand(origin) {
      elector ??= electorOf(origin)
      elector.start()
    },
    resign,
    start: () => source.start(),
    refresh: () => source.refresh(),
    discover: async () => {
      const { podPrefixes, servicePrefixes, from } = await discoverCidrs({ client })
      return { podPrefixes, servicePrefixes, isWholeCluster: from.pods !== 'nodes' }
    },
    async stop() {
      await resign()
      await source.stop()
      client.close()
    }
  }
}

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
