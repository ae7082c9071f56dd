// The Prometheus metrics of the agent, which /metrics serves (agent/health-http.ts). Each part of the agent sets its
// own. The number of time series is bounded: no label has a value that a peer chooses, except names of clusters. Each of
// those needs a certificate of the mesh, and is a DNS label. session/tell-paths.ts bounds their number, and removes the
// series of clusters that have left.
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import type { Health } from './health.ts'
import { Propagation } from './propagation.ts'
import { VERSION } from './version.ts'

/** All metrics, and the registry that renders them. */
export type Metrics = ReturnType<typeof createMetrics>

// Bounds of the histograms' buckets, in seconds. A pass over the host takes milliseconds; an operation on a loaded
// edge machine takes seconds. A DNS answer of the mesh takes less than a millisecond, one of an upstream up to
// seconds.
const PASS_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]
const QUERY_BUCKETS = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 2]
// A change of one service takes milliseconds to the kernel, and that of a whole cluster seconds.
const PROPAGATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/**
 * Creates the metrics, and those of the Node process (memory, event loop, garbage collection). Each call has a
 * registry of its own.
 */
export function createMetrics() {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const registers = [registry]
  const faults = new Gauge({
    name: 'rhizome_faults',
    help: 'Faults in the registry of health; meshctl status shows their texts and fixes',
    labelNames: ['code', 'severity'],
    registers
  })
  new Gauge({
    name: 'rhizome_build_info',
    help: 'Always 1; the labels are the versions of meshd and of Node.js',
    labelNames: ['version', 'nodejs'],
    registers
  }).set({ version: VERSION, nodejs: process.versions.node }, 1)
  return {
    registry,
    /**
     * Copies the registry of health into `rhizome_faults`; called once a second (agent/part-watch.ts). The numbers of
     * codes and severities are fixed, so the number of time series is, too. Faults beyond the bound of the registry
     * are counted with the severity of the first fault of their code.
     */
    tellHealth(health: Health) {
      faults.reset()
      for (const { code, severity } of health.faults()) faults.inc({ code, severity })
      for (const [code, more] of health.excess()) {
        const severity = health.faults().find((fault) => fault.code === code)?.severity ?? 'error'
        faults.inc({ code, severity }, more)
      }
    },
    sourceSnapshots: new Counter({
      name: 'rhizome_source_snapshots_total',
      help: 'Snapshots read from the source',
      registers
    }),
    sourceProblems: new Gauge({
      name: 'rhizome_source_problems',
      help: 'Problems of the manifests or Kubernetes objects of this cluster',
      registers
    }),
    frames: new Counter({
      name: 'rhizome_frames_total',
      help: 'Frames on control connections',
      labelNames: ['direction'],
      registers
    }),
    frameBytes: new Counter({
      name: 'rhizome_frames_bytes_total',
      help: 'Bytes of frames on control connections',
      labelNames: ['direction'],
      registers
    }),
    // The label `reason` has one of at most 64 kinds, and `other` (control/refusals.ts).
    refused: new Counter({
      name: 'rhizome_refused_total',
      help: 'Records, frames and connections refused',
      labelNames: ['reason'],
      registers
    }),
    // The label `kind` has one of the five kinds of `meshctl events`.
    events: new Counter({
      name: 'rhizome_events_total',
      help: 'Refusals, disconnections, bans and changes of paths; meshctl events shows the peers and reasons',
      labelNames: ['kind'],
      registers
    }),
    banned: new Gauge({
      name: 'rhizome_banned_peers',
      help: 'Members whose control connections are refused for now, because of malformed or badly signed frames',
      registers
    }),
    // The label `reason` has one of the three values of DROP_REASONS (io/host/ports.ts).
    droppedPackets: new Counter({
      name: 'rhizome_dropped_packets_total',
      help: 'Packets that did not come out of the tunnel and were dropped: forged sources, and other machines that ask service addresses',
      labelNames: ['reason'],
      registers
    }),
    neighbours: new Gauge({
      name: 'rhizome_neighbours',
      help: 'Authenticated control connections',
      registers
    }),
    clusters: new Gauge({
      name: 'rhizome_clusters',
      help: 'Clusters of the mesh that this agent knows, including its own',
      registers
    }),
    // Set once a second for each other cluster (session/tell-paths.ts): 1 when the tunnel to at least one of its
    // agents is up.
    tunnelUp: new Gauge({
      name: 'rhizome_tunnel_up',
      help: '1 while at least one tunnel to the cluster is up, else 0',
      labelNames: ['cluster'],
      registers
    }),
    tunnelRtt: new Gauge({
      name: 'rhizome_tunnel_rtt_seconds',
      help: 'Round-trip time through the tunnel to the cluster',
      labelNames: ['cluster'],
      registers
    }),
    // WireGuard's counters of all gateways of the cluster that have a tunnel with this host (session/tunnel-bytes.ts).
    tunnelBytes: new Counter({
      name: 'rhizome_tunnel_bytes_total',
      help: 'Bytes of WireGuard packets, in from the cluster and out to it',
      labelNames: ['cluster', 'direction'],
      registers
    }),
    // `path` is direct, tcp or relay.
    tunnelPath: new Gauge({
      name: 'rhizome_tunnel_path',
      help: 'Gateways of the cluster whose tunnel goes by this path: UDP, the control connection, or a relay',
      labelNames: ['cluster', 'path'],
      registers
    }),
    // The largest lag among the agents of the cluster; 0 when this agent holds all that its neighbours have told of.
    lag: new Gauge({
      name: 'rhizome_replica_lag',
      help: 'Operations that other members have announced and this agent does not hold yet',
      labelNames: ['cluster'],
      registers
    }),
    // All times are of this host's monotonic clock, so no clock of another host counts. What a change took from another
    // host to this one is therefore not in it; `rhizome_replica_lag` shows a backlog there.
    propagation: new Propagation(
      new Histogram({
        name: 'rhizome_propagation_seconds',
        help: 'Time on this host from a change to a stop: record is from the source to the signed record on disk; view, plan and kernel are from the record, its own or received, to the view, the plan, and the programmed kernel',
        labelNames: ['stop'],
        buckets: PROPAGATION_BUCKETS,
        registers
      })
    ),
    // `quota` is keys or bytes: what all other members accept of one cluster (core/replication/limits.ts).
    quotaUsed: new Gauge({
      name: 'rhizome_quota_used_ratio',
      help: 'Part of what the mesh accepts of the records of this agent that they use; above 1, records are left out',
      labelNames: ['quota'],
      registers
    }),
    // `path` has the name of a path, `direction` is `in` or `out`, and `result` one of the eight fates of a datagram
    // (paths/carried.ts).
    pathDatagrams: new Counter({
      name: 'rhizome_path_datagrams_total',
      help: 'Datagrams of tunnels that this agent has carried, and dropped for another result',
      labelNames: ['path', 'direction', 'result'],
      registers
    }),
    // `result` is `ok`, or `failed` when at least one operation or part of the host has failed.
    passes: new Counter({
      name: 'rhizome_passes_total',
      help: 'Passes of the reconciler over this host',
      labelNames: ['result'],
      registers
    }),
    passSeconds: new Histogram({
      name: 'rhizome_pass_seconds',
      help: 'Duration of one pass of the reconciler',
      buckets: PASS_BUCKETS,
      registers
    }),
    hostOps: new Counter({
      name: 'rhizome_host_ops_total',
      help: 'Operations applied to the host',
      labelNames: ['kind'],
      registers
    }),
    dnsQueries: new Counter({
      name: 'rhizome_dns_queries_total',
      help: 'DNS queries to the responder of this agent',
      labelNames: ['zone', 'rcode'],
      registers
    }),
    dnsSeconds: new Histogram({
      name: 'rhizome_dns_query_seconds',
      help: 'Time from a DNS query to its answer',
      labelNames: ['zone'],
      buckets: QUERY_BUCKETS,
      registers
    })
  }
}
