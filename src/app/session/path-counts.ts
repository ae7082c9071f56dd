// The metrics of the other clusters: state, round trip, path and bytes of their tunnels, and how far this agent lags behind.
// path-watch.ts calls it once a second.
// Invariants
//   1. At most CLUSTERS_MAX clusters have series. `rhizome_clusters` tells how many there are.
//   2. A cluster that has left has no series: an alert on the last value of one would never end.
import { gatewaysOf } from '../../core/host/nodes.ts'
import type { ClusterName, Origin, WireguardKey } from '../../core/model/values.ts'
import type { ClusterView, MeshView } from '../../core/view/view.ts'
import type { Control } from '../control/control.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { PathNow } from '../paths/path-text.ts'
import type { Tunnel } from './tunnels.ts'

// Each cluster has nine series, so these are fewer than ten thousand. Of more clusters those have series that came first.
const CLUSTERS_MAX = 1024
const PATHS = ['direct', 'tcp', 'relay'] as const
const DIRECTIONS = ['in', 'out'] as const

/** The facts that are counted. */
interface Counted {
  readonly view: MeshView
  readonly control: Pick<Control, 'lag' | 'own'>
  readonly tunnels: { of(origin: Origin): Pick<Tunnel, 'state' | 'rttMs' | 'stats'> | undefined }
  readonly ways: { of(origin: Origin): Pick<PathNow, 'path'> | undefined }
}

type Bytes = Readonly<Record<(typeof DIRECTIONS)[number], number>>

/** The metrics of one session. */
export class PathCounts {
  readonly #metrics: Metrics
  #named: ReadonlySet<ClusterName> = new Set()
  /** The counters of each WireGuard peer at the last reading. */
  #read: ReadonlyMap<WireguardKey, Bytes> = new Map()

  constructor(metrics: Metrics) {
    this.#metrics = metrics
  }

  tell({ view, control, ...of }: Counted): void {
    const others = [...view.clusters.keys()].filter((name) => name !== view.self)
    const present = new Set(others)
    const kept = [...this.#named].filter((name) => present.has(name))
    this.#name(new Set([...new Set([...kept, ...others])].slice(0, CLUSTERS_MAX)))
    const read = new Map<WireguardKey, Bytes>()
    for (const name of this.#named) {
      const cluster = view.clusters.get(name)
      if (cluster !== undefined) this.#tellCluster(cluster, { ...of, control, read })
    }
    this.#read = read
    for (const [quota, used] of Object.entries(control.own.used()))
      this.#metrics.quotaUsed.set({ quota }, used)
  }

  /** Removes all series: after the session nothing is known of any cluster. */
  stop(): void {
    this.#name(new Set())
    this.#read = new Map()
  }

  #name(named: ReadonlySet<ClusterName>): void {
    for (const cluster of this.#named) {
      if (named.has(cluster)) continue
      const { tunnelUp, tunnelRtt, lag, tunnelPath, tunnelBytes } = this.#metrics
      for (const gauge of [tunnelUp, tunnelRtt, lag]) gauge.remove({ cluster })
      for (const path of PATHS) tunnelPath.remove({ cluster, path })
      for (const direction of DIRECTIONS) tunnelBytes.remove({ cluster, direction })
    }
    this.#named = named
  }

  /** A cluster is up when one of its tunnels is; its round trip is that of the first agent for which one is known. */
  #tellCluster(
    { name: cluster, agents }: ClusterView,
    { control, tunnels, ways, read }: Omit<Counted, 'view'> & { readonly read: Map<WireguardKey, Bytes> }
  ): void {
    const metrics = this.#metrics
    const found = gatewaysOf({ agents }).flatMap(({ origin }) => {
      const tunnel = tunnels.of(origin)
      return tunnel === undefined ? [] : [{ tunnel, path: ways.of(origin)?.path ?? 'direct' }]
    })
    metrics.tunnelUp.set({ cluster }, found.some(({ tunnel }) => tunnel.state === 'up') ? 1 : 0)
    const rttMs = found.find(({ tunnel }) => tunnel.rttMs !== undefined)?.tunnel.rttMs
    if (rttMs === undefined) metrics.tunnelRtt.remove({ cluster })
    else metrics.tunnelRtt.set({ cluster }, rttMs / 1000)
    metrics.lag.set({ cluster }, Math.max(0, ...agents.map(({ origin }) => control.lag(origin))))
    for (const path of PATHS)
      metrics.tunnelPath.set(
        { cluster, path },
        found.filter((each) => each.path === path || each.path.startsWith(`${path}:`)).length
      )
    for (const { tunnel } of found) if (tunnel.stats !== undefined) this.#count(cluster, tunnel.stats, read)
  }

  /**
   * Counts the bytes since the last reading. The first one of a peer only begins: the kernel counts since before this
   * agent. Counters that fell are those of a new device.
   */
  #count(
    cluster: ClusterName,
    { publicKey, rxBytes, txBytes }: NonNullable<Tunnel['stats']>,
    read: Map<WireguardKey, Bytes>
  ): void {
    const now: Bytes = { in: rxBytes, out: txBytes }
    const before = this.#read.get(publicKey) ?? now
    read.set(publicKey, now)
    for (const direction of DIRECTIONS) {
      const more = now[direction] - before[direction]
      this.#metrics.tunnelBytes.inc({ cluster, direction }, more < 0 ? now[direction] : more)
    }
  }
}
