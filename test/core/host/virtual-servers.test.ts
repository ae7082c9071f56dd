// Which endpoints get traffic, in the load balancer and in READY of `meshctl services`.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { serviceServers, trafficOf } from '../../../src/core/host/virtual-servers.ts'
import type { Endpoint, Ip } from '../../../src/core/model/values.ts'
import type { ServiceView } from '../../../src/core/view/view.ts'

type Conditions = Pick<Endpoint, 'ready' | 'serving' | 'terminating'>

const view = (
  conditions: readonly Conditions[],
  { publishNotReady = false, headless = false } = {}
): ServiceView => ({
  service: {
    kind: 'service',
    namespace: 'shop',
    name: 'web',
    clusterIps: headless ? [] : ['10.101.0.1' as Ip],
    ports: [{ name: '', protocol: 'TCP', port: 80, appProtocol: '' }],
    headless,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady
  },
  slices: [
    {
      kind: 'endpointSlice',
      namespace: 'shop',
      name: 'web-1',
      service: 'web',
      ports: [{ name: '', protocol: 'TCP', port: 8080 }],
      endpoints: conditions.map((each, index) => ({
        ...each,
        addresses: [`10.1.0.${index + 1}` as Ip],
        hostname: '',
        node: ''
      }))
    }
  ]
})

const READY: Conditions = { ready: true, serving: true, terminating: false }
const LEAVING: Conditions = { ready: false, serving: true, terminating: true }
const GONE: Conditions = { ready: false, serving: false, terminating: true }

describe('the endpoints that get traffic', () => {
  const rows: readonly [what: string, of: ServiceView, ready: number, fallback: number][] = [
    ['the ready ones', view([READY, LEAVING, GONE]), 1, 0],
    ['those that terminate and serve, where none is ready', view([LEAVING, LEAVING, GONE]), 0, 2],
    ['none, where none serves', view([GONE]), 0, 0],
    [
      'all, where addresses that are not ready are published',
      view([LEAVING, GONE], { publishNotReady: true }),
      2,
      0
    ],
    ['the ready ones alone of a headless service', view([LEAVING], { headless: true }), 0, 0]
  ]
  for (const [what, of, ready, fallback] of rows)
    it(`are ${what}`, () => assert.deepEqual(trafficOf(of), { ready, fallback }))

  it('are as many as the real servers of the load balancer, whatever the conditions are', () => {
    const conditions = fc.record({ ready: fc.boolean(), serving: fc.boolean(), terminating: fc.boolean() })
    fc.assert(
      fc.property(fc.array(conditions, { maxLength: 20 }), fc.boolean(), (list, publishNotReady) => {
        const of = view(list, { publishNotReady })
        const { ready, fallback } = trafficOf(of)
        const [server] = serviceServers(of, 'rr').servers
        assert.equal(server?.realServers.length ?? 0, ready + fallback)
      })
    )
  })
})
