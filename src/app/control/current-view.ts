// The view of this agent's replica, built when it is asked for and kept until something that it depends on changes:
// records, members, or the addresses of this host.
import type { Crypto } from '../../core/model/crypto.ts'
import type { Ip, Origin } from '../../core/model/values.ts'
import { hostOfMultiaddr } from '../../core/model/outer-address.ts'
import { isLoopback } from '../../core/model/unroutable.ts'
import { isPosition } from '../../core/replication/head.ts'
import type { Protocol } from '../../core/replication/protocol.ts'
import { createViewBuilder, type ViewInput } from '../../core/view/build-view.ts'
import type { OwnSide } from '../../core/view/own-side.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { Metrics } from '../observe/metrics.ts'

const NO_ADDRESSES: ReadonlySet<Ip> = new Set()

/** The sources of the view. */
interface CurrentViewOptions extends Pick<ViewInput, 'self' | 'selfOrigin' | 'members'> {
  readonly protocol: Pick<Protocol, 'origins' | 'records' | 'head' | 'keysSince'>
  readonly crypto: Crypto
  readonly metrics: Pick<Metrics, 'propagation'>
  readonly meshId: Uint8Array
  /** The multiaddrs of the setting listen. */
  readonly listen: readonly string[]
  /** Returns the addresses of this host, and the same object while they are the same. Default: none are known. */
  readonly hostAddresses?: (() => ReadonlySet<Ip>) | undefined
  /** Shows the own cluster with its real addresses. Default: its addresses in the mesh are its real ones. */
  readonly ownSide?: OwnSide | undefined
}

/** The view of one session. */
export class CurrentView {
  readonly #options: CurrentViewOptions
  readonly #builder: ReturnType<typeof createViewBuilder>
  readonly #allowsLoopback: boolean
  #view: MeshView | undefined
  #addresses = NO_ADDRESSES

  constructor(options: CurrentViewOptions) {
    this.#options = options
    this.#builder = createViewBuilder(options)
    this.#allowsLoopback = options.listen.some((address) => isLoopback(hostOfMultiaddr(address)))
  }

  /** Call it when records or members have changed. */
  changed(): void {
    this.#options.metrics.propagation.changed()
    this.#view = undefined
  }

  get(): MeshView {
    const { self, selfOrigin, members, protocol, hostAddresses, ownSide, metrics } = this.#options
    const addresses = hostAddresses?.() ?? NO_ADDRESSES
    if (addresses !== this.#addresses) this.#view = undefined
    this.#addresses = addresses
    if (this.#view !== undefined) return this.#view
    metrics.propagation.begin('view')
    const view = this.#builder.build({
      self,
      selfOrigin,
      hostAddresses: addresses,
      allowsLoopback: this.#allowsLoopback,
      members:
        ownSide === undefined
          ? members
          : {
              agentOf: (origin) => members.agentOf(origin),
              settlement: () => ownSide.settlement(members.settlement(), self)
            },
      origins: protocol.origins(),
      records: (origin: Origin) => protocol.records(origin).values(),
      version: (origin) => protocol.head(origin),
      record: (origin, key) => protocol.records(origin).get(key),
      keysSince: (origin, version) => (isPosition(version) ? protocol.keysSince(origin, version) : undefined)
    })
    this.#view = ownSide?.view(view) ?? view
    metrics.propagation.done('view')
    return this.#view
  }
}
