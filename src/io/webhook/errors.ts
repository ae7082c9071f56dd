// The errors of the webhook, which src/app/cluster-dns reports as a fault.
import { AdvisedError } from '../../core/model/coded-error.ts'
import { listenProblem, type ListenCode } from '../../core/model/listen-problem.ts'

/**
 * A ListenCode: the server cannot listen. NO_SECRET, NO_CONFIGURATION: the chart was installed without
 * the webhook. API_FAILED: a request to the Kubernetes API failed.
 */
type WebhookErrorCode = ListenCode | 'NO_SECRET' | 'NO_CONFIGURATION' | 'API_FAILED'

/** The reason why the webhook does not serve or its certificate could not be renewed. `fix` says what to do. */
export class WebhookError extends AdvisedError<WebhookErrorCode> {
  override readonly name = 'WebhookError'
}

/** Makes a WebhookError of a failed bind. `where` is the address and port, as in "10.1.0.1:8443". */
export function listenError(error: unknown, where: string): WebhookError {
  const { code, why } = listenProblem(error)
  const message = `the webhook cannot listen on ${where}: ${why}`
  return new WebhookError(code, { message, fix: LISTEN_FIXES[code] }, error)
}

const LISTEN_FIXES: Readonly<Record<ListenCode, string>> = {
  PORT_IN_USE:
    'find the other process with `ss -lntp`, or set webhook-listen to another port (Helm: ports.webhook)',
  PORT_FORBIDDEN: 'set webhook-listen to a port above 1023 (Helm: ports.webhook)',
  ADDRESS_NOT_LOCAL: 'compare with `ip address`, and set webhook-listen to an address of this host',
  LISTEN_FAILED: 'check the setting webhook-listen (Helm: ports.webhook)'
}
