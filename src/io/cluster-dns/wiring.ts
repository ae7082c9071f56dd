// Writes the zones of the mesh into the cluster's own DNS, and removes them again: reads up to three objects, lets
// core/coredns/cluster-dns.ts decide, and sends its patches. The speaker of the cluster calls `apply` when the clusters
// of the mesh change, and every minute, since installers rewrite the objects (app/cluster-dns/pod-dns.ts).
import {
  chooseTarget,
  CLUSTER_DNS_PATHS,
  unwire,
  wire,
  type ClusterDnsObjects,
  type MeshZones,
  type Wiring,
  type WiringTarget
} from '../../core/coredns/cluster-dns.ts'
import { getObject, hasStatus, type KubeApi } from '../../core/kube/kube-api.ts'
import type { Fields } from '../../core/model/field-check.ts'
import { ClusterDnsError } from './errors.ts'

interface ClusterDnsOptions {
  readonly api: KubeApi
  /** The way in which zones are written. auto: OpenShift's DNS operator if it is there, else CoreDNS's ConfigMaps. */
  readonly target: WiringTarget | 'auto'
  /** The namespace of CoreDNS's ConfigMaps, for example "kube-system". */
  readonly namespace: string
}

export interface ClusterDns {
  /**
   * Makes the cluster's DNS forward the zones to the servers. Without zones it does what `undo` does. Resolves with the
   * number of patches that were sent, 0 if nothing had to change. Errors: ClusterDnsError; RangeError for a malformed
   * zone or server.
   */
  apply(mesh: MeshZones): Promise<number>
  /** Removes all zones that this agent has written. Resolves with the number of patches. Errors: ClusterDnsError. */
  undo(): Promise<number>
}

// Deadline of each request to the API server, in milliseconds.
const CALL_MS = 10_000
// Number of attempts in all. When another client changed an object between our reading and our writing (status 409),
// the next attempt reads all objects again.
const TRIES = 5

/** Returns a ClusterDns. No request is sent before `apply` or `undo` is called. */
export function createClusterDns(options: ClusterDnsOptions): ClusterDns {
  const { namespace } = options
  return {
    apply: (mesh) =>
      change(options, (objects) => {
        const target = options.target === 'auto' ? chooseTarget(objects) : options.target
        if (target === undefined) {
          throw new ClusterDnsError('NOTHING_TO_WIRE', {
            message: `the cluster has neither OpenShift's DNS operator nor the ConfigMap ${namespace}/coredns`,
            fix: 'configure the DNS server of the cluster to forward the zones of the mesh to the Service rhizome-dns, or install the chart with webhook.enabled=true'
          })
        }
        return wire(target, objects, { mesh, namespace })
      }),
    undo: () => change(options, (objects) => unwire(objects, namespace))
  }
}

/**
 * Reads the objects, lets `decide` choose the patches, and sends them. After a conflict (status 409) it begins again
 * with the reading, because changed objects may need other patches. Returns the number of patches.
 */
async function change(
  options: ClusterDnsOptions,
  decide: (objects: ClusterDnsObjects) => Wiring
): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const wiring = decide(await readObjects(options))
    const calls = wiring.calls ?? []
    try {
      for (const call of calls) await options.api.request({ ...call, signal: AbortSignal.timeout(CALL_MS) })
      // `wire` may refuse to write the zones and return patches all the same: these remove zones that this agent wrote
      // earlier and that would keep CoreDNS from starting.
      if (wiring.kind === 'refused')
        throw new ClusterDnsError('REFUSED', { message: wiring.reason, fix: wiring.fix })
      return calls.length
    } catch (error) {
      if (error instanceof ClusterDnsError) throw error
      if (!hasStatus(error, 409) || attempt === TRIES) throw failed('write', error)
    }
  }
}

/**
 * Reads the objects that the setting `target` allows this agent to change: the object of OpenShift's DNS operator, the
 * ConfigMaps of CoreDNS, or all three with `auto`. The others are undefined, as if they did not exist.
 */
async function readObjects({ api, namespace, target }: ClusterDnsOptions): Promise<ClusterDnsObjects> {
  const openshift = target === 'openshift'
  const [operator, coredns, custom] = await Promise.all([
    target === 'auto' || openshift ? read(api, CLUSTER_DNS_PATHS.operator()) : undefined,
    openshift ? undefined : read(api, CLUSTER_DNS_PATHS.coredns(namespace)),
    openshift ? undefined : read(api, CLUSTER_DNS_PATHS.custom(namespace))
  ])
  return { operator, coredns, custom }
}

/** Returns undefined for an object that does not exist or that this agent's roles do not allow it to read. */
async function read(api: KubeApi, path: string): Promise<Fields | undefined> {
  try {
    return await getObject(api, path, AbortSignal.timeout(CALL_MS))
  } catch (error) {
    if (hasStatus(error, 403)) return undefined
    throw failed('read', error)
  }
}

function failed(what: 'read' | 'write', cause: unknown): ClusterDnsError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new ClusterDnsError(
    'API_FAILED',
    {
      message: `cannot ${what} the cluster's DNS: ${reason}`,
      fix: 'give the service account the roles of the chart; the agent tries again every minute'
    },
    cause
  )
}
