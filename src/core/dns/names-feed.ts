// What an agent sends to the DNS responder in its own process, so that the responder answers from the agent's view:
// the difference from what was sent before. fed-names.ts applies the messages on the other side
// (docs/decisions/0044).
// Invariants
//   1. The caller reads `messages()` to its end before it calls it again with a newer view.
//   2. What did not change is not read (sorted-map.ts). A changed service has only its changed slices in the message,
//      as bytes.
import { sliceBytes } from '../wire/lazy-slice.ts'
import type { Cidr, ClusterName, Ip, ServiceValue } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import type { ClusterView, MeshView, ServiceView } from '../view/view.ts'

/** One message to the responder. */
export type NamesMessage =
  | {
      readonly kind: 'cluster'
      readonly name: ClusterName
      readonly podPrefixes: readonly Cidr[]
      readonly servicePrefixes: readonly Cidr[]
      /**
       * True after all services of a complete catalogue were sent, false while the catalogue is incomplete.
       * undefined: the responder keeps the value that it has, which is false for a new cluster.
       */
      readonly complete: boolean | undefined
    }
  | { readonly kind: 'clusterGone'; readonly name: ClusterName }
  | {
      readonly kind: 'service'
      readonly cluster: ClusterName
      readonly key: string
      /** undefined: the responder keeps the service that an earlier message has. */
      readonly service: ServiceValue | undefined
      /**
       * All slices of the service in their order. For a slice without bytes, the responder keeps the one that it has.
       */
      readonly slices: readonly { readonly key: string; readonly bytes?: Uint8Array }[]
    }
  | { readonly kind: 'serviceGone'; readonly cluster: ClusterName; readonly key: string }
  /**
   * Everything that was sent since the feed began is the whole view. The responder forgets what it knows only from an
   * earlier feed.
   */
  | { readonly kind: 'whole' }
  | { readonly kind: 'withdrawn'; readonly clusters: readonly ClusterName[] }
  /** The address in merged zones of each balanced service, by its key: all of them, in place of those before. */
  | { readonly kind: 'balanced'; readonly addresses: readonly (readonly [key: string, address: Ip])[] }
  /** The addresses of `ns.dns.<zone>`. */
  | { readonly kind: 'servers'; readonly addresses: readonly Ip[] }

/** The state that the responder should reach. */
export interface FeedState {
  readonly view: MeshView
  /** Clusters that cannot be reached; `cluster.all` leaves them out. */
  readonly withdrawn: ReadonlySet<ClusterName>
  readonly serverAddresses: readonly Ip[]
  /** The addresses of balanced services; the same map while they are the same. Left out: there are none. */
  readonly balanced?: ReadonlyMap<string, Ip>
  /** Whether this agent has read everything from its disk and its neighbours. */
  readonly isWhole: boolean
}

const NONE: ReadonlyMap<string, Ip> = new Map()

/** One feed: the messages from one agent to one responder since they connected. */
export class NamesFeed {
  /** The cluster views that were sent, to compare the next ones with. */
  readonly #told = new Map<ClusterName, ClusterView>()
  /**
   * Clusters whose whole catalogue the responder has from an earlier agent. They are not sent while this agent's own
   * catalogue is incomplete.
   */
  readonly #kept: Set<ClusterName>
  #withdrawn: string | undefined
  #servers: string | undefined
  #balanced: ReadonlyMap<string, Ip> | undefined
  #isWhole = false

  /**
   * `kept`: the complete clusters that the responder reported. It keeps answering from them until this agent has them
   * complete, or until `forgetKept()`.
   */
  constructor(kept: Iterable<ClusterName>) {
    this.#kept = new Set(kept)
  }

  /** True until the responder has this agent's whole view. */
  get isCatchingUp(): boolean {
    return !this.#isWhole
  }

  /** Ends the wait: from now on this agent's own catalogues are sent even if they are incomplete. */
  forgetKept(): void {
    this.#kept.clear()
  }

  /** The messages from the last state to this one. */
  *messages({
    view,
    withdrawn,
    serverAddresses,
    balanced = NONE,
    isWhole
  }: FeedState): Iterable<NamesMessage> {
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
    // Until the catalogues are complete, the responder keeps the addresses that it has.
    if (this.#balanced !== balanced && (balanced.size > 0 || (isWhole && this.#kept.size === 0))) {
      this.#balanced = balanced
      yield { kind: 'balanced', addresses: [...balanced] }
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
    // An incomplete catalogue is announced before its services, a complete one after them: only then is it certain
    // which names do not exist.
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

/** The message for a new or changed service; `before` is what the responder has. */
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
