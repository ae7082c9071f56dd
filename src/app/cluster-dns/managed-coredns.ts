// A CoreDNS that this agent owns: its Corefile follows the clusters of the mesh (settings corefile, corefile-listen, coredns-pid-file).
// CoreDNS itself is started by whoever installed it; with the reload plugin, which the file has, it needs no word from us.
//
// Invariants
//   1. The file changes only when its text does.
//   2. What may only be missing on this disk takes no zone out of it: fail static.
import { corefile, forwardCorefile, upstreamCorefile } from '../../core/coredns/corefile.ts'
import type { MeshView } from '../../core/view/view.ts'
import { putCorefile, tellCoredns } from '../../io/coredns/corefile-file.ts'
import { monotonicMs } from '../observe/clock.ts'
import { AppError } from '../observe/errors.ts'
import { dnsUpstreams, feedAddress } from '../session/local-facts.ts'
import type { Log } from '../observe/log.ts'
import { Loop } from '../observe/loop.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import type { Settings } from '../settings/settings.ts'

// CoreDNS looks every two seconds.
const LOOK_MS = 1000
// What was learnt just before a crash may not be on the disk; the neighbours say it again in this time, or it has gone.
export const SETTLE_MS = 10_000
// The plugin's blocks wait for one another at CoreDNS's start, 0.1 s each; one block that forwards has no such cost.
const FEED_CLUSTERS_MAX = 200

export interface OwnCorednsOptions {
  readonly settings: Settings
  /** undefined: in no mesh. */
  readonly mesh: () => Mesh | undefined
  readonly log: Log
}

export interface Mesh {
  readonly view: MeshView
  /** False: clusters may be missing in it. */
  readonly whole: boolean
  /** "10.0.0.2:53", where our own responder listens. */
  readonly responder: string | undefined
}

export class OwnCoredns {
  readonly #options: OwnCorednsOptions
  readonly #listen: { readonly port?: number; readonly bind?: readonly string[] }
  readonly #loop: Loop
  #fault: PartFault | undefined
  #rendered:
    | { readonly view: MeshView | undefined; readonly responder: string | undefined; readonly text: string }
    | undefined
  #isUntold = false
  #firstMs: number | undefined

  /** Errors: AppError BAD_SETTING. */
  constructor(options: OwnCorednsOptions) {
    this.#options = options
    this.#listen = listenOf(options.settings['corefile-listen'])
    this.#loop = new Loop({
      act: () => this.look(),
      intervalMs: LOOK_MS,
      onError: (error) => options.log.error({ err: error }, 'a pass over the Corefile failed')
    })
  }

  get faults(): readonly PartFault[] {
    return this.#fault === undefined ? [] : [this.#fault]
  }

  start(): void {
    this.#loop.start()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** What fails is a fault, and tried again with the next look. For tests; `nowMs` is monotonic. */
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
      if (!samePartFault(this.#fault, fault))
        log.warn({ err: error }, 'the Corefile does not follow the mesh')
      this.#fault = fault
    }
  }

  /** undefined: not known well enough to touch what is there. Errors: RangeError, AppError. */
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

  #render(view: MeshView | undefined, responder: string | undefined): string {
    const { settings } = this.#options
    const common = { ...this.#listen, upstreams: dnsUpstreams(settings) }
    if (view === undefined) return upstreamCorefile(common)
    const feed = feedAddress(settings)
    if (feed !== undefined && (responder === undefined || view.clusters.size <= FEED_CLUSTERS_MAX)) {
      const host = feed.address.includes(':') ? `[${feed.address}]` : feed.address
      return corefile(view, { ...common, feedUrl: `http://${host}:${feed.port}` })
    }
    if (responder !== undefined) return forwardCorefile(view, { ...common, responders: [responder] })
    throw new AppError(
      'NO_NAMES',
      'neither the feed nor our own DNS responder runs, so CoreDNS has nobody to ask',
      'set feed-listen or dns-listen'
    )
  }
}

function hasZonesOf(before: string, after: string): boolean {
  const zones = new Set(clusterZones(after))
  return clusterZones(before).every((zone) => zones.has(zone))
}

/** "cluster.east" of each "cluster.east:53". */
function clusterZones(text: string): readonly string[] {
  return [...text.matchAll(/^(.*:\d+) \{$/gm)].flatMap(([, keys = '']) =>
    [...keys.matchAll(/\b(cluster\.[^:]+):/g)].map(([, zone = '']) => zone)
  )
}

function listenOf(listen: Settings['corefile-listen']): {
  readonly port?: number
  readonly bind?: readonly string[]
} {
  return listen === 'auto' ? {} : { port: listen.port, bind: [listen.host] }
}
