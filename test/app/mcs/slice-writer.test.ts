// The writer of EndpointSlices before an API server that refuses: what fails waits, and all else goes on.
import assert from 'node:assert/strict'
import { SliceWriter } from '../../../src/app/mcs/slice-writer.ts'
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
  const made = new SliceWriter({
    request: async ({ method = 'GET', path, body }: KubeCall) => {
      if (method === 'GET') return { items: [] }
      const { name } = (body as { metadata: { name: string } }).metadata
      sent.push(`${method} ${name.split('.')[0]}`)
      const status = refuse(`${path}/${name}`)
      if (status !== undefined) throw Object.assign(new Error(`answer ${status}`), { status })
      return body
    }
  })
  return { made, sent }
}

async function pass(made: SliceWriter, facts: ReturnType<typeof mesh>): Promise<void> {
  for (const write of made.writes(facts)) await write().catch(() => undefined)
}

describe('the writer of EndpointSlices', () => {
  it('tries a refused write again after the next list only, and shows its error until then', async () => {
    const { made, sent } = writer((path) => (path.includes('/bad.') ? 403 : undefined))
    await made.list()
    await pass(made, mesh('bad', 'good'))
    assert.deepEqual(sent.splice(0), ['POST bad', 'POST good'])
    await pass(made, mesh('bad', 'good', 'late'))
    assert.deepEqual(sent.splice(0), ['POST late'])
    assert.match(String(made.failure), /403/)
    await made.list()
    assert.equal(made.failure, undefined)
    await pass(made, mesh('bad'))
    assert.deepEqual(sent, ['POST bad'])
  })

  it('leaves an object of another author that has the name, which is no failure', async () => {
    const { made, sent } = writer(() => 409)
    await made.list()
    await pass(made, mesh('web'))
    await pass(made, mesh('web'))
    assert.deepEqual(sent, ['POST web'])
    assert.equal(made.failure, undefined)
  })
})
