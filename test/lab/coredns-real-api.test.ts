// One real API server, read by CoreDNS with its own kubernetes plugin and by us: the same questions to both, whole answers compared.
import assert from 'node:assert/strict'

import { catalog } from '../../src/core/catalog/catalog.ts'
import { readObject } from '../../src/core/catalog/folder-policy.ts'
import { endpointLabel } from '../../src/core/dns/service-names.ts'
import { createNames } from '../../src/core/dns/names.ts'
import { reverseZones } from '../../src/core/coredns/reverse-zones.ts'
import { ipToBytes } from '../../src/core/model/cidr.ts'
import type { Ip } from '../../src/core/model/values.ts'
import type { MeshView, ServiceView } from '../../src/core/view/view.ts'
import { cluster, meshOf } from '../core/dns/fixtures.ts'
import { eventually } from '../eventually.ts'
import { startServer, type Running } from '../io/dns/harness.ts'
import {
  assertSameAnswers,
  each,
  isNodata,
  isNxdomain,
  type Difference,
  type Question
} from './support/coredns-compare.ts'
import {
  edgeObjects,
  NAMESPACES,
  POD_PREFIXES,
  SERVICE_PREFIXES,
  shopObjects,
  type KubeObject
} from './support/coredns-real-objects.ts'
import { addressesOf, startCoredns, type RunningCoredns } from './support/coredns.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'

const ZONE = 'cluster.west'
const API_SERVICE = `kubernetes.default.svc.${ZONE}`

/** All of these are what the mesh does not carry or the specification asks for; everything else must be equal. */
const DIFFERENCES: readonly Difference[] = [
  {
    what: 'a namespace without services: the API server has it, the mesh carries services only',
    allows: ({ name, coredns, own }) =>
      /^(vacant|default|kube-\w+)\.svc\.cluster\.west$/.test(name) && isNodata(coredns) && isNxdomain(own)
  },
  {
    what: 'the API itself, default/kubernetes: no service of the mesh',
    allows: ({ name, own }) => (name === API_SERVICE || name === reverseName('10.101.0.1')) && isNxdomain(own)
  },
  {
    what: 'publishNotReadyAddresses with an endpoint written as not ready, which only a hand does: the specification publishes it',
    allows: ({ name, coredns, own }) =>
      (name.includes('early.edge.svc') || name === reverseName('10.1.9.23')) &&
      isNxdomain(coredns) &&
      !isNxdomain(own)
  },
  {
    what: 'PTR of an endpoint whose service is gone: CoreDNS names the service all the same',
    allows: ({ name, type, own }) => type === 'PTR' && name === reverseName('10.1.9.31') && isNxdomain(own)
  }
]

describe('CoreDNS with its own plugin on a real Kubernetes API, beside our own responder', function () {
  let api: KubeApi | undefined
  let coredns: RunningCoredns | undefined
  let own: Running | undefined
  let view: MeshView

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    api = await startKubeApi({ lab: await kubeLab(), serviceCidr: SERVICE_PREFIXES.join(',') })
    for (const name of NAMESPACES) await create(api, '/api/v1/namespaces', { metadata: { name } })
    for (const object of [...(await shopObjects()), ...edgeObjects()])
      await create(api, pathOf(object), object)
    const { client, kubeconfig } = api
    // The API server makes its own Service a moment after it is ready.
    await eventually(() => client.request({ path: '/api/v1/namespaces/default/services/kubernetes' }))
    view = await viewOf(api)
    const names = createNames({ view })
    own = await startServer({ names: () => names })
    coredns = await startCoredns((port) => corefile(port, kubeconfig), ZONE)
    const { port } = coredns
    await eventually(async () => (await addressesOf(port, `web.edge.svc.${ZONE}`)).startsWith('10.101.'))
  })

  after(async () => {
    await coredns?.stop()
    await own?.server.stop()
    await api?.stop()
  })

  it('has every kind of service in the view', () => {
    const services = [...(view.clusters.values().next().value?.services.values() ?? [])]
    const count = (of: (view: ServiceView) => boolean): number => services.filter(of).length
    assert.ok(count(({ service }) => service.externalName !== '') > 10)
    assert.ok(count(({ service }) => service.headless) >= 8)
    assert.ok(count(({ service }) => service.clusterIps.some((ip) => ip.includes(':'))) >= 2)
    assert.ok(count(({ service }) => service.namespace === 'shop') >= 4)
  })

  it('agrees on every question but for the differences listed', async () => {
    const asked = questions(view)
    assert.ok(asked.length >= 300)
    assert.ok(coredns && own)
    await assertSameAnswers({ coredns: coredns.port, own: own.port }, asked, DIFFERENCES)
  })
})

function corefile(port: number, kubeconfig: string): string {
  const zones = [ZONE, ...[...POD_PREFIXES, ...SERVICE_PREFIXES].flatMap(reverseZones)]
  const keys = zones.map((zone) => `${zone}:${port}`).join(' ')
  return `${keys} {\nbind 127.0.0.1\nkubernetes {\nkubeconfig ${kubeconfig}\nttl 5\nstartup_timeout 30s\n}\n}\n`
}

async function create(api: KubeApi, path: string, body: object): Promise<void> {
  await api.client.request({ method: 'POST', path, body })
}

function pathOf({ kind, metadata: { namespace } }: KubeObject): string {
  return kind === 'Service'
    ? `/api/v1/namespaces/${namespace}/services`
    : `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`
}

/** What the mesh would carry of it: the objects as the API gives them back, read as a source reads them. */
async function viewOf(api: KubeApi): Promise<MeshView> {
  const lists = await Promise.all(
    ['/api/v1/services', '/apis/discovery.k8s.io/v1/endpointslices'].map((path) =>
      api.client.request({ path })
    )
  )
  const { snapshot } = catalog(lists.flatMap((list) => readObject(list, { file: 'the API' })))
  const exported = snapshot.services.filter(({ namespace }) => namespace !== 'default')
  const services = exported.map((service): ServiceView => {
    const isOwn = (slice: { readonly namespace: string; readonly service: string }): boolean =>
      slice.namespace === service.namespace && slice.service === service.name
    return { service, slices: snapshot.endpointSlices.filter(isOwn) }
  })
  return meshOf(cluster('west', { podPrefixes: POD_PREFIXES, servicePrefixes: SERVICE_PREFIXES, services }))
}

const TYPES = ['A', 'AAAA', 'SRV', 'PTR', 'TXT', 'CNAME', 'NS', 'SOA', 'MX', 'ANY', 'HINFO', 'CAA'] as const
const ADDRESS_TYPES = ['A', 'AAAA', 'SRV', 'TXT'] as const

/** Every name that the objects have, names next to them, and names that nobody has. */
function questions(view: MeshView): readonly Question[] {
  const services = [...view.clusters.values()].flatMap((each) => [...each.services.values()])
  const domains = services.map(({ service }) => `${service.name}.${service.namespace}.svc.${ZONE}`)
  const below = services.flatMap((of, index) =>
    [...new Set([...portLabels(of), ...endpointLabels(of), ...STRANGE])].map(
      (label) => `${label}.${domains[index]}`
    )
  )
  const namespaces = [...NAMESPACES, 'default', 'kube-system', 'kube-public', 'nosuch']
  const around = [
    '',
    'svc.',
    'pod.',
    'dns.',
    'ns.dns.',
    'x.dns.',
    'dns-version.',
    'nosuch.',
    '*.',
    'shop.pod.',
    '10-1-9-1.edge.pod.',
    'nosuch.edge.svc.',
    'kubernetes.default.svc.',
    'web.nosuch.svc.',
    '_http._tcp.nosuch.edge.svc.',
    'db-0.nosuch.edge.svc.',
    '*.edge.svc.',
    ...namespaces.map((name) => `${name}.svc.`)
  ].map((name) => name + ZONE)
  const cased = [
    'WEB.Edge.svc.cluster.west',
    'web.edge.SVC.Cluster.WEST',
    '_HTTP._Tcp.web.edge.svc.cluster.west',
    'DB-0.dB.edge.svc.cluster.west',
    'Inside.EDGE.svc.cluster.west',
    'DNS-Version.cluster.west',
    'CLUSTER.west'
  ]
  const addresses = services.flatMap(({ service, slices }) => [
    ...service.clusterIps,
    ...slices.flatMap(({ endpoints }) => endpoints.flatMap((endpoint) => endpoint.addresses))
  ])
  const zones = [...POD_PREFIXES, ...SERVICE_PREFIXES].flatMap(reverseZones)
  const reverse = [...new Set(addresses)].map(reverseName)
  return [
    ...each([...domains, ...around, ...cased], TYPES),
    ...each([...new Set(below)], ADDRESS_TYPES),
    ...each(reverse, ['PTR', 'A']),
    ...each(
      ['10.1.9.31', '10.1.9.200', '10.101.0.1', '10.101.255.254', 'fd00:1::99', 'fd00:101::ff99'].map(
        reverseName
      ),
      ['PTR', 'TXT']
    ),
    ...each(
      [
        ...zones,
        ...['0', 'x', '1.1.0', 'svc', 'dns-version', 'ns.dns'].map((left) => `${left}.1.10.in-addr.arpa`)
      ],
      TYPES
    )
  ]
}

const STRANGE = [
  '_tcp',
  '_udp',
  '_nope._tcp',
  'http.tcp',
  '_._tcp',
  '_http._',
  '_._',
  'nosuch',
  '10-1-9-1',
  'a.b.c'
]

function portLabels({ service, slices }: ServiceView): readonly string[] {
  const ports = [...service.ports, ...slices.flatMap((slice) => slice.ports)]
  return ports.flatMap(({ name, protocol }) => [
    `_${name}._${protocol}`.toLowerCase(),
    `_${name}._${protocol === 'UDP' ? 'tcp' : 'udp'}`
  ])
}

function endpointLabels({ slices }: ServiceView): readonly string[] {
  return slices.flatMap(({ endpoints }) =>
    endpoints.flatMap((endpoint) => endpoint.addresses.map((address) => endpointLabel(endpoint, address)))
  )
}

function reverseName(address: string): string {
  const bytes = [...ipToBytes(address as Ip)]
  if (bytes.length === 4) return `${bytes.toReversed().join('.')}.in-addr.arpa`
  const nibbles = bytes.flatMap((byte) => [byte >> 4, byte & 15]).toReversed()
  return `${nibbles.map((nibble) => nibble.toString(16)).join('.')}.ip6.arpa`
}
