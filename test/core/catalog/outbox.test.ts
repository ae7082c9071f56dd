import assert from 'node:assert/strict'
import type { Change } from '../../../src/core/catalog/catalog.ts'
import { keyOf, type EndpointSliceValue, type ServiceValue } from '../../../src/core/model/values.ts'
import { Outbox } from '../../../src/core/catalog/outbox.ts'

const service = (name: string): ServiceValue => ({
  kind: 'service',
  namespace: 'shop',
  name,
  clusterIps: [],
  ports: [],
  headless: true,
  externalName: '',
  affinitySeconds: 0,
  publishNotReady: false
})
const slice = (name: string): EndpointSliceValue => ({
  kind: 'endpointSlice',
  namespace: 'shop',
  name,
  service: 'web',
  ports: [],
  endpoints: []
})
const set = (value: ServiceValue | EndpointSliceValue): Change => ({ key: keyOf(value), value })
const gone = (value: ServiceValue | EndpointSliceValue): Change => ({ key: keyOf(value), value: undefined })

describe('an outbox', () => {
  it('has of each key the last value, endpoints before their service and after it', () => {
    const outbox = new Outbox()
    outbox.add([gone(slice('a')), set(service('web')), set(slice('b'))])
    outbox.add([gone(service('old')), set(slice('a')), gone(service('web')), set(service('new'))])
    assert.equal(outbox.size, 5)
    assert.deepEqual(
      outbox.take().map(({ key, value }) => `${value === undefined ? '-' : '+'}${key}`),
      ['+eps/shop/a', '+eps/shop/b', '+svc/shop/new', '-svc/shop/web', '-svc/shop/old']
    )
    assert.deepEqual(outbox.take(), [])
  })
})
