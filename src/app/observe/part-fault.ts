// A fault of a part of the agent, which the part keeps until it works again; and the transfer of all these faults to
// the registry of health. A part that offers its fault this way needs no access to the registry.
import { explain } from './errors.ts'
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
    fix: 'the agent has put it right; see that the disk is sound and that nothing else writes in the state folder'
  },
  HOST_SETUP: { severity: 'warning', fix: 'see the log of meshd; the rest of the host is programmed' },
  CLUSTER_DNS: { severity: 'error', fix: 'see the log of meshd; it is tried again every 5 s' },
  MANAGED_COREDNS: { severity: 'error', fix: 'see the log of meshd; it is tried again' },
  SOURCE: { severity: 'error', fix: 'check the API server and the rights of the agent; it is tried again' },
  CLUSTER_KEY: { severity: 'error', fix: 'check the Secret rhizome-cluster-key; it is tried again' },
  CONTROL: { severity: 'error', fix: 'see the log of meshd' },
  DNS_FAILED: { severity: 'error', fix: 'check the setting dns-listen; it is tried again each second' },
  PROBE_FAILED: { severity: 'error', fix: 'check the setting probe-port; it is tried again each second' },
  // Another process may have the port of the feed, and CoreDNS would read that process instead. So the agent is not
  // ready: critical makes /readyz answer 503.
  FEED_FAILED: { severity: 'critical', fix: 'check the setting feed-listen; it is tried again each second' }
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
