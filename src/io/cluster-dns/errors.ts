export type ClusterDnsErrorCode = 'NOTHING_TO_WIRE' | 'REFUSED' | 'API_FAILED'

/** Why the mesh's zones are not in the cluster's own DNS. `fix` says what to do. */
export class ClusterDnsError extends Error {
  override readonly name = 'ClusterDnsError'
  readonly code: ClusterDnsErrorCode
  readonly fix: string

  constructor(
    code: ClusterDnsErrorCode,
    text: { readonly message: string; readonly fix: string },
    cause?: unknown
  ) {
    super(text.message, { cause })
    this.code = code
    this.fix = text.fix
  }
}
