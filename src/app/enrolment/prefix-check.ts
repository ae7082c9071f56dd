// Compares the prefixes of a new membership with the prefixes that the cluster itself reports through the Kubernetes
// API. `init` fills missing prefixes from them, and `join` refuses a token whose prefixes do not fit the cluster. A
// folder source reports no prefixes.
import type { InitRequest } from '../../api/requests.ts'
import { parseCidr } from '../../core/model/cidr.ts'
import { realPrefixes } from '../../core/model/translation.ts'
import type { Cidr } from '../../core/model/values.ts'
import type { Membership } from '../identity/identity.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Source } from '../sources/source.ts'
import { checkCertified, inviteLine, refuseNodesOnly, uncertified } from './cluster-prefixes.ts'

/**
 * Returns the request of `init` with the prefixes that the cluster reports in place of those that the request does not
 * name. They stay empty for a folder, which reports none; initMesh then chooses free ones. Errors: KubeError; AppError
 * BAD_ARGUMENT when a Kubernetes cluster does not tell its prefixes or only the pod prefixes of its present Nodes, when
 * pod and service prefixes overlap, or when a Node lies in a service prefix.
 */
export async function withPrefixesOf(
  source: Pick<Source, 'discover'>,
  request: InitRequest
): Promise<InitRequest> {
  if (request.podCidrs.length > 0 && request.serviceCidrs.length > 0) return request
  // Malformed ones are refused by choosePrefixes.
  const found = await source.discover({
    podPrefixes: wellFormed(request.podCidrs),
    servicePrefixes: wellFormed(request.serviceCidrs)
  })
  if (request.podCidrs.length === 0) refuseNodesOnly(found)
  const { podPrefixes, servicePrefixes } = found
  return {
    ...request,
    podCidrs: request.podCidrs.length > 0 ? request.podCidrs : podPrefixes,
    serviceCidrs: request.serviceCidrs.length > 0 ? request.serviceCidrs : servicePrefixes
  }
}

/**
 * Refuses a membership whose prefixes do not overlap those that the cluster reports. Found prefixes that lie outside
 * set the warning PREFIXES_OUTSIDE. If the cluster cannot be asked, a warning is logged and the join goes on. Errors:
 * AppError PREFIX_MISMATCH.
 */
export async function comparePrefixes(
  certified: Membership,
  {
    source,
    log,
    health
  }: { readonly source: Pick<Source, 'discover'>; readonly log: Log; readonly health: Health }
): Promise<void> {
  const found = await source.discover().catch((error: unknown) => {
    log.warn({ err: error }, 'the prefixes of this cluster cannot be compared with those of the token')
    return undefined
  })
  if (found === undefined) return
  // What the cluster reports are its real prefixes.
  const own = { ...certified, ...realPrefixes(certified, certified.translation) }
  checkCertified(own, found)
  const outside = uncertified(own, found)
  if (outside.length === 0) health.clear('PREFIXES_OUTSIDE')
  else
    health.set('PREFIXES_OUTSIDE', {
      severity: 'warning',
      message: `addresses of this cluster in ${outside.join(', ')} are outside the prefixes that the mesh knows of it, so they are not reached`,
      fix: `leave and join again with another token: ${inviteLine(own, found)}`
    })
}

function wellFormed(texts: readonly string[]): readonly Cidr[] {
  return texts.map(parseCidr).flatMap((parsed) => (parsed.kind === 'cidr' ? [parsed.cidr] : []))
}
