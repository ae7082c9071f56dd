// What an examination of this agent and its surroundings finds (`meshctl doctor`).
// The registry of health has what the agent sees by itself, all the time. An examination adds what costs a packet or a
// process and is done by hand only: connections to members, questions to DNS servers, the whole kernel read back.
// Invariants
//   1. A check that fails or hangs within its deadline hides no other check.
//   2. Each finding that is not `ok` has a fix, or the words of the part that could not be checked.
import { explain } from '../observe/errors.ts'

/** The result of one check of one thing. The names of the checks are stable, since scripts compare them. */
export interface Finding {
  readonly check: 'data-plane' | 'drift' | 'dns' | 'upstream-dns' | 'control' | 'tunnel' | 'disk' | 'fault'
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
 * Runs all checks side by side. One that fails becomes a warning of its name, so that it hides no other. The result is
 * sorted: faults, warnings, then what is well; the checks keep their order.
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
  return found.flat().toSorted((a, b) => RANK[a.state] - RANK[b.state])
}
