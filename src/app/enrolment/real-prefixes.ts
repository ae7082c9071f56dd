// Which prefixes a cluster really uses, where `init` or `join` is asked to translate its addresses (docs/overlap.md).
import type { InitRequest, JoinRequest } from '../../api/requests.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Prefixes } from '../../core/model/prefixes.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'
import { AppError } from '../observe/errors.ts'
import { cidrs } from '../identity/prefixes.ts'
import type { Source } from '../sources/source.ts'
import { refuseNodesOnly } from './cluster-prefixes.ts'
import { withPrefixesOf } from './prefix-check.ts'

/** The part of a request that says whether, and between which prefixes, addresses are translated. */
export type RealPrefixRequest = Omit<JoinRequest, 'token'>

/** Whether a request asks for a translation. */
export function isTranslated({
  realPodCidrs = [],
  realServiceCidrs = [],
  translate = false
}: RealPrefixRequest): boolean {
  return translate || realPodCidrs.length + realServiceCidrs.length > 0
}

/**
 * Returns the real prefixes: those that the request names, and with `translate` those that the Kubernetes API reports for a
 * kind that it does not name. undefined: nothing is translated. Errors: AppError BAD_ARGUMENT; KubeError.
 */
export async function askedReal(
  { realPodCidrs = [], realServiceCidrs = [], translate = false }: RealPrefixRequest,
  source: Pick<Source, 'discover'>
): Promise<Prefixes | undefined> {
  const named = {
    podPrefixes: cidrs('real-pod-cidr', realPodCidrs),
    servicePrefixes: cidrs('real-service-cidr', realServiceCidrs)
  }
  if (!translate) return named.podPrefixes.length + named.servicePrefixes.length === 0 ? undefined : named
  const isWhole = named.podPrefixes.length > 0 && named.servicePrefixes.length > 0
  const found = isWhole ? { ...named, isWholeCluster: true } : await source.discover(named)
  if (named.podPrefixes.length === 0) refuseNodesOnly(found, 'real-pod-cidr')
  const real = {
    podPrefixes: named.podPrefixes.length > 0 ? named.podPrefixes : found.podPrefixes,
    servicePrefixes: named.servicePrefixes.length > 0 ? named.servicePrefixes : found.servicePrefixes
  }
  if (real.podPrefixes.length > 0 && real.servicePrefixes.length > 0) return real
  const missing = real.podPrefixes.length === 0 ? 'pod' : 'service'
  throw new AppError(
    'BAD_ARGUMENT',
    `translate: the real ${missing} prefixes of this cluster are not known, because no Kubernetes API reports them`,
    `name them with --real-${missing}-cidr`
  )
}

/** What a join by a token alone asks for: the real prefixes that the inviter has named. A text that is no token has none. */
export function askedByToken(text: string, crypto: Crypto): RealPrefixRequest {
  const token = decodeInviteToken(text, { crypto, nowSeconds: 0, meshId: undefined })
  if (token.kind === 'refused') return {}
  const of = (kind: 'pod' | 'service') =>
    token.realPrefixes.flatMap((prefix) => (prefix.kind === kind ? [prefix.real] : []))
  const [realPodCidrs, realServiceCidrs] = [of('pod'), of('service')]
  return {
    ...(realPodCidrs.length > 0 && { realPodCidrs }),
    ...(realServiceCidrs.length > 0 && { realServiceCidrs })
  }
}

/** The gateways of a cluster share its pairs of prefixes, which come with the key. Errors: AppError BAD_ARGUMENT. */
export function refuseForGateway({ realPodCidrs, realServiceCidrs, translate }: RealPrefixRequest): void {
  const named = {
    'real-pod-cidr': realPodCidrs,
    'real-service-cidr': realServiceCidrs,
    translate: translate === true ? true : undefined
  }
  const [field] = Object.entries(named).find(([, value]) => value !== undefined) ?? []
  if (field === undefined) return
  throw new AppError(
    'BAD_ARGUMENT',
    `${field}: the token is for one more gateway, which gets the prefixes of its cluster with the key`,
    `join without --${field}`
  )
}

/**
 * Returns the request of `init` with the prefixes that the cluster reports, where it names none, and its real prefixes where
 * addresses are translated: then those of the mesh are named or chosen. Errors: those of `askedReal` and `withPrefixesOf`.
 */
export async function askedInit(
  request: InitRequest,
  source: Pick<Source, 'discover'>
): Promise<{ readonly request: InitRequest; readonly real: Prefixes | undefined }> {
  const real = await askedReal(request, source)
  return { request: real === undefined ? await withPrefixesOf(source, request) : request, real }
}
