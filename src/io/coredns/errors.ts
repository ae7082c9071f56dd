export type FeedErrorCode =
  | 'PORT_IN_USE'
  | 'PORT_FORBIDDEN'
  | 'ADDRESS_NOT_LOCAL'
  | 'BAD_ADDRESS'
  | 'LISTEN_FAILED'
  | 'COREFILE_FOREIGN'
  | 'COREFILE_UNWRITABLE'
  | 'COREDNS_NOT_TOLD'

/** Why the feed does not start, or a Corefile is not written. `fix` says what to do. */
export class FeedError extends Error {
  override readonly name = 'FeedError'
  readonly code: FeedErrorCode
  readonly fix: string

  constructor(
    code: FeedErrorCode,
    text: { readonly message: string; readonly fix: string },
    cause?: unknown
  ) {
    super(text.message, { cause })
    this.code = code
    this.fix = text.fix
  }
}

export function listenError(error: unknown, where: string): FeedError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const [known, why, fix] = CAUSES[code] ?? ['LISTEN_FAILED', String(error), 'See the cause.']
  return new FeedError(known, { message: `the CoreDNS feed cannot listen on ${where}: ${why}`, fix }, error)
}

const CAUSES: Readonly<Record<string, readonly [FeedErrorCode, string, string]>> = {
  EADDRINUSE: [
    'PORT_IN_USE',
    'another process has this port',
    'Find it with `ss -lntp`, stop it, or choose another with the setting feed-listen.'
  ],
  EACCES: [
    'PORT_FORBIDDEN',
    'ports below 1024 need a privilege',
    'Choose a port above 1023 with the setting feed-listen.'
  ],
  EADDRNOTAVAIL: [
    'ADDRESS_NOT_LOCAL',
    'no interface of this host has this address',
    'Compare with `ip address`, and correct the setting feed-listen.'
  ]
}
