// What a responder in another process has to be told so that it answers from this view: the difference to what it was told before.
// Invariants:
//  1. `messages()` is read to its end before it is called again, with a newer view.
//  2. What did not change is not looked at (sorted-map.ts); a changed service carries its changed slices only, as bytes.
import { sliceBytes } from '../wire/lazy-slice.ts'
import type { Cidr, ClusterName, Ip, ServiceValue } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import type { ClusterView, MeshView, ServiceView } from '../view/view.ts'

export type NamesMessage =
  | {
      readonly kind: 'cluster'
      readonly name: ClusterName
      readonly podPrefixes: readonly Cidr[]
      readonly servicePrefixes: readonly Cidr[]
      /** undefined: as told before; of a new cluster false. */
      readonly complete: boolean | undefined
    }
  | { readonly kind: 'clusterGone'; readonly name: ClusterName }
  | {
      readonly kind: 'service'
      readonly cluster: ClusterName
      readonly key: string
      /** undefined: as told before. */
      readonly service: ServiceValue | undefined
      /** All slices of the service in their order; without bytes: as told before. */
      readonly slices: readonly { readonly key: string; readonly bytes?: Uint8Array }[]
    }
  | { readonly kind: 'serviceGone'; readonly cluster: ClusterName; readonly key: string }
  /** All that was told since the feed began is the whole view: what the responder knew from a feed before it goes. */
  | { readonly kind: 'whole' }
  | { readonly kind: 'withdrawn'; readonly clusters: readonly ClusterName[] }
  /** Of `ns.dns.<zone>`. */
  | { readonly kind: 'servers'; readonly addresses: readonly Ip[] }

export interface FeedState {
  readonly view: MeshView
  readonly withdrawn: ReadonlySet<ClusterName>
  readonly serverAddresses: readonly Ip[]
  /** This agent has read all that it had, and its neighbours. */
  readonly isWhole: boolean
}

export class NamesFeed {
  readonly #told = new Map<ClusterName, ClusterView>()
  /** Clusters whose whole catalogue the responder has from an agent before this one. */
  readonly #kept: Set<ClusterName>
  #withdrawn: string | undefined
  #servers: string | undefined
  #isWhole = false

  /** `kept`: what the responder has already. It goes on with that until this agent has it, too, or `forgetKept()`. */
  constructor(kept: Iterable<ClusterName>) {
    this.#kept = new Set(kept)
  }

  /** True until the responder has this agent's whole view. */
  get isCatchingUp(): boolean {
    return !this.#isWhole
  }

  /** This agent has what there is: the responder's own is not waited for any longer. */
  forgetKept(): void {
    this.#kept.clear()
  }

  *messages({ view, withdrawn, serverAddresses, isWhole }: FeedState): Iterable<NamesMessage> {
    const servers = serverAddresses.join()
    if (servers !== this.#servers) {
      this.#servers = servers
      yield { kind: 'servers', addresses: serverAddresses }
    }
    for (const cluster of view.clusters.values()) {
      if (cluster.complete) this.#kept.delete(cluster.name)
      if (!this.#kept.has(cluster.name)) yield* this.#cluster(cluster)
    }
    for (const name of this.#told.keys()) {
      if (view.clusters.has(name)) continue
      this.#told.delete(name)
      yield { kind: 'clusterGone', name }
    }
    const dead = [...withdrawn].sort()
    if (dead.join() !== this.#withdrawn) {
      this.#withdrawn = dead.join()
      yield { kind: 'withdrawn', clusters: dead }
    }
    if (this.#isWhole || this.#kept.size > 0 || !isWhole) return
    this.#isWhole = true
    yield { kind: 'whole' }
  }

  *#cluster(cluster: ClusterView): Iterable<NamesMessage> {
    const { name, podPrefixes, servicePrefixes, complete } = cluster
    const told = this.#told.get(name)
    if (told === cluster) return
    this.#told.set(name, cluster)
    // An incomplete catalogue is said before its services, a complete one after them: absent names are certain only then.
    if (told === undefined || !complete)
      yield { kind: 'cluster', name, podPrefixes, servicePrefixes, complete: complete ? undefined : false }
    if (told === undefined) {
      for (const [key, view] of cluster.services) yield serviceMessage(name, key, { before: undefined, view })
    } else {
      for (const { key, before, after } of changesBetween(told.services, cluster.services)) {
        if (after === undefined) yield { kind: 'serviceGone', cluster: name, key }
        else yield serviceMessage(name, key, { before, view: after })
      }
    }
    if (!complete) return
    const isSame =
      told?.complete === true && told.podPrefixes === podPrefixes && told.servicePrefixes === servicePrefixes
    if (!isSame) yield { kind: 'cluster', name, podPrefixes, servicePrefixes, complete }
  }
}

function serviceMessage(
  cluster: ClusterName,
  key: string,
  { before, view }: { readonly before: ServiceView | undefined; readonly view: ServiceView }
): NamesMessage {
  const known = new Map(before?.slices.map((slice) => [`${slice.namespace}/${slice.name}`, slice]))
  return {
    kind: 'service',
    cluster,
    key,
    service: before?.service === view.service ? undefined : view.service,
    slices: view.slices.map((slice) => {
      const name = `${slice.namespace}/${slice.name}`
      return known.get(name) === slice
        ? { key: `eps/${name}` }
        : { key: `eps/${name}`, bytes: sliceBytes(slice) }
    })
  }
}
