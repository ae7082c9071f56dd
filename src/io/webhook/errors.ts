import { CodedError } from '../../core/model/coded-error.ts'

type WebhookErrorCode = 'PORT_IN_USE' | 'LISTEN_FAILED' | 'NO_SECRET' | 'NO_CONFIGURATION' | 'API_FAILED'

/** Why the webhook does not serve, or its certificate is not what it should be. `fix` says what to do. */
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
