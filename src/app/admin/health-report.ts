// The registry of health as a part of the answers of the admin API.
import type { HealthReport } from '../../api/answers.ts'
import type { Health } from '../observe/health.ts'

/** Returns all listed faults, the worst first, and the number of faults that the registry left out. */
export function healthReport(health: Health): HealthReport {
  const faults = health.faults()
  return {
    state: faults[0]?.severity ?? 'ok',
    faults: faults.map(({ sinceMs, ...fault }) => ({ ...fault, since: new Date(sinceMs).toISOString() })),
    more: Object.fromEntries(health.excess())
  }
}
