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
import { FakeApi, NODES, refuse } from './fake-api.ts'

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
