import assert from 'node:assert/strict'
import { createLog } from '../../src/app/log.ts'
import { resolveSettings } from '../../src/app/settings.ts'
import { openSource } from '../../src/app/source.ts'
import type { Origin } from '../../src/core/model.ts'
import { eventually } from '../eventually.ts'
import { FakeApi, refuse, SERVICES, type Fault } from '../io/kube/fake-api.ts'

const LEASE = '/apis/coordination.k8s.io/v1/namespaces/default/leases/rhizome-speaker'
const HELD: Fault = (_request, response) => {
  const spec = { holderIdentity: 'another', leaseDurationSeconds: 15, leaseTransitions: 1 }
  response.end(JSON.stringify({ metadata: { resourceVersion: '1' }, spec }))
}

describe('a source in a Kubernetes cluster', () => {
  it('asks for everything again as soon as the Lease can be had again, however long it was to wait', async () => {
    const api = await FakeApi.start()
    api.fail('list', SERVICES, refuse(503, 'later', { 'retry-after': '30' }))
    api.fail('any', LEASE, refuse(503, 'later'))
    api.fail('any', LEASE, HELD, Infinity)
    let isWhole = false
    const source = await openSource({
      settings: resolveSettings({
        flags: { source: 'kubernetes', kubeconfig: api.kubeconfig },
        env: {},
        file: undefined
      }),
      catalogOptions: () => ({}),
      onSnapshot: (_snapshot, _problems, { whole }) => {
        isWhole = whole
      },
      onLeadership: () => undefined,
      onNodePrefixes: () => undefined,
      termFloor: () => 1,
      log: createLog({ 'log-level': 'error', 'log-format': 'text' })
    })
    try {
      source.stand('12D3KooW' as Origin)
      await source.start()
      assert.equal(isWhole, false)
      await eventually(() => isWhole)
      assert.equal(source.fault, undefined)
    } finally {
      await source.stop()
      await api.close()
    }
  })
})
