import assert from 'node:assert/strict'
import { REACHABLE_MAX } from '../../../src/core/host/host-limits.ts'
import { Reachable } from '../../../src/core/host/reachable.ts'
import type {
  Endpoint,
  EndpointSliceValue,
  Ip,
  Protocol,
  ServiceValue
} from '../../../src/core/model/values.ts'
import { SortedMap } from '../../../src/core/model/sorted-map.ts'
import type { ServiceView } from '../../../src/core/view/view.ts'

const endpoint = (ip: string, more: Partial<Endpoint> = {}): Endpoint => ({
  addresses: [ip as Ip],
  ready: true,
  serving: true,
  terminating: false,
  hostname: '',
  node: '',
  ...more
})
function service(
  name: string,
  endpoints: readonly Endpoint[],
  more: Partial<ServiceValue> = {}
): ServiceView {
  const ports = [
    { name: 'http', protocol: 'TCP' as Protocol, port: 8080, appProtocol: '' },
    { name: 'dns', protocol: 'UDP' as Protocol, port: 53, appProtocol: '' }
  ]
  return {
    service: { namespace: 'shop', name, headless: false, publishNotReady: false, ...more } as ServiceValue,
    slices: [
      {
        namespace: 'shop',
        service: name,
        name: `${name}-1`,
        ports,
        endpoints
      } as unknown as EndpointSliceValue
    ]
  }
}
const services = (...all: readonly ServiceView[]) =>
  SortedMap.from(all.map((each) => [`shop/${each.service.name}`, each] as const))

describe('the endpoints that other clusters may reach', () => {
  const away = { ready: false, serving: false }
  const leaving = { ready: false, serving: true, terminating: true }
  const of = (view: ServiceView) => new Reachable().follow(services(view)).endpoints

  it('are the ready ones, with each port and protocol', () => {
    assert.deepEqual(
      of(service('web', [endpoint('10.2.0.2'), endpoint('fd02::2'), endpoint('10.2.0.3', away)])),
      ['10.2.0.2 TCP 8080', '10.2.0.2 UDP 53', 'fd02::2 TCP 8080', 'fd02::2 UDP 53']
    )
  })

  it('are those that leave and still serve while none is ready, but not of a headless service', () => {
    const endpoints = [endpoint('10.2.0.2', leaving), endpoint('10.2.0.3', away)]
    assert.deepEqual(of(service('web', endpoints)), ['10.2.0.2 TCP 8080', '10.2.0.2 UDP 53'])
    assert.deepEqual(of(service('web', endpoints, { headless: true })), [])
    assert.deepEqual(of(service('web', [...endpoints, endpoint('10.2.0.4')])), [
      '10.2.0.4 TCP 8080',
      '10.2.0.4 UDP 53'
    ])
    assert.equal(of(service('web', endpoints, { publishNotReady: true })).length, 4)
  })

  it('follow the services, and are the same object while nothing changes', () => {
    const reachable = new Reachable()
    const [web, api] = [service('web', [endpoint('10.2.0.2')]), service('api', [endpoint('10.2.0.3')])]
    const first = reachable.follow(services(web, api))
    assert.equal(first.endpoints.length, 4)
    assert.equal(reachable.follow(services(web, api)), first)
    assert.deepEqual(reachable.follow(services(api)).endpoints, ['10.2.0.3 TCP 8080', '10.2.0.3 UDP 53'])
    assert.deepEqual(reachable.follow(services()).endpoints, [])
  })

  it('are bounded, and it is told how many are left out', () => {
    const many = Array.from({ length: REACHABLE_MAX }, (_, n) =>
      endpoint(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`)
    )
    const { endpoints, leftOut } = new Reachable().follow(services(service('web', many)))
    assert.equal(endpoints.length, REACHABLE_MAX)
    assert.equal(leftOut, REACHABLE_MAX)
  })
})
