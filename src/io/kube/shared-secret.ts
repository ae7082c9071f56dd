// Reads and writes the Secret in which the gateways of one cluster share its key. app/enrolment uses it,
// and core/trust/cluster-secret.ts decides what its content means. Each write names the resourceVersion that was read, so
// of two concurrent writes one fails with a conflict. The chart creates the Secret without content. If it was deleted,
// it is created again by server-side apply, because RBAC can restrict a patch to one name, but not a POST, which names
// no object.
// RBAC: get, update, patch and create of this one Secret.
import {
  clusterSecretData,
  readClusterSecret,
  type ClusterSecret,
  type SecretReading
} from '../../core/trust/cluster-secret-data.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Fields } from '../../core/model/field-check.ts'
import { PART_OF } from '../../core/kube/install.ts'
import {
  APPLY_PATCH,
  fieldsAt,
  getObject,
  hasStatus,
  textAt,
  type KubeApi
} from '../../core/kube/kube-api.ts'
import { asKubeError } from './errors.ts'

const CLUSTER_KEY_SECRET = 'rhizome-cluster-key'

/** The content of the Secret, and the whole object, which a later write replaces. */
interface FoundSecret {
  readonly reading: SecretReading
  readonly object: Fields
}

export interface SharedSecret {
  /** "rhizome-system/rhizome-cluster-key", for messages. */
  readonly name: string
  /**
   * Reads the content; creates the Secret if there is none. Takes at most 5 s for each of up to three requests. Errors:
   * KubeError.
   */
  read(signal?: AbortSignal): Promise<FoundSecret>
  /**
   * Writes the content; undefined empties the Secret. Resolves with false if another client has written since `found` was
   * read, and then nothing was changed. Errors: KubeError.
   */
  write(found: FoundSecret, secret: ClusterSecret | undefined, signal?: AbortSignal): Promise<boolean>
}

// Milliseconds for each request. An answer takes some; a person waits for it, or an agent that tries again.
const CALL_MS = 5000

export function createSharedSecret(options: {
  readonly api: KubeApi
  readonly namespace: string
  readonly crypto: Crypto
}): SharedSecret {
  const { api, namespace, crypto } = options
  const path = `/api/v1/namespaces/${namespace}/secrets/${CLUSTER_KEY_SECRET}`
  const limited = (signal: AbortSignal | undefined): AbortSignal =>
    AbortSignal.any([AbortSignal.timeout(CALL_MS), ...(signal === undefined ? [] : [signal])])

  /** Creates the Secret without a key and returns it as the API server has it. */
  async function make(signal: AbortSignal | undefined): Promise<Fields | undefined> {
    const body = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        name: CLUSTER_KEY_SECRET,
        namespace,
        labels: { ...PART_OF, 'app.kubernetes.io/name': 'rhizome', 'app.kubernetes.io/component': 'agent' }
      },
      type: 'Opaque'
    }
    await api.request({
      method: 'PATCH',
      path,
      query: { fieldManager: 'meshd' },
      contentType: APPLY_PATCH,
      body,
      signal: limited(signal)
    })
    return getObject(api, path, limited(signal))
  }

  return {
    name: `${namespace}/${CLUSTER_KEY_SECRET}`,
    async read(signal) {
      try {
        const object = (await getObject(api, path, limited(signal))) ?? (await make(signal)) ?? {}
        return { object, reading: readClusterSecret(fieldsAt(object, 'data'), crypto) }
      } catch (error) {
        throw asKubeError(error, path)
      }
    },
    async write({ object }, secret, signal) {
      // Without a resourceVersion the PUT would replace the present content without a check.
      if (textAt(object, 'metadata', 'resourceVersion') === undefined) return false
      try {
        const data = secret === undefined ? {} : clusterSecretData(secret)
        await api.request({ method: 'PUT', path, body: { ...object, data }, signal: limited(signal) })
        return true
      } catch (error) {
        // 404: the Secret was deleted since `read`. The caller reads again, as after a conflict.
        if (hasStatus(error, 409) || hasStatus(error, 404)) return false
        throw asKubeError(error, path)
      }
    }
  }
}
