import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { bytesToIp, cidrContains, parseCidr, parseIp } from '../../../src/core/model/cidr.ts'
import type { Cidr } from '../../../src/core/model/values.ts'
import {
  discoverCidrs,
  mergeCidrs,
  settleCidrs,
  type CidrFindings
} from '../../../src/io/kube/discover-cidrs.ts'
import { readNode } from '../../../src/io/kube/node-facts.ts'
import { readNodeArgs } from '../../../src/io/kube/cidr-sources.ts'
import { FakeApi, NODES, refuse, SLICES } from './fake-api.ts'

const cidrs = (...texts: readonly string[]): readonly Cidr[] =>
  texts.map((text) => {
    const parsed = parseCidr(text)
    return parsed.kind === 'cidr' ? parsed.cidr : assert.fail(parsed.reason)
  })

const node = (name: string, podCIDRs?: readonly string[], ip?: string) =>
  readNode({
    metadata: { name },
    spec: { podCIDRs },
    status: {
      addresses:
        ip === undefined
          ? []
          : [
              { type: 'InternalIP', address: ip },
              { type: 'Hostname', address: name }
            ]
    }
  })

const nothing: CidrFindings = {
  settings: { pods: [], services: [] },
  openshift: { pods: [], services: [] },
  cluster: [],
  serviceCidrs: [],
  nodes: [],
  podIps: [],
  refusals: []
}

describe('the prefixes of a cluster', () => {
  it('are those of the settings first, then OpenShift’s, then the nodes’ and the ServiceCIDRs', () => {
    const nodes = [node('n1', ['10.1.0.0/24', 'fd00::/64'])]
    const some = { ...nothing, nodes, serviceCidrs: cidrs('10.96.0.0/16') }
    const plain = settleCidrs(some)
    assert.deepEqual(
      [plain.podPrefixes, plain.servicePrefixes, plain.problems],
      [['10.1.0.0/24', 'fd00::/64'], ['10.96.0.0/16'], []]
    )
    const openshift = { pods: cidrs('10.128.0.0/14'), services: cidrs('172.30.0.0/16') }
    assert.deepEqual(settleCidrs({ ...some, openshift }).from, { pods: 'openshift', services: 'openshift' })
    const settings = { pods: cidrs('10.5.0.0/16'), services: [] }
    const mixed = settleCidrs({ ...some, openshift, settings })
    assert.deepEqual(
      [mixed.podPrefixes, mixed.from],
      [['10.5.0.0/16'], { pods: 'settings', services: 'openshift' }]
    )
  })

  it('are problems with a flag as fix when nobody knows them', () => {
    const { problems, from } = settleCidrs(nothing)
    assert.deepEqual(from, { pods: 'none', services: 'none' })
    assert.match(problems[0]?.fix ?? '', /--pod-cidr/)
    assert.match(problems[1]?.fix ?? '', /--service-cidr/)
  })

  it('are doubted when some nodes have none', () => {
    const { problems } = settleCidrs({
      ...nothing,
      nodes: [node('n1', ['10.1.0.0/24']), node('n2')],
      serviceCidrs: cidrs('10.96.0.0/16')
    })
    assert.match(problems[0]?.message ?? '', /1 of 2 nodes .* n2/)
    assert.equal(problems[0]?.level, 'warning')
  })

  it('must not overlap one another or hold a node', () => {
    const { conflicts } = settleCidrs({
      ...nothing,
      nodes: [node('n1', ['10.1.0.0/24'], '10.1.7.1')],
      serviceCidrs: cidrs('10.1.0.0/16')
    })
    assert.match(conflicts[0]?.message ?? '', /overlap/)
    assert.match(conflicts[1]?.message ?? '', /10\.1\.7\.1 of node n1/)
    assert.ok(conflicts.every(({ level }) => level === 'error'))
  })

  it('are configured ones only where these cover what is in use, by pods first and by Nodes else (property)', () => {
    const prefixes = ['10.1.0.0/16', '10.2.0.0/16', '192.168.0.0/16', 'fd01::/48', 'fd02::/48'] as const
    const source = fc.subarray([...prefixes]).map((pods) => ({ pods: cidrs(...pods), services: [] }))
    const nodes = fc
      .array(fc.subarray(['10.1.3.0/24', '10.2.3.0/24', 'fd01:0:0:3::/64', 'fd02:0:0:3::/64']), {
        maxLength: 3
      })
      .map((all) => all.map((podCidrs, index) => node(`n${index}`, podCidrs)))
    const ips = fc
      .subarray(['10.1.7.7', '10.2.7.7', '192.168.7.7', '172.16.7.7', 'fd01::7', 'fd09::7'])
      .map((all) => all.map((ip) => parseIp(ip) ?? assert.fail()))
    fc.assert(
      fc.property(fc.array(source, { maxLength: 3 }), nodes, ips, (cluster, nodes, podIps) => {
        const { podPrefixes, from } = settleCidrs({ ...nothing, cluster, nodes, podIps })
        if (from.pods === 'nodes' && podIps.length > 0)
          assert.ok(podIps.some((ip) => podPrefixes.some((prefix) => cidrContains(prefix, ip))))
        if (from.pods !== 'cluster') return
        for (const ip of podIps)
          assert.ok(
            podPrefixes.some((prefix) => cidrContains(prefix, ip)),
            ip
          )
        for (const family of ['.', ':'])
          if (!podIps.some((ip) => ip.includes(family)))
            for (const { podCidrs } of nodes)
              for (const cidr of podCidrs.filter((each) => each.includes(family)))
                assert.ok(
                  podPrefixes.some((prefix) => cidrContains(prefix, cidr)),
                  cidr
                )
      }),
      { numRuns: 1000 }
    )
  })

  it('are not those of the Nodes where pods have other addresses', () => {
    const found = {
      ...nothing,
      nodes: [node('n1', ['10.244.0.0/24'])],
      serviceCidrs: cidrs('10.96.0.0/12'),
      podIps: [parseIp('192.168.5.6') ?? assert.fail()]
    }
    const { from, problems } = settleCidrs(found)
    assert.equal(from.pods, 'none')
    assert.match(
      problems[0]?.message ?? '',
      /outside the spec\.podCIDRs of the Nodes, such as 192\.168\.5\.6/
    )
    assert.equal(problems[0]?.level, 'error')
    const pools = { pods: cidrs('192.168.0.0/16'), services: [] }
    const kubeadm = { pods: cidrs('10.244.0.0/16'), services: cidrs('10.90.0.0/16') }
    const known = settleCidrs({ ...found, serviceCidrs: [], cluster: [pools, kubeadm] })
    assert.deepEqual(
      [known.podPrefixes, known.servicePrefixes, known.problems],
      [['192.168.0.0/16'], ['10.90.0.0/16'], []]
    )
  })

  it('merge into the fewest with exactly the same addresses', () => {
    assert.deepEqual(mergeCidrs(Array.from({ length: 256 }, (_, n) => cidrs(`10.1.${n}.0/24`)).flat()), [
      '10.1.0.0/16'
    ])
    assert.deepEqual(mergeCidrs(cidrs('10.1.1.0/24', '10.1.2.0/24')), ['10.1.1.0/24', '10.1.2.0/24'])
    const prefix = fc.tuple(fc.nat(15), fc.integer({ min: 28, max: 32 })).map(([host, length]) => {
      const masked = (host >> (32 - length)) << (32 - length)
      return cidrs(`10.0.0.${masked}/${length}`)[0] as Cidr
    })
    fc.assert(
      fc.property(fc.array(prefix, { maxLength: 12 }), (list) => {
        const merged = mergeCidrs(list)
        for (let host = 0; host < 16; host += 1) {
          const ip = bytesToIp(Uint8Array.of(10, 0, 0, host)) ?? parseIp('10.0.0.0') ?? assert.fail()
          assert.equal(
            merged.filter((each) => cidrContains(each, ip)).length,
            list.some((each) => cidrContains(each, ip)) ? 1 : 0
          )
        }
      })
    )
  })
})

describe('the discovery', () => {
  let api: FakeApi
  const SERVICE_CIDRS = '/apis/networking.k8s.io/v1/servicecidrs'
  const NETWORK = '/apis/config.openshift.io/v1/networks/cluster'

  beforeEach(async () => {
    api = await FakeApi.start()
    api.fail('any', NETWORK, refuse(404, 'the server could not find the requested resource'))
  })

  afterEach(() => api.close())

  it('reads every page of nodes', async () => {
    api.put(SERVICE_CIDRS, {
      metadata: { name: 'kubernetes' },
      spec: { cidrs: ['10.96.0.0/16', 'fd01::/112'] }
    })
    for (let n = 0; n < 512; n += 1) {
      api.put(NODES, { metadata: { name: `n${n}` }, spec: { podCIDRs: [`10.${n >> 8}.${n & 255}.0/24`] } })
    }
    const found = await discoverCidrs({ client: api.client })
    assert.deepEqual(
      [found.podPrefixes, found.servicePrefixes, found.problems],
      [['10.0.0.0/15'], ['10.96.0.0/16', 'fd01::/112'], []]
    )
  })

  it('says what it was not allowed to see', async () => {
    api.fail('any', SERVICE_CIDRS, refuse(403, 'servicecidrs is forbidden'))
    api.put(NODES, { metadata: { name: 'n1' }, spec: { podCIDRs: ['10.1.0.0/24'] } })
    const { problems } = await discoverCidrs({ client: api.client })
    assert.ok(problems.some(({ message }) => /403 servicecidrs is forbidden/.test(message)))
  })

  it('fails when the API fails', async () => {
    api.fail('any', NODES, refuse(500, 'etcd is gone'))
    await assert.rejects(discoverCidrs({ client: api.client }), { code: 'SERVER_FAILED' })
  })

  it('are those of the whole cluster where its installer or its network plugin tells them and its Nodes follow', async () => {
    const api = await FakeApi.start()
    try {
      api.put(NODES, { metadata: { name: 'n1' }, spec: { podCIDRs: ['10.1.3.0/24', 'fd00:1:0:3::/64'] } })
      const configMap = (name: string, data: object) =>
        api.answer(`/api/v1/namespaces/kube-system/configmaps/${name}`, { metadata: { name }, data })
      const found = async () => {
        const { podPrefixes, from } = await discoverCidrs({ client: api.client })
        return [from.pods, ...podPrefixes]
      }
      assert.deepEqual(await found(), ['nodes', '10.1.3.0/24', 'fd00:1:0:3::/64'])
      configMap('kube-proxy', {
        'config.conf': 'kind: KubeProxyConfiguration\nclusterCIDR: "10.1.0.0/16,fd00:1::/48"\n'
      })
      assert.deepEqual(await found(), ['cluster', '10.1.0.0/16', 'fd00:1::/48'])
      // A leftover of another plugin counts nothing, and half of what is needed is not taken for the whole.
      configMap('kube-proxy', { 'config.conf': "clusterCIDR: '10.244.0.0/16'\n" })
      assert.deepEqual(await found(), ['nodes', '10.1.3.0/24', 'fd00:1:0:3::/64'])
      configMap('kubeadm-config', {
        ClusterConfiguration: 'networking:\n  dnsDomain: x\n  podSubnet: 10.1.0.0/16\n'
      })
      assert.equal((await found())[0], 'nodes')
      configMap('cilium-config', { 'cluster-pool-ipv6-cidr': 'fd00:1::/56', ipam: 'cluster-pool' })
      assert.deepEqual(await found(), ['cluster', '10.1.0.0/16', 'fd00:1::/56'])
    } finally {
      await api.close()
    }
  })

  const CONFIGURED: readonly (readonly [string, string, object])[] = [
    [
      'a comment',
      'kube-system/kubeadm-config',
      { ClusterConfiguration: 'networking: # of ours\r\n  podSubnet: 10.1.0.0/16 # pods\r\n' }
    ],
    [
      'a list with blanks',
      'kube-system/kubeadm-config',
      { ClusterConfiguration: 'networking: {podSubnet: "10.1.0.0/16, fd01::/48"}' }
    ],
    ['JSON', 'kube-system/kube-proxy', { 'config.conf': '{"clusterCIDR":"10.1.0.0/16"}' }],
    [
      'flannel',
      'kube-flannel/kube-flannel-cfg',
      { 'net-conf.json': '{"Network":"10.1.0.0/16","EnableIPv6":true,"IPv6Network":"fd01::/48"}' }
    ],
    [
      'flannel of old',
      'kube-system/kube-flannel-cfg',
      { 'net-conf.json': '{\n "Network": "10.1.0.0/16"\n}' }
    ],
    ['Canal', 'kube-system/canal-config', { 'net-conf.json': '{"Network":"10.1.0.0/16"}' }],
    ['Cilium', 'kube-system/cilium-config', { 'cluster-pool-ipv4-cidr': '10.1.0.0/16 10.9.0.0/16' }]
  ]
  for (const [name, path, data] of CONFIGURED)
    it(`reads the configuration of the cluster: ${name}`, async () => {
      const [namespace, configMap] = path.split('/')
      api.put(NODES, { metadata: { name: 'n1' }, spec: { podCIDRs: ['10.1.3.0/24'] } })
      api.answer(`/api/v1/namespaces/${namespace}/configmaps/${configMap}`, { data })
      // Another one, of another plugin, that no Node follows, and one that is damaged.
      api.answer('/api/v1/namespaces/kube-system/configmaps/kube-proxy', {
        data: {
          'config.conf': name === 'JSON' ? '{"clusterCIDR":"10.1.0.0/16"}' : 'clusterCIDR: 10.244.0.0/16'
        }
      })
      const { podPrefixes, from } = await discoverCidrs({ client: api.client })
      assert.equal(from.pods, 'cluster')
      assert.ok(podPrefixes.includes(cidrs('10.1.0.0/16')[0] as Cidr), podPrefixes.join())
    })

  const ARGS: readonly (readonly [unknown, readonly string[], readonly string[]])[] = [
    [['server'], ['10.42.0.0/16'], ['10.43.0.0/16']],
    [
      ['server', '--cluster-cidr', '10.52.0.0/16', '--service-cidr=10.53.0.0/16'],
      ['10.52.0.0/16'],
      ['10.53.0.0/16']
    ],
    [['server', '--cluster-cidr=10.52.0.0/16,fd52::/56'], ['10.52.0.0/16', 'fd52::/56'], ['10.43.0.0/16']],
    [['agent'], [], []],
    ['no list', [], []],
    [['server', '--cluster-cidr'], [], ['10.43.0.0/16']],
    [[7, null, {}], [], []]
  ]
  for (const [args, pods, services] of ARGS)
    it(`reads the arguments of a k3s or RKE2 Node: ${JSON.stringify(args)}`, () => {
      for (const key of ['k3s.io/node-args', 'rke2.io/node-args'])
        assert.deepEqual(readNodeArgs({ metadata: { annotations: { [key]: JSON.stringify(args) } } }), {
          pods,
          services
        })
    })

  it('takes the pools that give pods their addresses, although Nodes have podCIDRs of another prefix', async () => {
    api.put(NODES, {
      metadata: { name: 'n1' },
      spec: { podCIDRs: ['10.244.0.0/24'] },
      status: { addresses: [{ type: 'InternalIP', address: '192.0.2.1' }] }
    })
    api.answer('/api/v1/namespaces/kube-system/configmaps/kubeadm-config', {
      data: { ClusterConfiguration: 'networking:\n  podSubnet: 10.244.0.0/16\n' }
    })
    api.answer('/apis/crd.projectcalico.org/v1/ippools', {
      items: [
        { spec: { cidr: '172.20.0.0/16', allowedUses: ['LoadBalancer'] } },
        { spec: { cidr: '192.168.0.0/16', allowedUses: ['Workload', 'Tunnel'] } }
      ]
    })
    const pod = { kind: 'Pod', name: 'p' }
    api.put(SLICES, {
      metadata: { name: 'coredns', namespace: 'kube-system' },
      endpoints: [
        { addresses: ['192.168.5.6'], targetRef: pod },
        { addresses: ['192.0.2.1'], targetRef: pod },
        { addresses: ['198.51.100.7'] }
      ]
    })
    const { podPrefixes, from } = await discoverCidrs({ client: api.client })
    assert.deepEqual([from.pods, podPrefixes], ['cluster', ['192.168.0.0/16']])
  })

  it('are those of the pools where Nodes have none', async () => {
    const api = await FakeApi.start()
    try {
      api.put(NODES, { metadata: { name: 'n1' }, spec: {} })
      api.answer('/apis/crd.projectcalico.org/v1/ippools', {
        items: [
          { metadata: { name: 'a' }, spec: { cidr: '192.168.0.0/16' } },
          { metadata: { name: 'old' }, spec: { cidr: '172.16.0.0/16', disabled: true } }
        ]
      })
      const { podPrefixes, from } = await discoverCidrs({ client: api.client })
      assert.deepEqual([from.pods, podPrefixes], ['cluster', ['192.168.0.0/16']])
    } finally {
      await api.close()
    }
  })
})
