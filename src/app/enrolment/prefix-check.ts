// The prefixes of a new membership beside those that the cluster itself knows.
import type { InitRequest } from '../../api/requests.ts'
import type { Membership } from '../identity/identity.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Source } from '../sources/source.ts'
import { checkCertified, inviteLine, refuseNodesOnly, uncertified } from './cluster-prefixes.ts'

/** Prefixes that were not named are those the cluster itself knows, where it does. Errors: KubeError, AppError BAD_ARGUMENT. */
export async function withPrefixesOf(
  source: Pick<Source, 'discover'>,
  request: InitRequest
): Promise<InitRequest> {
  if (request.podCidrs.length > 0 && request.serviceCidrs.length > 0) return request
  const found = await source.discover()
  if (request.podCidrs.length === 0) refuseNodesOnly(found)
  const { podPrefixes, servicePrefixes } = found
  return {
    ...request,
    podCidrs: request.podCidrs.length > 0 ? request.podCidrs : podPrefixes,
    serviceCidrs: request.serviceCidrs.length > 0 ? request.serviceCidrs : servicePrefixes
  }
}

/** Errors: AppError PREFIX_MISMATCH. What the cluster does not tell is no reason to refuse. */
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
  checkCertified(certified, found)
  const outside = uncertified(certified, found)
  if (outside.length === 0) health.clear('PREFIXES_OUTSIDE')
  else
    health.set('PREFIXES_OUTSIDE', {
      severity: 'warning',
      message: `addresses of this cluster in ${outside.join(', ')} are outside the prefixes that the mesh knows of it, so they are not reached`,
      fix: `leave and join again with another token: ${inviteLine(certified, found)}`
    })
}
