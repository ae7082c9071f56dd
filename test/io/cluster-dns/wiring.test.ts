// Putting zones into the cluster's DNS when the API does not play along. That it plays along with a real one: test/lab/deploy.test.ts.
import assert from 'node:assert/strict'
import type { KubeApi, KubeCall } from '../../../src/core/kube/kube-api.ts'
import { createClusterDns } from '../../../src/io/cluster-dns/wiring.ts'

const MESH = { zones: ['cluster.east'], servers: ['10.96.0.53'] }
const COREFILE = '.:53 {\n}\n'

describe('cluster DNS wiring', () => {
  it('reads anew when somebody else wrote first, and keeps what they wrote', async () => {
    const api = fakeApi({ conflicts: 2, afterConflict: '# theirs\n' })
    assert.equal(await dns(api).apply(MESH), 1)
    assert.match(api.corefile, /^# BEGIN rhizome[^]*# END rhizome\n# theirs\n# theirs\n\.:53 \{\n\}\n$/)
    assert.equal(await dns(api).undo(), 1)
    assert.equal(api.corefile, `# theirs\n# theirs\n${COREFILE}`)
  })

  it('gives up after a few tries, and leaves the object as it is', async () => {
    const api = fakeApi({ conflicts: 100 })
    await assert.rejects(dns(api).apply(MESH), { code: 'API_FAILED' })
    assert.equal(api.corefile, COREFILE)
  })

  it('takes what it may not see for absent', async () => {
    const api = fakeApi({ forbidden: /dnses|custom/ })
    assert.equal(await dns(api).apply(MESH), 1)
  })

  it('says when there is nothing that it could extend', async () => {
    await assert.rejects(dns(fakeApi({ forbidden: /./ })).apply(MESH), {
      code: 'NOTHING_TO_WIRE',
      fix: /webhook/
    })
    assert.equal(await dns(fakeApi({ forbidden: /./ })).undo(), 0)
  })

  it('says why it does not touch a Corefile that it would break', async () => {
    await assert.rejects(dns(fakeApi({ corefile: '.:53\nwhoami\n' })).apply(MESH), {
      code: 'REFUSED',
      fix: /braces/
    })
  })
})

function dns(api: KubeApi) {
  return createClusterDns({ api, target: 'auto', namespace: 'kube-system' })
}

interface FakeOptions {
  readonly conflicts?: number
  readonly afterConflict?: string
  readonly forbidden?: RegExp
  readonly corefile?: string
}

function fakeApi(options: FakeOptions): KubeApi & { corefile: string } {
  let { conflicts = 0 } = options
  let version = 1
  const api = {
    corefile: options.corefile ?? COREFILE,
    request: ({ method = 'GET', path, body }: KubeCall): Promise<unknown> => {
      if (options.forbidden?.test(path) === true) return refuse(403)
      if (!path.endsWith('/coredns')) return refuse(404)
      if (method === 'GET')
        return Promise.resolve({
          metadata: { resourceVersion: `${version}` },
          data: { Corefile: api.corefile }
        })
      const patch = body as { metadata: { resourceVersion: string }; data: { Corefile: string } }
      if (conflicts-- > 0) {
        api.corefile = `${options.afterConflict ?? ''}${api.corefile}`
        version++
      }
      if (patch.metadata.resourceVersion !== `${version}`) return refuse(409)
      api.corefile = patch.data.Corefile
      return Promise.resolve({})
    }
  }
  return api
}

function refuse(status: number): Promise<never> {
  return Promise.reject(Object.assign(new Error(`${status}`), { status }))
}
