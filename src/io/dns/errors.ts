export type DnsErrorCode =
  | 'PORT_IN_USE'
  | 'PORT_FORBIDDEN'
  | 'ADDRESS_NOT_LOCAL'
  | 'BAD_ADDRESS'
  | 'BAD_UPSTREAM'
  | 'LISTEN_FAILED'
  | 'PROCESS_FAILED'

/** Why the responder does not start. `fix` says what to do. */
export class DnsError extends Error {
  override readonly name = 'DnsError'
  readonly code: DnsErrorCode
  readonly fix: string

  constructor(code: DnsErrorCode, text: { readonly message: string; readonly fix: string }, cause?: unknown) {
    super(text.message, { cause })
    this.code = code
    this.fix = text.fix
  }
}

export function listenError(error: unknown, where: string): DnsError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  switch (code) {
    case 'EADDRINUSE':
      return new DnsError(
        'PORT_IN_USE',
        {
          message: `DNS cannot listen on ${where}: another process has this port`,
          fix: 'Find it with `ss -lntup`, stop it, or choose another address or port with the setting dns-listen.'
        },
        error
      )
    case 'EACCES':
      return new DnsError(
        'PORT_FORBIDDEN',
        {
          message: `DNS may not listen on ${where}: ports below 1024 need a privilege`,
          fix: 'Run as root, grant CAP_NET_BIND_SERVICE, or choose a DNS port above 1023.'
        },
        error
      )
    case 'EADDRNOTAVAIL':
      return new DnsError(
        'ADDRESS_NOT_LOCAL',
        {
          message: `DNS cannot listen on ${where}: no interface of this host has this address`,
          fix: 'Compare with `ip address`, and name an address of this host in the setting dns-listen.'
        },
        error
      )
    default:
      return new DnsError(
        'LISTEN_FAILED',
        { message: `DNS cannot listen on ${where}: ${String(error)}`, fix: 'See the cause.' },
        error
      )
  }
}
