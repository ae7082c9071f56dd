// Writes the Multi-Cluster Services API of this cluster: ServiceImports for the services that the clusters of the mesh
// export, their EndpointSlices, and the conditions of this cluster's own ServiceExports. Only the cluster's speaker writes.
// Invariants
//   1. A pass with an unchanged view and unchanged exports sends nothing. Every LIST_MS the imports are read again, so that
//      changes of others are set back.
//   2. A write that fails delays no other one; it is a fault, and is tried again after LIST_MS.
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
import { hasStatus, listObjects, type KubeApi, type KubeCall } from '../../core/kube/kube-api.ts'
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

// Milliseconds between two looks whether something changed: an export is imported elsewhere within about this time.
const LOOK_MS = 500
// Milliseconds after which the imports are read again, and failed writes are tried again.
const LIST_MS = 30_000
// Milliseconds after a list that failed.
const RETRY_MS = 5000
const CALL_MS = 10_000
// Most writes of one pass, so that a first start with thousands of imports leaves the loop now and then.
const WRITES_PER_PASS = 200

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
  readonly #loop: Loop
  /** undefined: EndpointSlices are neither read nor written. */
  readonly #slices: SliceWriter | undefined
  /** The imports of the API server as last read or written; undefined: to be listed. */
  #held: Map<string, HeldImport> | undefined
  #listedMs = -Infinity
  /** What the last pass was made of; undefined: the next pass does all work. */
  #done: { readonly view: MeshView; readonly addresses: unknown; readonly revision: number } | undefined
  #fault: PartFault | undefined

  constructor(options: MulticlusterOptions) {
    this.#options = options
    this.#slices = options.writesSlices ? new SliceWriter(options.api) : undefined
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

  /** Deletes all imports of ours; called when the last gateway of the cluster leaves the mesh. Errors: KubeError. */
  async undo(): Promise<void> {
    const { version } = this.#options.own
    if (version === undefined) return
    for (const each of (await this.#list(version)).values())
      if (each.isOurs) await this.#send(deleteImport(version, each))
    await this.#slices?.undo()
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
      return
    }
    const { view, addresses } = mesh
    // A list shows what other programs have changed, and begins a new attempt at failed writes.
    const isDue = monotonicMs() - this.#listedMs >= LIST_MS
    const isSame =
      this.#done?.view === view && this.#done.addresses === addresses && this.#done.revision === revision
    if (this.#held !== undefined && isSame && !isDue) return
    if (this.#held === undefined || isDue) {
      this.#held = await this.#list(version)
      await this.#slices?.list()
      this.#listedMs = monotonicMs()
    }
    const hasNamespace = (name: string): boolean => own.hasNamespace(name)
    const { isWhole } = mesh
    const writes = [
      ...this.#exportWrites(mesh, version),
      ...this.#importWrites(mesh, version, this.#held),
      ...(this.#slices?.writes({ view, hasNamespace, isWhole }) ?? [])
    ]
    const part = writes.slice(0, WRITES_PER_PASS)
    let failure: unknown
    for (const write of part) {
      if (signal.aborted) return
      await write().catch((error: unknown) => {
        failure ??= error
      })
    }
    failure ??= this.#slices?.failure
    // The writes are made anew of each view, so none is queued and none is lost.
    // Failed writes wait for the next list; more writes than fit come with the next look.
    this.#done = writes.length > part.length ? undefined : { view, addresses, revision }
    if (failure !== undefined) this.#failed(failure)
    else this.#fault = undefined
  }

  /** The conditions of this cluster's exports that differ. A conflict is no failure: the watch brings the new object. */
  #exportWrites({ view }: ClustersetFacts, version: string): readonly (() => Promise<void>)[] {
    const services = byKey(view)
    const now = this.#now()
    return this.#options.own.exports().flatMap((each) => {
      const next = nextConditions(each, conditionsOf(each, view, services), now)
      return next === undefined ? [] : [() => this.#send(exportStatusCall(version, each, next))]
    })
  }

  /** The imports that are missing, differ or are not wanted any more. Those of another author are a failure each. */
  #importWrites(
    { view, addresses, isWhole }: ClustersetFacts,
    version: string,
    held: Map<string, HeldImport>
  ): readonly (() => Promise<void>)[] {
    const wanted = wantedImports(view, {
      addresses,
      hasNamespace: (name) => this.#options.own.hasNamespace(name)
    })
    const puts = [...wanted].flatMap(([key, want]) => {
      const have = held.get(key)
      if (have?.isOurs === false) return [() => Promise.reject(foreign(key))]
      const differs = importDiffers(want, have)
      return differs.object || differs.status ? [() => this.#put(version, want, { have, differs, held })] : []
    })
    const gone = [...held].filter(
      ([key, have]) => have.isOurs && !wanted.has(key) && isWhole && mayDelete(have, view)
    )
    return [
      ...puts,
      ...gone.map(([key, have]) => async () => {
        await this.#send(deleteImport(version, have))
        held.delete(key)
      })
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
    const answer = await this.#options.api.request({ ...call, signal: AbortSignal.timeout(CALL_MS) })
    if (isFields(answer)) held.set(key, readImport(answer))
  }

  /** All imports of the cluster by "<namespace>/<name>", those of other authors included. */
  async #list(version: string): Promise<Map<string, HeldImport>> {
    const signal = AbortSignal.timeout(CALL_MS)
    const list = await listObjects(this.#options.api, { path: importsPath(version), signal }, readImport)
    return new Map((list ?? []).map((each) => [`${each.namespace}/${each.name}`, each]))
  }

  /** Objects that are gone or have changed in between are no failure: the next list or event shows them. */
  async #send(call: KubeCall): Promise<void> {
    try {
      await this.#options.api.request({ ...call, signal: AbortSignal.timeout(CALL_MS) })
    } catch (error) {
      if (!hasStatus(error, 404) && !hasStatus(error, 409)) throw error
    }
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

/** The failure of an import that is not ours (service-import.ts, invariant 1). */
function foreign(key: string): Error {
  return new AppError(
    'FOREIGN_IMPORT',
    `ServiceImport ${key} was made by another program, so it is not changed`,
    'delete it, or set mcs to off if another implementation of the Multi-Cluster Services API runs in this cluster'
  )
}
