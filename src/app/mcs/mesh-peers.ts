// Writes the MeshPeers of this cluster: one object for each other cluster of the mesh, with its state in conditions. Only the
// cluster's speaker writes, so several gateways never overwrite one another; the status says whose view it is.
// Invariants
//   1. A pass sends nothing while no condition has changed; core/mcs/mesh-peer.ts bounds how often an object is written.
//   2. A write that fails delays no other one, and is tried again after the next list; a failure of the API server itself ends
//      the pass (writes.ts).
import {
  applyPeer,
  applyPeerStatus,
  deletePeer,
  firmText,
  isWriteDue,
  MESH_PEERS_PATH,
  readPeer,
  type HeldPeer,
  type PeerFacts
} from '../../core/mcs/mesh-peer.ts'
import { hasStatus, listObjects, type KubeApi, type KubeCall } from '../../core/kube/kube-api.ts'
import { isFields } from '../../core/model/field-check.ts'
import { Loop } from '../../io/timing/loop.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Log } from '../observe/log.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import { sendAll, withDeadline, Writes, type Write } from './writes.ts'

// Milliseconds between two looks at the tunnels, which are judged once a second.
const LOOK_MS = 1000
// Milliseconds after which the objects are read again: changes of others are set back then.
const LIST_MS = 60_000
// Milliseconds after which an agent without the definition, or after a failure, looks again.
const RETRY_MS = 30_000

interface MeshPeersOptions {
  readonly api: KubeApi
  /** The other clusters, as the mesh shows them now; undefined while this agent is in no mesh. */
  readonly facts: () => { readonly peers: readonly PeerFacts[]; readonly isWhole: boolean } | undefined
  readonly isSpeaker: () => boolean
  /** The name of this node, for `observedBy`. */
  readonly node: string
  readonly log: Log
}

/** One per process, only with a Kubernetes API. PartWatch reads its faults. */
export class MeshPeers {
  readonly #options: MeshPeersOptions
  readonly #api: KubeApi
  readonly #loop: Loop
  readonly #writes = new Writes(monotonicMs)
  /** The objects as last read or written; undefined: to be listed. */
  #held: Map<string, HeldPeer> | undefined
  /** When this agent last wrote an object, or first read it. */
  readonly #writtenMs = new Map<string, number>()
  #listMs = -Infinity
  #fault: PartFault | undefined

  constructor(options: MeshPeersOptions) {
    this.#options = options
    this.#api = withDeadline(options.api)
    this.#loop = new Loop({
      act: (signal) => this.#look(signal),
      intervalMs: LOOK_MS,
      retryMs: RETRY_MS,
      onError: (error) => this.#tell(error)
    })
  }

  /** The fault of the latest writes, or none. The code in the registry is MESH_PEERS. */
  get faults(): readonly PartFault[] {
    return this.#fault === undefined ? [] : [this.#fault]
  }

  /** Starts the looks. Where the chart has no MeshPeers, a look is one list every RETRY_MS. */
  start(): void {
    this.#loop.start()
  }

  /** Resolves when no write is under way. */
  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** Deletes all MeshPeers; called when the last gateway of the cluster leaves the mesh. Errors: KubeError, the first one. */
  async undo(): Promise<void> {
    await sendAll(this.#api, ((await this.#list()) ?? []).map(deletePeer))
    this.#held = undefined
  }

  /** One look: lists when that is due, and sends what isWriteDue asks for. Rejects when the API server itself fails. */
  async #look(signal: AbortSignal): Promise<void> {
    const { facts, isSpeaker } = this.#options
    const mesh = facts()
    if (mesh === undefined || !isSpeaker()) {
      this.#held = undefined
      this.#listMs = -Infinity
      this.#fault = undefined
      return
    }
    if (monotonicMs() >= this.#listMs && !(await this.#read())) {
      this.#fault = undefined
      return
    }
    const writes = this.#due(mesh.peers, mesh.isWhole)
    await this.#writes.send(writes, () => !signal.aborted && isSpeaker() && facts() !== undefined)
    const { failure } = this.#writes
    if (failure === undefined) this.#fault = undefined
    else this.#tell(failure)
  }

  /** Reads the objects; false where the cluster does not have the definition. */
  async #read(): Promise<boolean> {
    const found = await this.#list()
    this.#listMs = monotonicMs() + (found === undefined ? RETRY_MS : LIST_MS)
    this.#held = found && new Map(found.map((each) => [each.name, each]))
    this.#writes.listed()
    const has = this.#held
    for (const name of this.#writtenMs.keys()) if (has?.has(name) !== true) this.#writtenMs.delete(name)
    for (const name of has?.keys() ?? [])
      if (!this.#writtenMs.has(name)) this.#writtenMs.set(name, monotonicMs() - FIRST_MS)
    return found !== undefined
  }

  /** The objects that are missing, differ, or are of no member any more. */
  #due(peers: readonly PeerFacts[], isWhole: boolean): readonly Write[] {
    const held = this.#held
    if (held === undefined) return []
    const wanted = new Set<string>(peers.map(({ cluster }) => cluster))
    const sinceMs = (name: string): number => monotonicMs() - (this.#writtenMs.get(name) ?? -Infinity)
    const puts = peers
      .filter((each) => isWriteDue(each, held.get(each.cluster), sinceMs(each.cluster)))
      .map((each) => ({ key: each.cluster, content: firmText(each), send: () => this.#put(each, held) }))
    const gone = [...held.values()].filter(({ name }) => isWhole && !wanted.has(name))
    return [
      ...puts,
      ...gone.map((each) => ({
        key: each.name,
        content: '',
        send: async () => {
          await this.#send(deletePeer(each))
          held.delete(each.name)
        }
      }))
    ]
  }

  /** Makes the object where it is missing, because the status belongs to it, and then writes the status. */
  async #put(facts: PeerFacts, held: Map<string, HeldPeer>): Promise<void> {
    const { node } = this.#options
    const before = held.get(facts.cluster)
    if (before === undefined) await this.#send(applyPeer(facts))
    const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z')
    const answer = await this.#send(applyPeerStatus(facts, { held: before, now, node }))
    if (isFields(answer)) held.set(facts.cluster, readPeer(answer))
    else held.delete(facts.cluster)
    this.#writtenMs.set(facts.cluster, monotonicMs())
  }

  /**
   * All MeshPeers; undefined where the cluster has no definition of them, or the agent no right to them (403, which the API
   * server also answers for a definition that is missing): a cluster may do without.
   */
  async #list(): Promise<readonly HeldPeer[] | undefined> {
    try {
      return await listObjects(this.#api, { path: MESH_PEERS_PATH }, readPeer)
    } catch (error) {
      if (hasStatus(error, 403)) return undefined
      throw error
    }
  }

  /** An object that is gone is no failure: the next list shows that it is missing, or it was to be deleted. */
  async #send(call: KubeCall): Promise<unknown> {
    try {
      return await this.#api.request(call)
    } catch (error) {
      if (!hasStatus(error, 404)) throw error
      return undefined
    }
  }

  /** Keeps the fault for PartWatch, and logs it when its text is new. */
  #tell(error: unknown): void {
    const fault = partFault('MeshPeers', error)
    if (!samePartFault(this.#fault, fault))
      this.#options.log.warn({ err: error }, 'the MeshPeers could not be read or written')
    this.#fault = fault
  }
}

// Milliseconds: an object that was read counts as written this long ago, so that a new speaker corrects it at once and
// refreshes it later.
const FIRST_MS = 10_000
