// A Kubernetes API as the source of this cluster's services. It follows four collections (reflector.ts) and the
// ServiceExports where there are any (export-watch.ts), joins them in
// a catalogue (core/catalog/live-catalog.ts), and reports snapshots as the folder of manifests does (io/manifests).
// Invariants
//   1. Events only mark a change; all events of one turn of the event loop become one snapshot.
//   2. `whole` is false until Services, EndpointSlices and Namespaces were each listed completely, and the ServiceExports
//      are known. Until then the snapshot is empty and means "not known".
//   3. An API that cannot be asked withdraws nothing; this is a problem until the API answers again.
//   4. Of each object only the exported fields are kept, which saves most of its memory.
import { type CatalogOptions, type Change, type Problem, toValue } from '../../core/catalog/catalog.ts'
import {
  askedToExport,
  EXPORT_ALL,
  exportFacts,
  type ExportPolicy
} from '../../core/catalog/export-policy.ts'
import { MCS_GROUP } from '../../core/catalog/read-export.ts'
import { fieldsAt, textAt } from '../../core/kube/kube-api.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import {
  LiveCatalog,
  type LiveExport,
  type ObjectName,
  type Settled
} from '../../core/catalog/live-catalog.ts'
import type { Snapshot } from '../../core/model/values.ts'
import type { KubeClient } from './client.ts'
import type { KubeError } from './errors.ts'
import { createExportWatch } from './export-watch.ts'
import { readNode, type NodeFacts } from './node-facts.ts'
import { createReflector, type Reflector, type ReflectorTiming } from './reflector.ts'

export interface KubeSourceOptions {
  readonly client: KubeClient
  /**
   * Called after the first complete list or the first failure, and then after each change of the snapshot or the
   * problems. `changes` are the differences from the snapshot before. `whole` is false until everything was listed once
   * (invariant 2).
   */
  readonly onSnapshot: (
    snapshot: Snapshot,
    problems: readonly Problem[],
    state: { readonly whole: boolean; readonly changes: readonly Change[] }
  ) => void
  /** Called with all Nodes when one was added, removed or changed; the cluster's prefixes may have changed, too. */
  readonly onNodes?: (nodes: readonly NodeFacts[]) => void
  /** Read with each snapshot, because prefixes are known only after a join. Call `refresh` when they change. */
  readonly catalogOptions?: () => CatalogOptions
  /** Whether ServiceExports are followed. Default: true. */
  readonly exports?: boolean
  /** Decides which services are exported. Default: all but default/kubernetes. */
  readonly policy?: ExportPolicy
  /** Tests replace times. */
  readonly timing?: Partial<ReflectorTiming>
  /** Stops the source. */
  readonly signal?: AbortSignal
}

export interface KubeSource {
  /**
   * Begins to follow the API. Resolves after the first call of `onSnapshot`, or after `stop`. Rejects only with the
   * reason of a signal that is aborted already; errors of the API are problems.
   */
  start(): Promise<void>
  /** Reads the options again, and ends the wait before an API that failed is asked again. */
  refresh(): void
  /** Ends all requests, and resolves when none is open. `onSnapshot` is not called afterwards. */
  stop(): Promise<void>
  /** What the writer of ServiceImports and conditions needs of this cluster. */
  readonly multicluster: OwnMulticluster
}

/** The side of the own cluster in the Multi-Cluster Services API, as it was last read. */
export interface OwnMulticluster {
  /** The version of the API that the cluster serves, as in "v1beta1"; undefined: none that is known. */
  readonly version: string | undefined
  /** Another number when exports or namespaces may have changed. */
  readonly revision: number
  /** All ServiceExports with what they export. */
  exports(): readonly OwnExport[]
  hasNamespace(name: string): boolean
}

/** A ServiceExport with the fields of the object that a new status needs. */
interface OwnExport extends LiveExport {
  readonly resourceVersion: string
  readonly generation: number
  readonly conditions: readonly Fields[]
}

type Collection = 'services' | 'endpointSlices' | 'namespaces' | 'nodes' | 'serviceExports'

// The collections that must be listed before a snapshot is whole. Nodes only help to find prefixes.
const NEEDED: readonly Collection[] = ['services', 'endpointSlices', 'namespaces']
// The label by which an EndpointSlice names its service (discovery.k8s.io/v1).
const SERVICE_LABEL = 'kubernetes.io/service-name'
const FILE = 'kubernetes'

/** Returns a source, which sends no request before `start`. */
export function createKubeSource(options: KubeSourceOptions): KubeSource {
  const { client, policy = EXPORT_ALL } = options
  const live = new LiveCatalog(policy)
  const nodes = new Map<string, NodeFacts>()
  const exports = new Map<string, Omit<OwnExport, keyof LiveExport>>()
  const namespaces = new Set<string>()
  let revision = 0
  let areExportsKnown = options.exports === false
  const listed = new Set<Collection>()
  const troubles = new Map<Collection, KubeError>()
  const first = Promise.withResolvers<void>()
  let told: (Settled & { readonly allProblems: readonly Problem[]; readonly whole: boolean }) | undefined
  let troublesChanged = false
  let nodesChanged = false
  let scheduled = false
  let stopped = false

  const collections: Readonly<Record<Exclude<Collection, 'serviceExports'>, Reflector>> = {
    services: follow('services', {
      path: '/api/v1/services',
      onPut: (name, object) =>
        live.setService(name, {
          item: { file: FILE, reading: toValue({ ...object, apiVersion: 'v1', kind: 'Service' }) },
          facts: exportFacts(object, policy)
        }),
      onDelete: (name) => live.setService(name, undefined)
    }),
    endpointSlices: follow('endpointSlices', {
      path: '/apis/discovery.k8s.io/v1/endpointslices',
      // EndpointSlices without this label belong to no service.
      query: { labelSelector: SERVICE_LABEL },
      onPut: (name, object) =>
        live.setSlice(name, {
          item: {
            file: FILE,
            reading: toValue({ ...object, apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice' })
          },
          service: serviceOf(object)
        }),
      onDelete: (name) => live.setSlice(name, undefined)
    }),
    namespaces: follow('namespaces', {
      path: '/api/v1/namespaces',
      onPut: ({ name }, object) => {
        // The API server takes no new object into a namespace that is being deleted, which can last.
        if (textAt(object, 'metadata', 'deletionTimestamp') === undefined) namespaces.add(name)
        else namespaces.delete(name)
        live.setNamespace(name, askedToExport(object))
      },
      onDelete: ({ name }) => {
        namespaces.delete(name)
        live.setNamespace(name, undefined)
      }
    }),
    nodes: follow('nodes', {
      path: '/api/v1/nodes',
      onPut: ({ name }, object) => setNode(name, readNode(object)),
      onDelete: ({ name }) => setNode(name, undefined)
    })
  }

  const exportWatch = createExportWatch({
    client,
    ...(options.timing && { timing: options.timing }),
    onPut: (name, object) => {
      exports.set(`${name.namespace}/${name.name}`, statusFactsOf(object))
      const reading = toValue({ ...object, apiVersion: `${MCS_GROUP}/v1beta1`, kind: 'ServiceExport' })
      live.setExport(name, { file: FILE, reading })
      schedule()
    },
    onDelete: (name) => {
      exports.delete(`${name.namespace}/${name.name}`)
      live.setExport(name, undefined)
      schedule()
    },
    onKnown: () => {
      if (areExportsKnown) return
      areExportsKnown = true
      schedule()
    },
    onTrouble: (trouble) => setTrouble('serviceExports', trouble)
  })

  function follow(
    collection: Exclude<Collection, 'serviceExports'>,
    what: {
      readonly path: string
      readonly query?: Readonly<Record<string, string>>
      readonly onPut: (name: ObjectName, object: Fields) => void
      readonly onDelete: (name: ObjectName) => void
    }
  ): Reflector {
    return createReflector({
      client,
      path: what.path,
      ...(what.query && { query: what.query }),
      ...(options.timing && { timing: options.timing }),
      onPut: (name, object) => {
        what.onPut(name, object)
        schedule()
      },
      onDelete: (name) => {
        what.onDelete(name)
        schedule()
      },
      onListed: () => {
        listed.add(collection)
        schedule()
      },
      onTrouble: (trouble) => setTrouble(collection, trouble)
    })
  }

  function setNode(name: string, facts: NodeFacts | undefined): void {
    const before = nodes.get(name)
    // A kubelet writes its Node's status every few minutes without a change of these facts.
    if (before?.text === facts?.text) return
    if (facts === undefined) nodes.delete(name)
    else nodes.set(name, facts)
    nodesChanged = true
  }

  function setTrouble(collection: Collection, trouble: KubeError | undefined): void {
    if (trouble === undefined && !troubles.has(collection)) return
    if (trouble === undefined) troubles.delete(collection)
    else troubles.set(collection, trouble)
    troublesChanged = true
    schedule()
  }

  function schedule(): void {
    if (scheduled || stopped) return
    scheduled = true
    setImmediate(flush)
  }

  function flush(): void {
    scheduled = false
    revision++
    if (stopped) return
    if (nodesChanged && listed.has('nodes')) {
      nodesChanged = false
      options.onNodes?.([...nodes.values()])
    }
    const whole = areExportsKnown && NEEDED.every((collection) => listed.has(collection))
    if (!whole && troubles.size === 0) return
    tell(whole)
    first.resolve()
  }

  function tell(whole: boolean): void {
    if (options.catalogOptions !== undefined) live.setOptions(options.catalogOptions())
    const settled = whole ? live.settle() : UNKNOWN
    const isNews = told === undefined || told.whole !== whole || told.snapshot !== settled.snapshot
    const problemsChanged = troublesChanged || told?.problems !== settled.problems
    if (!isNews && !problemsChanged) return
    troublesChanged = false
    const allProblems =
      problemsChanged || told === undefined ? [...outages(), ...settled.problems] : told.allProblems
    told = { ...settled, allProblems, whole }
    options.onSnapshot(settled.snapshot, allProblems, { whole, changes: isNews ? settled.changes : [] })
  }

  function outages(): readonly Problem[] {
    return [...troubles].map(([collection, { message, fix }]) => ({
      file: client.server,
      where: collection,
      message,
      fix: collection === 'serviceExports' ? EXPORTS_FIX : fix,
      level: NEEDED.includes(collection) ? 'error' : 'warning',
      ofSource: true
    }))
  }

  async function stop(): Promise<void> {
    stopped = true
    first.resolve()
    await Promise.all([exportWatch, ...Object.values(collections)].map((each) => each.stop()))
  }

  return {
    start: async () => {
      options.signal?.throwIfAborted()
      options.signal?.addEventListener('abort', () => void stop(), { once: true })
      for (const each of Object.values(collections)) each.start()
      if (options.exports !== false) exportWatch.start()
      await first.promise
    },
    refresh: () => {
      for (const each of [exportWatch, ...Object.values(collections)]) each.wake()
      schedule()
    },
    stop,
    multicluster: {
      get version() {
        return exportWatch.version
      },
      get revision() {
        return revision
      },
      exports: () =>
        live.exports().flatMap((each) => {
          const facts = exports.get(`${each.namespace}/${each.name}`)
          return facts === undefined ? [] : [{ ...each, ...facts }]
        }),
      hasNamespace: (name) => namespaces.has(name)
    }
  }
}

const EXPORTS_FIX =
  'install the chart with mcs.enabled=true, which gives this account its rights, or set mcs to off; the agent tries again'

/** The fields of a ServiceExport that its next status depends on. */
function statusFactsOf(object: Fields): Omit<OwnExport, keyof LiveExport> {
  const { resourceVersion, generation } = fieldsAt(object, 'metadata')
  const { conditions } = fieldsAt(object, 'status')
  return {
    resourceVersion: typeof resourceVersion === 'string' ? resourceVersion : '',
    generation: typeof generation === 'number' ? generation : 0,
    conditions: Array.isArray(conditions) ? conditions.filter(isFields) : []
  }
}

/** The snapshot until everything was listed once. */
const UNKNOWN: Settled = { snapshot: { services: [], endpointSlices: [] }, problems: [], changes: [] }

/** The name of the service that an EndpointSlice belongs to; '' without the label. */
function serviceOf(slice: Fields): string {
  const metadata = isFields(slice['metadata']) ? slice['metadata'] : {}
  const labels = isFields(metadata['labels']) ? metadata['labels'] : {}
  const label = labels[SERVICE_LABEL]
  return typeof label === 'string' ? label : ''
}
