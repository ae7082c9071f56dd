// The errors that stop the feed server or the Corefile writer, with a stable code for programs and a fix for operators.
import { listenProblem, type ListenCode } from '../../core/model/listen-problem.ts'
import { AdvisedError } from '../../core/model/coded-error.ts'

type FeedErrorCode =
  // The first three are failed binds: EADDRINUSE, EACCES and EADDRNOTAVAIL (core/model/listen-problem.ts).
  | 'PORT_IN_USE'
  | 'PORT_FORBIDDEN'
  | 'ADDRESS_NOT_LOCAL'
  /** The setting feed-listen has no IP address. */
  | 'BAD_ADDRESS'
  | 'LISTEN_FAILED'
  /** The file of the setting corefile was not written by this agent. */
  | 'COREFILE_FOREIGN'
  /** The file of the setting corefile cannot be read or written. */
  | 'COREFILE_UNWRITABLE'
  /** CoreDNS could not be sent its signal. */
  | 'COREDNS_NOT_TOLD'

/** Says why the feed does not start or a Corefile is not written. `fix` says what the operator should do. */
export class FeedError extends AdvisedError<FeedErrorCode> {
  override readonly name = 'FeedError'
}

/** Makes a FeedError of a failed bind. `where` is the address and port, as in "127.0.0.1:948". */
export function listenError(error: unknown, where: string): FeedError {
  const { code, why } = listenProblem(error)
  const message = `the CoreDNS feed cannot listen on ${where}: ${why}`
  return new FeedError(code, { message, fix: LISTEN_FIXES[code] }, error)
}

const LISTEN_FIXES: Readonly<Record<ListenCode, string>> = {
  PORT_IN_USE: 'find the other process with `ss -lntp` and stop it, or set feed-listen to another port',
  PORT_FORBIDDEN: 'set feed-listen to a port above 1023',
  ADDRESS_NOT_LOCAL: 'set feed-listen to an address that `ip address` shows',
  LISTEN_FAILED: 'check the setting feed-listen'
}
