// A Kubernetes API as the source of this cluster's services. Same shape as the folder of manifests.
// Invariants
//   1. Events only mark; all that came in one turn of the event loop is one snapshot.
//   2. Nothing is told before Services, EndpointSlices and Namespaces were listed whole: `whole` is false until then.
//   3. An API that cannot be asked withdraws nothing; it is a problem until it answers again.
//   4. Of each object only what is exported of it is kept.
import { type CatalogOptions, type Change, type Problem, toValue } from '../../core/catalog/catalog.ts'
import {
  askedToExport,
  EXPORT_ALL,
  exportFacts,
  type ExportPolicy
} from '../../core/catalog/export-policy.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import { LiveCatalog, type ObjectName, type Settled } from '../../core/catalog/live-catalog.ts'
import type { Snapshot } from '../../core/model/values.ts'
import type { KubeClient } from './client.ts'
import type { KubeError } from './errors.ts'
import { readNode, type NodeFacts } from './node-facts.ts'
import { createReflector, type Reflector, type ReflectorTiming } from './reflector.ts'

export interface KubeSourceOptions {
  readonly client: KubeClient
  /** After the first list, or the first failure of it, and then on every change of snapshot or problems. `changes` is what
   * differs from the snapshot before. `whole` is false until all was listed once: until then an empty snapshot means "not
   * known", not "no services". */
  readonly onSnapshot: (
    snapshot: Snapshot,
    problems: readonly Problem[],
    state: { readonly whole: boolean; readonly changes: readonly Change[] }
  ) => void
  /** Nodes came, went or changed: prefixes may have, too. */
  readonly onNodes?: (nodes: readonly NodeFacts[]) => void
  /** Asked with every snapshot, since prefixes are known only after joining; call `refresh` when they change. */
  readonly catalogOptions?: () => CatalogOptions
  /** Default: everything but default/kubernetes. */
  readonly policy?: ExportPolicy
  readonly timing?: Partial<ReflectorTiming>
  readonly signal?: AbortSignal
}

export interface KubeSource {
  /** Resolves after the first snapshot or the first failure. An error of the API does not reject it. */
  start(): Promise<void>
  /** Looks again at the options, and asks an API that failed at once. */
  refresh(): void
  stop(): Promise<void>
}

type Collection = 'services' | 'endpointSlices' | 'namespaces' | 'nodes'

// What must be known before anything is told. Nodes only help to find prefixes.
const NEEDED: readonly Collection[] = ['services', 'endpointSlices', 'namespaces']
const SERVICE_LABEL = 'kubernetes.io/service-name'
const FILE = 'kubernetes'

export function createKubeSource(options: KubeSourceOptions): KubeSource {
  const { client, policy = EXPORT_ALL } = options
  const live = new LiveCatalog(policy)
  const nodes = new Map<string, NodeFacts>()
  const listed = new Set<Collection>()
  const troubles = new Map<Collection, KubeError>()
  const first = Promise.withResolvers<void>()
  let told: (Settled & { readonly allProblems: readonly Problem[]; readonly whole: boolean }) | undefined
  let troublesChanged = false
  let nodesChanged = false
  let scheduled = false
  let stopped = false

  const collections: Readonly<Record<Collection, Reflector>> = {
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
      // EndpointSlices without a service are ignored.
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
      onPut: ({ name }, object) => live.setNamespace(name, askedToExport(object)),
      onDelete: ({ name }) => live.setNamespace(name, undefined)
    }),
    nodes: follow('nodes', {
      path: '/api/v1/nodes',
      onPut: ({ name }, object) => setNode(name, readNode(object)),
      onDelete: ({ name }) => setNode(name, undefined)
    })
  }

  function follow(
    collection: Collection,
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
    // A kubelet writes its node's status every few minutes; that is no news.
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
    if (stopped) return
    if (nodesChanged && listed.has('nodes')) {
      nodesChanged = false
      options.onNodes?.([...nodes.values()])
    }
    const whole = NEEDED.every((collection) => listed.has(collection))
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
      fix,
      level: NEEDED.includes(collection) ? 'error' : 'warning'
    }))
  }

  async function stop(): Promise<void> {
    stopped = true
    first.resolve()
    await Promise.all(Object.values(collections).map((each) => each.stop()))
  }

  return {
    start: async () => {
      options.signal?.throwIfAborted()
      options.signal?.addEventListener('abort', () => void stop(), { once: true })
      for (const each of Object.values(collections)) each.start()
      await first.promise
    },
    refresh: () => {
      for (const each of Object.values(collections)) each.wake()
      schedule()
    },
    stop
  }
}

const UNKNOWN: Settled = { snapshot: { services: [], endpointSlices: [] }, problems: [], changes: [] }

function serviceOf(slice: Fields): string {
  const metadata = isFields(slice['metadata']) ? slice['metadata'] : {}
  const labels = isFields(metadata['labels']) ? metadata['labels'] : {}
  const label = labels[SERVICE_LABEL]
  return typeof label === 'string' ? label : ''
}
