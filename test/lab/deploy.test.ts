// An installation against a real API server: every object accepted, exactly the rights that are needed, the webhook in the real admission
// chain, and nothing left after uninstalling. The chart is rendered by Helm's own command line.
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { helmPath, helmTemplate, manifests } from '../../build/manifests.ts'
import { pathOf, RESOURCES } from '../../src/core/kube/install.ts'
import { APPLY_PATCH, hasStatus, MERGE_PATCH, type KubeObject } from '../../src/core/kube/kube-api.ts'
import { createClusterDns } from '../../src/io/cluster-dns/wiring.ts'
import { openKubeClient, type KubeClient } from '../../src/io/kube/client.ts'
import { makeToken } from '../cli/token.ts'
import { discoverCidrs } from '../../src/io/kube/discover-cidrs.ts'
import { createKubeSource } from '../../src/io/kube/kube-source.ts'
import { createElector } from '../../src/io/kube/lease.ts'
import { startWebhook, type Webhook } from '../../src/io/webhook/webhook.ts'
import { EXIT } from '../../src/cli/output/exit-codes.ts'
import { meshctl, type Run } from '../cli/fake-meshd.ts'
import { eventually, slowness } from '../eventually.ts'
import { kubeLab, KUBE_LAB_BUILD_MS, startKubeApi, type KubeApi } from './support/kube-api.ts'
import { OPENSHIFT_DEFINITIONS } from './support/openshift.ts'

const CHART = 'deploy/chart/rhizome'
const OPENSHIFT = [`--values=${CHART}/values-openshift.yaml`]
const EVERYTHING = [
  '--set=webhook.enabled=true,podDisruptionBudget.enabled=true,token.value=rzm2_x,metrics.dashboard.enabled=true'
]
const NAMESPACE = 'rhizome-system'
const TOKEN = makeToken()
const MESH = { zones: ['cluster.east', 'cluster.all'], servers: ['10.96.0.53'] }
const COREFILE =
  '.:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa ip6.arpa\n    forward . /etc/resolv.conf\n}\n'

// "verb resource.group name@namespace"
const ALLOWED = [
  'list services',
  'watch services',
  'list namespaces',
  'watch nodes',
  'list endpointslices.discovery.k8s.io',
  'watch endpointslices.discovery.k8s.io',
  'list servicecidrs.networking.k8s.io',
  `create leases.coordination.k8s.io @${NAMESPACE}`,
  `update leases.coordination.k8s.io rhizome-speaker@${NAMESPACE}`,
  `get secrets rhizome-cluster-key@${NAMESPACE}`,
  // By its name only: one that was deleted is made again by server-side apply.
  `create secrets rhizome-cluster-key@${NAMESPACE}`,
  `update secrets rhizome-webhook@${NAMESPACE}`,
  `get services rhizome-dns@${NAMESPACE}`,
  'get configmaps coredns@kube-system',
  'get configmaps kubeadm-config@kube-system',
  'get configmaps kube-flannel-cfg@kube-flannel',
  'list ippools.crd.projectcalico.org',
  'patch configmaps coredns@kube-system',
  'patch configmaps coredns-custom@kube-system',
  'patch mutatingwebhookconfigurations.admissionregistration.k8s.io rhizome',
  'list serviceexports.multicluster.x-k8s.io',
  'watch serviceexports.multicluster.x-k8s.io',
  'patch serviceexports/status.multicluster.x-k8s.io web@shop',
  'delete serviceimports.multicluster.x-k8s.io web@shop',
  'delete meshpeers.rhizome.io east',
  'patch meshpeers/status.rhizome.io east',
  `list meshinvites.rhizome.io @${NAMESPACE}`,
  `patch meshinvites/status.rhizome.io west@${NAMESPACE}`,
  // People choose the name. test/lab/gitops.test.ts tests the policy that bounds it.
  `create secrets west@${NAMESPACE}`,
  `create events.events.k8s.io @${NAMESPACE}`
]

const DENIED = [
  'watch meshpeers.rhizome.io',
  'update meshpeers/status.rhizome.io east',
  'create serviceexports.multicluster.x-k8s.io @shop',
  'patch serviceexports.multicluster.x-k8s.io web@shop',
  'patch endpointslices.discovery.k8s.io web@shop',
  'list secrets',
  `list secrets @${NAMESPACE}`,
  // The token is mounted: nobody needs to read it from the API.
  `get secrets rhizome-token@${NAMESPACE}`,
  'create secrets @default',
  `get secrets west@${NAMESPACE}`,
  `delete secrets west@${NAMESPACE}`,
  `patch secrets west@${NAMESPACE}`,
  'list meshinvites.rhizome.io',
  `create meshinvites.rhizome.io @${NAMESPACE}`,
  `patch meshinvites.rhizome.io west@${NAMESPACE}`,
  'create events.events.k8s.io @default',
  `delete secrets rhizome-cluster-key@${NAMESPACE}`,
  'get secrets other@default',
  'list configmaps @kube-system',
  'patch configmaps kubeadm-config@kube-system',
  'patch configmaps unrelated@kube-system',
  'create configmaps @kube-system',
  'delete configmaps coredns@kube-system',
  'list pods',
  'create pods',
  `create pods @${NAMESPACE}`,
  'get pods/exec',
  'create services',
  'patch services web@shop',
  'patch nodes node-1',
  'get nodes/proxy',
  'update leases.coordination.k8s.io other@kube-system',
  'create leases.coordination.k8s.io @kube-system',
  `delete leases.coordination.k8s.io rhizome-speaker@${NAMESPACE}`,
  'patch mutatingwebhookconfigurations.admissionregistration.k8s.io other',
  'create mutatingwebhookconfigurations.admissionregistration.k8s.io',
  'list mutatingwebhookconfigurations.admissionregistration.k8s.io',
  'patch daemonsets.apps rhizome@rhizome-system',
  'create clusterrolebindings.rbac.authorization.k8s.io',
  'escalate roles.rbac.authorization.k8s.io',
  'impersonate users',
  `create serviceaccounts/token rhizome@${NAMESPACE}`,
  'delete namespaces rhizome-system'
]

/** As Helm marks what a release in the namespace `notes` has made. */
const OF_RELEASE = {
  labels: { 'app.kubernetes.io/managed-by': 'Helm' },
  annotations: { 'meta.helm.sh/release-name': 'rhizome', 'meta.helm.sh/release-namespace': 'notes' }
}

describe('deploy, on a real API server', function () {
  let helm: string
  let api: KubeApi
  let client: KubeClient

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    const lab = await kubeLab()
    helm = helmPath()
    api = await startKubeApi({ lab })
    client = api.client
    await client
      .request({ method: 'POST', path: '/api/v1/namespaces', body: { metadata: { name: 'kube-system' } } })
      .catch(ignoreConflict)
    for (const [name, data] of [
      ['coredns', { Corefile: COREFILE }],
      ['coredns-custom', undefined],
      ['unrelated', { key: 'value' }]
    ] as const) {
      await create('/api/v1/namespaces/kube-system/configmaps', { metadata: { name }, ...(data && { data }) })
    }
    await create('/api/v1/nodes', { metadata: { name: 'node-1' } })
  })
  after(() => api?.stop())

  const create = (path: string, body: object): Promise<unknown> =>
    client.request({ method: 'POST', path, body })
  const cli = (...args: readonly string[]): Promise<Run> => meshctl([...args, '--kubeconfig', api.kubeconfig])
  const cliOk = async (...args: readonly string[]): Promise<Run> => {
    const run = await cli(...args)
    assert.equal(run.code, 0, run.stderr)
    return run
  }

  // ------------------------------------------------------------------ the chart

  describe('the chart', () => {
    it('is clean to `helm lint --strict`, with all there is switched on, too', () => {
      for (const args of [[], EVERYTHING, OPENSHIFT, [...OPENSHIFT, ...EVERYTHING]]) {
        assert.match(
          execFileSync(helm, ['lint', '--strict', CHART, ...args], { encoding: 'utf8' }),
          /0 chart\(s\) failed/
        )
      }
    })

    it('refuses misspelt and impossible values', () => {
      for (const bad of [
        'webhook.enable=true',
        'ports.dns=70000',
        'mode=star',
        'token.value=hello',
        'clusterDns.target=kube-dns',
        'imagee.tag=1'
      ]) {
        assert.throws(
          () => execFileSync(helm, ['template', CHART, `--set=${bad}`], { encoding: 'utf8', stdio: 'pipe' }),
          /values don't meet the specifications of the schema/,
          bad
        )
      }
    })

    it('is what deploy/manifests says', () => {
      for (const [name, text] of manifests(helm))
        assert.equal(
          readFileSync(`deploy/manifests/${name}`, 'utf8'),
          text,
          `${name}: run node build/manifests.ts`
        )
    })

    it('says the same as `meshctl install --dry-run`, object by object', async () => {
      const cases: readonly (readonly [readonly string[], readonly string[]])[] = [
        [[], []],
        [['--set=webhook.enabled=true'], ['--webhook']],
        [OPENSHIFT, ['--openshift']],
        [['--set=mode=mesh'], ['--mode=mesh']],
        [['--set=mode=gateway'], ['--mode=gateway']],
        [
          ['--set=mode=nodes', '--set=settings.role=gateway'],
          ['--mode=nodes', '--set=role=gateway']
        ],
        [['--set=clusterDns.target=off'], ['--cluster-dns=off']],
        [
          ['--set=image.repository=registry.example/meshd,image.tag=9.1.0'],
          ['--image=registry.example/meshd:9.1.0']
        ],
        [[`--set=token.value=${TOKEN}`], ['--token', TOKEN]],
        ...LISTENS.map((settings) => {
          const set = Object.entries(settings)
          return [
            [`--set-json=settings=${JSON.stringify(settings)}`, '--set=webhook.enabled=true'],
            ['--webhook', ...set.map(([key, value]) => `--set=${key}=${value}`)]
          ] as const
        })
      ]
      for (const [values, flags] of cases) {
        const token = flags.includes('--token') ? [] : ['--no-token']
        const { stdout, code, stderr } = await meshctl([
          'install',
          '--dry-run',
          '-n',
          'mesh',
          ...token,
          ...flags
        ])
        assert.equal(code, 0, stderr)
        const rendered = objectsOf(helmTemplate(helm, ['--set=namespace.create=true', ...values], 'mesh'))
        assert.deepEqual(comparable(objectsOf(stdout)), comparable(rendered), flags.join(' '))
      }
    })

    it('has alerts and a dashboard only where they are asked for, with the templates of Prometheus as they are', () => {
      const none = objectsOf(helmTemplate(helm, []))
      assert.ok(
        !none.some(({ kind, metadata }) => kind === 'PrometheusRule' || /dashboard/.test(metadata.name))
      )
      const runbooks = 'https://runbooks.example/mesh.md'
      const set = `--set=metrics.rules.enabled=true,metrics.dashboard.enabled=true,metrics.rules.runbooks=${runbooks}`
      const objects = objectsOf(helmTemplate(helm, [set, '--set=metrics.rules.labels.release=main']))
      const rule = objects.find(({ kind }) => kind === 'PrometheusRule')
      assert.equal(rule?.metadata.labels?.['release'], 'main')
      const text = JSON.stringify(rule)
      assert.match(text, /"summary":"[^"]*\{\{ \$labels\.cluster \}\}/)
      assert.ok(text.includes(`"runbook_url":"${runbooks}#rhizomeclusterdown"`))
      const dashboard = objects.find(({ metadata }) => metadata.name === 'rhizome-dashboard') as
        { readonly data?: Readonly<Record<string, string>> } | undefined
      const file = readFileSync(`${CHART}/files/monitoring/dashboard.json`, 'utf8')
      assert.deepEqual(JSON.parse(dashboard?.data?.['rhizome.json'] ?? ''), JSON.parse(file))
    })

    it('has hooks that are accepted, too, and that ask for no privilege', () => {
      const text = execFileSync(helm, ['template', 'rhizome', CHART, ...OPENSHIFT, ...EVERYTHING], {
        encoding: 'utf8'
      })
      const job = objectsOf(text).find(({ kind }) => kind === 'Job')
      assert.match(JSON.stringify(job), /"runAsNonRoot":true.*"drop":\["ALL"\]/)
      assert.match(JSON.stringify(job), /"--keep-objects"/)
    })
  })

  // ------------------------------------------------------------------ the API server's opinion

  describe('server-side validation', () => {
    before(async () => {
      await create('/api/v1/namespaces', { metadata: { name: 'dry' } })
      for (const body of OPENSHIFT_DEFINITIONS)
        await create('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', body)
      await eventually(() =>
        client.request({ path: '/apis/security.openshift.io/v1/securitycontextconstraints' })
      )
      await eventually(() => client.request({ path: '/apis/operator.openshift.io/v1/dnses' }))
    })
    after(async () => {
      for (const { metadata } of OPENSHIFT_DEFINITIONS) {
        await client.request({
          method: 'DELETE',
          path: `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${metadata.name}`
        })
      }
      await client.request({ method: 'DELETE', path: '/api/v1/namespaces/dry' })
      await eventually(
        async () => !/openshift/.test(JSON.stringify(await client.request({ path: '/apis' }))),
        30_000
      )
    })

    const dryRun = (object: KubeObject): Promise<unknown> => {
      const path =
        object.kind === 'Job' ? `/apis/batch/v1/namespaces/dry/jobs/${object.metadata.name}` : pathOf(object)
      const query = { dryRun: 'All', fieldManager: 'test', fieldValidation: 'Strict', force: 'true' }
      return client.request({ method: 'PATCH', path, query, contentType: APPLY_PATCH, body: object })
    }

    for (const [name, values] of [
      ['Kubernetes', []],
      ['Kubernetes with all there is', EVERYTHING],
      ['Kubernetes in the mode mesh, over IPv6', ['--set=mode=mesh,ipFamily=IPv6']],
      ['Kubernetes in the mode nodes', ['--set=mode=nodes']],
      ['OpenShift with all there is', [...OPENSHIFT, ...EVERYTHING]]
    ] as const) {
      it(`accepts every object for ${name}`, async () => {
        const text = execFileSync(
          helm,
          ['template', 'rhizome', CHART, '--namespace=dry', '--set=namespace.create=true', ...values],
          { encoding: 'utf8' }
        )
        const objects = objectsOf(text)
        assert.ok(objects.length >= 12)
        for (const object of objects) await dryRun(object)
      })
    }

    it('says how the cluster joins by what there is: a token, its Secret under any name, the key of a member, or nothing', async () => {
      await create('/api/v1/namespaces', { metadata: { name: 'notes' } })
      const secret = (name: string, data: object) =>
        create('/api/v1/namespaces/notes/secrets', { metadata: { name, ...OF_RELEASE }, data })
      const notes = (...values: readonly string[]): string => {
        const args = ['install', 'rhizome', CHART, '--dry-run=server', '--namespace=notes', ...values]
        const text = execFileSync(helm, [...args, `--kubeconfig=${api.kubeconfig}`], { encoding: 'utf8' })
        return text.slice(text.indexOf('\nNOTES:'))
      }
      assert.match(notes(), /No token was given/)
      assert.match(notes('--set=mode=mesh'), /No token was given/)
      const named = notes('--set=token.existingSecret=mine')
      assert.match(named, /join with the token in the Secret mine/)
      assert.doesNotMatch(named, /No token/)
      await secret('rhizome-token', { token: 'cmh6MS54' })
      assert.match(notes(), /join with the token in the Secret rhizome-token/)
      await secret('rhizome-cluster-key', { key: 'eA==' })
      const member = notes()
      assert.match(member, /is in a mesh already/)
      assert.doesNotMatch(member, /token was given|create secret|meshctl init/)
    })

    it('would refuse a misspelt field, also of OpenShift', async () => {
      const objects = objectsOf(helmTemplate(helm, OPENSHIFT, 'dry'))
      for (const kind of ['DaemonSet', 'SecurityContextConstraints', 'Role']) {
        const object = objects.find((object) => object.kind === kind)
        assert.ok(object)
        await assert.rejects(dryRun({ ...object, specc: {} }), /specc: field not declared in schema/, kind)
      }
    })

    it('takes our server into the DNS operator’s list and out of it, with the agent’s rights only', async () => {
      const path = '/apis/operator.openshift.io/v1/dnses/default'
      const theirs = {
        name: 'corp',
        zones: ['corp.example'],
        forwardPlugin: { policy: 'Random', upstreams: ['10.0.0.1'] }
      }
      const body = {
        apiVersion: 'operator.openshift.io/v1',
        kind: 'DNS',
        metadata: { name: 'default' },
        spec: { logLevel: 'Normal', servers: [theirs] }
      }
      await create('/apis/operator.openshift.io/v1/dnses', body)
      await cliOk('install', '--token', TOKEN, '--openshift')
      const agent = await agentClient()
      const dns = createClusterDns({ api: agent, target: 'auto', namespace: 'kube-system' })
      const spec = async (): Promise<unknown> => ((await client.request({ path })) as { spec: unknown }).spec
      const before = await spec()
      assert.equal(await dns.apply(MESH), 1)
      assert.equal(await dns.apply(MESH), 0)
      assert.deepEqual(await spec(), {
        logLevel: 'Normal',
        servers: [
          theirs,
          { name: 'rhizome', zones: MESH.zones, forwardPlugin: { policy: 'Random', upstreams: MESH.servers } }
        ]
      })
      agent.close()
      await cliOk('uninstall', '--yes')
      assert.deepEqual(await spec(), before)
      await freshNamespace()
    })
  })

  // ------------------------------------------------------------------ installing

  let bare: ReadonlyMap<string, string>

  describe('meshctl install', () => {
    before(async () => {
      bare = await everything(client)
    })

    it('installs with one command and one token, and labels the gateway', async () => {
      const { stdout } = await cliOk(
        'install',
        '--json',
        '--token',
        TOKEN,
        '--webhook',
        '--gateway',
        'node-1'
      )
      const answer = JSON.parse(stdout) as { applied: string[]; removed: string[] }
      assert.ok(
        answer.applied.includes('DaemonSet rhizome') && answer.applied.includes('Secret rhizome-token')
      )
      const node = (await client.request({ path: '/api/v1/nodes/node-1' })) as KubeObject
      assert.equal(node.metadata.labels?.['rhizome.io/gateway'], '')
      const secret = (await client.request({
        path: `/api/v1/namespaces/${NAMESPACE}/secrets/rhizome-token`
      })) as { data: { token: string } }
      assert.equal(Buffer.from(secret.data.token, 'base64').toString(), TOKEN)
      const pods = JSON.stringify(
        await client.request({
          path: pathOf({ kind: 'DaemonSet', metadata: { name: 'rhizome', namespace: NAMESPACE } })
        })
      )
      assert.doesNotMatch(pods, new RegExp(TOKEN))
    })

    it('changes nothing the second time, nor the keys that the agents keep there', async () => {
      const secret = `/api/v1/namespaces/${NAMESPACE}/secrets/rhizome-cluster-key`
      const agent = await agentClient()
      const found = (await agent.request({ path: secret })) as KubeObject
      await agent.request({ method: 'PUT', path: secret, body: { ...found, data: { key: 'c2VjcmV0' } } })
      agent.close()
      const first = await everything(client)
      await cliOk('install', '--token', TOKEN, '--webhook')
      assert.deepEqual(await everything(client), first)
    })

    it('removes what is not wanted any more, and nothing else (an upgrade)', async () => {
      const { stdout } = await cliOk('install', '--json', '--no-token', '--set', 'log-level=debug')
      const { removed } = JSON.parse(stdout) as { removed: string[] }
      assert.deepEqual(removed.sort(), [
        'MutatingWebhookConfiguration rhizome',
        'Secret rhizome-webhook',
        'Service rhizome-webhook'
      ])
      await client.request({ path: `/api/v1/namespaces/${NAMESPACE}/secrets/rhizome-token` })
      await cliOk('install', '--no-token', '--webhook')
    })

    it('leaves an installation in another namespace alone, and says how to go on', async () => {
      const before = await everything(client)
      const { code, stderr } = await cli('install', '--no-token', '-n', 'typo')
      assert.equal(code, 1)
      assert.match(stderr, new RegExp(`installed in the namespace ${NAMESPACE}; nothing was changed`))
      assert.match(stderr, new RegExp(`fix: to upgrade it use -n ${NAMESPACE}`))
      assert.deepEqual(await everything(client), before)
    })

    it('leaves an installation of Helm to Helm', async () => {
      const label = (value: string): Promise<unknown> =>
        client.request({
          method: 'PATCH',
          path: agentsPath,
          contentType: MERGE_PATCH,
          body: { metadata: { labels: { 'app.kubernetes.io/managed-by': value } } }
        })
      await label('Helm')
      for (const args of [
        ['install', '--no-token'],
        ['uninstall', '--yes']
      ]) {
        const { code, stderr } = await cli(...args)
        assert.equal(code, 1)
        assert.match(stderr, /Helm manages.*\n {2}fix: .*helm u/)
      }
      await label('meshctl')
    })

    it('says what is missing where the account may not install', async () => {
      const kubeconfig = await api.kubeconfigFor(await api.serviceAccountToken('default', 'nobody'))
      const { code, stderr } = await meshctl([
        'install',
        '--no-token',
        '--no-openshift',
        '--kubeconfig',
        kubeconfig
      ])
      assert.equal(code, 1)
      assert.match(stderr, /403 .*\n {2}fix: use an account/)
      await client.request({ method: 'DELETE', path: '/api/v1/namespaces/default/serviceaccounts/nobody' })
    })
  })

  // ------------------------------------------------------------------ rights

  describe('the agent’s rights', () => {
    let agent: KubeClient
    before(async () => {
      agent = await agentClient()
    })
    after(() => agent?.close())

    const may = async (what: string): Promise<boolean> => {
      const [verb = '', resource = '', where = ''] = what.split(' ')
      const [name = '', namespace = ''] = where.split('@')
      const [plural = '', ...group] = resource.split('.')
      const [whole = '', subresource = ''] = plural.split('/')
      const resourceAttributes = {
        verb,
        group: group.join('.'),
        resource: whole,
        subresource,
        name,
        namespace
      }
      const body = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes }
      }
      const answer = await agent.request({
        method: 'POST',
        path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
        body
      })
      return (answer as { status: { allowed: boolean } }).status.allowed
    }

    for (const what of ALLOWED) {
      it(`allow: ${what}`, async () => assert.equal(await may(what), true))
    }
    for (const what of DENIED) {
      it(`deny: ${what}`, async () => assert.equal(await may(what), false))
    }

    it('are these and no others, in its own namespace, in that of CoreDNS and elsewhere', async () => {
      const rules = async (namespace: string): Promise<string[]> => {
        const body = {
          apiVersion: 'authorization.k8s.io/v1',
          kind: 'SelfSubjectRulesReview',
          spec: { namespace }
        }
        const answer = await agent.request({
          method: 'POST',
          path: '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews',
          body
        })
        const { resourceRules } = (answer as { status: { resourceRules: Rule[] } }).status
        return resourceRules
          .filter(({ resources }) => !resources.every((resource) => EVERYBODYS.has(resource)))
          .map(({ verbs, resources, resourceNames = [] }) =>
            `${[...verbs].sort().join(',')} ${[...resources].sort().join(',')} ${resourceNames.join(',')}`.trim()
          )
          .sort()
      }
      const everywhere = [
        'create,delete,list,patch meshpeers',
        'create,delete,list,patch serviceimports',
        'create,delete,list,update endpointslices',
        'get configmaps kube-flannel-cfg',
        'get networks cluster',
        'get,patch mutatingwebhookconfigurations rhizome',
        'list ippools',
        'list servicecidrs',
        'list,watch endpointslices',
        'list,watch namespaces,nodes,services',
        'list,watch serviceexports',
        'patch meshpeers/status',
        'patch serviceexports/status',
        'patch serviceimports/status'
      ]
      assert.deepEqual(await rules('default'), everywhere)
      assert.deepEqual(
        await rules('kube-system'),
        [
          ...everywhere,
          'get configmaps kubeadm-config,kube-proxy,cilium-config,canal-config',
          'get,patch configmaps coredns,coredns-custom'
        ].sort()
      )
      assert.deepEqual(
        await rules(NAMESPACE),
        [
          ...everywhere,
          'create events',
          'create leases',
          'create secrets',
          'list meshinvites',
          'patch meshinvites/status',
          'get services rhizome-dns',
          'get,update leases rhizome-speaker',
          'create,get,patch,update secrets rhizome-cluster-key',
          'get,update secrets rhizome-webhook'
        ].sort()
      )
    })

    it('do not reach EndpointSlices of others: the policy of the chart refuses what RBAC allows', async () => {
      const path = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices'
      const managedBy = 'endpointslice.kubernetes.io/managed-by'
      const slice = (name: string, labels: Record<string, string>) => ({
        metadata: { name, labels },
        addressType: 'IPv4',
        ports: [],
        endpoints: [{ addresses: ['10.1.0.9'] }]
      })
      const tried = (method: 'POST' | 'PUT' | 'DELETE', at: string, body?: object): Promise<string> =>
        agent.request({ method, path: at, body }).then(
          () => 'done',
          (error: Error) => error.message
        )
      const own = { [managedBy]: 'rhizome-mcs' }
      const others = { [managedBy]: 'endpointslice-controller.k8s.io', 'kubernetes.io/service-name': 'web' }
      await create(path, slice('of-web', others))
      // The API server takes a new policy up within seconds.
      await eventually(
        async () => /rhizome-endpointslices/.test(await tried('DELETE', `${path}/of-web`)),
        60_000
      )
      for (const labels of [{}, others, { ...own, 'kubernetes.io/service-name': 'web' }])
        assert.match(
          await tried('POST', path, slice('new', labels)),
          /may only write/,
          JSON.stringify(labels)
        )
      assert.match(await tried('PUT', `${path}/of-web`, slice('of-web', own)), /may only change/)
      assert.equal(await tried('POST', path, slice('own', own)), 'done')
      assert.match(await tried('PUT', `${path}/own`, slice('own', others)), /may only write/)
      assert.equal(await tried('DELETE', `${path}/own`), 'done')
      // Others are not judged.
      await client.request({
        method: 'PUT',
        path: `${path}/of-web`,
        body: slice('of-web', { ...others, more: '1' })
      })
      await client.request({ method: 'DELETE', path: `${path}/of-web` })
    })

    it('suffice to follow the services, to find the prefixes, and to be elected and step down', async () => {
      const found = await discoverCidrs({ client: agent })
      assert.deepEqual(found.servicePrefixes, ['10.96.0.0/16'])
      assert.deepEqual(
        found.problems.filter(({ message }) => /403|forbidden/i.test(message)),
        []
      )
      let latest:
        { readonly services: number; readonly problems: number; readonly whole: boolean } | undefined
      const source = createKubeSource({
        client: agent,
        onSnapshot: ({ services }, problems, { whole }) => {
          latest = { services: services.length, problems: problems.length, whole }
        }
      })
      await source.start()
      await create('/api/v1/namespaces/default/services', {
        metadata: { name: 'web' },
        spec: { ports: [{ port: 80 }], selector: { app: 'web' } }
      })
      // A watch sees it, and the agent's own Service stays at home.
      await eventually(() => latest?.whole === true && latest.services === 1)
      assert.equal(latest?.problems, 0)
      await client.request({ method: 'DELETE', path: '/api/v1/namespaces/default/services/web' })
      await eventually(() => latest?.services === 0)
      await source.stop()
      const terms: (number | undefined)[] = []
      const elector = createElector({
        client: agent,
        namespace: NAMESPACE,
        name: 'rhizome-speaker',
        identity: 'one',
        onChange: (leadership) => terms.push(leadership.leader ? leadership.term : undefined),
        onTrouble: (trouble) => assert.equal(trouble, undefined)
      })
      elector.start()
      await eventually(() => elector.leadership().leader)
      await elector.stop()
      assert.deepEqual([terms.length, terms.at(-1)], [2, undefined])
    })

    it('suffice to put the zones into CoreDNS’s Corefile and to take them out, byte for byte', async () => {
      const corefile = async (): Promise<string> =>
        (
          (await client.request({ path: '/api/v1/namespaces/kube-system/configmaps/coredns' })) as {
            data: { Corefile: string }
          }
        ).data.Corefile
      const dns = createClusterDns({ api: agent, target: 'auto', namespace: 'kube-system' })
      assert.equal(await dns.apply(MESH), 1)
      assert.equal(await dns.apply(MESH), 0)
      assert.match(
        await corefile(),
        /^# BEGIN rhizome[^]*cluster\.east:53 cluster\.all:53 \{[^]*# END rhizome/
      )
      assert.equal(await dns.undo(), 1)
      assert.equal(await corefile(), COREFILE)
      const custom = createClusterDns({ api: agent, target: 'coredns-custom', namespace: 'kube-system' })
      assert.equal(await custom.apply(MESH), 1)
      assert.equal(await custom.undo(), 1)
      await assert.rejects(
        createClusterDns({ api: agent, target: 'openshift', namespace: 'kube-system' }).apply(MESH),
        { code: 'REFUSED' }
      )
    })
  })

  // ------------------------------------------------------------------ the webhook

  describe('the webhook, in the admission chain', () => {
    let agent: KubeClient
    let webhook: Webhook
    let reviews = 0
    before(async () => {
      agent = await agentClient()
      webhook = await startWebhook({
        api: agent,
        host: '127.0.0.1',
        port: 0,
        namespace: NAMESPACE,
        ips: ['127.0.0.1'],
        // Called once for each review.
        settings: () => {
          reviews++
          return { nameservers: ['10.96.0.53'], clusterDomain: 'cluster.local', searches: [], ndots: 5 }
        }
      })
      // Nobody routes service addresses here: the API server is given the address instead of the Service.
      const path = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/rhizome'
      const url = `https://127.0.0.1:${webhook.port}/mutate-pod`
      const patch = [0, 1].map((index) => ({
        op: 'replace',
        path: `/webhooks/${index}/clientConfig`,
        value: { url }
      }))
      await client.request({ method: 'PATCH', path, contentType: 'application/json-patch+json', body: patch })
      await webhook.check()
      for (const [name, labels] of [
        ['meshed', { 'rhizome.io/dns': 'true' }],
        ['plain', {}]
      ] as const) {
        await create('/api/v1/namespaces', { metadata: { name, labels } })
      }
      // The API server learns of the configuration and of namespaces by watching.
      await eventually(async () => (await pod('meshed', {})).dnsPolicy === 'None', 20_000)
    })
    after(async () => {
      await webhook?.stop()
      agent?.close()
      for (const name of ['meshed', 'plain']) {
        const pods = (await client.request({ path: `/api/v1/namespaces/${name}/pods` })) as {
          items: KubeObject[]
        }
        for (const { metadata } of pods.items) {
          await client.request({
            method: 'DELETE',
            path: `/api/v1/namespaces/${name}/pods/${metadata.name}`,
            query: { gracePeriodSeconds: '0' }
          })
        }
        await deleteNamespace(name)
      }
    })

    const pod = async (
      namespace: string,
      of: { labels?: object; spec?: object }
    ): Promise<{ dnsPolicy: string; dnsConfig?: unknown }> => {
      const spec = { containers: [{ name: 'c', image: 'i' }], ...of.spec }
      const made = await create(`/api/v1/namespaces/${namespace}/pods`, {
        metadata: { generateName: 'p-', labels: of.labels },
        spec
      })
      return (made as { spec: { dnsPolicy: string } }).spec
    }

    it('points the pods of a labelled namespace at the mesh', async () => {
      const { dnsPolicy, dnsConfig } = await pod('meshed', {})
      assert.equal(dnsPolicy, 'None')
      assert.deepEqual(dnsConfig, {
        nameservers: ['10.96.0.53'],
        searches: ['meshed.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
        options: [{ name: 'ndots', value: '5' }]
      })
    })

    it('points a labelled pod there, wherever it is', async () => {
      assert.equal((await pod('plain', { labels: { 'rhizome.io/dns': 'true' } })).dnsPolicy, 'None')
    })

    it('is asked once for a pod, labelled twice or not', async () => {
      const before = reviews
      assert.equal((await pod('meshed', { labels: { 'rhizome.io/dns': 'true' } })).dnsPolicy, 'None')
      assert.equal(reviews, before + 1)
    })

    it('is not even asked about other pods', async () => {
      const before = reviews
      assert.equal((await pod('plain', {})).dnsPolicy, 'ClusterFirst')
      assert.equal((await pod('meshed', { labels: { 'rhizome.io/dns': 'false' } })).dnsPolicy, 'ClusterFirst')
      assert.equal(reviews, before)
    })

    it('keeps what a pod chose, and what it asked for beside', async () => {
      assert.equal((await pod('meshed', { spec: { dnsPolicy: 'Default' } })).dnsPolicy, 'Default')
      const asked = {
        nameservers: ['9.9.9.9', '8.8.8.8', '1.1.1.1'],
        searches: Array.from({ length: 32 }, (_, at) => `s${at}.example`)
      }
      const { dnsConfig } = await pod('meshed', { spec: { dnsConfig: asked } })
      assert.deepEqual((dnsConfig as { nameservers: string[] }).nameservers, [
        '10.96.0.53',
        '9.9.9.9',
        '8.8.8.8'
      ])
    })

    it('gets its authority back after an upgrade applied the configuration anew', async () => {
      const path = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/rhizome'
      const patch = [0, 1].map((index) => ({
        op: 'remove',
        path: `/webhooks/${index}/clientConfig/caBundle`
      }))
      await client.request({ method: 'PATCH', path, contentType: 'application/json-patch+json', body: patch })
      await webhook.check()
      await eventually(async () => (await pod('meshed', {})).dnsPolicy === 'None', 20_000)
    })

    it('breaks no pod when it is gone', async () => {
      await webhook.stop()
      assert.equal((await pod('meshed', {})).dnsPolicy, 'ClusterFirst')
    })
  })

  // ------------------------------------------------------------------ the end

  describe('meshctl uninstall', () => {
    it('goes on after a TIMEOUT with the same patch, and an installation takes the patch back', async () => {
      const pods = async (): Promise<unknown> => {
        const { spec } = (await client.request({ path: agentsPath })) as { spec: { template: object } }
        return spec.template
      }
      const running = await pods()
      await report(await generation())
      const first = await cli('uninstall', '--yes', '--timeout', '1s')
      assert.equal(first.code, EXIT.timeout, first.stderr)
      const cleaning = [await generation(), await pods()]
      const second = await cli('uninstall', '--yes', '--timeout', '1s')
      assert.equal(second.code, EXIT.timeout, second.stderr)
      assert.deepEqual([await generation(), await pods()], cleaning)
      await cliOk('install', '--no-token', '--webhook')
      assert.deepEqual(await pods(), running)
    })

    it('waits for the hosts to be clean, and leaves nothing', async () => {
      const agent = await agentClient()
      await createClusterDns({ api: agent, target: 'coredns', namespace: 'kube-system' }).apply(MESH)
      agent.close()
      const old = await generation()
      await report(old)
      let ended = false
      const running = cli('uninstall', '--yes', '--json').finally(() => {
        ended = true
      })
      await eventually(async () => (await generation()) > old)
      const cleaning = JSON.stringify(await client.request({ path: agentsPath }))
      assert.match(cleaning, /"cleanup"/)
      assert.equal(ended, false)
      await report(await generation())
      const { code, stdout, stderr } = await running
      assert.equal(code, 0, stderr)
      const answer = JSON.parse(stdout) as { cleanedNodes: number; unwired: number }
      assert.deepEqual([answer.cleanedNodes, answer.unwired], [1, 1])
      await freshNamespace()
      assert.deepEqual(await everything(client), bare)
    })

    it('has nothing to do a second time', async () => {
      const { stdout } = await cliOk('uninstall', '--yes', '--json')
      assert.deepEqual((JSON.parse(stdout) as { removed: string[] }).removed, [])
    })

    it('takes a namespace that was there before as it is, and leaves it there', async () => {
      await create('/api/v1/namespaces', { metadata: { name: 'theirs', labels: { team: 'x' } } })
      const { stderr } = await cliOk('install', '--no-token', '-n', 'theirs')
      assert.match(stderr, /The namespace existed before/)
      await cliOk('uninstall', '--yes', '-n', 'theirs')
      const namespace = (await client.request({ path: '/api/v1/namespaces/theirs' })) as KubeObject
      assert.equal(namespace.metadata['deletionTimestamp'], undefined)
      assert.equal(namespace.metadata.labels?.['team'], 'x')
      await deleteNamespace('theirs')
      assert.deepEqual(await everything(client), bare)
    })
  })

  // ------------------------------------------------------------------ the same with Helm

  describe('helm', () => {
    const run = async (...args: readonly string[]): Promise<string> => {
      const env = {
        ...process.env,
        HELM_CACHE_HOME: api.folder,
        HELM_CONFIG_HOME: api.folder,
        HELM_DATA_HOME: api.folder
      }
      const { stdout } = await promisify(execFile)(
        helm,
        [...args, '--kubeconfig', api.kubeconfig, '-n', NAMESPACE],
        { env, timeout: 40_000 * slowness() }
      )
      return stdout
    }
    it('installs, and upgrades without a touch to what did not change, nor to the agents’ keys', async () => {
      const values = ['--set=webhook.enabled=true,mode=gateway', `--set=token.value=${TOKEN}`]
      assert.match(
        await run('install', 'rhizome', CHART, '--create-namespace', ...values),
        /kubectl label node <node> rhizome\.io\/gateway=/
      )
      const before = await generation()
      const secret = `/api/v1/namespaces/${NAMESPACE}/secrets/rhizome-webhook`
      const agent = await agentClient()
      const found = (await agent.request({ path: secret })) as KubeObject
      await agent.request({
        method: 'PUT',
        path: secret,
        body: { ...found, data: { 'tls.key': 'c2VjcmV0' } }
      })
      agent.close()
      await run('upgrade', 'rhizome', CHART, ...values)
      assert.equal(await generation(), before)
      await run('upgrade', 'rhizome', CHART, ...values, '--set=settings.log-level=debug')
      assert.notEqual(await generation(), before)
      const { data } = (await client.request({ path: secret })) as { data: unknown }
      assert.deepEqual(data, { 'tls.key': 'c2VjcmV0' })
    })

    it('uninstalls: its hook cleans DNS and hosts with the rights that the chart gives it, and nothing is left', async () => {
      const agent = await agentClient()
      await createClusterDns({ api: agent, target: 'auto', namespace: 'kube-system' }).apply(MESH)
      agent.close()
      const ending = run('uninstall', 'rhizome')
      const path = `/apis/batch/v1/namespaces/${NAMESPACE}/jobs/rhizome-cleanup`
      let job: KubeObject | undefined
      await eventually(async () => (job = (await client.request({ path })) as KubeObject), 20_000)
      // No controller makes its pod: the test runs what the pod would, as whom it would.
      const { containers } = (
        job as unknown as { spec: { template: { spec: { containers: { args: string[] }[] } } } }
      ).spec.template.spec
      const kubeconfig = await api.kubeconfigFor(await api.serviceAccountToken(NAMESPACE, 'rhizome-cleanup'))
      const old = await generation()
      await report(old)
      const cleaning = meshctl([...(containers[0]?.args ?? []), '--kubeconfig', kubeconfig])
      await eventually(async () => (await generation()) > old)
      await report(await generation())
      const { code, stderr, stdout } = await cleaning
      assert.equal(code, 0, stderr)
      assert.match(stdout, /1 node cleaned, 1 DNS object restored/)
      const now = new Date().toISOString()
      const conditions = ['SuccessCriteriaMet', 'Complete'].map((type) => ({
        type,
        status: 'True',
        lastProbeTime: now,
        lastTransitionTime: now
      }))
      const status = {
        startTime: now,
        completionTime: now,
        succeeded: 1,
        conditions,
        uncountedTerminatedPods: {}
      }
      await client.request({
        method: 'PATCH',
        path: `${path}/status`,
        contentType: MERGE_PATCH,
        body: { status }
      })
      await ending
      await freshNamespace()
      assert.deepEqual(await everything(client), bare)
    })
  })

  const agentsPath = pathOf({ kind: 'DaemonSet', metadata: { name: 'rhizome', namespace: NAMESPACE } })

  async function generation(): Promise<number> {
    const { metadata } = (await client.request({ path: agentsPath })) as { metadata: { generation: number } }
    return metadata.generation
  }

  /** The controller of DaemonSets is not here: the test is. One node, up to date with this generation. */
  async function report(observedGeneration: number): Promise<void> {
    const counts = { desiredNumberScheduled: 1, updatedNumberScheduled: 1, numberReady: 1 }
    const status = { observedGeneration, ...counts, currentNumberScheduled: 1, numberMisscheduled: 0 }
    await client.request({
      method: 'PATCH',
      path: `${agentsPath}/status`,
      contentType: MERGE_PATCH,
      body: { status }
    })
  }

  /** With the rights of the agent's pods and no others. */
  async function agentClient(): Promise<KubeClient> {
    return openKubeClient({
      kubeconfig: await api.kubeconfigFor(await api.serviceAccountToken(NAMESPACE, 'rhizome'))
    })
  }

  /** The controller of namespaces is not here either: what it would do once a namespace is empty. */
  async function freshNamespace(): Promise<void> {
    for (const { plural, base, namespaced } of RESOURCES) {
      if (!namespaced) continue
      const list = (await client.request({ path: `${base}/namespaces/${NAMESPACE}/${plural}` })) as {
        items: KubeObject[]
      }
      assert.deepEqual(
        list.items.map(({ metadata }) => `${plural} ${metadata.name}`),
        [],
        'left behind'
      )
    }
    await deleteNamespace(NAMESPACE)
  }

  async function deleteNamespace(name: string): Promise<void> {
    const path = `/api/v1/namespaces/${name}`
    const namespace = (await client.request({ method: 'DELETE', path })) as KubeObject
    await client.request({
      method: 'PUT',
      path: `${path}/finalize`,
      body: { ...namespace, apiVersion: 'v1', kind: 'Namespace', spec: { finalizers: [] } }
    })
    await eventually(() =>
      client.request({ path }).then(
        () => false,
        () => true
      )
    )
  }
})

interface Rule {
  readonly verbs: readonly string[]
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
}

// What every account of every cluster may see.
const EVERYBODYS = new Set([
  'selfsubjectaccessreviews',
  'selfsubjectrulesreviews',
  'selfsubjectreviews',
  'clustertrustbundles'
])

function objectsOf(text: string): KubeObject[] {
  return parseAllDocuments(text, { version: '1.1' }).flatMap((document) => {
    const object = document.toJS() as KubeObject | null | undefined
    return object === null || object === undefined ? [] : [object]
  })
}

/** Settings that say where the agent listens, in all the forms that meshd accepts. */
const LISTENS: readonly Readonly<Record<string, string>>[] = [
  ...['0.0.0.0:9999', '0.0.0.0', '[::]:77', '::', 'localhost:99', '127.0.0.2:1', '::1', '[fd00::5]:77'].map(
    (listen) => ({ 'http-listen': listen })
  ),
  { 'http-listen': 'off', 'dns-listen': 'off' },
  {
    listen: '/ip4/0.0.0.0/tcp/7000,/ip6/::/tcp/7001',
    'wireguard-port': '51999',
    'dns-listen': '0.0.0.0:5300,[::1]:53',
    'webhook-listen': '[::]:7444',
    'probe-port': '7999'
  },
  { listen: '0.0.0.0', 'dns-listen': '10.0.0.1', 'webhook-listen': '10.0.0.1' }
]

/** Without what says who manages it; settings may be written in another way of YAML. */
function comparable(objects: readonly KubeObject[]): Readonly<Record<string, unknown>> {
  const entries = objects.map((object) => {
    const copy = structuredClone(object) as {
      metadata: { labels: Record<string, string> }
      data?: unknown
      spec?: { template?: { metadata: { annotations: Record<string, string> } } }
    }
    delete copy.metadata.labels['app.kubernetes.io/managed-by']
    delete copy.metadata.labels['helm.sh/chart']
    delete copy.spec?.template?.metadata.annotations['checksum/settings']
    if (object.kind === 'ConfigMap')
      copy.data = parseAllDocuments((object['data'] as { 'meshd.yaml': string })['meshd.yaml']).map(
        (document) => document.toJS()
      )
    if (object.kind === 'Secret')
      delete (copy as { metadata: { labels: Record<string, string> } }).metadata.labels[
        'app.kubernetes.io/version'
      ]
    return [`${object.kind} ${object.metadata.namespace ?? ''}/${object.metadata.name}`, copy] as const
  })
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** Takes the answer 404 for this value; every other error stays one. */
function goneAs<T>(nothing: T): (error: unknown) => T {
  return (error) => {
    if (hasStatus(error, 404)) return nothing
    throw error
  }
}

/** Every object of every kind that the server can list, and its version; but for what the server itself writes all the time. */
async function everything(client: KubeClient): Promise<ReadonlyMap<string, string>> {
  const groups = (await client.request({ path: '/apis' })) as {
    groups: { preferredVersion: { groupVersion: string } }[]
  }
  const bases = [
    '/api/v1',
    ...groups.groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)
  ]
  const found = new Map<string, string>()
  for (const base of bases) {
    // The server lists a group for a moment after its last definition was deleted.
    const { resources } = (await client.request({ path: base }).catch(goneAs({ resources: [] }))) as {
      resources: { name: string; verbs: string[] }[]
    }
    for (const { name } of resources.filter(
      ({ verbs }) => verbs.includes('list') && verbs.includes('delete')
    )) {
      // The server answers 429 for a moment after it has got the definition of a resource.
      let list: { readonly items: readonly KubeObject[] } = { items: [] }
      await eventually(async () => {
        list = (await client.request({ path: `${base}/${name}` }).catch(goneAs({ items: [] }))) as typeof list
        return true
      })
      for (const { metadata } of list.items) {
        // A definition that was deleted is there for a moment, until the server has deleted its objects.
        if (name === 'customresourcedefinitions' && metadata['deletionTimestamp'] !== undefined) continue
        const key = `${name} ${metadata.namespace ?? ''}/${metadata.name}`
        const version = ['nodes', 'configmaps'].includes(name) ? '' : String(metadata['resourceVersion'])
        if (!OWN_OF_THE_SERVER.test(key)) found.set(key, version)
      }
    }
  }
  const configMaps = (await client.request({ path: '/api/v1/namespaces/kube-system/configmaps' })) as {
    items: KubeObject[]
  }
  for (const { metadata, data } of configMaps.items)
    found.set(`data of ${metadata.name}`, JSON.stringify(data))
  return found
}

// The definitions of the Multi-Cluster Services API stay on uninstalling: they hold the exports of tenants.
const OWN_OF_THE_SERVER =
  /^(customresourcedefinitions \/service(?:ex|im)ports\.|events |leases kube-system\/apiserver-|apiservices|flowschemas|prioritylevelconfigurations|storageversions|configmaps kube-system\/(extension|kube-apiserver-legacy))/

function ignoreConflict(error: unknown): void {
  assert.equal((error as { code?: string }).code, 'CONFLICT')
}
