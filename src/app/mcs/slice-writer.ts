// Writes the EndpointSlices of the Multi-Cluster Services API of this cluster; multicluster.ts asks it for the writes of each
// of its passes, and sends each within CALL_MS.
// Invariants
//   1. Only the slices that OWN_SLICES lists are changed or deleted (core/mcs/endpoint-slice.ts, invariant 1).
//   2. A write that fails is tried again after the next list, and delays no other one.
//   3. What it sends depends on the view and on what it has read, so a pass that changes nothing sends nothing.
import {
  deleteSlice,
  mayDeleteSlice,
  OWN_SLICES,
  putSlice,
  readSlice,
  sliceDiffers,
  wantedSlices,
  type HeldSlice,
  type MirroredSlice
} from '../../core/mcs/endpoint-slice.ts'
import { hasStatus, listObjects, type KubeApi, type KubeCall } from '../../core/kube/kube-api.ts'
import { isFields } from '../../core/model/field-check.ts'
import type { MeshView } from '../../core/view/view.ts'

// Milliseconds for one call, and for the list of all slices.
const CALL_MS = 10_000

/** What a pass knows of the mesh and of this cluster. */
interface SliceFacts {
  readonly view: MeshView
  readonly hasNamespace: (name: string) => boolean
  /** Whether the view has everything that neighbours and disk have. Until then nothing is deleted. */
  readonly isWhole: boolean
}

/** One per process, in Multicluster, whose passes never overlap. */
export class SliceWriter {
  readonly #api: KubeApi
  /** The slices of ours as last read or written, by "<namespace>/<name>". */
  #held = new Map<string, HeldSlice>()
  /** The writes that wait for the next list, with their errors. undefined: the object had changed, which is no failure. */
  #waiting = new Map<string, unknown>()

  constructor(api: KubeApi) {
    this.#api = api
  }

  /** An error of the writes since the last list, if there was one. */
  get failure(): unknown {
    return this.#waiting.values().find((error) => error !== undefined)
  }

  /** Reads what the API server has. Errors: KubeError. */
  async list(): Promise<void> {
    this.#waiting = new Map()
    this.#held = new Map((await this.#read()).map((each) => [`${each.namespace}/${each.name}`, each]))
  }

  /** Forgets what was read, which frees its memory while another agent is the speaker. */
  forget(): void {
    this.#held.clear()
    this.#waiting.clear()
  }

  /** The slices that are missing, differ or are not wanted any more. */
  writes({ view, hasNamespace, isWhole }: SliceFacts): readonly (() => Promise<void>)[] {
    const wanted = wantedSlices(view, hasNamespace)
    const isDue = (key: string): boolean => !this.#waiting.has(key)
    const puts = [...wanted].flatMap(([key, want]) => {
      const have = this.#held.get(key)
      const differs = have === undefined || sliceDiffers(want, have)
      return differs && isDue(key) ? [() => this.#put(key, want, have)] : []
    })
    const gone = [...this.#held].filter(
      ([key, have]) => !wanted.has(key) && isDue(key) && isWhole && mayDeleteSlice(have, view)
    )
    return [
      ...puts,
      ...gone.map(
        ([key, have]) =>
          () =>
            this.#delete(key, have)
      )
    ]
  }

  /** Deletes all slices of ours. Errors: KubeError. */
  async undo(): Promise<void> {
    await this.list()
    for (const [key, have] of this.#held) await this.#delete(key, have)
  }

  async #put(key: string, want: MirroredSlice, have: HeldSlice | undefined): Promise<void> {
    const answer = await this.#send(key, putSlice(want, have))
    if (isFields(answer)) this.#held.set(key, readSlice(answer))
  }

  async #delete(key: string, have: HeldSlice): Promise<void> {
    await this.#send(key, deleteSlice(have))
    this.#held.delete(key)
  }

  async #read(): Promise<readonly HeldSlice[]> {
    const signal = AbortSignal.timeout(CALL_MS)
    return (await listObjects(this.#api, { ...OWN_SLICES, signal }, readSlice)) ?? []
  }

  /** An object that is gone, or that another program has made or changed in between, is no failure: the next list shows it. */
  async #send(key: string, call: KubeCall): Promise<unknown> {
    try {
      return await this.#api.request({ ...call, signal: AbortSignal.timeout(CALL_MS) })
    } catch (error) {
      const isOutdated = hasStatus(error, 404) || hasStatus(error, 409)
      this.#waiting.set(key, isOutdated ? undefined : error)
      if (!isOutdated) throw error
      return undefined
    }
  }
}
