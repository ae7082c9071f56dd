import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { catalog, changes, toValue, type CatalogOptions } from '../../../src/core/catalog/catalog.ts'
import { readObject } from '../../../src/core/catalog/folder-policy.ts'
import { parseCidr } from '../../../src/core/model/cidr.ts'
import { decodeValue, encodeValue } from '../../../src/core/wire/value-codec.ts'
import { keyOf, type Cidr, type Snapshot } from '../../../src/core/model/values.ts'

const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text)
  return parsed.kind === 'cidr' ? parsed.cidr : assert.fail(parsed.reason)
}

const service = (spec: object = {}, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'shop', ...metadata },
  spec: { clusterIP: '10.101.0.10', ports: [{ name: 'http', port: 80, targetPort: 'web' }], ...spec }
})

const slice = (more: object = {}, metadata: object = {}) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: {
    name: 'web-1',
    namespace: 'shop',
    labels: { 'kubernetes.io/service-name': 'web' },
    ...metadata
  },
  addressType: 'IPv4',
  ports: [{ name: 'http', port: 8080 }],
  endpoints: [{ addresses: ['10.1.0.11'], conditions: {} }],
  ...more
})

const read = (objects: readonly unknown[], options: CatalogOptions = {}) =>
  catalog(
    objects.flatMap((object, index) => readObject(object, { file: `${index}.yaml`, where: 'line 1' })),
    options
  )

function valueOf(object: unknown) {
  const reading = toValue(object)
  if (reading.kind === 'service' || reading.kind === 'endpointSlice') return reading.value
  return assert.fail(JSON.stringify(reading))
}

/** What a folder with this one object says. */
const problemsOf = (object: object) => catalog(readObject(object, { file: 'a.yaml' })).problems

describe('objects of a Multi-Cluster Services API that have no effect', () => {
  const of = (kind: string, apiVersion: string) =>
    problemsOf({ apiVersion, kind, metadata: { name: 'web', namespace: 'shop' } })

  it('are warnings with the file and the fix', () => {
    for (const [kind, apiVersion, fix] of [
      ['ServiceImport', 'multicluster.x-k8s.io/v1alpha1', /^remove it; to export .* ServiceExport/],
      ['ServiceImport', 'net.gke.io/v1', /^remove it/],
      ['ServiceExport', 'net.gke.io/v1', /^use multicluster\.x-k8s\.io\/v1beta1$/]
    ] as const) {
      const [problem, ...others] = of(kind, apiVersion)
      assert.deepEqual(others, [])
      assert.equal(problem?.level, 'warning')
      assert.equal(problem.file, 'a.yaml')
      assert.match(problem.where ?? '', new RegExp(`^${kind} shop/web: `))
      assert.match(problem.fix ?? '', fix)
    }
  })

  it('do not include a ServiceExport of the standard', () => {
    assert.deepEqual(
      of('ServiceExport', 'multicluster.x-k8s.io/v1alpha1').filter(({ fix }) => fix?.startsWith('use ')),
      []
    )
  })
})

describe('a Service', () => {
  it('has the policy of its annotation, in one line', () => {
    const annotated = service({}, { annotations: { 'rhizome.io/balance': 'only=east;\n  nearest\n' } })
    const value = valueOf(annotated)
    assert.ok(value.kind === 'service')
    assert.equal(value.balance, 'only=east; nearest')
  })

  for (const [what, text, carried, message, fix] of [
    ['is not understood', 'nearby', 'nearby', /unknown term "nearby"/, /use local-first, nearest/],
    ['is no text', 5, undefined, /is not text/, /quotation marks/],
    ['is empty', '', undefined, /is empty/, /use local-first, nearest/],
    ['no record can carry', 'n\u00e4her', undefined, /unknown term "n\u00e4her"/, /use local-first, nearest/],
    ['is too long', `only=${'east,'.repeat(300)}`, undefined, /1505 characters/, /at most 1024/]
  ] as const)
    it(`is published with a warning for a policy that ${what}, which names annotation and fix`, () => {
      const { snapshot, problems } = read([
        service({}, { annotations: { 'rhizome.io/balance': text } }),
        slice()
      ])
      assert.equal(snapshot.services.length, 1)
      assert.equal(snapshot.services[0]?.balance, carried)
      const [problem] = problems
      assert.equal(problem?.level, 'warning')
      assert.match(problem.where ?? '', /Service shop\/web: metadata\.annotations\."rhizome\.io\/balance"/)
      assert.match(problem.message, message)
      assert.match(problem.fix ?? '', fix)
    })

  it('is read with its ports, affinity and flags', () => {
    const spec = {
      type: 'LoadBalancer',
      clusterIPs: ['10.101.0.10', 'FD00:0::10'],
      ports: [
        { name: 'dns', port: 53, protocol: 'UDP', nodePort: 30053 },
        { name: 'dns-tcp', port: 53, appProtocol: 'kubernetes.io/h2c' }
      ],
      sessionAffinity: 'ClientIP',
      publishNotReadyAddresses: true
    }
    assert.deepEqual(valueOf(service(spec)), {
      kind: 'service',
      namespace: 'shop',
      name: 'web',
      clusterIps: ['10.101.0.10', 'fd00::10'],
      ports: [
        { name: 'dns', protocol: 'UDP', port: 53, appProtocol: '' },
        { name: 'dns-tcp', protocol: 'TCP', port: 53, appProtocol: 'kubernetes.io/h2c' }
      ],
      headless: false,
      externalName: '',
      affinitySeconds: 10_800,
      publishNotReady: true
    })
  })

  it('may be headless, or a name elsewhere, or in the default namespace', () => {
    const headless = valueOf(service({ clusterIP: 'None', ports: undefined }))
    assert.ok(headless.kind === 'service' && headless.headless && headless.clusterIps.length === 0)
    const external = valueOf(
      service({ type: 'ExternalName', externalName: 'API.example.com.', ports: undefined })
    )
    assert.equal(external.kind === 'service' && external.externalName, 'api.example.com')
    assert.equal(valueOf(service({}, { namespace: undefined })).namespace, 'default')
  })

  const bad: readonly {
    readonly title: string
    readonly object: unknown
    readonly where: RegExp
    readonly fix: RegExp
  }[] = [
    {
      title: 'without a cluster IP',
      object: service({ clusterIP: undefined }),
      where: /spec\.clusterIP/,
      fix: /no API server chooses one/
    },
    {
      title: 'with a cluster IP that is none',
      object: service({ clusterIP: '010.0.0.1' }),
      where: /spec\.clusterIP/,
      fix: /write it like/
    },
    {
      title: 'with a loopback cluster IP',
      object: service({ clusterIP: '127.0.0.1' }),
      where: /spec\.clusterIP/,
      fix: /prefixes/
    },
    { title: 'without ports', object: service({ ports: [] }), where: /spec\.ports/, fix: /at least one/ },
    {
      title: 'with a port too great',
      object: service({ ports: [{ port: 65_536 }] }),
      where: /ports\[0\]\.port/,
      fix: /65535/
    },
    {
      title: 'with a port as text',
      object: service({ ports: [{ port: '80' }] }),
      where: /ports\[0\]\.port/,
      fix: /integer/
    },
    {
      title: 'with two ports and no names',
      object: service({ ports: [{ port: 1 }, { port: 2 }] }),
      where: /ports\[0\]\.name/,
      fix: /set/
    },
    {
      title: 'with one port twice',
      object: service({
        ports: [
          { name: 'a', port: 1 },
          { name: 'b', port: 1 }
        ]
      }),
      where: /spec\.ports/,
      fix: /change one/
    },
    {
      title: 'with an unknown protocol',
      object: service({ ports: [{ port: 1, protocol: 'tcp' }] }),
      where: /protocol/,
      fix: /TCP, UDP, SCTP/
    },
    {
      title: 'with an unknown type',
      object: service({ type: 'Magic' }),
      where: /spec\.type/,
      fix: /ClusterIP/
    },
    {
      title: 'whose name is no label',
      object: service({}, { name: 'Web_1' }),
      where: /metadata\.name/,
      fix: /lower-case/
    },
    {
      title: 'whose name is a number',
      object: service({}, { name: 5 }),
      where: /metadata\.name/,
      fix: /quotes/
    },
    {
      title: 'without a name',
      object: service({}, { name: undefined }),
      where: /metadata\.name/,
      fix: /set/
    },
    {
      title: 'with a port name that is a zone file',
      object: service({ ports: [{ port: 1, name: 'a\nb IN A' }] }),
      where: /name/,
      fix: /lower-case/
    },
    {
      title: 'elsewhere without a name',
      object: service({ type: 'ExternalName' }),
      where: /externalName/,
      fix: /set/
    },
    { title: 'with a list as spec', object: { ...service(), spec: [] }, where: /spec/, fix: /mapping/ },
    {
      title: 'of a slice without its label',
      object: slice({}, { labels: {} }),
      where: /service-name/,
      fix: /set/
    },
    {
      title: 'of a slice with an IPv6 address in IPv4',
      object: slice({ endpoints: [{ addresses: ['fd00::1'] }] }),
      where: /addresses/,
      fix: /addressType/
    },
    {
      title: 'of a slice of an old API',
      object: { ...slice(), apiVersion: 'discovery.k8s.io/v1beta1' },
      where: /apiVersion/,
      fix: /v1/
    },
    { title: 'that is a text', object: 'hello', where: /document/, fix: /Service/ },
    { title: 'without a kind', object: {}, where: /kind/, fix: /set kind/ },
    {
      title: 'of malformed Endpoints',
      object: { apiVersion: 'v1', kind: 'Endpoints', metadata: { name: 'web' }, subsets: 5 },
      where: /subsets/,
      fix: /EndpointSlice/
    }
  ]
  for (const { title, object, where, fix } of bad) {
    it(`${title} is a problem with a place and a fix`, () => {
      const [problem] = read([object]).problems
      assert.match(problem?.where ?? '', where)
      assert.match(problem?.fix ?? '', fix)
      assert.equal(problem?.level, 'error')
    })
  }
})

describe('an EndpointSlice', () => {
  it('has the conditions that Kubernetes implies', () => {
    const conditions = [
      undefined,
      {},
      { ready: false },
      { ready: false, serving: true, terminating: true },
      { ready: null }
    ]
    const value = valueOf(
      slice({ endpoints: conditions.map((each) => ({ addresses: ['10.1.0.11'], conditions: each })) })
    )
    assert.deepEqual(
      value.kind === 'endpointSlice' &&
        value.endpoints.map(({ ready, serving, terminating }) => [ready, serving, terminating]),
      [
        [true, true, false],
        [true, true, false],
        [false, false, false],
        [false, true, true],
        [true, true, false]
      ]
    )
  })

  it('comes of a v1 Endpoints, too', () => {
    const endpoints = {
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { name: 'web', namespace: 'shop' },
      subsets: [
        {
          addresses: [{ ip: '10.1.0.11', hostname: 'a' }],
          notReadyAddresses: [{ ip: 'fd00::1' }],
          ports: [{ name: 'http', port: 8080 }]
        }
      ]
    }
    const { snapshot, problems } = read([service(), endpoints])
    assert.deepEqual(problems, [])
    assert.deepEqual(
      snapshot.endpointSlices.map((each) => [
        each.name,
        each.endpoints[0]?.addresses[0],
        each.endpoints[0]?.ready
      ]),
      [
        ['web-endpoints-0-ipv4', '10.1.0.11', true],
        ['web-endpoints-0-ipv6', 'fd00::1', false]
      ]
    )
  })
})

describe('a catalog', () => {
  it('counts good objects beside bad ones, and other kinds in silence', () => {
    const { snapshot, problems } = read([
      {
        apiVersion: 'v1',
        kind: 'List',
        items: [service(), slice(), { apiVersion: 'apps/v1', kind: 'Deployment' }, null, 7]
      },
      { apiVersion: 'serving.knative.dev/v1', kind: 'Service', metadata: { name: 'other' } },
      {
        apiVersion: 'v1',
        kind: 'ServiceList',
        items: [{ metadata: { name: 'cart' }, spec: { clusterIP: 'None' } }]
      }
    ])
    assert.deepEqual(snapshot.services.map(keyOf), ['svc/default/cart', 'svc/shop/web'])
    assert.equal(snapshot.endpointSlices.length, 1)
    assert.deepEqual(
      problems.map(({ level }) => level),
      ['error', 'warning']
    )
  })

  it('refuses what is nearly one of its kinds, as kubectl does, and passes over what others define', () => {
    const read1 = (kind: string, apiVersion?: string) => toValue({ ...service(), kind, apiVersion })
    for (const [kind, apiVersion] of [
      ['service', 'v1'],
      ['Services', 'v1'],
      ['Servcie', 'v1'],
      ['SERVICE', undefined],
      ['Service', 'core/v1'],
      ['Service', 'V1'],
      ['Service', 'apps/v1'],
      ['Endpoint', 'v1'],
      ['Endpoints', 'v2'],
      ['endpointslice', 'discovery.k8s.io/v1'],
      ['EndpointSlices', 'discovery.k8s.io/v1'],
      ['EndPointSlice', 'v1']
    ] as const) {
      const reading = read1(kind, apiVersion)
      assert.ok(reading.kind === 'problem', `${kind} ${apiVersion}: ${reading.kind}`)
      assert.match(reading.fix, /^use (Service|Endpoints|EndpointSlice|v1|discovery\.k8s\.io\/v1)$/)
    }
    for (const [kind, apiVersion] of [
      ['Service', 'serving.knative.dev/v1'],
      ['Services', 'example.com/v1'],
      ...[
        'Pod',
        'Node',
        'Secret',
        'Event',
        'ConfigMap',
        'Namespace',
        'ServiceAccount',
        'Binding',
        'Status'
      ].map((each) => [each, 'v1'] as const),
      ...['Deployment', 'ReplicaSet', 'StatefulSet', 'DaemonSet'].map((each) => [each, 'apps/v1'] as const),
      ['CronJob', 'batch/v1'],
      ['HorizontalPodAutoscaler', 'autoscaling/v2'],
      ['PodDisruptionBudget', 'policy/v1'],
      ['Ingress', 'networking.k8s.io/v1'],
      ['ServiceCIDR', 'networking.k8s.io/v1']
    ] as const)
      assert.equal(read1(kind, apiVersion).kind, 'ignored', `${kind} ${apiVersion}`)
  })

  it('warns of an ExternalName that can have no answer: an address, or the name itself', () => {
    const to = (externalName: string) =>
      read([service({ type: 'ExternalName', externalName })], { cluster: 'west' }).problems.map(
        ({ level, message }) => `${level}: ${message}`
      )
    assert.match(to('10.0.0.7').join(), /^warning: .* is an IP address/)
    for (const self of [
      'web.shop.svc.cluster.west',
      'web.shop.svc.cluster.local',
      'Web.Shop.svc.cluster.west.'
    ])
      assert.match(to(self).join(), /^warning: .* of this Service itself/, self)
    for (const other of ['db.example.com', 'web.shop.svc.cluster.east', '10.0.0.7.example.com', '1.2.3'])
      assert.deepEqual(to(other), [], other)
  })

  it('keeps the first of two services with one name, and names both files', () => {
    const { snapshot, problems } = read([service(), slice(), service({ clusterIP: '10.101.0.99' })])
    assert.equal(snapshot.services[0]?.clusterIps[0], '10.101.0.10')
    assert.deepEqual([problems[0]?.file, /0\.yaml/.test(problems[0]?.message ?? '')], ['2.yaml', true])
  })

  it('leaves out a slice for an unknown service, with the fix', () => {
    const { snapshot, problems } = read([slice()])
    assert.equal(snapshot.endpointSlices.length, 0)
    assert.match(problems[0]?.fix ?? '', /kubernetes\.io\/service-name/)
  })

  it('keeps a service without endpoints and warns that connections are refused', () => {
    const { snapshot, problems } = read([service()])
    assert.equal(snapshot.services.length, 1)
    assert.equal(problems[0]?.level, 'warning')
    assert.match(problems[0]?.message ?? '', /connections are refused/)
  })

  it('warns of a port that no slice has', () => {
    const { problems } = read([service(), slice({ ports: [{ name: 'web', port: 8080 }] })])
    assert.match(problems[0]?.message ?? '', /port "http"/)
  })

  it('leaves out what lies outside the prefixes of the cluster, for all others would refuse it', () => {
    const options = { podPrefixes: [cidr('10.1.0.0/16')], servicePrefixes: [cidr('10.101.0.0/16')] }
    const outside = service({ clusterIP: '10.9.0.1' }, { name: 'cart' })
    const mixed = slice({ endpoints: [{ addresses: ['10.1.0.11'] }, { addresses: ['192.168.0.1'] }] })
    const { snapshot, problems } = read([service(), mixed, outside], options)
    assert.deepEqual(
      snapshot.services.map(({ name }) => name),
      ['web']
    )
    assert.deepEqual(
      snapshot.endpointSlices[0]?.endpoints.map(({ addresses }) => addresses),
      [['10.1.0.11']]
    )
    assert.deepEqual(
      problems.map(({ level }) => level),
      ['error', 'warning']
    )
  })

  describe('of a dual-stack service in a mesh of one family', () => {
    const both = ['10.101.0.10', 'fd00:101::10']
    const v4 = { podPrefixes: [cidr('10.1.0.0/16')], servicePrefixes: [cidr('10.101.0.0/16')] }
    const v6 = { podPrefixes: [cidr('fd00:1::/48')], servicePrefixes: [cidr('fd00:101::/112')] }
    const slices = [
      slice(),
      slice({ addressType: 'IPv6', endpoints: [{ addresses: ['fd00:1::11'] }] }, { name: 'web-2' })
    ]
    const summary = ({ snapshot, problems }: ReturnType<typeof read>) => ({
      ips: snapshot.services.map(({ clusterIps }) => clusterIps.join()),
      slices: snapshot.endpointSlices.map(({ name }) => name),
      levels: problems.map(({ level }) => level)
    })

    it('has the half that is inside, whichever is first, and says which addresses others do not get', () => {
      for (const ips of [both, both.toReversed()]) {
        const objects = [service({ clusterIP: ips[0], clusterIPs: ips }), ...slices]
        assert.deepEqual(summary(read(objects, v4)), {
          ips: ['10.101.0.10'],
          slices: ['web-1'],
          levels: ['warning']
        })
        assert.deepEqual(summary(read(objects, v6)), {
          ips: ['fd00:101::10'],
          slices: ['web-2'],
          levels: ['warning']
        })
      }
    })

    it('has the endpoints of the one family when it is headless', () => {
      assert.deepEqual(summary(read([service({ clusterIP: 'None' }), ...slices], v4)), {
        ips: [''],
        slices: ['web-1'],
        levels: []
      })
    })

    it('is left out with its slices when no address is inside, with one problem that names the addresses', () => {
      const only6 = service({ clusterIP: 'fd00:101::10', clusterIPs: ['fd00:101::10'] })
      const result = read([only6, ...slices], v4)
      assert.deepEqual(summary(result), { ips: [], slices: [], levels: ['error'] })
      assert.match(result.problems[0]?.message ?? '', /fd00:101::10 is outside/)
    })

    it('keeps the addresses of an endpoint that are inside', () => {
      const mixed = slice({ endpoints: [{ addresses: ['192.168.0.1', '10.1.0.11'] }] })
      const { snapshot } = read([service(), mixed], v4)
      assert.deepEqual(snapshot.endpointSlices[0]?.endpoints[0]?.addresses, ['10.1.0.11'])
    })

    it('says that a cluster has no prefixes, where it has none', () => {
      const { problems } = read([service(), slice()], { podPrefixes: [], servicePrefixes: [] })
      assert.match(problems[0]?.fix ?? '', /no service prefixes/)
    })
  })

  it('takes addresses of 240.0.0.0/4, as Kubernetes does, and none of multicast and broadcast', () => {
    for (const ip of ['240.0.0.10', '250.1.2.3', '255.255.255.254'])
      assert.equal(toValue(service({ clusterIP: ip })).kind, 'service', ip)
    for (const ip of ['224.0.0.1', '239.255.255.255', '255.255.255.255'])
      assert.equal(toValue(service({ clusterIP: ip })).kind, 'problem', ip)
  })

  it('passes over a slice of host names without a word, as kube-proxy does', () => {
    const names = slice(
      { addressType: 'FQDN', endpoints: [{ addresses: ['db.example.com'] }] },
      { name: 'fqdn' }
    )
    const { snapshot, problems } = read([service(), slice(), names])
    assert.deepEqual(
      snapshot.endpointSlices.map(({ name }) => name),
      ['web-1']
    )
    assert.deepEqual(problems, [])
  })

  it('never throws, and every value it takes passes the decoder of the others', () => {
    const hostile = fc.oneof(
      fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true }),
      fc.record({
        apiVersion: fc.constantFrom('v1', 'discovery.k8s.io/v1'),
        kind: fc.constantFrom('Service', 'EndpointSlice', 'List', 'Endpoints'),
        metadata: fc.anything(),
        spec: fc.anything(),
        items: fc.anything(),
        subsets: fc.anything(),
        endpoints: fc.anything()
      }),
      fc
        .record({
          clusterIP: fc.oneof(fc.ipV4(), fc.ipV6(), fc.anything()),
          ports: fc.array(
            fc.record({
              name: fc.oneof(fc.string(), fc.constant('a')),
              port: fc.oneof(fc.nat(70_000), fc.anything()),
              appProtocol: fc.string()
            })
          ),
          externalName: fc.domain()
        })
        .map((spec) => service(spec)),
      fc
        .record({
          endpoints: fc.array(
            fc.record({
              addresses: fc.array(fc.oneof(fc.ipV4(), fc.ipV6())),
              hostname: fc.oneof(fc.domain(), fc.constant('a')),
              nodeName: fc.domain()
            })
          )
        })
        .map((more) => slice(more))
    )
    fc.assert(
      fc.property(fc.array(hostile, { maxLength: 4 }), (objects) => {
        const { snapshot } = read(objects)
        for (const value of [...snapshot.services, ...snapshot.endpointSlices]) {
          assert.deepEqual(decodeValue(keyOf(value), encodeValue(value)), { kind: 'value', value })
        }
      }),
      { numRuns: 500 }
    )
  })
})

describe('changes', () => {
  const empty: Snapshot = { services: [], endpointSlices: [] }
  const both = read([service(), slice()]).snapshot

  it('bring endpoints before their service, and take them after it', () => {
    assert.deepEqual(
      changes(empty, both).map(({ key }) => key),
      ['eps/shop/web-1', 'svc/shop/web']
    )
    assert.deepEqual(changes(both, empty), [
      { key: 'svc/shop/web', value: undefined },
      { key: 'eps/shop/web-1', value: undefined }
    ])
  })

  it('are none between equal snapshots, and only the difference otherwise', () => {
    assert.deepEqual(changes(both, read([service(), slice()]).snapshot), [])
    const moved = read([service(), slice({ endpoints: [{ addresses: ['10.1.0.12'] }] })]).snapshot
    assert.deepEqual(
      changes(both, moved).map(({ key }) => key),
      ['eps/shop/web-1']
    )
  })
})
