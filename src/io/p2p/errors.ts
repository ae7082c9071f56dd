// What the transport throws at its caller. What a peer does wrong never throws: it ends that neighbour.

export type TransportErrorCode =
  | 'PORT_IN_USE'
  | 'PORT_FORBIDDEN'
  | 'ADDRESS_UNAVAILABLE'
  | 'LISTEN_INVALID'
  | 'LISTEN_FAILED'
  | 'SEED_INVALID'

/** `listen` holds the addresses that were asked for; `fix` says what to do, naming the setting. */
export class TransportError extends Error {
  override readonly name = 'TransportError'
  readonly code: TransportErrorCode
  readonly fix: string
  readonly listen: readonly string[]

  constructor(
    code: TransportErrorCode,
    message: string,
    options: { fix: string; listen?: readonly string[]; cause?: unknown }
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.fix = options.fix
    this.listen = options.listen ?? []
  }
}

/** libp2p folds the errno of every listener into one text; the errno is all that can be recovered from it. */
export function listenError(cause: unknown, listen: readonly string[]): TransportError {
  const text = cause instanceof Error ? cause.message : String(cause)
  const where = listen.join(', ')
  if (text.includes('EADDRINUSE')) {
    return new TransportError('PORT_IN_USE', `cannot listen on ${where}: the port is in use`, {
      fix: 'stop the program that holds the port, or set `listen` to an address with another port',
      listen,
      cause
    })
  }
  if (text.includes('EACCES')) {
    return new TransportError('PORT_FORBIDDEN', `cannot listen on ${where}: permission denied`, {
      fix: 'set `listen` to a port above 1023, or grant CAP_NET_BIND_SERVICE',
      listen,
      cause
    })
  }
  if (text.includes('EADDRNOTAVAIL')) {
    return new TransportError('ADDRESS_UNAVAILABLE', `cannot listen on ${where}: no such address here`, {
      fix: 'set `listen` to an address of this host, or to /ip4/0.0.0.0/tcp/<port>',
      listen,
      cause
    })
  }
  return new TransportError('LISTEN_FAILED', `cannot listen on ${where}`, {
    fix: 'check the setting `listen`: multiaddrs such as /ip4/0.0.0.0/tcp/7946',
    listen,
    cause
  })
}
