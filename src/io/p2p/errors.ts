// The errors that the transport throws at its caller, at the start of the agent. A fault of a peer is never thrown: it
// ends the connection to that peer and is reported by `neighbourDown` with a reason.
import { CodedError } from '../../core/model/coded-error.ts'
import { listenProblem, type ListenCode } from '../../core/model/listen-problem.ts'

type TransportErrorCode =
  | 'PORT_IN_USE'
  | 'PORT_FORBIDDEN'
  | 'ADDRESS_UNAVAILABLE'
  | 'LISTEN_INVALID'
  | 'LISTEN_FAILED'
  | 'SEED_INVALID'

/**
 * An error of the transport. `fix` names the setting to change; `listen` has the multiaddrs concerned, empty for
 * SEED_INVALID.
 */
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

/**
 * Returns the error for a failed start. libp2p joins the errors of all listeners into one text (`cause`), in which the
 * error number of bind(2) is found.
 */
export function listenError(cause: unknown, listen: readonly string[]): TransportError {
  const [code, why, fix] = LISTEN_ERRORS[listenProblem(cause).code]
  return new TransportError(code, `cannot listen on ${listen.join(', ')}${why}`, { fix, listen, cause })
}

const LISTEN_ERRORS: Readonly<
  Record<ListenCode, readonly [code: TransportErrorCode, why: string, fix: string]>
> = {
  PORT_IN_USE: [
    'PORT_IN_USE',
    ': another process uses the port',
    'stop the program that holds the port, or set `listen` to an address with another port'
  ],
  PORT_FORBIDDEN: [
    'PORT_FORBIDDEN',
    ': permission denied',
    'set `listen` to a port above 1023, or grant CAP_NET_BIND_SERVICE'
  ],
  ADDRESS_NOT_LOCAL: [
    'ADDRESS_UNAVAILABLE',
    ': no interface of this host has the address',
    'set `listen` to an address of this host, or to /ip4/0.0.0.0/tcp/<port>'
  ],
  LISTEN_FAILED: ['LISTEN_FAILED', '', 'set `listen` to multiaddrs such as /ip4/0.0.0.0/tcp/7946']
}
