// The admission webhook as a cluster has it: the chart's objects on a real API server, a real agent with no rights but the chart's, and
// the API server asking it through the address of the Service. What kube-proxy would do about that address, the test does.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { MERGE_PATCH, STRATEGIC_MERGE_PATCH } from '../../src/core/kube/kube-api.ts'
import {
  credentialsOf,
  renewCredentials,
  secretData,
  type Credentials
} from '../../src/io/webhook/credentials.ts'
import { command, podCidr, serviceCidr, wanAddress } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { done, raise, ROOT, status } from '../scenarios/harness.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'

const NAMESPACE = 'rhizome-system'
const SECRET = `/api/v1/namespaces/${NAMESPACE}/secrets/rhizome-webhook`
const CONFIGURATION = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/rhizome'
const PODS = '/api/v1/namespaces/meshed/pods'
const DAY_MS = 86_400_000
// Twice the pause between two looks of the agent, and time for a slow machine.
const MENDED_MS = 20_000

describe('a real agent as the admission webhook of a real API server', function () {
  const { site } = raise('webhook', ['edge'], { start: false })
  const gateway = () => site('edge')
  let api: KubeApi
  let nameserver: string
  let flags: readonly string[]

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    api = await startKubeApi({
      lab: await kubeLab(),
      serviceCidr: serviceCidr('edge'),
      namespace: gateway().gateway
    })
    const install = ['install', '--no-token', '--webhook', '--kubeconfig', api.kubeconfig]
    await done(command([join(ROOT, 'bin/meshctl'), ...install]))
    nameserver = (await service('rhizome-dns')).clusterIP
    const { clusterIP, ports } = await service('rhizome-webhook')
    const listen = `${wanAddress('edge')}:${ports[0]?.targetPort}`
    await proxy(`${clusterIP}:${ports[0]?.port}`, listen)
    for (const [name, labels] of [
      ['meshed', { 'rhizome.io/dns': 'true' }],
      ['plain', {}]
    ] as const)
      await post('/api/v1/namespaces', { metadata: { name, labels } })
    const token = await api.serviceAccountToken(NAMESPACE, 'rhizome')
    const kubernetes = ['--source', 'kubernetes', '--kubeconfig', await api.kubeconfigFor(token)]
    flags = [...kubernetes, '--namespace', NAMESPACE, '--webhook-listen', listen]
    await gateway().start(...flags)
    await done(gateway().ctl('init', '--cluster', 'edge', '--pod-cidr', podCidr('edge')))
  })

  after(() => api?.stop())

  it('makes its certificate, names its authority, and points the pods of a labelled namespace at the mesh', async () => {
    await pointed()
    assert.deepEqual((await pod()).dnsConfig, {
      nameservers: [nameserver],
      searches: ['meshed.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
      options: [{ name: 'ndots', value: '5' }]
    })
    assert.equal((await pod('/api/v1/namespaces/plain/pods')).dnsPolicy, 'ClusterFirst')
    await eventually(async () => {
      assert.deepEqual((await status(gateway())).warnings, [])
      return true
    })
  })

  it('changes a pod once: not when it is updated, nor when it is made anew from what it became', async () => {
    const before = await post(PODS, POD)
    const path = `${PODS}/${before.metadata.name}`
    const labelled = (await api.client.request({
      method: 'PATCH',
      path,
      contentType: MERGE_PATCH,
      body: { metadata: { labels: { version: '2' } } }
    })) as Pod
    assert.deepEqual(labelled.spec, before.spec)
    const { dnsPolicy, dnsConfig, containers } = before.spec
    const again = await post(PODS, {
      metadata: { generateName: 'p-' },
      spec: { dnsPolicy, dnsConfig, containers }
    })
    assert.deepEqual(again.spec.dnsConfig, before.spec.dnsConfig)
  })

  it('renews a certificate that is due, and puts back an authority that an upgrade took away', async () => {
    // Issued so long ago that a month is left of it; by the same authority.
    const dnsNames = [`rhizome-webhook.${NAMESPACE}.svc`]
    const aged = renewCredentials(undefined, { nowMs: Date.now() - 65 * DAY_MS, dnsNames })
    await api.client.request({
      method: 'PATCH',
      path: SECRET,
      contentType: MERGE_PATCH,
      body: { data: secretData(aged) }
    })
    const webhooks = ['namespace.dns.rhizome.io', 'pod.dns.rhizome.io'].map((name) => ({
      name,
      clientConfig: { caBundle: null }
    }))
    await api.client.request({
      method: 'PATCH',
      path: CONFIGURATION,
      contentType: STRATEGIC_MERGE_PATCH,
      body: { webhooks }
    })
    await eventually(async () => {
      const now = names(await credentials())
      assert.equal(now.authority, names(aged).authority)
      assert.notEqual(now.serving, names(aged).serving)
      return true
    }, MENDED_MS)
    await pointed()
    assert.equal(await publishedBundle(), (await credentials())?.bundle)
  })

  it('makes everything anew where the Secret was emptied', async () => {
    const before = names(await credentials())
    const { metadata } = (await api.client.request({ path: SECRET })) as { metadata: object }
    await api.client.request({
      method: 'PUT',
      path: SECRET,
      body: { apiVersion: 'v1', kind: 'Secret', metadata, data: {} }
    })
    await eventually(async () => {
      const now = await credentials()
      assert.ok(now !== undefined)
      assert.notEqual(names(now).authority, before.authority)
      assert.equal(await publishedBundle(), now.bundle)
      return true
    }, MENDED_MS)
    await pointed()
  })

  it('breaks no pod when it hangs or is gone, and goes on with its certificate when it is back', async () => {
    const before = names(await credentials())
    const { pid } = gateway()
    assert.ok(pid !== undefined)
    process.kill(pid, 'SIGSTOP')
    try {
      assert.equal((await pod()).dnsPolicy, 'ClusterFirst')
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    await pointed()
    await gateway().stop('SIGTERM')
    assert.equal((await pod()).dnsPolicy, 'ClusterFirst')
    await gateway().start(...flags)
    await pointed()
    assert.deepEqual(names(await credentials()), before)
  })

  it('says what is missing when it was uninstalled under a running agent', async () => {
    await api.client.request({ method: 'DELETE', path: CONFIGURATION })
    await eventually(async () => {
      const { warnings } = await status(gateway())
      return warnings.some((text) => /webhook: there is no MutatingWebhookConfiguration rhizome/.test(text))
    }, MENDED_MS)
    assert.equal((await pod()).dnsPolicy, 'ClusterFirst')
  })

  async function pod(path: string = PODS): Promise<Pod['spec']> {
    return (await post(path, POD)).spec
  }

  /** The API server learns of the configuration and of namespaces by watching. */
  function pointed(): Promise<void> {
    return eventually(async () => (await pod()).dnsPolicy === 'None', MENDED_MS)
  }

  async function post(path: string, body: object): Promise<Pod> {
    return (await api.client.request({ method: 'POST', path, body })) as Pod
  }

  async function credentials(): Promise<Credentials | undefined> {
    const { data } = (await api.client.request({ path: SECRET })) as { data?: Record<string, unknown> }
    return credentialsOf(data ?? {})
  }

  async function publishedBundle(): Promise<string> {
    const { webhooks } = (await api.client.request({ path: CONFIGURATION })) as {
      webhooks: { clientConfig: { caBundle?: string } }[]
    }
    const bundles = new Set(webhooks.map(({ clientConfig }) => clientConfig.caBundle ?? ''))
    assert.equal(bundles.size, 1)
    return Buffer.from([...bundles][0] ?? '', 'base64').toString()
  }

  async function service(name: string): Promise<{
    readonly clusterIP: string
    readonly ports: readonly { readonly port: number; readonly targetPort: number }[]
  }> {
    const path = `/api/v1/namespaces/${NAMESPACE}/services/${name}`
    return ((await api.client.request({ path })) as { spec: Awaited<ReturnType<typeof service>> }).spec
  }

  /** From the address of a Service to where its agent listens, for processes of this host: the part of kube-proxy. */
  async function proxy(from: string, to: string): Promise<void> {
    const [address = '', port = ''] = from.split(':')
    const { gateway: host } = gateway()
    await host.exec(['ip', 'address', 'add', `${address}/32`, 'dev', 'lo'])
    const rule = `ip daddr ${address} tcp dport ${port} dnat to ${to}`
    const input = `table ip proxy {\n chain output {\n type nat hook output priority -100\n ${rule}\n }\n}\n`
    await host.exec(['nft', '-f', '-'], { input })
  }
})

interface Pod {
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly dnsPolicy: string
    readonly dnsConfig?: unknown
    readonly containers: readonly unknown[]
  }
}

const POD = {
  metadata: { generateName: 'p-' },
  spec: { containers: [{ name: 'c', image: 'i' }] }
}

/** To tell one from another without a word of a key. */
function names(of: Credentials | undefined): { readonly authority: string; readonly serving: string } {
  assert.ok(of !== undefined, 'the Secret is empty')
  return { authority: of.bundle.slice(0, 200), serving: of.serving.certificate.slice(0, 200) }
}
