// What does not work of a part of the agent now, as that part keeps it until it works again; and all of them in the registry of health.
import { explain } from './errors.ts'
import type { Health, Severity } from './health.ts'

export interface PartFault {
  readonly message: string
  /** '' when the error names none. */
  readonly fix: string
}

export function partFault(part: string, error: unknown): PartFault {
  const { message, fix } = explain(error)
  return { message: `${part}: ${message}`, fix: fix ?? '' }
}

export function samePartFault(a: PartFault | undefined, b: PartFault | undefined): boolean {
  return a?.message === b?.message && a?.fix === b?.fix
}

interface Row {
  readonly severity: Severity
  /** Where the error itself names none. */
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
  // CoreDNS would read a stranger in place of the feed: then this agent is not ready.
  FEED_FAILED: { severity: 'critical', fix: 'check the setting feed-listen; it is tried again each second' }
} as const satisfies Record<string, Row>

export type PartCode = keyof typeof ROWS

/** The whole of what each part says now; what it does not say any more is cleared. */
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
