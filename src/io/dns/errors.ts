// The errors that stop the responder from starting, with a stable code for programs and a fix for operators.
import { listenProblem, type ListenCode } from '../../core/model/listen-problem.ts'
import { AdvisedError } from '../../core/model/coded-error.ts'

export type DnsErrorCode =
  // The first three are failed binds: EADDRINUSE, EACCES and EADDRNOTAVAIL (core/model/listen-problem.ts).
  | 'PORT_IN_USE'
  | 'PORT_FORBIDDEN'
  | 'ADDRESS_NOT_LOCAL'
  /** An address to listen on is no IP address. */
  | 'BAD_ADDRESS'
  /** An upstream is neither an address nor a path. */
  | 'BAD_UPSTREAM'
  /** Listening failed for any other reason. */
  | 'LISTEN_FAILED'
  /** The responder process could not be started, or it ended or stayed silent while it was asked to listen. */
  | 'PROCESS_FAILED'

/**
 * The reason why the responder cannot start; `fix` says what the operator should do. The agent shows both and tries
 * again.
 */
export class DnsError extends AdvisedError<DnsErrorCode> {
  override readonly name = 'DnsError'
}

/** Makes a DnsError of a failed bind. `where` is the protocol, address and port, as in "UDP 10.1.0.1:53". */
export function listenError(error: unknown, where: string): DnsError {
  const { code, why } = listenProblem(error)
  return new DnsError(
    code,
    { message: `DNS cannot listen on ${where}: ${why}`, fix: LISTEN_FIXES[code] },
    error
  )
}

const LISTEN_FIXES: Readonly<Record<ListenCode, string>> = {
  PORT_IN_USE:
    'find the other process with `ss -lntup` and stop it, or set dns-listen to another address or port',
  PORT_FORBIDDEN:
    'run the agent as root, grant it CAP_NET_BIND_SERVICE, or set dns-listen to a port above 1023',
  ADDRESS_NOT_LOCAL: 'set dns-listen to an address that `ip address` shows',
  LISTEN_FAILED: 'check the setting dns-listen'
}
