// The Multi-Cluster Services API between two clusters with real API servers: what is exported in one is imported, answered
// and judged in both. The CustomResourceDefinitions are those of the chart.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Resolver } from 'node:dns/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parse } from 'yaml'
import { build } from '../built.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { podCidr, serviceCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'

const CLUSTERS = ['west', 'east'] as const
type Cluster = (typeof CLUSTERS)[number]

const GROUP = '/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop'
const WEB = 'web.shop.svc.clusterset.local'

interface Import {
  readonly metadata: { readonly labels: Record<string, string>; readonly annotations: Record<string, string> }
  readonly spec: Record<string, unknown>
  readonly status?: {
    readonly clusters: readonly { readonly cluster: string }[]
    readonly conditions: readonly Record<string, unknown>[]
  }
}

describe('the Multi-Cluster Services API of two clusters', function () {
  const apis = new Map<Cluster, KubeApi>()
  const agents = new Map<Cluster, LoopbackAgent>()
  let folder: string

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    build()
    const lab = await kubeLab()
    folder = mkdtempSync(join(tmpdir(), 'rhizome-kube-mcs-'))
    for (const cluster of CLUSTERS) {
      apis.set(cluster, await startKubeApi({ lab, serviceCidr: serviceCidr(cluster) }))
      await post(cluster, '/api/v1/namespaces', { metadata: { name: 'shop' } })
      // The agent of west starts before its cluster has the API.
      if (cluster === 'east') await installApi(cluster)
      const agent = await LoopbackAgent.create(folder, cluster)
      agents.set(cluster, agent)
      await agent.start({
        source: 'kubernetes',
        kubeconfig: api(cluster).kubeconfig,
        // Without ServiceExports nothing is exported, so what these cases see comes from them.
        export: 'marked'
      })
    }
    await agentOf('west').done('init', '--cluster', 'west', '--pod-cidr', podCidr('west'))
    const prefixes = ['--pod-cidr', podCidr('east'), '--service-cidr', serviceCidr('east')]
    const token = (await agentOf('west').done('invite', 'east', ...prefixes)).stdout.trim()
    await agentOf('east').done('join', token)
    await installApi('west')
  })

  after(async () => {
    await Promise.all([...agents.values()].map((agent) => agent.stop()))
    await Promise.all([...apis.values()].map((each) => each.stop()))
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  it('imports an exported service into both clusters, with an address that DNS answers', async () => {
    await makeService('west', 'web', { sessionAffinity: 'ClientIP' })
    await makeExport('west', 'web', {
      exportedLabels: { team: 'shop', 'kubernetes.io/hostname': 'steers-controllers' },
      exportedAnnotations: { note: 'from west' }
    })
    for (const cluster of CLUSTERS) {
      const found = await imported(cluster, 'web', ['west'])
      const { ips, ...spec } = found.spec
      assert.deepEqual(spec, {
        type: 'ClusterSetIP',
        ipFamilies: ['IPv4'],
        ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } },
        internalTrafficPolicy: 'Cluster'
      })
      assert.equal(found.metadata.labels['team'], 'shop')
      assert.equal(found.metadata.labels['kubernetes.io/hostname'], undefined)
      assert.equal(found.metadata.annotations['note'], 'from west')
      await agentOf(cluster).untilNamed(WEB, ips as readonly string[])
      const [srv] = await resolver(cluster).resolveSrv(`_http._tcp.${WEB}`)
      assert.deepEqual([srv?.name, srv?.port], [WEB, 80])
    }
    await conditions('west', 'web', 'Valid=True/Valid Ready=True/Exported Conflict=False/NoConflicts')
  })

  function api(cluster: Cluster): KubeApi {
    return apis.get(cluster) ?? assert.fail(`no API of ${cluster}`)
  }

  function agentOf(cluster: Cluster): LoopbackAgent {
    return agents.get(cluster) ?? assert.fail(`no agent of ${cluster}`)
  }

  function resolver(cluster: Cluster): Resolver {
    const made = new Resolver({ timeout: 1000, tries: 2 })
    made.setServers([`127.0.0.1:${agentOf(cluster).dnsPort}`])
    return made
  }

  function post(cluster: Cluster, path: string, body: object): Promise<unknown> {
    return api(cluster).client.request({ method: 'POST', path, body })
  }

  async function installApi(cluster: Cluster): Promise<void> {
    for (const kind of ['serviceexports', 'serviceimports']) {
      const text = readFileSync(`deploy/chart/rhizome/files/mcs/${kind}.yaml`, 'utf8')
      await post(
        cluster,
        '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
        parse(text, { merge: true }) as object
      )
    }
    await eventually(() => api(cluster).client.request({ path: `${GROUP}/serviceimports` }))
  }

  async function makeService(cluster: Cluster, name: string, spec: object = {}): Promise<void> {
    await post(cluster, '/api/v1/namespaces/shop/services', {
      metadata: { name },
      spec: { ports: [{ name: 'http', port: 80 }], ...spec }
    })
  }

  function makeExport(cluster: Cluster, name: string, spec: object = {}): Promise<unknown> {
    return post(cluster, `${GROUP}/serviceexports`, {
      apiVersion: 'multicluster.x-k8s.io/v1beta1',
      kind: 'ServiceExport',
      metadata: { name },
      spec
    })
  }

  /** Waits until the import has these exporting clusters. */
  async function imported(cluster: Cluster, name: string, clusters: readonly string[]): Promise<Import> {
    let found: Import | undefined
    await eventually(async () => {
      found = (await api(cluster).client.request({ path: `${GROUP}/serviceimports/${name}` })) as Import
      assert.deepEqual(
        found.status?.clusters.map((each) => each.cluster),
        clusters
      )
      return true
    })
    return found ?? assert.fail(`no import ${name} in ${cluster}`)
  }

  /** Waits until a ServiceExport has these conditions: "Valid=True/Valid Ready=…". */
  async function conditions(cluster: Cluster, name: string, wanted: string): Promise<void> {
    await eventually(async () => {
      const path = `${GROUP}/serviceexports/${name}`
      const found = (await api(cluster).client.request({ path })) as {
        status?: { conditions: { type: string; status: string; reason: string }[] }
      }
      const shown = found.status?.conditions.map(({ type, status, reason }) => `${type}=${status}/${reason}`)
      assert.equal(shown?.join(' '), wanted)
      return true
    })
  }
})
