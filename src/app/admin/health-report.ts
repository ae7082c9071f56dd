// The registry of health as a part of the answers of `status` and `peers`. It is the one conversion from faults of the
// agent to the answer types of the API.
import type { HealthReport } from '../../api/answers.ts'
import type { Health } from '../observe/health.ts'

/**
 * Returns all listed faults, the worst first, and in `more` the number of faults that the registry left out, by code.
 * Times become RFC 3339 text.
 */
export function healthReport(health: Health): HealthReport {
  const faults = health.faults()
  return {
    state: faults[0]?.severity ?? 'ok',
    faults: faults.map(({ sinceMs, ...fault }) => ({ ...fault, since: new Date(sinceMs).toISOString() })),
    more: Object.fromEntries(health.excess())
  }
}
