// What an examination of this agent and its surroundings finds (`meshctl doctor`).
// The registry of health has what the agent sees by itself, all the time. An examination adds what costs a packet or a
// process and is done by hand only: connections to members, questions to DNS servers, the whole kernel read back.
// Invariants
//   1. A check that fails or hangs within its deadline hides no other check.
//   2. Each finding that is not `ok` has a fix, or the words of the part that could not be checked.
//   3. A cause comes before what follows from it: the first finding is the one to mend first.
import { explain } from '../observe/errors.ts'

/** The result of one check of one thing. The names of the checks are stable, since scripts compare them. */
export interface Finding {
  readonly check:
    'data-plane' | 'drift' | 'dns' | 'upstream-dns' | 'control' | 'tunnel' | 'clock' | 'disk' | 'fault'
  /** The code of the registry of health; only with the check `fault`. */
  readonly code?: string
  /** `ok`: nothing to do. `warning`: it works, and the operator should act. `fault`: it does not work. */
  readonly state: 'ok' | 'warning' | 'fault'
  /** A cluster, an address or a path; '' where there is only one. */
  readonly subject: string
  /** A sentence for people, without a full stop at its end. */
  readonly text: string
  readonly fix?: string
}

/** A check looks at one part and changes nothing. It may reject. */
type Check = () => Promise<readonly Finding[]>

// The order of findings: what to mend comes first.
const RANK = { fault: 0, warning: 1, ok: 2 } as const
/**
 * What another finding may be the cause of, in the order in which it helps: a tunnel that does not answer because of a rule,
 * a route or a network of this host. Findings that are not here are causes.
 */
const CONSEQUENCES: readonly string[] = [
  'CLUSTER_DOWN',
  'GATEWAY_DOWN',
  'tunnel',
  'control',
  'CONTROL_LOST',
  'ALL_CLUSTERS_DOWN'
]

/**
 * Runs all checks side by side. One that fails becomes a warning of its name, so that it hides no other. The result is
 * sorted: faults, warnings, then what is well; of each, causes before consequences; the checks keep their order.
 */
export async function examine(
  checks: Readonly<Partial<Record<Finding['check'], Check>>>
): Promise<readonly Finding[]> {
  const names = Object.keys(checks) as Finding['check'][]
  const found = await Promise.all(
    names.map(async (check): Promise<readonly Finding[]> => {
      try {
        return (await checks[check]?.()) ?? []
      } catch (error) {
        const { message, fix } = explain(error)
        return [
          {
            check,
            state: 'warning',
            subject: '',
            text: `it could not be checked: ${message}`,
            ...(fix === undefined ? {} : { fix })
          }
        ]
      }
    })
  )
  return sorted(found.flat())
}

/**
 * Where a tunnel is down, a difference of the kernel is among the faults, also one that a pass has mended since: it may be
 * why.
 */
function sorted(findings: readonly Finding[]): readonly Finding[] {
  const isDown = findings.some((finding) => finding.state === 'fault' && depthOf(finding) >= 0)
  const lacksTunnel = findings.some(
    ({ check, subject, state }) => check === 'drift' && subject === 'tunnel' && state !== 'ok'
  )
  const rank = (finding: Finding): number =>
    isDown && finding.check === 'drift' && finding.state === 'warning' ? RANK.fault : RANK[finding.state]
  // No route leads into a device that is missing or down, so a step that failed is then a consequence, too.
  const depth = (finding: Finding): number =>
    lacksTunnel && finding.code === 'HOST_STEP_FAILED' ? 0 : depthOf(finding)
  return findings.toSorted((a, b) => rank(a) - rank(b) || depth(a) - depth(b))
}

/** -1: a cause; else the place in CONSEQUENCES. */
function depthOf({ code, check }: Finding): number {
  return CONSEQUENCES.indexOf(code ?? check)
}
