// Puts the mesh's zones into the cluster's own DNS, and takes them out again: reads three objects, lets core decide, sends the patches.
// The speaker calls `apply` when the clusters of the mesh change, and now and then, since installers rewrite what is theirs.
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
  /** auto: what the cluster has. */
  readonly target: WiringTarget | 'auto'
  /** Of CoreDNS: "kube-system". */
  readonly namespace: string
}

export interface ClusterDns {
  /** Idempotent; without zones as `undo`. Returns how many objects were changed. Errors: ClusterDnsError. */
  apply(mesh: MeshZones): Promise<number>
  undo(): Promise<number>
}

const CALL_MS = 10_000
// A write is repeated this often when another client has written first.
const TRIES = 5

export function createClusterDns(options: ClusterDnsOptions): ClusterDns {
  const { namespace } = options
  return {
    apply: (mesh) =>
      change(options, (objects) => {
        const target = options.target === 'auto' ? chooseTarget(objects) : options.target
        if (target === undefined) {
          throw new ClusterDnsError('NOTHING_TO_WIRE', {
            message: `neither OpenShift's DNS operator nor a ConfigMap ${namespace}/coredns is here`,
            fix: 'forward the zones of the mesh to the Service rhizome-dns by hand, or use the admission webhook'
          })
        }
        return wire(target, objects, { mesh, namespace })
      }),
    undo: () => change(options, (objects) => unwire(objects, namespace))
  }
}

async function change(
  options: ClusterDnsOptions,
  decide: (objects: ClusterDnsObjects) => Wiring
): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const wiring = decide(await readObjects(options))
    const calls = wiring.calls ?? []
    try {
      for (const call of calls) await options.api.request({ ...call, signal: AbortSignal.timeout(CALL_MS) })
      if (wiring.kind === 'refused')
        throw new ClusterDnsError('REFUSED', { message: wiring.reason, fix: wiring.fix })
      return calls.length
    } catch (error) {
      if (error instanceof ClusterDnsError) throw error
      if (!hasStatus(error, 409) || attempt === TRIES) throw failed('write', error)
    }
  }
}

async function readObjects({ api, namespace, target }: ClusterDnsOptions): Promise<ClusterDnsObjects> {
  const openshift = target === 'openshift'
  const [operator, coredns, custom] = await Promise.all([
    target === 'auto' || openshift ? read(api, CLUSTER_DNS_PATHS.operator()) : undefined,
    openshift ? undefined : read(api, CLUSTER_DNS_PATHS.coredns(namespace)),
    openshift ? undefined : read(api, CLUSTER_DNS_PATHS.custom(namespace))
  ])
  return { operator, coredns, custom }
}

/** What the roles do not let us see is not ours to change: with `auto` it counts as absent. */
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
      fix: 'give the service account the roles of the chart; it is tried again'
    },
    cause
  )
}
