// Founds the mesh that the setting `init` asks for, so that a cluster needs no `meshctl init` (docs/gitops.md).
// Invariants
//   1. The Secret of the cluster's key decides which of several gateways founds: the key that is written there first counts,
//      and the other gateways join with it. So without a Kubernetes API nothing is founded.
//   2. A cluster that was in a mesh founds no second one. A member holds the Lease of the speaker at some time, and nothing
//      but a person deletes that Lease: so where the Lease exists, an empty Secret was lost or given up.
//   3. told-to-join.ts calls it only when there is neither a token nor a key.
import { getObject, type KubeApi } from '../../core/kube/kube-api.ts'
import { AppError } from '../observe/errors.ts'
import { roleOf } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'
import { SPEAKER_LEASE, type Source } from '../sources/source.ts'
import type { Enrolment } from './enrolment.ts'
import type { SharedKey } from './shared-key.ts'

interface FoundingOptions {
  readonly settings: Pick<Settings, 'init' | 'init-pod-cidrs' | 'init-service-cidrs' | 'role'>
  readonly source: Pick<Source, 'kubernetes'>
  /** undefined without a Kubernetes API. */
  readonly sharedKey: Pick<SharedKey, 'expectNone'> | undefined
  readonly enrolment: Pick<Enrolment, 'init'>
}

// Milliseconds for the one request of a check. An attempt that fails is made again.
const CALL_MS = 5000

/** The founding that the settings ask for. One per process. */
export class Founding {
  readonly #options: FoundingOptions

  constructor(options: FoundingOptions) {
    this.#options = options
  }

  /** Whether the settings ask for it. A node founds nothing: a cluster begins with a gateway. */
  get isAsked(): boolean {
    const { settings } = this.#options
    return settings.init !== '' && roleOf(settings) === 'gateway'
  }

  /**
   * Founds the mesh; this agent is a member of it when the promise resolves. Errors: AppError BAD_SETTING without a Kubernetes
   * API, FOUNDED_BEFORE (2), CLUSTER_KEY_TAKEN when another gateway founded it first, and those of `Enrolment.init`.
   */
  async found(): Promise<void> {
    const { settings, source, sharedKey, enrolment } = this.#options
    const { kubernetes } = source
    if (kubernetes === undefined || sharedKey === undefined)
      throw new AppError(
        'BAD_SETTING',
        'setting init: this agent has no Kubernetes API, whose Secret decides which agent founds the mesh',
        `leave the setting out, and run \`meshctl init --cluster ${settings.init}\` on one agent of this cluster`
      )
    if (await hasLease(kubernetes)) {
      // The gateway that founded the mesh may have made the Lease since the Secret was read.
      await sharedKey.expectNone()
      throw foundedBefore(kubernetes.namespace)
    }
    await enrolment.init({
      cluster: settings.init,
      podCidrs: settings['init-pod-cidrs'],
      serviceCidrs: settings['init-service-cidrs']
    })
  }
}

async function hasLease({
  api,
  namespace
}: {
  readonly api: KubeApi
  readonly namespace: string
}): Promise<boolean> {
  const path = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/${SPEAKER_LEASE}`
  return (await getObject(api, path, AbortSignal.timeout(CALL_MS))) !== undefined
}

function foundedBefore(namespace: string): AppError {
  return new AppError(
    'FOUNDED_BEFORE',
    `setting init: the Lease ${namespace}/${SPEAKER_LEASE} shows that this cluster was in a mesh, so it founds no second one, although the Secret of its key is empty`,
    `if another gateway of this cluster runs, wait 60 s, since it writes the key again; to come back to the mesh, use a backup (\`meshctl backup restore\`) or a token; to found a new mesh, run \`kubectl -n ${namespace} delete lease ${SPEAKER_LEASE}\``
  )
}
