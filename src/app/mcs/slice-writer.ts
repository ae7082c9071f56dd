// Which EndpointSlices of the Multi-Cluster Services API of this cluster are to be written; multicluster.ts asks it in each of its
// passes, and writes.ts sends what it returns.
// Invariants
//   1. Only the slices that OWN_SLICES lists are changed or deleted (core/mcs/endpoint-slice.ts, invariant 1).
//   2. What it returns depends on the view and on what it has read, so a pass that changes nothing returns nothing.
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
import { AppError } from '../observe/errors.ts'
import type { Write } from './writes.ts'

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
  /** Slices that could not be made since the last list, because an object has their name. */
  #refused = new Set<string>()
  /** The same of the time between the two lists before, where the last list did not show the object as ours. */
  #taken: ReadonlySet<string> = new Set()

  constructor(api: KubeApi) {
    this.#api = api
  }

  /** Reads what the API server has. Errors: KubeError. */
  async list(signal?: AbortSignal): Promise<void> {
    this.#held = new Map((await this.#read(signal)).map((each) => [keyOf(each), each]))
    this.#taken = new Set([...this.#refused].filter((key) => !this.#held.has(key)))
    this.#refused = new Set()
  }

  /** Forgets what was read, which frees its memory while another agent is the speaker. */
  forget(): void {
    this.#held.clear()
    this.#refused.clear()
    this.#taken = new Set()
  }

  /** The slices that are missing, differ or are not wanted any more. */
  writes({ view, hasNamespace, isWhole }: SliceFacts): readonly Write[] {
    const wanted = wantedSlices(view, hasNamespace)
    const puts = [...wanted].flatMap(([key, want]): readonly Write[] => {
      const have = this.#held.get(key)
      if (have !== undefined && !sliceDiffers(want, have)) return []
      const send = () => (have === undefined ? this.#make(key, want) : this.#put(key, want, have))
      return [{ key: `slice ${key}`, content: want.digest, send }]
    })
    const gone = [...this.#held].filter(
      ([key, have]) => !wanted.has(key) && isWhole && mayDeleteSlice(have, view)
    )
    return [
      ...puts,
      ...gone.map(([key, have]) => ({
        key: `slice ${key}`,
        content: '',
        send: () => this.#delete(key, have)
      }))
    ]
  }

  /** The calls that delete all slices of ours. Errors: KubeError. */
  async deletions(): Promise<readonly KubeCall[]> {
    return (await this.#read()).map(deleteSlice)
  }

  async #put(key: string, want: MirroredSlice, have: HeldSlice | undefined): Promise<void> {
    const answer = await this.#api.request(putSlice(want, have))
    if (isFields(answer)) this.#held.set(key, readSlice(answer))
  }

  /**
   * Makes a slice that the last list did not show. An object of its name may be one that another agent of this cluster has just
   * made; the next list shows it then. One that is still not ours after that is of another author. Errors: FOREIGN_SLICE.
   */
  async #make(key: string, want: MirroredSlice): Promise<void> {
    try {
      await this.#put(key, want, undefined)
    } catch (error) {
      if (!hasStatus(error, 409)) throw error
      this.#refused.add(key)
      throw this.#taken.has(key) ? foreign(key) : error
    }
  }

  async #delete(key: string, have: HeldSlice): Promise<void> {
    await this.#api.request(deleteSlice(have))
    this.#held.delete(key)
  }

  async #read(signal?: AbortSignal): Promise<readonly HeldSlice[]> {
    return (await listObjects(this.#api, { ...OWN_SLICES, ...(signal && { signal }) }, readSlice)) ?? []
  }
}

function keyOf({ namespace, name }: HeldSlice): string {
  return `${namespace}/${name}`
}

function foreign(key: string): AppError {
  return new AppError(
    'FOREIGN_SLICE',
    `EndpointSlice ${key} was made by another program, so it is not changed and does not show the endpoints of its cluster`,
    `delete it: kubectl -n ${key.replace('/', ' delete endpointslice ')}`
  )
}
