import { CodedError } from '../../core/model/coded-error.ts'

type ClusterDnsErrorCode = 'NOTHING_TO_WIRE' | 'REFUSED' | 'API_FAILED'

/** Why the mesh's zones are not in the cluster's own DNS. `fix` says what to do. */
export class ClusterDnsError extends CodedError<ClusterDnsErrorCode> {
  override readonly name = 'ClusterDnsError'
  declare readonly fix: string

  constructor(
    code: ClusterDnsErrorCode,
    text: { readonly message: string; readonly fix: string },
    cause?: unknown
  ) {
    super({ code, ...text, cause })
  }
}
