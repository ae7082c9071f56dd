// The writer of EndpointSlices before an API server that refuses: what fails waits, and all else goes on.
import assert from 'node:assert/strict'
import { SliceWriter } from '../../../src/app/mcs/slice-writer.ts'
import { Writes } from '../../../src/app/mcs/writes.ts'
import { explain } from '../../../src/app/observe/errors.ts'
import type { KubeCall } from '../../../src/core/kube/kube-api.ts'
import type { EndpointSliceValue, Ip } from '../../../src/core/model/values.ts'
import { cluster, EXPORT, meshOf, service } from '../../core/dns/fixtures.ts'

const READY = { ready: true, serving: true, terminating: false, hostname: '', node: '' }

/** West exports these services of the namespace shop, each with one endpoint. */
function mesh(...names: readonly string[]) {
  const services = names.map((name) => {
    const slice: Pick<EndpointSliceValue, 'kind' | 'ports' | 'endpoints'> = {
      kind: 'endpointSlice',
      ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
      endpoints: [{ addresses: ['10.11.0.1' as Ip], ...READY }]
    }
    const made = service(`shop/${name}`, ['10.12.0.1'], {}, slice)
    return { ...made, service: { ...made.service, clusterset: EXPORT } }
  })
  return { view: meshOf(cluster('west', { services })), hasNamespace: () => true, isWhole: true }
}

/** A writer whose API server has no slice and answers writes with the status that `refuse` names, if any. */
function writer(refuse: (path: string) => number | undefined) {
  const sent: string[] = []
  const slices = new SliceWriter({
    request: async ({ method = 'GET', path, body }: KubeCall) => {
      if (method === 'GET') return { items: [] }
      const { name } = (body as { metadata: { name: string } }).metadata
      sent.push(`${method} ${name.split('.')[0]}`)
      const status = refuse(`${path}/${name}`)
      if (status !== undefined) throw Object.assign(new Error(`answer ${status}`), { status })
      return body
    }
  })
  const writes = new Writes(() => 0)
  const list = async () => {
    await slices.list()
    writes.listed()
  }
  const pass = (facts: ReturnType<typeof mesh>) => writes.send(slices.writes(facts), () => true)
  return { sent, writes, list, pass }
}

describe('the writer of EndpointSlices', () => {
  it('tries a refused write again after the next list only, and shows its error until then', async () => {
    const { sent, writes, list, pass } = writer((path) => (path.includes('/bad.') ? 403 : undefined))
    await list()
    await pass(mesh('bad', 'good'))
    assert.deepEqual(sent.splice(0), ['POST bad', 'POST good'])
    await pass(mesh('bad', 'good', 'late'))
    assert.deepEqual(sent.splice(0), ['POST late'])
    assert.match(String(writes.failure), /403/)
    await list()
    assert.equal(writes.failure, undefined)
    await pass(mesh('bad'))
    assert.deepEqual(sent, ['POST bad'])
  })

  it('leaves an object of another author that has the name, and names it when the next list does not show it as ours', async () => {
    const { sent, writes, list, pass } = writer(() => 409)
    await list()
    await pass(mesh('web'))
    await pass(mesh('web'))
    assert.deepEqual(sent.splice(0), ['POST web'])
    assert.equal(writes.failure, undefined)
    await list()
    await pass(mesh('web', 'late'))
    assert.deepEqual(sent, ['POST late', 'POST web'])
    const failure = explain(writes.failure)
    assert.match(failure.message, /^EndpointSlice shop\/web\.west\.\w+ was made by another program/)
    assert.match(failure.fix ?? '', /^delete it: kubectl -n shop delete endpointslice web\.west\./)
  })
})
