// Which endpoints may get traffic, for the choices of this room. The rule is that of kube-proxy (KEP-1669).
import type { Endpoint, ServiceValue } from '../model/values.ts'

/**
 * How an endpoint may get traffic: always (`ready`), only while no endpoint is ready (`leaving`), or never (undefined).
 * A service that publishes addresses which are not ready counts all as ready.
 */
export function useOf(
  { ready, serving, terminating }: Endpoint,
  { publishNotReady }: Pick<ServiceValue, 'publishNotReady'>
): 'ready' | 'leaving' | undefined {
  if (publishNotReady || ready) return 'ready'
  return serving && terminating ? 'leaving' : undefined
}
