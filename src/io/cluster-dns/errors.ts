// The errors of writing the mesh's zones into a cluster's own DNS, with a stable code for programs and a fix for
// operators.
import { AdvisedError } from '../../core/model/coded-error.ts'

/**
 * NOTHING_TO_WIRE: the cluster has no DNS that this agent can change. REFUSED: there is a
 * reason not to write, for example another server block with the same zone. API_FAILED: an object cannot be read or
 * written.
 */
type ClusterDnsErrorCode = 'NOTHING_TO_WIRE' | 'REFUSED' | 'API_FAILED'

/** Says why the mesh's zones are not in the cluster's own DNS. `fix` says what the operator should do. */
export class ClusterDnsError extends AdvisedError<ClusterDnsErrorCode> {
  override readonly name = 'ClusterDnsError'
}
