import assert from 'node:assert/strict'
import { outward } from '../../../src/core/catalog/outward.ts'
import { SortedMap } from '../../../src/core/model/sorted-map.ts'
import { createTranslation, NO_TRANSLATION } from '../../../src/core/model/translation.ts'
import { keyOf, type Cidr, type ClusterName, type Ip, type Value } from '../../../src/core/model/values.ts'
import type { SettledCluster, Settlement } from '../../../src/core/trust/members/settlement.ts'
import { OwnSide } from '../../../src/core/view/own-side.ts'
import type { AgentView, ClusterView, MeshView, ServiceView } from '../../../src/core/view/view.ts'
import { encodeValue, decodeValue } from '../../../src/core/wire/value-codec.ts'

const WEST = 'west' as ClusterName
const EAST = 'east' as ClusterName
const translation = createTranslation([
  { kind: 'pod', real: '10.1.0.0/16' as Cidr, virtual: '10.128.0.0/16' as Cidr },
  { kind: 'service', real: '10.101.0.0/16' as Cidr, virtual: '10.192.0.0/16' as Cidr }
])

const SERVICE: Value = {
  kind: 'service',
  namespace: 'shop',
  name: 'web',
  clusterIps: ['10.101.0.10' as Ip],
  ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
  headless: false,
  externalName: '',
  affinitySeconds: 0,
  publishNotReady: false
}
const SLICE: Value = {
  kind: 'endpointSlice',
  namespace: 'shop',
  name: 'web-a',
  service: 'web',
  ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  endpoints: [
    {
      addresses: ['10.1.0.11' as Ip],
      ready: true,
      serving: true,
      terminating: false,
      hostname: 'a',
      node: ''
    }
  ]
}

function cluster(name: ClusterName, more: Partial<ClusterView> = {}): ClusterView {
  return {
    name,
    podPrefixes: [],
    servicePrefixes: [],
    agents: [],
    services: new Map(),
    complete: true,
    conflicts: [],
    refusals: [],
    ...more
  }
}

/** The value as another agent reads it. */
function published(value: Value): Value {
  const [change] = outward([{ key: keyOf(value), value }], translation)
  const decoded = decodeValue(keyOf(value), encodeValue(change?.value ?? assert.fail()))
  return decoded.kind === 'value' ? decoded.value : assert.fail(decoded.reason)
}

function serviceView(): ServiceView {
  const [service, slice] = [published(SERVICE), published(SLICE)]
  assert.ok(service.kind === 'service' && slice.kind === 'endpointSlice')
  return { service, slices: [slice] }
}

describe('the own side of a translated cluster', () => {
  it('publishes services, endpoints and agents with virtual addresses', () => {
    const { service, slices } = serviceView()
    assert.deepEqual(service.clusterIps, ['10.192.0.10'])
    assert.deepEqual(slices[0]?.endpoints[0]?.addresses, ['10.128.0.11'])
    const changes = [
      { key: keyOf(SERVICE), value: SERVICE },
      { key: 'eps/shop/gone', value: undefined }
    ]
    assert.equal(outward(changes, NO_TRANSLATION), changes)
    assert.deepEqual(outward(changes, translation)[1], changes[1])
  })

  it('shows its own hosts what they have published, with the real addresses again', () => {
    const agent = {
      origin: 'x',
      agent: { tunnelAddress: '10.128.0.1', nodePrefixes: ['10.128.4.0/24'] }
    } as unknown as AgentView
    const services = SortedMap.from<ServiceView>([['shop/web', serviceView()]])
    const own = cluster(WEST, {
      podPrefixes: ['10.128.0.0/16' as Cidr],
      servicePrefixes: ['10.192.0.0/16' as Cidr],
      agents: [agent],
      services
    })
    const east = cluster(EAST, { podPrefixes: ['10.129.0.0/16' as Cidr] })
    const view: MeshView = {
      self: WEST,
      clusters: new Map([
        [EAST, east],
        [WEST, own]
      ])
    }
    const side = new OwnSide()
    assert.equal(side.view(view), view)
    side.use(translation)
    const shown = side.view(view)
    const west = shown.clusters.get(WEST) ?? assert.fail()
    assert.deepEqual([...shown.clusters.keys()], [EAST, WEST])
    assert.equal(shown.clusters.get(EAST), east)
    assert.deepEqual([west.podPrefixes, west.servicePrefixes], [['10.1.0.0/16'], ['10.101.0.0/16']])
    assert.deepEqual(west.agents[0]?.agent.tunnelAddress, '10.1.0.1')
    assert.deepEqual(west.agents[0]?.agent.nodePrefixes, ['10.1.4.0/24'])
    const web = west.services.get('shop/web') ?? assert.fail()
    assert.deepEqual(web.service, SERVICE)
    assert.deepEqual({ ...web.slices[0] }, SLICE)

    // What did not change is the same object in the next view (3).
    const other = serviceView()
    const next: MeshView = {
      self: WEST,
      clusters: new Map([
        [EAST, east],
        [WEST, { ...own, services: services.with([['shop/b', other]]) }]
      ])
    }
    const after = side.view(next).clusters.get(WEST) ?? assert.fail()
    assert.equal(side.view(next), side.view(next))
    assert.equal(after.services.get('shop/web'), web)
    assert.equal(after.podPrefixes, west.podPrefixes)
    assert.equal(after.agents[0], west.agents[0])
    assert.equal(after.services.size, 2)
  })

  it('leaves out what another cluster has of the own real prefixes, and says so', () => {
    const settled = (name: ClusterName, pods: string[], services: string[]) =>
      ({ cluster: name, podPrefixes: pods, servicePrefixes: services }) as unknown as SettledCluster
    const own = settled(WEST, ['10.128.0.0/16'], ['10.192.0.0/16'])
    const east = settled(EAST, ['10.1.128.0/17', '10.9.0.0/16'], ['10.96.0.0/12', '10.8.0.0/16'])
    const settlement: Settlement = new Map([
      [WEST, own],
      [EAST, east]
    ])
    const side = new OwnSide()
    assert.equal(side.settlement(settlement, WEST), settlement)
    side.use(translation)
    const cut = side.settlement(settlement, WEST)
    assert.equal(cut.get(WEST), own)
    assert.deepEqual(cut.get(EAST)?.podPrefixes, ['10.9.0.0/16'])
    assert.deepEqual(cut.get(EAST)?.servicePrefixes, ['10.8.0.0/16'])
    assert.deepEqual(
      side.hidden.map(({ prefix, own: real }) => [prefix, real]),
      [
        ['10.1.128.0/17', '10.1.0.0/16'],
        ['10.96.0.0/12', '10.101.0.0/16']
      ]
    )
    // Another settlement with the same cluster gives the same object, so the view of the cluster is not built anew.
    assert.equal(side.settlement(new Map(settlement), WEST).get(EAST), cut.get(EAST))
  })
})
