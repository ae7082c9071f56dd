// Prometheus metrics: each stop of the line counts and times itself.
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import type { Health } from './health.ts'

export type Metrics = ReturnType<typeof createMetrics>

// Seconds. A pass takes milliseconds; a step on a loaded edge box takes seconds.
const PASS_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]
const QUERY_BUCKETS = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 2]

export function createMetrics() {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const registers = [registry]
  const faults = new Gauge({
    name: 'rhizome_faults',
    help: 'Faults of the registry of health; meshctl status shows their texts and fixes',
    labelNames: ['code', 'severity'],
    registers
  })
  return {
    registry,
    /** Codes and severities are fixed in number, so that the labels are, too. */
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
      help: 'Manifests that do not count',
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
      help: 'Bytes of frames',
      labelNames: ['direction'],
      registers
    }),
    refused: new Counter({
      name: 'rhizome_refused_total',
      help: 'Records, frames and connections refused',
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
      help: 'Clusters of the view, own one included',
      registers
    }),
    tunnelUp: new Gauge({
      name: 'rhizome_tunnel_up',
      help: '1 when the tunnel to the cluster passes packets',
      labelNames: ['cluster'],
      registers
    }),
    tunnelRtt: new Gauge({
      name: 'rhizome_tunnel_rtt_seconds',
      help: 'Round trip inside the tunnel',
      labelNames: ['cluster'],
      registers
    }),
    lag: new Gauge({
      name: 'rhizome_replica_lag',
      help: 'Operations known of and not held',
      labelNames: ['cluster'],
      registers
    }),
    passes: new Counter({
      name: 'rhizome_passes_total',
      help: 'Passes of the reconciler',
      labelNames: ['result'],
      registers
    }),
    passSeconds: new Histogram({
      name: 'rhizome_pass_seconds',
      help: 'One pass: desired, observe, plan, apply',
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
      help: 'DNS queries',
      labelNames: ['zone', 'rcode'],
      registers
    }),
    dnsSeconds: new Histogram({
      name: 'rhizome_dns_query_seconds',
      help: 'Time to an answer',
      labelNames: ['zone'],
      buckets: QUERY_BUCKETS,
      registers
    })
  }
}
