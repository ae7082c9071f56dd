// Two gateways of a site whose manifests differ: the one whose manifests do not count says so.
import assert from 'node:assert/strict'
import { manifestsDiffer } from '../../../src/app/sources/manifest-difference.ts'
import type { EndpointSliceValue, Ip, ServiceValue, Snapshot } from '../../../src/core/model/values.ts'
import type { ServiceView } from '../../../src/core/view/view.ts'

const service = (name: string, ip = '10.103.0.1'): ServiceValue => ({
  kind: 'service',
  namespace: 'shop',
  name,
  clusterIps: [ip as Ip],
  ports: [
    { name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 } as unknown as ServiceValue['ports'][number]
  ],
  headless: false,
  externalName: '',
  affinitySeconds: 0,
  publishNotReady: false
})
const slice = (of: string, address: string, name = `${of}-1`): EndpointSliceValue => ({
  kind: 'endpointSlice',
  namespace: 'shop',
  name,
  service: of,
  ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  endpoints: [
    { addresses: [address as Ip], ready: true } as unknown as EndpointSliceValue['endpoints'][number]
  ]
})
const own = (...of: readonly [ServiceValue, EndpointSliceValue][]): Snapshot => ({
  services: of.map(([one]) => one),
  endpointSlices: of.map(([, one]) => one)
})
const told = (...of: readonly [ServiceValue, EndpointSliceValue][]): ReadonlyMap<string, ServiceView> =>
  new Map(of.map(([one, two]) => [`shop/${one.name}`, { service: one, slices: [two] }]))
const web = [service('web'), slice('web', '10.3.0.11')] as [ServiceValue, EndpointSliceValue]

describe('the manifests of a gateway that does not speak', () => {
  it('are the same when services, ports and addresses are, whatever the slices are called', () => {
    assert.equal(manifestsDiffer(own(web), told([web[0], slice('web', '10.3.0.11', 'x')]), 'a'), undefined)
    assert.equal(manifestsDiffer(own(), told(), 'a'), undefined)
  })

  for (const [what, here, there, names] of [
    ['a service is here only', own(web), told(), 'shop/web'],
    ['a service is there only', own(), told(web), 'shop/web'],
    ['an endpoint differs', own(web), told([web[0], slice('web', '10.3.0.12')]), 'shop/web'],
    ['an address differs', own([service('web', '10.103.0.9'), web[1]]), told(web), 'shop/web']
  ] as const)
    it(`differ when ${what}: the fault names the service and the gateway that counts`, () => {
      const fault = manifestsDiffer(here, there, 'edge-1')
      assert.equal(fault?.severity, 'warning')
      assert.ok(fault.message.includes(`(${names})`) && fault.message.includes('edge-1'), fault.message)
    })

  it('are named up to three, and the others counted', () => {
    const many = ['a', 'b', 'c', 'd', 'e'].map(
      (name) => [service(name), slice(name, '10.3.0.11')] as [ServiceValue, EndpointSliceValue]
    )
    assert.match(
      manifestsDiffer(own(...many), told(), 'x')?.message ?? '',
      /in 5 services \(shop\/a, shop\/b, shop\/c and 2 more\)/
    )
  })
})
