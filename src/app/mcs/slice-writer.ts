// Writes the EndpointSlices of the Multi-Cluster Services API of this cluster; multicluster.ts asks it for the writes of each
// of its passes, and sends each within CALL_MS.
// Invariants
//   1. Only the slices that OWN_SLICES lists are changed or deleted (core/mcs/endpoint-slice.ts, invariant 1).
//   2. What it sends depends on the view and on what it has read, so a pass that changes nothing sends nothing.
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

  constructor(api: KubeApi) {
    this.#api = api
  }

  /** Reads what the API server has. Errors: KubeError. */
  async list(): Promise<void> {
    this.#held = new Map((await this.#read()).map((each) => [`${each.namespace}/${each.name}`, each]))
  }

  /** Forgets what was read, which frees its memory while another agent is the speaker. */
  forget(): void {
    this.#held.clear()
  }

  /** The slices that are missing, differ or are not wanted any more. */
  writes({ view, hasNamespace, isWhole }: SliceFacts): readonly (() => Promise<void>)[] {
    const wanted = wantedSlices(view, hasNamespace)
    const puts = [...wanted].flatMap(([key, want]) => {
      const have = this.#held.get(key)
      return have === undefined || sliceDiffers(want, have) ? [() => this.#put(key, want, have)] : []
    })
    const gone = [...this.#held].filter(
      ([key, have]) => !wanted.has(key) && isWhole && mayDeleteSlice(have, view)
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
    const answer = await this.#send(putSlice(want, have))
    if (isFields(answer)) this.#held.set(key, readSlice(answer))
  }

  async #delete(key: string, have: HeldSlice): Promise<void> {
    await this.#send(deleteSlice(have))
    this.#held.delete(key)
  }

  async #read(): Promise<readonly HeldSlice[]> {
    const signal = AbortSignal.timeout(CALL_MS)
    return (await listObjects(this.#api, { ...OWN_SLICES, signal }, readSlice)) ?? []
  }

  /** An object that is gone, or that another program has changed in between, is no failure: the next list shows it. */
  async #send(call: KubeCall): Promise<unknown> {
    try {
      return await this.#api.request({ ...call, signal: AbortSignal.timeout(CALL_MS) })
    } catch (error) {
      if (hasStatus(error, 404) || hasStatus(error, 409)) return undefined
      throw error
    }
  }
}
