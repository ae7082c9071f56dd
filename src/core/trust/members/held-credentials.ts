// The credentials that an agent keeps, within bounds that do not depend on the order of arrival.
// Invariants
//   1. Of one origin and cluster one credential is kept: the one that comes first by `newestFirst`. So a newer
//      generation replaces an older one, and never the reverse.
//   2. Each bound is "the first N by a position that further credentials can only raise": in a cluster the newest, in
//      the mesh one of each cluster in turn. So one cluster cannot use up the room of the others.
//   3. Credentials of a cluster that does not stand never displace those of one that stands. A few are kept, so that a
//      restored cluster comes back without a restart.
// A credential takes about 3 KB here, so 10,000 of them take 30 MB.
import type { ClusterName, Origin, Role } from '../../model/values.ts'
import { newestFirst } from '../set/agents.ts'
import { compareText, type KeyId } from '../set/ids.ts'
import type { AgentCert } from '../set/statement.ts'
import type { Credential } from './credential.ts'

/** An agent as its certificate describes it. The same object as long as the certificate is the same. */
export interface MemberAgent {
  readonly origin: Origin
  readonly cluster: ClusterName
  readonly clusterKey: KeyId
  /** The name of its host. */
  readonly node: string
  readonly roles: readonly Role[]
  readonly generation: number
}

/** A credential without its statements, which the trust set has. */
export interface Held {
  readonly bytes: Uint8Array
  readonly agentKey: Uint8Array
  readonly cert: AgentCert
  readonly agent: MemberAgent
}

/** The numbers, as a value, so that tests can make them small. */
export interface CredentialBounds {
  /** A large cluster has one agent on each Kubernetes node. */
  readonly ofCluster: number
  /** The design's fleet has 1,000 clusters of ten agents. */
  readonly origins: number
  /** Of a cluster that does not stand: enough to reach it when it is restored. */
  readonly ofFallenCluster: number
  /** Of all clusters that do not stand. */
  readonly fallen: number
}

/** The bounds of every member. */
export const CREDENTIAL_BOUNDS: CredentialBounds = {
  ofCluster: 2000,
  origins: 10_000,
  ofFallenCluster: 16,
  fallen: 1000
}

/** What becomes of a credential: `full` when others before it fill the bound, `older` when a newer one is held. */
type Kept = 'kept' | 'same' | 'older' | 'full'

/** Of one cluster. No list is empty. */
interface OfCluster {
  readonly key: KeyId
  stands: boolean
  readonly byOrigin: Map<Origin, Held>
}

/** Keeps credentials by origin and cluster. It knows of standing what its caller says. */
export class HeldCredentials {
  readonly #bounds: CredentialBounds
  readonly #clusters = new Map<KeyId, OfCluster>()
  /** Usually one: an agent that changed its cluster has the old credential, too, until a Bar names it. */
  readonly #origins = new Map<Origin, readonly Held[]>()
  #standing = 0
  #fallen = 0

  constructor(bounds: CredentialBounds) {
    this.#bounds = bounds
  }

  /** The credentials of an origin, one for each cluster. */
  of(origin: Origin): readonly Held[] {
    return this.#origins.get(origin) ?? []
  }

  /** The credentials of a cluster. */
  ofCluster(cluster: KeyId): Iterable<Held> {
    return this.#clusters.get(cluster)?.byOrigin.values() ?? []
  }

  /** All origins with a credential. */
  origins(): Iterable<Origin> {
    return this.#origins.keys()
  }

  /** Keeps a credential, or does not. `stands`: whether its cluster does. O(n) of its cluster beyond a bound. */
  add(credential: Credential, stands: boolean): Kept {
    const { origin, clusterKey, cert } = credential
    const cluster = this.#clusters.get(clusterKey) ?? { key: clusterKey, stands, byOrigin: new Map() }
    const held = cluster.byOrigin.get(origin)
    if (held?.cert.id === cert.id) return 'same'
    if (held !== undefined && newestFirst(held.cert, cert) < 0) return 'older'
    if (held !== undefined) this.#remove(cluster, held)
    const fresh = heldOf(credential)
    this.#insert(cluster, fresh)
    this.#boundCluster(cluster)
    this.#boundAll()
    return cluster.byOrigin.get(origin) === fresh ? 'kept' : 'full'
  }

  /** Applies a new standing: what the set no longer knows goes, what has fallen is cut to its bound. */
  follow(standingOf: (cluster: KeyId) => 'stands' | 'fallen' | 'unknown'): void {
    for (const cluster of this.#clusters.values()) {
      const standing = standingOf(cluster.key)
      if (standing === 'unknown') for (const held of cluster.byOrigin.values()) this.#remove(cluster, held)
      const stands = standing === 'stands'
      if (stands === cluster.stands) continue
      this.#count(cluster, -cluster.byOrigin.size)
      cluster.stands = stands
      this.#count(cluster, cluster.byOrigin.size)
    }
    for (const cluster of this.#clusters.values()) this.#boundCluster(cluster)
    this.#boundAll()
  }

  #insert(cluster: OfCluster, held: Held): void {
    const { origin } = held.agent
    cluster.byOrigin.set(origin, held)
    this.#clusters.set(cluster.key, cluster)
    this.#origins.set(
      origin,
      [...this.of(origin), held].sort((a, b) => newestFirst(a.cert, b.cert))
    )
    this.#count(cluster, 1)
  }

  #remove(cluster: OfCluster, held: Held): void {
    const { origin } = held.agent
    cluster.byOrigin.delete(origin)
    if (cluster.byOrigin.size === 0) this.#clusters.delete(cluster.key)
    const others = this.of(origin).filter((one) => one !== held)
    if (others.length === 0) this.#origins.delete(origin)
    else this.#origins.set(origin, others)
    this.#count(cluster, -1)
  }

  #count({ stands }: OfCluster, by: number): void {
    if (stands) this.#standing += by
    else this.#fallen += by
  }

  /** Removes what is beyond the bound of a cluster. */
  #boundCluster(cluster: OfCluster): void {
    const { ofCluster, ofFallenCluster } = this.#bounds
    while (cluster.byOrigin.size > (cluster.stands ? ofCluster : ofFallenCluster)) this.#removeLast(cluster)
  }

  /** Removes what is beyond the bounds of the mesh, of fallen clusters first. */
  #boundAll(): void {
    const { origins, fallen } = this.#bounds
    while (this.#fallen > fallen) this.#removeLast(this.#largest(false))
    while (this.#standing + this.#fallen > origins) this.#removeLast(this.#largest(this.#fallen === 0))
  }

  /** The cluster with the most credentials: the last one in turn. Of equal ones, that with the highest key. */
  #largest(stands: boolean): OfCluster {
    let largest: OfCluster | undefined
    for (const cluster of this.#clusters.values()) {
      if (cluster.stands !== stands) continue
      const more = largest === undefined ? 1 : cluster.byOrigin.size - largest.byOrigin.size
      if (more > 0 || (more === 0 && compareText(cluster.key, largest?.key ?? '') > 0)) largest = cluster
    }
    if (largest === undefined) throw new Error('a bound is exceeded, but no cluster has a credential')
    return largest
  }

  /** Removes the oldest credential of a cluster. */
  #removeLast(cluster: OfCluster): void {
    let last: Held | undefined
    for (const held of cluster.byOrigin.values())
      if (last === undefined || newestFirst(held.cert, last.cert) > 0) last = held
    if (last !== undefined) this.#remove(cluster, last)
  }
}

/** What is kept of a credential. */
function heldOf({ bytes, agentKey, cert, origin, cluster, clusterKey }: Credential): Held {
  const { node, roles, generation } = cert
  return { bytes, agentKey, cert, agent: { origin, cluster, clusterKey, node, roles, generation } }
}
