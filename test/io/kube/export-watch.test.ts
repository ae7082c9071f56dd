// ServiceExports of a cluster that may lack the API: it comes, changes its version, and goes while the agent runs.
import assert from 'node:assert/strict'
import type { KubeClient } from '../../../src/io/kube/client.ts'
import { KubeError } from '../../../src/io/kube/errors.ts'
import { createExportWatch } from '../../../src/io/kube/export-watch.ts'
import { eventually } from '../../eventually.ts'

interface Cluster {
  /** The versions of the API group; undefined: there is none. 403: the account may not list. */
  versions: readonly string[] | undefined
  names: readonly string[]
  status?: number
}

/** A client of a cluster that answers lists, and holds every watch open. */
function clientOf(cluster: Cluster): KubeClient {
  const refuse = (status: number) =>
    new KubeError({ code: status === 403 ? 'FORBIDDEN' : 'NOT_IN_CLUSTER', message: `${status}`, status })
  return {
    server: 'https://example',
    namespace: 'default',
    close: () => undefined,
    request: async ({ path }) => {
      if (cluster.versions === undefined) throw refuse(404)
      if (path === '/apis/multicluster.x-k8s.io')
        return { versions: cluster.versions.map((version) => ({ version })) }
      if (cluster.status !== undefined) throw refuse(cluster.status)
      const items = cluster.names.map((name) => ({
        metadata: { namespace: 'shop', name, resourceVersion: '1' }
      }))
      return { metadata: { resourceVersion: '1' }, items }
    },
    watch: ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      })
  }
}

async function watching(cluster: Cluster, check: (seen: Seen) => Promise<void>): Promise<void> {
  const seen: Seen = {
    names: new Set(),
    knownAt: undefined,
    trouble: undefined,
    version: () => watch.version
  }
  const watch = createExportWatch({
    client: clientOf(cluster),
    lookMs: 5,
    onPut: ({ name }) => seen.names.add(name),
    onDelete: ({ name }) => seen.names.delete(name),
    onKnown: () => {
      seen.knownAt ??= [...seen.names].join()
    },
    onTrouble: (trouble) => {
      seen.trouble = trouble?.code
    }
  })
  watch.start()
  try {
    await check(seen)
  } finally {
    await watch.stop()
  }
}

interface Seen {
  readonly names: Set<string>
  /** The names when it first was certain which there are. */
  knownAt: string | undefined
  trouble: string | undefined
  readonly version: () => string | undefined
}

describe('the watch of ServiceExports', () => {
  it('knows at once that a cluster has none, and follows the API when it appears, changes its version and goes', async () => {
    const cluster: Cluster = { versions: undefined, names: ['web', 'db'] }
    await watching(cluster, async (seen) => {
      await eventually(() => seen.knownAt !== undefined)
      assert.deepEqual([seen.knownAt, seen.trouble, seen.version()], ['', undefined, undefined])
      cluster.versions = ['v1alpha1']
      await eventually(() => seen.names.size === 2)
      assert.equal(seen.version(), 'v1alpha1')
      cluster.names = ['web']
      cluster.versions = ['v1alpha1', 'v1beta1']
      await eventually(() => seen.version() === 'v1beta1' && seen.names.size === 1)
      cluster.versions = ['v2']
      await eventually(() => seen.names.size === 0)
      assert.deepEqual([seen.trouble, seen.version()], [undefined, undefined])
    })
  })

  it('says that exports are known only after the whole list, so that a restart withdraws none', async () => {
    await watching({ versions: ['v1beta1'], names: ['web', 'db'] }, async (seen) => {
      await eventually(() => seen.knownAt !== undefined)
      assert.equal(seen.knownAt, 'web,db')
    })
  })

  it('does not hold the services up where the account may not list exports, and says so', async () => {
    await watching({ versions: ['v1beta1'], names: ['web'], status: 403 }, async (seen) => {
      await eventually(() => seen.knownAt !== undefined && seen.trouble === 'FORBIDDEN')
      assert.equal(seen.names.size, 0)
    })
  })
})
