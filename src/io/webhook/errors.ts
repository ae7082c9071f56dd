// The errors of the webhook, which src/app/cluster-dns reports as a fault.
import { CodedError } from '../../core/model/coded-error.ts'

/**
 * PORT_IN_USE, LISTEN_FAILED: the server cannot listen. NO_SECRET, NO_CONFIGURATION: the chart was installed without
 * the webhook. API_FAILED: a request to the Kubernetes API failed.
 */
type WebhookErrorCode = 'PORT_IN_USE' | 'LISTEN_FAILED' | 'NO_SECRET' | 'NO_CONFIGURATION' | 'API_FAILED'

/** Why the webhook does not serve, or why its certificate could not be renewed. `fix` says what to do. */
export class WebhookError extends CodedError<WebhookErrorCode> {
  override readonly name = 'WebhookError'
  declare readonly fix: string

  constructor(
    code: WebhookErrorCode,
    text: { readonly message: string; readonly fix: string },
    cause?: unknown
  ) {
    super({ code, ...text, cause })
  }
}
