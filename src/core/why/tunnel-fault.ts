// The fault of the registry of health that explains why a tunnel does not answer, for `meshctl why` and `meshctl ping`.
import type { KnownFault } from './stop.ts'

/** Faults of tunnels. Their subject names the cluster, or the cluster and the gateway ("east east-gw"). */
const TUNNEL_CODES: ReadonlySet<string> = new Set(['CLUSTER_DOWN', 'GATEWAY_DOWN'])

/** Returns the fault of this gateway, else that of its cluster; undefined: none is set. */
export function tunnelFault<T extends Pick<KnownFault, 'code' | 'subject'>>(
  faults: readonly T[],
  { cluster, node }: { readonly cluster: string; readonly node: string }
): T | undefined {
  const known = faults.filter(({ code }) => TUNNEL_CODES.has(code))
  return (
    known.find(({ subject }) => subject === `${cluster} ${node}`) ??
    known.find(({ subject }) => subject === cluster)
  )
}
