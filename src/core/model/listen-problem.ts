// Why a server cannot listen: the one place that maps the error numbers of bind(2) to codes and reasons. Each server
// adds its own fix, which names its setting.
import { codeOf } from './coded-error.ts'

/** LISTEN_FAILED stands for every error number that is not in the table below. */
export type ListenCode = 'PORT_IN_USE' | 'PORT_FORBIDDEN' | 'ADDRESS_NOT_LOCAL' | 'LISTEN_FAILED'

interface ListenProblem {
  readonly code: ListenCode
  /** A clause for the end of a message: "another process has this port". */
  readonly why: string
}

const PROBLEMS: Readonly<Record<string, ListenProblem>> = {
  EADDRINUSE: { code: 'PORT_IN_USE', why: 'another process has this port' },
  EACCES: { code: 'PORT_FORBIDDEN', why: 'ports below 1024 need a privilege' },
  EADDRNOTAVAIL: { code: 'ADDRESS_NOT_LOCAL', why: 'no interface of this host has this address' }
}

/**
 * The problem behind an error of listen(). The error number is read from the error's code or its message, because
 * libp2p joins the errors of all listeners into one text.
 */
export function listenProblem(cause: unknown): ListenProblem {
  const text = `${codeOf(cause) ?? ''} ${cause instanceof Error ? cause.message : String(cause)}`
  const errno = Object.keys(PROBLEMS).find((each) => text.includes(each))
  return (errno === undefined ? undefined : PROBLEMS[errno]) ?? { code: 'LISTEN_FAILED', why: String(cause) }
}
