// Writes the Corefile of a CoreDNS that belongs to this agent, and keeps it up to date with the clusters of the mesh
// (settings corefile, corefile-listen, coredns-pid-file). The text comes from core/coredns/corefile.ts. The operator
// starts CoreDNS; its reload plugin, which the Corefile has, reads a changed file every 2 s, and a pid file lets the
// agent signal it at once.
//
// Invariants
//   1. The file changes only when its text does.
//   2. A cluster that may be missing only on this disk keeps its zone in the file (fail static).
import { corefile, forwardCorefile, upstreamCorefile } from '../../core/coredns/corefile.ts'
import { isServiceZone } from '../../core/model/zones.ts'
import type { MeshView } from '../../core/view/view.ts'
import { putCorefile, tellCoredns } from '../../io/coredns/corefile-file.ts'
import { monotonicMs } from '../observe/clock.ts'
import { AppError } from '../observe/errors.ts'
import { dnsUpstreams, feedAddress } from '../session/local-facts.ts'
import type { Log } from '../observe/log.ts'
import { Loop } from '../../io/timing/loop.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import type { Settings } from '../settings/settings.ts'

// Half the interval of the reload plugin, which reads the file every 2 s.
const LOOK_MS = 1000
/**
 * Milliseconds after the first check in which no zone is removed from the file. A neighbour may have sent the records
 * of a cluster just before a crash, and the disk may not have them. In this time the neighbours send them again; if
 * they do not, the cluster has left.
 */
export const SETTLE_MS = 10_000
// With the feed, each cluster has a block of the kubernetes plugin. These blocks wait for one another when CoreDNS
// starts, 0.1 s each. In a larger mesh one block forwards all zones to the responder of this agent instead, which costs
// no such time.
const FEED_CLUSTERS_MAX = 200

/** `settings.corefile` is not empty: without it, agent.ts creates no OwnCoredns. */
interface OwnCorednsOptions {
  readonly settings: Settings
  /** Returns the mesh as it is now; undefined: the agent is in none. */
  readonly mesh: () => Mesh | undefined
  readonly log: Log
}

/** The values of the mesh from which the Corefile is made. */
export interface Mesh {
  readonly view: MeshView
  /** False while clusters may be missing in the view because the disk has lost records. */
  readonly whole: boolean
  /** The address of the DNS responder of this agent, as "10.0.0.2:53"; undefined while it does not run. */
  readonly responder: string | undefined
}

/** Keeps the Corefile up to date: one check every LOOK_MS. One per process; PartWatch reads its fault. */
export class OwnCoredns {
  readonly #options: OwnCorednsOptions
  readonly #listen: { readonly port?: number; readonly bind?: readonly string[] }
  readonly #loop: Loop
  #fault: PartFault | undefined
  /**
   * The latest text and what it was made of. A view never changes, so the same view and responder give the same text.
   */
  #rendered:
    | { readonly view: MeshView | undefined; readonly responder: string | undefined; readonly text: string }
    | undefined
  /** True while CoreDNS has not been signalled about the latest file, for example because it could not be. */
  #isUntold = false
  /** Monotonic time of the first check, for SETTLE_MS. */
  #firstMs: number | undefined

  constructor(options: OwnCorednsOptions) {
    this.#options = options
    this.#listen = listenOf(options.settings['corefile-listen'])
    this.#loop = new Loop({
      act: () => this.look(),
      intervalMs: LOOK_MS,
      onError: (error) => options.log.error({ err: error }, 'a pass over the Corefile failed')
    })
  }

  /** The fault of the latest check, or none. The code in the registry is MANAGED_COREDNS. */
  get faults(): readonly PartFault[] {
    return this.#fault === undefined ? [] : [this.#fault]
  }

  start(): void {
    this.#loop.start()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /**
   * One check: writes the file if its text differs, and signals CoreDNS. Never rejects; a failure is a fault until a
   * later check succeeds. Tests call it with a time of their own. `nowMs`: monotonic milliseconds.
   */
  async look(nowMs = monotonicMs()): Promise<void> {
    this.#firstMs ??= nowMs
    const isSettled = nowMs - this.#firstMs >= SETTLE_MS
    const { settings, log } = this.#options
    try {
      const text = this.#text()
      if (text === undefined) return
      if (await putCorefile(settings.corefile, text, (before) => isSettled || hasZonesOf(before, text))) {
        this.#isUntold = settings['coredns-pid-file'] !== ''
        log.info(
          { path: settings.corefile, clusters: this.#rendered?.view?.clusters.size ?? 0 },
          'Corefile written'
        )
      }
      if (this.#isUntold) await tellCoredns(settings['coredns-pid-file'])
      this.#isUntold = false
      this.#fault = undefined
    } catch (error) {
      const fault = partFault('corefile', error)
      if (!samePartFault(this.#fault, fault)) log.warn({ err: error }, 'the Corefile could not be updated')
      this.#fault = fault
    }
  }

  /**
   * Returns the text that the file should have. undefined: the view may not be complete, so the file stays as it is.
   * Errors: RangeError for an address that a Corefile cannot have, AppError NO_NAMES.
   */
  #text(): string | undefined {
    const mesh = this.#options.mesh()
    if (mesh !== undefined && !(mesh.whole && mesh.view.clusters.has(mesh.view.self))) return undefined
    const [view, responder] = [mesh?.view, mesh?.responder]
    if (
      this.#rendered?.view !== view ||
      this.#rendered?.responder !== responder ||
      this.#rendered === undefined
    )
      this.#rendered = { view, responder, text: this.#render(view, responder) }
    return this.#rendered.text
  }

  /**
   * In no mesh, all names go to the upstreams. In a mesh, CoreDNS reads the names from the feed and answers from its
   * own copy of them. If there is no feed or the mesh is too large for it, CoreDNS forwards to the responder.
   */
  #render(view: MeshView | undefined, responder: string | undefined): string {
    const { settings } = this.#options
    const common = { ...this.#listen, upstreams: dnsUpstreams(settings) }
    if (view === undefined) return upstreamCorefile(common)
    const feed = feedAddress(settings)
    if (feed !== undefined && (responder === undefined || view.clusters.size <= FEED_CLUSTERS_MAX)) {
      const host = feed.address.includes(':') ? `[${feed.address}]` : feed.address
      const forwarded = responder === undefined ? {} : { responders: [responder] }
      return corefile(view, { ...common, ...forwarded, feedUrl: `http://${host}:${feed.port}` })
    }
    if (responder !== undefined) return forwardCorefile(view, { ...common, responders: [responder] })
    throw new AppError(
      'NO_NAMES',
      'CoreDNS has no source of names: neither the feed nor the DNS responder of this agent runs',
      'set feed-listen or dns-listen to an address'
    )
  }
}

/** Whether the new text has all the cluster zones of the old one. */
function hasZonesOf(before: string, after: string): boolean {
  const zones = new Set(clusterZones(after))
  return clusterZones(before).every((zone) => zones.has(zone))
}

/** The zones of clusters in the server blocks of a Corefile: "cluster.east" for each "cluster.east:53". */
function clusterZones(text: string): readonly string[] {
  return [...text.matchAll(/^(.*:\d+) \{$/gm)].flatMap(([, keys = '']) =>
    [...keys.matchAll(/(\S+):\d+/g)].map(([, zone = '']) => zone).filter(isServiceZone)
  )
}

/** "auto" leaves address and port out: the Corefile then has port 53 of every address. */
function listenOf(listen: Settings['corefile-listen']): {
  readonly port?: number
  readonly bind?: readonly string[]
} {
  return listen === 'auto' ? {} : { port: listen.port, bind: [listen.host] }
}
