// The registry of health as an answer: the worst fault first.
import type { HealthReport } from '../../api/answers.ts'
import type { Health } from '../observe/health.ts'

export function healthReport(health: Health): HealthReport {
  const faults = health.faults()
  return {
    state: faults[0]?.severity ?? 'ok',
    faults: faults.map(({ sinceMs, ...fault }) => ({ ...fault, since: new Date(sinceMs).toISOString() })),
    more: Object.fromEntries(health.excess())
  }
}
