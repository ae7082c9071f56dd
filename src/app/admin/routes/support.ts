// GET /v1/support for `meshctl bundle`: what only the running agent knows. No setting is a secret: those that lead to one
// are paths of files. The log has passed its redaction, and metrics have names and numbers only.
import type { LogRing } from '../../observe/log-ring.ts'
import type { Metrics } from '../../observe/metrics.ts'
import type { Settings } from '../../settings/settings.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. */
export function supportRoute({
  state,
  lines,
  metrics
}: {
  readonly state: { readonly settings: Settings }
  readonly lines: LogRing
  readonly metrics: Pick<Metrics, 'registry'>
}): AdminHandlers['support'] {
  return async () => ({
    settings: { ...state.settings },
    log: lines.read(),
    metrics: await metrics.registry.metrics()
  })
}
