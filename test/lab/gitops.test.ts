// A mesh that is founded and joined by objects and settings alone, on a real API server, with the rights and policies of the chart:
// two gateways found it together, a MeshInvite makes the token, and another agent joins with it.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { helmPath, helmTemplate } from '../../build/manifests.ts'
import { meshInvitesPath, secretCall } from '../../src/core/mcs/mesh-invite-calls.ts'
import { readInvite } from '../../src/core/mcs/mesh-invite.ts'
import { pathOf } from '../../src/core/kube/install.ts'
import {
  APPLY_PATCH,
  fieldsAt,
  getObject,
  MERGE_PATCH,
  type KubeObject
} from '../../src/core/kube/kube-api.ts'
import type { Fields } from '../../src/core/model/field-check.ts'
import { openKubeClient } from '../../src/io/kube/client.ts'
import { build } from '../built.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { podCidr, serviceCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'

const NAMESPACE = 'rhizome-system'
const INVITES = meshInvitesPath(NAMESPACE)
const SECRETS = `/api/v1/namespaces/${NAMESPACE}/secrets`
const NEEDED = new Set([
  'Namespace',
  'CustomResourceDefinition',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
  'ServiceAccount',
  'ClusterRole',
  'ClusterRoleBinding',
  'Role',
  'RoleBinding',
  'Secret'
])
// A Lease, a list every 5 s, and a machine that may be busy.
const PATIENCE_MS = 60_000

describe('a mesh by settings and MeshInvites, on a real API server', function () {
  let api: KubeApi
  let folder: string
  let kubeconfig: string
  const gateways: LoopbackAgent[] = []
  const sites: LoopbackAgent[] = []

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    build()
    folder = mkdtempSync(join(tmpdir(), 'rhizome-gitops-'))
    api = await startKubeApi({ lab: await kubeLab(), serviceCidr: serviceCidr('east') })
    await install()
    kubeconfig = await api.kubeconfigFor(await api.serviceAccountToken(NAMESPACE, 'rhizome'))
  })

  after(async () => {
    await Promise.all([...gateways, ...sites].map((agent) => agent.stop()))
    await api?.stop()
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  // The end of each log, beside the failure.
  afterEach(function () {
    if (this.currentTest?.state !== 'failed') return
    for (const agent of [...gateways, ...sites]) console.log(`      ${agent.socket}:\n${agent.tail}`)
  })

  it('is founded once by two gateways that start together with the setting init', async () => {
    for (const name of ['gw-1', 'gw-2']) {
      mkdirSync(join(folder, name))
      gateways.push(await LoopbackAgent.create(join(folder, name), 'east'))
    }
    await Promise.all(
      gateways.map((agent, index) =>
        agent.start({
          source: 'kubernetes',
          namespace: NAMESPACE,
          kubeconfig,
          'node-name': `gw-${index + 1}`,
          'token-file': join(folder, 'no-token'),
          init: 'east',
          'init-pod-cidrs': podCidr('east')
        })
      )
    )
    for (const agent of gateways)
      await eventually(
        async () => (await agent.done('status', '--json')).stdout.includes('"east"'),
        PATIENCE_MS
      )
    await eventually(() => new Set(seeds()).size === 1 && seeds()[0] !== undefined, PATIENCE_MS)
    const { data } = (await api.client.request({ path: `${SECRETS}/rhizome-cluster-key` })) as {
      data: Record<string, string>
    }
    assert.ok(data['clusterSeed'])
    // As after `meshctl init`: the root key is here until it is exported, and status says so.
    const { stdout } = await gateway().done('root', 'status')
    assert.match(stdout, /1/)
  })

  it('answers a MeshInvite with a Secret, a status and an Event, and the token is in the Secret only', async () => {
    await create(
      INVITES,
      invite('west', { podCIDRs: [podCidr('west')], serviceCIDRs: [serviceCidr('west')] })
    )
    await ready('west', 'Ready=True/TokenReady Redeemed=False/Waiting')
    const secret = (await getObject(api.client, `${SECRETS}/west-token`)) ?? assert.fail('no Secret')
    assert.equal(secret['type'], 'rhizome.io/join-token')
    assert.match(token(secret), /^rzm2_/)
    let items: readonly Fields[] = []
    await eventually(async () => {
      const path = `/apis/events.k8s.io/v1/namespaces/${NAMESPACE}/events`
      ;({ items } = (await api.client.request({ path })) as { items: readonly Fields[] })
      const event = items.find((each) => fieldsAt(each, 'regarding')['name'] === 'west')
      assert.deepEqual([event?.['reason'], event?.['type']], ['TokenReady', 'Normal'])
      return true
    })
    const object = await getObject(api.client, `${INVITES}/west`)
    const logs = ['gw-1', 'gw-2'].map((name) => readFileSync(join(folder, name, 'east/meshd.log'), 'utf8'))
    assert.ok(![JSON.stringify([items, object]), ...logs].some((text) => text.includes(token(secret))))
  })

  it('shows in the conditions that the cluster has joined with that token', async () => {
    const secret = (await getObject(api.client, `${SECRETS}/west-token`)) ?? assert.fail('no Secret')
    writeFileSync(join(folder, 'west-token'), token(secret), { mode: 0o600 })
    const west = await LoopbackAgent.create(folder, 'west')
    sites.push(west)
    await west.start({ 'token-file': join(folder, 'west-token') })
    await ready('west', 'Ready=True/Joined Redeemed=True/Joined')
    // A used invite is not taken back, so its cluster stays.
    await api.client.request({ method: 'DELETE', path: `${INVITES}/west` })
    await create(INVITES, invite('west', { secretName: 'again' }, 'again'))
    await ready('again', 'Ready=False/NameTaken Redeemed=False/NoInvite')
    assert.match((await west.done('peers')).stdout, /east/)
  })

  it('takes an invite that was not used back when its object is deleted', async () => {
    await create(INVITES, invite('edge', {}))
    await ready('edge', 'Ready=True/TokenReady Redeemed=False/Waiting')
    const secret = (await getObject(api.client, `${SECRETS}/edge-token`)) ?? assert.fail('no Secret')
    await api.client.request({ method: 'DELETE', path: `${INVITES}/edge` })
    const edge = await LoopbackAgent.create(folder, 'edge')
    sites.push(edge)
    await edge.start()
    await eventually(async () => {
      for (const agent of gateways) assert.doesNotMatch((await agent.done('invite', 'list')).stdout, /edge/)
      return true
    }, PATIENCE_MS)
    await assert.rejects(edge.done('join', token(secret)), /a void names it/)
  })

  it('changes no Secret of others, and says so in the condition', async () => {
    await create(SECRETS, { metadata: { name: 'database' }, stringData: { password: 'of others' } })
    const before = await getObject(api.client, `${SECRETS}/database`)
    await create(INVITES, invite('north', { secretName: 'database' }))
    await ready('north', 'Ready=False/SecretExists Redeemed=False/NoInvite')
    assert.deepEqual(await getObject(api.client, `${SECRETS}/database`), before)
  })

  it('lets nobody change what an invite was made of, and refuses what has not the form', async () => {
    await create(INVITES, invite('south', {}))
    await ready('south', 'Ready=True/TokenReady Redeemed=False/Waiting')
    const change = { method: 'PATCH', path: `${INVITES}/south`, contentType: MERGE_PATCH } as const
    await assert.rejects(
      api.client.request({ ...change, body: { spec: { cluster: 'other' } } }),
      /delete it and make another/
    )
    for (const spec of [
      { cluster: '../x' },
      { expiresIn: 'for ever' },
      { podCIDRs: Array(65).fill('10.0.0.0/8') }
    ])
      await assert.rejects(create(INVITES, invite('bad', spec)), /spec/)
  })

  it('gives the agent no other Secret: the policy of the chart refuses what RBAC allows', async () => {
    const agent = await openKubeClient({ kubeconfig })
    try {
      const held = readInvite({ metadata: { name: 'x', uid: 'x' } })
      const call = secretCall(held, 'rhizome-own', { namespace: NAMESPACE, token: 'x', isTry: true })
      const body = call.body as Fields
      for (const type of ['Opaque', 'kubernetes.io/service-account-token']) {
        const annotations = { 'kubernetes.io/service-account.name': 'rhizome-cleanup' }
        const metadata = { name: `of-${type.length}`, annotations }
        await eventually(
          () =>
            assert
              .rejects(
                agent.request({ ...call, body: { ...body, type, metadata } }),
                /may only create Secrets of the type rhizome.io\/join-token/
              )
              .then(() => true),
          PATIENCE_MS
        )
      }
      await agent.request({ ...call, body: { ...body, metadata: { name: 'rhizome-own' } } })
    } finally {
      agent.close()
    }
  })

  it('is founded by the chart where its values name a cluster, and not beside a token', () => {
    const render = (...args: readonly string[]): string => helmTemplate(helmPath(), args)
    const init = '--set=mesh.init.cluster=east,mesh.init.podCIDRs={10.1.0.0/16,fd00:1::/56}'
    const envOf = (text: string): Fields => {
      const sets = parseAllDocuments(text).map((each) => each.toJS() as KubeObject)
      const agent = sets.find(({ kind }) => kind === 'DaemonSet') ?? assert.fail('no DaemonSet')
      const [container] = fieldsAt(agent, 'spec', 'template', 'spec')['containers'] as readonly Fields[]
      const env = (container?.['env'] ?? []) as readonly { name: string; value?: string }[]
      return Object.fromEntries(
        env.flatMap(({ name, value }) => (name.startsWith('RHIZOME_INIT') ? [[name, value]] : []))
      )
    }
    assert.deepEqual(envOf(render()), {})
    assert.deepEqual(envOf(render(init)), {
      RHIZOME_INIT: 'east',
      RHIZOME_INIT_POD_CIDRS: '10.1.0.0/16,fd00:1::/56',
      RHIZOME_INIT_SERVICE_CIDRS: ''
    })
    for (const token of ['token.existingSecret=mine', 'token.value=rzm2_x'])
      assert.throws(
        () => render(init, `--set=${token}`),
        /mesh.init.cluster founds a mesh, and token joins one/
      )
    const without = render('--set=meshInvites.enabled=false')
    assert.doesNotMatch(without, /meshinvites|rhizome-secrets|rhizome-invites/)
  })

  function gateway(): LoopbackAgent {
    return gateways[0] ?? assert.fail('no gateway')
  }

  /** The cluster key of each gateway, as its disk has it. */
  function seeds(): readonly (string | undefined)[] {
    return ['gw-1', 'gw-2'].map((name) => {
      const text = readFileSync(join(folder, name, 'east/state/identity.json'), 'utf8')
      return (JSON.parse(text) as { identity: { clusterSeed?: string } }).identity.clusterSeed
    })
  }

  function invite(cluster: string, spec: object, name = cluster): object {
    return {
      apiVersion: 'rhizome.io/v1alpha1',
      kind: 'MeshInvite',
      metadata: { name },
      spec: { cluster, secretName: `${cluster}-token`, ...spec }
    }
  }

  function create(path: string, body: object): Promise<unknown> {
    return api.client.request({ method: 'POST', path, body })
  }

  async function ready(name: string, wanted: string): Promise<void> {
    await eventually(async () => {
      const { conditions = [] } = fieldsAt(await getObject(api.client, `${INVITES}/${name}`), 'status') as {
        conditions?: readonly Record<string, string>[]
      }
      const shown = conditions.map(({ type, status, reason }) => `${type}=${status}/${reason}`)
      assert.equal(shown.join(' '), wanted, JSON.stringify(conditions))
      return true
    }, PATIENCE_MS)
  }

  function token(secret: Fields): string {
    return Buffer.from(String(fieldsAt(secret, 'data')['token']), 'base64').toString()
  }

  /** What the chart installs, but for the agents: `meshctl install` applies it in this order, too. */
  async function install(): Promise<void> {
    await create('/api/v1/namespaces', { metadata: { name: 'kube-system' } }).catch(() => undefined)
    for (const document of parseAllDocuments(readFileSync('deploy/manifests/kubernetes.yaml', 'utf8'))) {
      const object = document.toJS() as KubeObject
      if (!NEEDED.has(object.kind)) continue
      await api.client.request({
        method: 'PATCH',
        path: pathOf(object),
        query: { fieldManager: 'test', fieldValidation: 'Strict' },
        contentType: APPLY_PATCH,
        body: object
      })
    }
    await eventually(() => api.client.request({ path: INVITES }))
  }
})
