// The Multi-Cluster Services API between two clusters with real API servers: what is exported in one is imported, answered
// and judged in both. The CustomResourceDefinitions are those of the chart.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Resolver } from 'node:dns/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { pathOf } from '../../src/core/kube/install.ts'
import { APPLY_PATCH, getObject, type KubeObject } from '../../src/core/kube/kube-api.ts'
import { build } from '../built.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { podCidr, serviceCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'

const CLUSTERS = ['west', 'east'] as const
const NAMESPACE = 'rhizome-system'
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
      for (const name of ['shop', NAMESPACE])
        await post(cluster, '/api/v1/namespaces', { metadata: { name } })
      // The agent of west starts before its cluster has the API; that of east has the rights of the chart and no others.
      if (cluster === 'east') await install(cluster)
      const agent = await LoopbackAgent.create(folder, cluster)
      agents.set(cluster, agent)
      const own = api(cluster)
      await agent.start({
        source: 'kubernetes',
        namespace: NAMESPACE,
        kubeconfig:
          cluster === 'west'
            ? own.kubeconfig
            : await own.kubeconfigFor(await own.serviceAccountToken(NAMESPACE, 'rhizome')),
        // Nothing is exported but by a ServiceExport, so all that these cases see comes from them.
        export: 'marked',
        'export-except-namespaces': 'closed'
      })
    }
    await agentOf('west').done('init', '--cluster', 'west', '--pod-cidr', podCidr('west'))
    const prefixes = ['--pod-cidr', podCidr('east'), '--service-cidr', serviceCidr('east')]
    const token = (await agentOf('west').done('invite', 'east', ...prefixes)).stdout.trim()
    await agentOf('east').done('join', token)
    await install('west')
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

  it('makes one service of the exports of both, and tells both where they differ: the oldest counts', async () => {
    // A second later, because the times of objects are whole seconds.
    await eventually(async () => Date.now() - (await exportedAtMs('west', 'web')) >= 2000)
    await makeService('east', 'web', {
      ports: [
        { name: 'http', port: 8080 },
        { name: 'metrics', port: 9090 }
      ]
    })
    await makeExport('east', 'web')
    for (const cluster of CLUSTERS) {
      const { spec } = await imported(cluster, 'web', ['east', 'west'])
      assert.deepEqual(spec['ports'], [
        { name: 'http', protocol: 'TCP', port: 80 },
        { name: 'metrics', protocol: 'TCP', port: 9090 }
      ])
      assert.equal(spec['sessionAffinity'], 'ClientIP')
      await conditions(
        cluster,
        'web',
        'Valid=True/Valid Ready=True/Exported Conflict=True/PortConflict,SessionAffinityConflict,SessionAffinityConfigConflict,AnnotationsConflict,LabelsConflict'
      )
    }
  })

  it('has in both what is left when the oldest export goes, and nothing when the last one goes', async () => {
    await remove('west', 'serviceexports/web')
    for (const cluster of CLUSTERS) {
      const { spec, metadata } = await imported(cluster, 'web', ['east'])
      assert.deepEqual(spec['ports'], [
        { name: 'http', protocol: 'TCP', port: 8080 },
        { name: 'metrics', protocol: 'TCP', port: 9090 }
      ])
      assert.equal(metadata.labels['team'], undefined)
    }
    await conditions('east', 'web', 'Valid=True/Valid Ready=True/Exported Conflict=False/NoConflicts')
    await remove('east', 'serviceexports/web')
    for (const cluster of CLUSTERS) {
      await eventually(async () => (await importOf(cluster, 'web')) === undefined)
      await eventually(async () => (await agentOf(cluster).resolve(WEB)).error === 'ENOTFOUND')
    }
  })

  it('answers the pods of a headless service by host and cluster', async () => {
    await makeService('west', 'db', { clusterIP: 'None', ipFamilyPolicy: 'SingleStack' })
    await post('west', '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices', {
      metadata: { name: 'db-1', labels: { 'kubernetes.io/service-name': 'db' } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 80 }],
      endpoints: [
        { addresses: ['10.1.0.21'], hostname: 'db-0' },
        { addresses: ['10.1.0.22'], hostname: 'db-1' }
      ]
    })
    await makeExport('west', 'db')
    const { spec } = await imported('east', 'db', ['west'])
    assert.deepEqual([spec['type'], spec['ips'], spec['ipFamilies']], ['Headless', undefined, ['IPv4']])
    const east = agentOf('east')
    await east.untilNamed('db.shop.svc.clusterset.local', ['10.1.0.21', '10.1.0.22'])
    assert.deepEqual((await east.resolve('db-1.west.db.shop.svc.clusterset.local')).addresses, ['10.1.0.22'])
    const targets = await resolver('east').resolveSrv('_http._tcp.db.shop.svc.clusterset.local')
    assert.deepEqual(targets.map(({ name }) => name).toSorted(), [
      'db-0.west.db.shop.svc.clusterset.local',
      'db-1.west.db.shop.svc.clusterset.local'
    ])
  })

  it('shows the endpoints of an export in both clusters as EndpointSlices, and follows them', async () => {
    const own = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/db-1'
    for (const cluster of CLUSTERS)
      await eventually(async () => {
        assert.deepEqual(await mirrored(cluster), ['db west rhizome-mcs: db-0 10.1.0.21, db-1 10.1.0.22'])
        return true
      })
    await api('west').client.request({
      method: 'PATCH',
      path: own,
      contentType: 'application/merge-patch+json',
      body: { endpoints: [{ addresses: ['10.1.0.23'], hostname: 'db-2' }] }
    })
    for (const cluster of CLUSTERS)
      await eventually(async () => {
        assert.deepEqual(await mirrored(cluster), ['db west rhizome-mcs: db-2 10.1.0.23'])
        return true
      })
  })

  it('says of an export that exports nothing why, and takes it up when it can', async () => {
    await makeExport('east', 'later')
    await makeExport('east', 'alias')
    await makeService('east', 'alias', { type: 'ExternalName', externalName: 'example.com' })
    await conditions('east', 'later', 'Valid=False/NoService Ready=False/Failed')
    await conditions('east', 'alias', 'Valid=False/InvalidServiceType Ready=False/Failed')
    await makeService('east', 'later')
    await conditions('east', 'later', 'Valid=True/Valid Ready=True/Exported Conflict=False/NoConflicts')
    assert.equal(await importOf('east', 'alias'), undefined)
  })

  it('shows the other cluster as a MeshPeer, with the rights of the chart, and writes it once while nothing changes', async () => {
    const path = '/apis/rhizome.io/v1alpha1/meshpeers'
    const read = async (): Promise<KubeObject | undefined> =>
      (await getObject(api('east').client, `${path}/west`)) as KubeObject | undefined
    await eventually(async () => {
      const { conditions } = ((await read())?.['status'] ?? {}) as { conditions?: Record<string, string>[] }
      const text = conditions?.map(({ type, status, reason }) => `${type}=${status}/${reason}`).join(' ')
      // These agents have no data plane.
      return text === 'Ready=Unknown/NoDataPlane Connected=Unknown/NoDataPlane Synced=True/CatalogueComplete'
    }, 60_000)
    const { status, metadata } = (await read()) ?? assert.fail('no MeshPeer west')
    const { podCIDRs, observedBy } = status as { podCIDRs: readonly string[]; observedBy: string }
    assert.deepEqual([podCIDRs, observedBy !== ''], [[podCidr('west')], true])
    // An object that a person makes is of no cluster, so it goes with the next list; west is not written again meanwhile.
    await post('east', path, {
      apiVersion: 'rhizome.io/v1alpha1',
      kind: 'MeshPeer',
      metadata: { name: 'nobody' }
    })
    await eventually(
      async () => (await getObject(api('east').client, `${path}/nobody`)) === undefined,
      120_000
    )
    assert.equal((await read())?.metadata['resourceVersion'], metadata['resourceVersion'])
  })

  it('sets a changed import back, leaves one of another author, and deletes its own on leaving', async () => {
    const path = `${GROUP}/serviceimports/db`
    const contentType = 'application/merge-patch+json'
    await api('west').client.request({
      method: 'PATCH',
      path,
      contentType,
      body: { spec: { type: 'ClusterSetIP' } }
    })
    await post('west', `${GROUP}/serviceimports`, {
      apiVersion: 'multicluster.x-k8s.io/v1beta1',
      kind: 'ServiceImport',
      metadata: { name: 'mine' },
      spec: { type: 'ClusterSetIP', ports: [{ port: 1 }] }
    })
    // A new namespace has its imports at once, and a pass over it reads the others again only after its interval.
    await eventually(async () => (await importOf('west', 'db'))?.spec['type'] === 'Headless', 90_000)
    await agentOf('east').done('leave', '--yes')
    await eventually(async () => (await importOf('east', 'db')) === undefined)
    await eventually(async () => (await mirrored('east')).length === 0)
    assert.equal(await getObject(api('east').client, '/apis/rhizome.io/v1alpha1/meshpeers/west'), undefined)
    await eventually(async () => (await importOf('west', 'later')) === undefined)
    assert.ok(await importOf('west', 'mine'))
    assert.ok(await importOf('west', 'db'))
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

  /** The CustomResourceDefinitions, rights and policies of the chart, as `meshctl install` applies them. */
  async function install(cluster: Cluster): Promise<void> {
    const kinds = new Set([
      'ServiceAccount',
      'CustomResourceDefinition',
      'ValidatingAdmissionPolicy',
      'ValidatingAdmissionPolicyBinding',
      'ClusterRole',
      'ClusterRoleBinding',
      'Role',
      'RoleBinding'
    ])
    await api(cluster)
      .client.request({
        method: 'POST',
        path: '/api/v1/namespaces',
        body: { metadata: { name: 'kube-system' } }
      })
      .catch(() => undefined)
    for (const document of parseAllDocuments(readFileSync('deploy/manifests/kubernetes.yaml', 'utf8'))) {
      const object = document.toJS() as KubeObject
      if (!kinds.has(object.kind)) continue
      const query = { fieldManager: 'test', fieldValidation: 'Strict' }
      await api(cluster).client.request({
        method: 'PATCH',
        path: pathOf(object),
        query,
        contentType: APPLY_PATCH,
        body: object
      })
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

  function remove(cluster: Cluster, name: string): Promise<unknown> {
    return api(cluster).client.request({ method: 'DELETE', path: `${GROUP}/${name}` })
  }

  async function exportedAtMs(cluster: Cluster, name: string): Promise<number> {
    const found = (await api(cluster).client.request({
      path: `${GROUP}/serviceexports/${name}`
    })) as KubeObject
    return Date.parse(String(found.metadata['creationTimestamp']))
  }

  async function importOf(cluster: Cluster, name: string): Promise<Import | undefined> {
    return (await getObject(api(cluster).client, `${GROUP}/serviceimports/${name}`)) as Import | undefined
  }

  /** The EndpointSlices of imports: "<service> <source cluster> <managed by>: <host> <address>, …". */
  async function mirrored(cluster: Cluster): Promise<readonly string[]> {
    const { items } = (await api(cluster).client.request({
      path: '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices',
      query: { labelSelector: 'multicluster.kubernetes.io/service-name' }
    })) as {
      items: {
        metadata: { labels: Record<string, string> }
        endpoints: { hostname: string; addresses: string[] }[]
      }[]
    }
    return items.map(({ metadata: { labels }, endpoints }) => {
      const of = ['service-name', 'source-cluster'].map(
        (each) => labels[`multicluster.kubernetes.io/${each}`]
      )
      const by = labels['endpointslice.kubernetes.io/managed-by']
      const hosts = endpoints.map(({ hostname, addresses }) => `${hostname} ${addresses.join()}`)
      return `${of.join(' ')} ${by}: ${hosts.join(', ')}`
    })
  }

  /** Waits until the import has these exporting clusters. */
  async function imported(cluster: Cluster, name: string, clusters: readonly string[]): Promise<Import> {
    let found: Import | undefined
    await eventually(async () => {
      found = await importOf(cluster, name)
      assert.deepEqual(
        found?.status?.clusters.map((each) => each.cluster),
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
