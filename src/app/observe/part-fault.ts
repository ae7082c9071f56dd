// A fault of a part of the agent, which the part keeps until it works again; and the transfer of all these faults to
// the registry of health. A part that offers its fault this way needs no access to the registry.
import { explain, READ_LOG } from './errors.ts'
import type { Health, Severity } from './health.ts'

/** The reason why a part does not work now. */
export interface PartFault {
  readonly message: string
  /** '' when the error has no fix. Then the fix of the table below is shown. */
  readonly fix: string
}

/** Makes the fault of an error. `part`: the name at the start of the message, for example "dns". */
export function partFault(part: string, error: unknown): PartFault {
  const { message, fix } = explain(error)
  return { message: `${part}: ${message}`, fix: fix ?? '' }
}

/**
 * Returns whether both faults have the same texts, or both are absent. Parts log a fault only when it has changed.
 */
export function samePartFault(a: PartFault | undefined, b: PartFault | undefined): boolean {
  return a?.message === b?.message && a?.fix === b?.fix
}

/** The severity and the fix with which the faults of one code are shown. */
interface Row {
  readonly severity: Severity
  /** The fix where the error itself has none. */
  readonly fix: string
}

const ROWS = {
  STORE: {
    severity: 'warning',
    fix: 'the agent has repaired it; check the disk, and that no other program writes into the state folder'
  },
  HOST_SETUP: { severity: 'warning', fix: `${READ_LOG}; the agent programs the rest of the host` },
  CLUSTER_DNS: { severity: 'error', fix: `${READ_LOG}; the agent tries again every 5 s` },
  MULTICLUSTER: {
    severity: 'error',
    fix: 'check the rights of the agent to ServiceImports and ServiceExports (chart: mcs.enabled); it tries again every 30 s'
  },
  MESH_PEERS: {
    severity: 'warning',
    fix: 'check the rights of the agent to MeshPeers (chart: meshPeers.enabled); it tries again within 60 s'
  },
  MESH_INVITES: {
    severity: 'warning',
    fix: 'check the rights of the agent to MeshInvites and Secrets of its namespace (chart: meshInvites.enabled); it tries again within 30 s'
  },
  MANAGED_COREDNS: { severity: 'error', fix: `${READ_LOG}; the agent tries again every second` },
  SOURCE: {
    severity: 'error',
    fix: 'check the API server and the rights of the agent to its Lease; the agent tries again every 2 s'
  },
  CLUSTER_KEY: {
    severity: 'error',
    fix: 'check the Secret rhizome-cluster-key; the agent tries again every 5 s'
  },
  CONTROL: { severity: 'error', fix: READ_LOG },
  DNS_FAILED: { severity: 'error', fix: 'check the setting dns-listen; the agent tries again every second' },
  PROBE_FAILED: {
    severity: 'error',
    fix: 'check the setting probe-port; the agent tries again every second'
  },
  // Another process may have the port of the feed, and CoreDNS would read that process instead. So the agent is not
  // ready: critical makes /readyz answer 503.
  FEED_FAILED: {
    severity: 'critical',
    fix: 'check the setting feed-listen; the agent tries again every second'
  }
} as const satisfies Record<string, Row>

/** The codes of faults that `tellParts` sets. */
type PartCode = keyof typeof ROWS

/**
 * Sets the faults of all parts in the registry, and clears those that no part has any more. `faults` has the present
 * faults of each code; entries that are undefined are skipped. Called once a second by agent/part-watch.ts.
 */
export function tellParts(
  health: Health,
  faults: Readonly<Record<PartCode, readonly (PartFault | undefined)[]>>
): void {
  for (const [code, list] of Object.entries(faults) as [PartCode, readonly (PartFault | undefined)[]][]) {
    const { severity, fix } = ROWS[code]
    health.replace(
      code,
      list
        .filter((fault) => fault !== undefined)
        .map((fault) => ({
          severity,
          subject: fault.message,
          message: fault.message,
          fix: fault.fix === '' ? fix : fault.fix
        }))
    )
  }
}
