// The API server of one cluster, as far as its key Secret goes.
import { readClusterSecret, type ClusterSecret } from '../../../src/core/trust/cluster-secret-data.ts'
import type { KubeApi, KubeCall } from '../../../src/core/kube/kube-api.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { KubeError } from '../../../src/io/kube/errors.ts'

const crypto = createCrypto()

type Secret = { metadata: { resourceVersion: string }; data?: Record<string, string> }

/** The one Secret, with the API's optimistic locking. */
export class FakeSecrets implements KubeApi {
  secret: Secret | undefined = { metadata: { resourceVersion: '0' } }
  /** While true nothing answers. */
  away = false
  writes = 0
  /** Runs between what a caller read and what it writes. */
  meanwhile: () => void = () => undefined
  #version = 0

  async request({ method = 'GET', body }: KubeCall): Promise<unknown> {
    if (this.away) throw new KubeError({ code: 'NETWORK', message: 'connect ECONNREFUSED' })
    if (method === 'PATCH') return (this.secret ??= this.#made({ metadata: { resourceVersion: '' } }))
    if (method === 'PUT') {
      const run = this.meanwhile
      this.meanwhile = () => undefined
      run()
    }
    if (this.secret === undefined)
      throw new KubeError({ code: 'NOT_IN_CLUSTER', message: 'none', status: 404 })
    if (method === 'GET') return structuredClone(this.secret)
    const written = body as Secret
    if (written.metadata.resourceVersion !== this.secret.metadata.resourceVersion)
      throw new KubeError({ code: 'CONFLICT', message: 'modified', status: 409 })
    this.writes++
    return (this.secret = this.#made(written))
  }

  put(data: Readonly<Record<string, string>>): void {
    this.secret = this.#made({ metadata: { resourceVersion: '' }, data: { ...data } })
  }

  get key(): ClusterSecret | undefined {
    const found = readClusterSecret(this.secret?.data ?? {}, crypto)
    return found.kind === 'secret' ? found.secret : undefined
  }

  #made(secret: Secret): Secret {
    return { ...structuredClone(secret), metadata: { resourceVersion: String(++this.#version) } }
  }
}
