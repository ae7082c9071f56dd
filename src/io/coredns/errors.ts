import { listenProblem, type ListenCode } from '../../core/model/listen-problem.ts'
import { CodedError } from '../../core/model/coded-error.ts'

type FeedErrorCode =
  | 'PORT_IN_USE'
  | 'PORT_FORBIDDEN'
  | 'ADDRESS_NOT_LOCAL'
  | 'BAD_ADDRESS'
  | 'LISTEN_FAILED'
  | 'COREFILE_FOREIGN'
  | 'COREFILE_UNWRITABLE'
  | 'COREDNS_NOT_TOLD'

/** Why the feed does not start, or a Corefile is not written. `fix` says what to do. */
export class FeedError extends CodedError<FeedErrorCode> {
  override readonly name = 'FeedError'
  declare readonly fix: string

  constructor(
    code: FeedErrorCode,
    text: { readonly message: string; readonly fix: string },
    cause?: unknown
  ) {
    super({ code, ...text, cause })
  }
}

/** `where` is the address and port that could not be bound. */
export function listenError(error: unknown, where: string): FeedError {
  const { code, why } = listenProblem(error)
  const message = `the CoreDNS feed cannot listen on ${where}: ${why}`
  return new FeedError(code, { message, fix: LISTEN_FIXES[code] }, error)
}

const LISTEN_FIXES: Readonly<Record<ListenCode, string>> = {
  PORT_IN_USE: 'Find it with `ss -lntp`, stop it, or choose another with the setting feed-listen.',
  PORT_FORBIDDEN: 'Choose a port above 1023 with the setting feed-listen.',
  ADDRESS_NOT_LOCAL: 'Compare with `ip address`, and correct the setting feed-listen.',
  LISTEN_FAILED: 'See the cause.'
}
