// Three clusters = three real API servers, three agents, and a real CoreDNS: what is written to one API is answered everywhere.
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from '../built.ts'
import type { PlanAnswer } from '../../src/api/answers.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { CLUSTERS, podCidr, serviceCidr, type Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { addressesOf, startCoredns, type RunningCoredns } from './support/coredns.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'
import { createShop, objectsOf } from './support/kube-shop.ts'

const SLICES = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices'
const APPS = 'deploy/examples/apps'
const CHANGES = 40
const COREFILE =
  '.:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa ip6.arpa\n    forward . /etc/resolv.conf\n}\n'

describe('three agents on three real API servers', function () {
  const apis = new Map<Cluster, KubeApi>()
  const agents = new Map<Cluster, LoopbackAgent>()
  let folder: string
  let plugin: RunningCoredns
  let forward: RunningCoredns

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    build()
    const lab = await kubeLab()
    folder = mkdtempSync(join(tmpdir(), 'rhizome-kube-agents-'))
    for (const cluster of CLUSTERS)
      apis.set(cluster, await startKubeApi({ lab, serviceCidr: serviceCidr(cluster) }))
    await Promise.all(CLUSTERS.map(fill))
    for (const cluster of CLUSTERS) {
      const agent = await LoopbackAgent.create(folder, cluster)
      agents.set(cluster, agent)
      await agent.start({ source: 'kubernetes', kubeconfig: api(cluster).kubeconfig, 'cluster-dns': 'auto' })
    }
    const west = agentOf('west')
    await west.done('init', '--cluster', 'west', '--pod-cidr', podCidr('west'))
    for (const cluster of ['east', 'edge'] as const) {
      const prefixes = ['--pod-cidr', podCidr(cluster), '--service-cidr', serviceCidr(cluster)]
      const token = (await west.done('invite', cluster, ...prefixes)).stdout.trim()
      await agentOf(cluster).done('join', token)
    }
    const edge = agentOf('edge')
    const zones = [...CLUSTERS, 'all'].map((name) => `cluster.${name}`)
    await edge.untilNamed('web.shop.svc.cluster.east', ['10.102.0.10'])
    await edge.untilNamed('web.shop.svc.cluster.west', ['10.101.0.10'])
    plugin = await startCoredns(
      (port) =>
        zones
          .map(
            (zone) =>
              `${zone}:${port} {\n kubernetes ${zone} {\n endpoint ${edge.feedUrl}/clusters/${zone.slice(8)}\n ttl 5\n }\n}`
          )
          .join('\n'),
      'cluster.edge'
    )
    forward = await startCoredns(
      (port) =>
        `${zones.map((zone) => `${zone}:${port}`).join(' ')} {\n forward . 127.0.0.1:${edge.dnsPort}\n}`,
      'cluster.edge'
    )
  })

  after(async () => {
    await Promise.all([...agents.values()].map((agent) => agent.stop()))
    await Promise.all([plugin?.stop(), forward?.stop(), ...[...apis.values()].map((entry) => entry.stop())])
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  it('finds the service prefix by itself, and says where its services come from', async () => {
    const status = JSON.parse((await agentOf('west').done('status', '--json')).stdout) as {
      source: { kind: string; path: string; services: number }
      serviceCidrs: string[]
      warnings: string[]
    }
    assert.deepEqual(status.serviceCidrs, [serviceCidr('west')])
    assert.equal(status.source.kind, 'kubernetes')
    assert.equal(status.source.path, api('west').url)
    assert.ok(status.source.services >= 8, `${status.source.services} services`)
  })

  it('answers for the services of every cluster, through the plugin feed and through forward', async () => {
    for (const coredns of [plugin, forward]) {
      for (const [index, cluster] of CLUSTERS.entries()) {
        await eventually(async () => {
          assert.equal(
            await addressesOf(coredns.port, `web.shop.svc.cluster.${cluster}`),
            `10.10${index + 1}.0.10`
          )
          return true
        })
      }
      await eventually(async () => {
        assert.equal(
          await addressesOf(coredns.port, 'web.shop.svc.cluster.all'),
          '10.101.0.10 10.102.0.10 10.103.0.10'
        )
        return true
      })
    }
  })

  it('never exports the API itself', async () => {
    const rows = JSON.parse((await agentOf('edge').done('services', '--json')).stdout) as {
      services: { namespace: string; name: string }[]
    }
    assert.deepEqual(
      rows.services.filter(({ namespace }) => namespace === 'default'),
      []
    )
  })

  it('carries created, changed and deleted endpoints into the answers of the others', async () => {
    const name = 'moving.shop.svc.cluster.west'
    const { client } = api('west')
    await client.request({
      method: 'POST',
      path: '/api/v1/namespaces/shop/services',
      body: { metadata: { name: 'moving' }, spec: { clusterIP: 'None', ports: [{ port: 80 }] } }
    })
    await client.request({ method: 'POST', path: SLICES, body: slice('10.1.9.1') })
    const times: Record<string, number[]> = { 'plugin feed': [], forward: [] }
    await eventually(async () => (await addressesOf(plugin.port, name)) === '10.1.9.1')
    for (let change = 0; change < CHANGES; change++) {
      const address = `10.1.9.${change + 2}`
      const started = performance.now()
      await client.request({
        method: 'PATCH',
        path: `${SLICES}/moving-1`,
        body: { endpoints: slice(address).endpoints },
        contentType: 'application/merge-patch+json'
      })
      await Promise.all(
        Object.entries({ 'plugin feed': plugin, forward }).map(async ([way, coredns]) => {
          await eventually(async () => (await addressesOf(coredns.port, name)) === address)
          times[way]?.push(performance.now() - started)
        })
      )
    }
    for (const [way, list] of Object.entries(times)) {
      const sorted = list.toSorted((a, b) => a - b)
      const at = (share: number) => (sorted[Math.floor((sorted.length - 1) * share)] ?? 0).toFixed(0)
      console.log(
        `      API write in west → answer in edge by ${way}: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, of ${sorted.length}`
      )
    }
    await client.request({ method: 'DELETE', path: '/api/v1/namespaces/shop/services/moving' })
    await eventually(async () => (await addressesOf(plugin.port, name)) === 'NXDOMAIN')
    await eventually(async () => (await addressesOf(forward.port, name)) === 'NXDOMAIN')
  })

  it('carries well-known demo applications whole, with the addresses that the API server gave them', async () => {
    const { client } = api('west')
    const files = readdirSync(APPS).filter((file) => file.endsWith('.yaml'))
    assert.ok(files.length >= 4)
    const wanted = new Map<string, string>()
    for (const object of files.flatMap((file) => objectsOf(join(APPS, file)))) {
      const { kind, metadata } = object
      if (kind === 'Namespace')
        await client.request({ method: 'POST', path: '/api/v1/namespaces', body: object })
      if (kind !== 'Service') continue
      const path = `/api/v1/namespaces/${metadata.namespace}/services`
      const made = (await client.request({ method: 'POST', path, body: object })) as {
        spec: { clusterIP: string }
      }
      wanted.set(`${metadata.namespace}/${metadata.name}`, made.spec.clusterIP)
    }
    assert.ok(wanted.size >= 30, `${wanted.size} services`)
    await eventually(async () => {
      const rows = JSON.parse((await agentOf('edge').done('services', '--json')).stdout) as {
        services: { cluster: string; namespace: string; name: string; clusterIps: string[] }[]
      }
      const seen = new Map(
        rows.services
          .filter(({ cluster }) => cluster === 'west')
          .map((row) => [`${row.namespace}/${row.name}`, row.clusterIps[0] ?? 'None'])
      )
      for (const [name, address] of wanted) assert.equal(seen.get(name), address, name)
      return true
    })
    const address = wanted.get('sock-shop/rabbitmq')
    for (const { port } of [plugin, forward])
      await eventually(
        async () => (await addressesOf(port, 'rabbitmq.sock-shop.svc.cluster.west')) === address
      )
  })

  it('puts remote services into the load balancer that it would program, and its own not: kube-proxy has them', async () => {
    await eventually(async () => {
      const { steps } = JSON.parse((await agentOf('edge').done('plan', '--json')).stdout) as PlanAnswer
      const vips = steps.flatMap(({ op }) => (op.kind === 'setVirtualServer' ? [op.virtualServer.vip] : []))
      assert.ok(vips.some((vip) => vip === '10.101.0.10'))
      assert.ok(vips.some((vip) => vip === '10.102.0.10'))
      assert.deepEqual(
        vips.filter((vip) => vip.startsWith('10.103.')),
        []
      )
      return true
    })
  })

  it('keeps what it had while an API server is gone, and follows it when it is back with a compacted history', async () => {
    const west = api('west')
    await west.kill()
    assert.equal(await addressesOf(plugin.port, 'web.shop.svc.cluster.west'), '10.101.0.10')
    await west.restart({ compact: true })
    await west.client.request({ method: 'DELETE', path: '/api/v1/namespaces/shop/services/reviews' })
    await eventually(
      async () => (await addressesOf(plugin.port, 'reviews.shop.svc.cluster.west')) === 'NXDOMAIN',
      30_000
    )
    assert.equal(await addressesOf(plugin.port, 'web.shop.svc.cluster.west'), '10.101.0.10')
  })

  it('puts the zones of the others into the own DNS of a cluster, and takes them out on leaving', async () => {
    const { client } = api('east')
    const path = '/api/v1/namespaces/kube-system/configmaps/coredns'
    const corefile = async () =>
      ((await client.request({ path })) as { data: { Corefile: string } }).data.Corefile
    const before = await corefile()
    await client.request({
      method: 'POST',
      path: '/api/v1/namespaces/default/services',
      body: {
        metadata: { name: 'rhizome-dns' },
        spec: { clusterIP: '10.102.9.9', ports: [{ port: 53, protocol: 'UDP' }] }
      }
    })
    await eventually(async () => {
      const text = await corefile()
      return ['cluster.west', 'cluster.edge', 'cluster.all', '10.102.9.9'].every((part) =>
        text.includes(part)
      )
    }, 20_000)
    // The own cluster's zone is forwarded, too: cluster.east is asked inside east as elsewhere.
    assert.ok((await corefile()).includes('cluster.east'))
    await agentOf('east').done('leave', '--yes')
    await eventually(async () => (await corefile()) === before)
    await eventually(
      async () => (await addressesOf(plugin.port, 'web.shop.svc.cluster.all')) === '10.101.0.10 10.103.0.10'
    )
  })

  function api(cluster: Cluster): KubeApi {
    return apis.get(cluster) ?? assert.fail(`no API of ${cluster}`)
  }

  function agentOf(cluster: Cluster): LoopbackAgent {
    return agents.get(cluster) ?? assert.fail(`no agent of ${cluster}`)
  }

  async function fill(cluster: Cluster): Promise<void> {
    const { client } = api(cluster)
    await createShop(client, cluster)
    await client.request({
      method: 'POST',
      path: '/api/v1/namespaces/kube-system/configmaps',
      body: { metadata: { name: 'coredns' }, data: { Corefile: COREFILE } }
    })
  }
})

function slice(address: string) {
  return {
    metadata: { name: 'moving-1', labels: { 'kubernetes.io/service-name': 'moving' } },
    addressType: 'IPv4',
    ports: [{ port: 80 }],
    endpoints: [{ addresses: [address], conditions: { ready: true } }]
  }
}
