// The room that the states of other origins may take in the memory of this agent: of one cluster, and of all together.
// Each state counts with the bytes that it takes here (recordBytes), so a million records of one byte cost what they
// cost.
// Invariants
//   B1. The states of one cluster never take more than `bytesPerClusterMax` and `keysPerClusterMax`. A cluster that
//       exceeds them loses its own largest other state, or its new state is refused: no other cluster loses anything.
//   B2. All states together never take more than `bytesMax`. A state that does not fit makes the greediest cluster
//       lose its largest state. When its own cluster is the greediest, the new state is refused. So a cluster that
//       takes less than an equal share of the room never loses anything; what the own cluster takes is no room of the others.
//   B3. The state of this agent itself is never removed; own-records.ts keeps it within the same limits.
import type { Origin } from '../model/values.ts'
import type { RoomLimits } from './limits.ts'

/** What a state takes: the number of its live records, and their bytes in memory (recordBytes). */
export interface Size {
  readonly keys: number
  readonly bytes: number
}

/** The answer to a state that wants to grow to a size. */
type RoomVerdict =
  | { readonly kind: 'fits' }
  /** Remove the state of this origin, then ask again. */
  | { readonly kind: 'evict'; readonly origin: Origin }
  | { readonly kind: 'refused'; readonly reason: RoomRefusal }

/** Why a state is refused; counted as the reason. */
export type RoomRefusal = 'no room for this cluster' | 'no room'

/** The states of one cluster. */
interface Account {
  readonly cluster: string
  readonly sizes: Map<Origin, Size>
  keys: number
  bytes: number
}

const NOTHING: Size = { keys: 0, bytes: 0 }

/** The sizes of all states by cluster. */
export class RoomBudget {
  readonly #limits: RoomLimits
  readonly #self: Origin
  readonly #accounts = new Map<string, Account>()
  readonly #clusterOf = new Map<Origin, string>()
  #bytes = 0

  constructor(self: Origin, limits: RoomLimits) {
    this.#self = self
    this.#limits = limits
  }

  /** Bytes of all states. */
  get bytes(): number {
    return this.#bytes
  }

  /** The number of origins of a cluster that have a state here. */
  origins(cluster: string): number {
    return this.#accounts.get(cluster)?.sizes.size ?? 0
  }

  /** Judges whether the state of an origin may have this size. It changes nothing. O(origins) where a limit is reached. */
  judge(origin: Origin, cluster: string, size: Size): RoomVerdict {
    const account = this.#accounts.get(cluster)
    const held = account?.sizes.get(origin) ?? NOTHING
    const isSmaller = size.bytes <= held.bytes && size.keys <= held.keys
    if (isSmaller || origin === this.#self) return { kind: 'fits' }
    const ofCluster = {
      keys: (account?.keys ?? 0) - held.keys + size.keys,
      bytes: (account?.bytes ?? 0) - held.bytes + size.bytes
    }
    const { keysPerClusterMax, bytesPerClusterMax, bytesMax } = this.#limits
    if (ofCluster.keys > keysPerClusterMax || ofCluster.bytes > bytesPerClusterMax) {
      const other = account && this.#largest(account, origin)
      const isAlone = size.keys > keysPerClusterMax || size.bytes > bytesPerClusterMax
      if (other === undefined || isAlone) return { kind: 'refused', reason: 'no room for this cluster' } // B1
      return { kind: 'evict', origin: other }
    }
    if (this.#bytes - held.bytes + size.bytes <= bytesMax) return { kind: 'fits' }
    const greediest = this.#greediest(cluster)
    const victim = greediest && this.#largest(greediest, origin)
    if (victim === undefined || (greediest?.bytes ?? 0) <= ofCluster.bytes)
      return { kind: 'refused', reason: 'no room' } // B2
    return { kind: 'evict', origin: victim }
  }

  /** Notes the size of a state that was taken. */
  set(origin: Origin, cluster: string, size: Size): void {
    if (this.#clusterOf.get(origin) !== cluster) this.drop(origin)
    let account = this.#accounts.get(cluster)
    if (account === undefined) {
      account = { cluster, sizes: new Map(), keys: 0, bytes: 0 }
      this.#accounts.set(cluster, account)
    }
    const held = account.sizes.get(origin) ?? NOTHING
    account.sizes.set(origin, size)
    account.keys += size.keys - held.keys
    account.bytes += size.bytes - held.bytes
    this.#bytes += size.bytes - held.bytes
    this.#clusterOf.set(origin, cluster)
  }

  /** Forgets a state that was removed. */
  drop(origin: Origin): void {
    const cluster = this.#clusterOf.get(origin)
    const account = cluster === undefined ? undefined : this.#accounts.get(cluster)
    if (account === undefined) return
    const held = account.sizes.get(origin) ?? NOTHING
    account.sizes.delete(origin)
    account.keys -= held.keys
    account.bytes -= held.bytes
    this.#bytes -= held.bytes
    this.#clusterOf.delete(origin)
    if (account.sizes.size === 0) this.#accounts.delete(account.cluster)
  }

  /** The origin with the largest state of a cluster, except this one and this agent (B3). */
  #largest(account: Account, except: Origin): Origin | undefined {
    let [largest, bytes]: [Origin | undefined, number] = [undefined, 0]
    for (const [origin, size] of account.sizes)
      if (origin !== except && origin !== this.#self && size.bytes > bytes)
        [largest, bytes] = [origin, size.bytes]
    return largest
  }

  /** The cluster that takes the most bytes, except this one and that of this agent. */
  #greediest(except: string): Account | undefined {
    let greediest: Account | undefined
    for (const account of this.#accounts.values())
      if (
        account.cluster !== except &&
        !account.sizes.has(this.#self) &&
        account.bytes > (greediest?.bytes ?? 0)
      )
        greediest = account
    return greediest
  }
}
