import assert from 'node:assert/strict'
import { HostEndpoints } from '../../../src/core/host/host-endpoints.ts'
import type { EndpointSliceValue, Ip, ServiceValue } from '../../../src/core/model/values.ts'
import type { ServiceView } from '../../../src/core/view/view.ts'

const HOST = '10.1.0.1' as Ip

/** A Service without a selector whose slice names the host itself, with this many ports. */
function serviceAt(ip: Ip, ports: number): ServiceView {
  const service: ServiceValue = {
    kind: 'service',
    namespace: 'tenant',
    name: 'web',
    clusterIps: [],
    ports: [],
    headless: true,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady: false
  }
  const slice: EndpointSliceValue = {
    kind: 'endpointSlice',
    namespace: 'tenant',
    name: 'web-1',
    service: 'web',
    ports: Array.from({ length: ports }, (_, index) => ({
      name: `p${index}`,
      protocol: 'TCP' as const,
      port: index + 1
    })),
    endpoints: [{ addresses: [ip], ready: true, serving: true, terminating: false, hostname: '', node: '' }]
  }
  return { service, slices: [slice] }
}

describe('endpoints that are the host itself', () => {
  it('are those at its own addresses, at most 1,000 of them', () => {
    const services = new Map([['tenant/web', serviceAt(HOST, 5000)]])
    assert.equal(new HostEndpoints().follow(services, [HOST]).length, 1000)
    assert.deepEqual(new HostEndpoints().follow(services, ['10.1.0.2' as Ip]), [])
  })
})
