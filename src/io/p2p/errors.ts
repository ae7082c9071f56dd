// What the transport throws at its caller. What a peer does wrong never throws: it ends that neighbour.
import { CodedError } from '../../core/model/coded-error.ts'
import { listenProblem, type ListenCode } from '../../core/model/listen-problem.ts'

type TransportErrorCode =
  | 'PORT_IN_USE'
  | 'PORT_FORBIDDEN'
  | 'ADDRESS_UNAVAILABLE'
  | 'LISTEN_INVALID'
  | 'LISTEN_FAILED'
  | 'SEED_INVALID'

/** `listen` holds the addresses that were asked for; `fix` says what to do, naming the setting. */
export class TransportError extends CodedError<TransportErrorCode> {
  override readonly name = 'TransportError'
  declare readonly fix: string
  readonly listen: readonly string[]

  constructor(
    code: TransportErrorCode,
    message: string,
    options: { fix: string; listen?: readonly string[]; cause?: unknown }
  ) {
    super({ code, message, fix: options.fix, cause: options.cause })
    this.listen = options.listen ?? []
  }
}

/** `cause` is what libp2p threw: one text for all listeners, in which the error number is found. */
export function listenError(cause: unknown, listen: readonly string[]): TransportError {
  const [code, why, fix] = LISTEN_ERRORS[listenProblem(cause).code]
  return new TransportError(code, `cannot listen on ${listen.join(', ')}${why}`, { fix, listen, cause })
}

const LISTEN_ERRORS: Readonly<
  Record<ListenCode, readonly [code: TransportErrorCode, why: string, fix: string]>
> = {
  PORT_IN_USE: [
    'PORT_IN_USE',
    ': the port is in use',
    'stop the program that holds the port, or set `listen` to an address with another port'
  ],
  PORT_FORBIDDEN: [
    'PORT_FORBIDDEN',
    ': permission denied',
    'set `listen` to a port above 1023, or grant CAP_NET_BIND_SERVICE'
  ],
  ADDRESS_NOT_LOCAL: [
    'ADDRESS_UNAVAILABLE',
    ': no such address here',
    'set `listen` to an address of this host, or to /ip4/0.0.0.0/tcp/<port>'
  ],
  LISTEN_FAILED: ['LISTEN_FAILED', '', 'check the setting `listen`: multiaddrs such as /ip4/0.0.0.0/tcp/7946']
}
