// Writes the Multi-Cluster Services API of this cluster: ServiceImports for the services that the clusters of the mesh
// export, their EndpointSlices, and the conditions of this cluster's own ServiceExports. Only the cluster's speaker writes.
// Invariants
//   1. A pass with an unchanged view and unchanged exports sends nothing. Every LIST_MS the imports are read again, so that
//      changes of others are set back.
//   2. A write that fails delays no other one; it is a fault, and is tried again after LIST_MS (writes.ts).
import { byKey, conditionsOf, exportStatusCall, nextConditions } from '../../core/mcs/export-conditions.ts'
import {
  applyImport,
  applyImportStatus,
  deleteImport,
  importDiffers,
  importsPath,
  mayDelete,
  readImport,
  wantedImports,
  type HeldImport,
  type ServiceImport
} from '../../core/mcs/service-import.ts'
import { listObjects, type KubeApi, type KubeCall } from '../../core/kube/kube-api.ts'
import { isFields } from '../../core/model/field-check.ts'
import type { Ip } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { OwnMulticluster } from '../../io/kube/kube-source.ts'
import { Loop } from '../../io/timing/loop.ts'
import { monotonicMs } from '../observe/clock.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import { SliceWriter } from './slice-writer.ts'
import { sendAll, withDeadline, Writes, type Write } from './writes.ts'

// Milliseconds between two looks whether something changed: an export is imported elsewhere within about this time.
const LOOK_MS = 500
// Milliseconds after which the imports are read again, and failed writes are tried again.
const LIST_MS = 30_000
// Milliseconds after a list that failed.
const RETRY_MS = 5000
// How often the same conditions are written to an export between two lists: after each refusal that names a newer version, but
// not for ever against a program that changes them each time.
const STATUS_TRIES = 3

/** The mesh, as the latest pass of the agent sees it; undefined while it is in no mesh. */
export interface ClustersetFacts {
  readonly view: MeshView
  /** The addresses of merged zones; the same map while they are the same. */
  readonly addresses: ReadonlyMap<string, Ip>
  /** Whether the view has everything that neighbours and disk have. Until then nothing is deleted. */
  readonly isWhole: boolean
}

interface MulticlusterOptions {
  readonly api: KubeApi
  /** The exports and namespaces of this cluster, from its source. */
  readonly own: OwnMulticluster
  /** False with the setting mcs=imports: then this agent has no right to write EndpointSlices. */
  readonly writesSlices: boolean
  readonly facts: () => ClustersetFacts | undefined
  /** Read in each look: several gateways of a cluster would overwrite one another. */
  readonly isSpeaker: () => boolean
  readonly log: Log
}

/** One per process, only with a Kubernetes API. PartWatch reads its faults. */
export class Multicluster {
  readonly #options: MulticlusterOptions
  /** Each request has the deadline CALL_MS. */
  readonly #api: KubeApi
  readonly #loop: Loop
  /** undefined: EndpointSlices are neither read nor written. */
  readonly #slices: SliceWriter | undefined
  readonly #writes = new Writes(monotonicMs)
  /** The imports of the API server as last read or written; undefined: to be listed. */
  #held: Map<string, HeldImport> | undefined
  #listedMs = -Infinity
  /** What the last pass was made of; undefined: the next pass does all work. */
  #done: { readonly view: MeshView; readonly addresses: unknown; readonly revision: number } | undefined
  #fault: PartFault | undefined

  constructor(options: MulticlusterOptions) {
    this.#options = options
    this.#api = withDeadline(options.api)
    this.#slices = options.writesSlices ? new SliceWriter(this.#api) : undefined
    this.#loop = new Loop({
      act: (signal) => this.#look(signal),
      intervalMs: LOOK_MS,
      retryMs: RETRY_MS,
      onError: (error) => this.#failed(error)
    })
  }

  /** The fault of the latest writes, or none. The code in the registry is MULTICLUSTER. */
  get faults(): readonly PartFault[] {
    return this.#fault === undefined ? [] : [this.#fault]
  }

  /** Starts the looks. A cluster without the API costs none but the question of the source which versions there are. */
  start(): void {
    this.#loop.start()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /**
   * Deletes all objects of ours; called when the last gateway of the cluster leaves the mesh. One that cannot be deleted keeps no
   * other one. Errors: KubeError, the first one.
   */
  async undo(): Promise<void> {
    const { version } = this.#options.own
    if (version === undefined) return
    const imports = [...(await this.#list(version)).values()].filter(({ isOurs }) => isOurs)
    await sendAll(this.#api, [
      ...imports.map((each) => deleteImport(version, each)),
      ...((await this.#slices?.deletions()) ?? [])
    ])
    this.#held = undefined
  }

  /** One look: does nothing while nothing changed (invariant 1). Rejects when the list fails. */
  async #look(signal: AbortSignal): Promise<void> {
    const { own, facts, isSpeaker } = this.#options
    const { version, revision } = own
    const mesh = facts()
    if (mesh === undefined || version === undefined || !isSpeaker()) {
      this.#held = undefined
      this.#fault = undefined
      this.#slices?.forget()
      this.#writes.listed()
      return
    }
    const { view, addresses } = mesh
    // A list shows what other programs have changed, and begins a new attempt at failed writes.
    const isDue = monotonicMs() - this.#listedMs >= LIST_MS
    const isSame =
      this.#done?.view === view && this.#done.addresses === addresses && this.#done.revision === revision
    if (this.#held !== undefined && isSame && !isDue) return
    if (this.#held === undefined || isDue) {
      this.#held = await this.#list(version, signal)
      await this.#slices?.list(signal)
      this.#writes.listed()
      this.#listedMs = monotonicMs()
    }
    const hasNamespace = (name: string): boolean => own.hasNamespace(name)
    const wanted = wantedImports(view, { addresses, hasNamespace })
    const writes = [
      ...this.#exportWrites(mesh, version),
      ...this.#importWrites(mesh, version, { wanted, held: this.#held }),
      ...(this.#slices?.writes({ view, hasNamespace, isWhole: mesh.isWhole }) ?? [])
    ]
    // The writes are made anew of each view, so none is queued and none is lost.
    this.#done = undefined
    const isAll = await this.#writes.send(
      writes,
      () => !signal.aborted && isSpeaker() && facts() !== undefined
    )
    if (isAll) this.#done = { view, addresses, revision }
    const failure = this.#writes.failure ?? foreign(wanted, this.#held)
    if (failure !== undefined) this.#failed(failure)
    else if (isAll) this.#fault = undefined
  }

  /** The conditions of this cluster's exports that differ. A conflict is no failure: the watch brings the new object. */
  #exportWrites({ view }: ClustersetFacts, version: string): readonly Write[] {
    const services = byKey(view)
    const now = this.#now()
    return this.#options.own.exports().flatMap((each): readonly Write[] => {
      const conditions = conditionsOf(each, view, services)
      const next = nextConditions(each, conditions, now)
      if (next === undefined) return []
      return [
        {
          key: `export ${each.namespace}/${each.name}`,
          content: JSON.stringify(conditions),
          tries: STATUS_TRIES,
          send: () => this.#api.request(exportStatusCall(version, each, next))
        }
      ]
    })
  }

  /** The imports that are missing, differ or are not wanted any more. Those of another author are left. */
  #importWrites(
    { view, isWhole }: ClustersetFacts,
    version: string,
    { wanted, held }: Imports
  ): readonly Write[] {
    const puts = [...wanted].flatMap(([key, want]): readonly Write[] => {
      const have = held.get(key)
      if (have?.isOurs === false) return []
      const differs = importDiffers(want, have)
      if (!differs.object && !differs.status) return []
      const send = () => this.#put(version, want, { have, differs, held })
      return [{ key: `import ${key}`, content: JSON.stringify(want), send }]
    })
    const gone = [...held].filter(
      ([key, have]) => have.isOurs && !wanted.has(key) && isWhole && mayDelete(have, view)
    )
    return [
      ...puts,
      ...gone.map(([key, have]) => ({
        key: `import ${key}`,
        content: '',
        send: async () => {
          await this.#api.request(deleteImport(version, have))
          held.delete(key)
        }
      }))
    ]
  }

  /** Makes an import as wanted: the object first, because the status belongs to it. */
  async #put(
    version: string,
    want: ServiceImport,
    {
      have,
      differs,
      held
    }: {
      readonly have: HeldImport | undefined
      readonly differs: ReturnType<typeof importDiffers>
      readonly held: Map<string, HeldImport>
    }
  ): Promise<void> {
    const now = this.#now()
    const key = `${want.namespace}/${want.name}`
    if (differs.object) await this.#keep(held, key, applyImport(version, want))
    if (differs.status) await this.#keep(held, key, applyImportStatus(version, want, { have, now }))
  }

  /** The time of a condition: RFC 3339 in whole seconds, as metav1.Time has it. */
  #now(): string {
    return new Date().toISOString().replace(/\.\d+Z$/, 'Z')
  }

  /** Sends a call, and keeps the object of the answer. */
  async #keep(held: Map<string, HeldImport>, key: string, call: KubeCall): Promise<void> {
    const answer = await this.#api.request(call)
    if (isFields(answer)) held.set(key, readImport(answer))
  }

  /** All imports of the cluster by "<namespace>/<name>", those of other authors included. */
  async #list(version: string, signal?: AbortSignal): Promise<Map<string, HeldImport>> {
    const call = { path: importsPath(version), ...(signal && { signal }) }
    const list = await listObjects(this.#api, call, readImport)
    return new Map((list ?? []).map((each) => [`${each.namespace}/${each.name}`, each]))
  }

  /** Keeps the fault for PartWatch, and logs it when its text is new. */
  #failed(error: unknown): void {
    const fault = partFault('multi-cluster services', error)
    if (!samePartFault(this.#fault, fault))
      this.#options.log.warn(
        { err: error },
        'a ServiceImport, one of its EndpointSlices or the status of a ServiceExport could not be written'
      )
    this.#fault = fault
  }
}

interface Imports {
  readonly wanted: ReadonlyMap<string, ServiceImport>
  readonly held: Map<string, HeldImport>
}

/** The failure of wanted imports that are not ours (service-import.ts, invariant 1); undefined: there is none. */
function foreign(wanted: Imports['wanted'], held: ReadonlyMap<string, HeldImport>): AppError | undefined {
  const [first, ...others] = [...wanted.keys()].filter((key) => held.get(key)?.isOurs === false)
  if (first === undefined) return undefined
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`
  return new AppError(
    'FOREIGN_IMPORT',
    `ServiceImport ${first}${more} was made by another program, so it is not changed`,
    'delete it, or set mcs to off if another implementation of the Multi-Cluster Services API runs in this cluster'
  )
}
