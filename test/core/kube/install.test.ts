// What `meshctl install` applies is what Helm would: the chart is the one place that says what an installation is made of.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { parseAllDocuments } from 'yaml'
import {
  cleanupPatch,
  installObjects,
  isOptional,
  listCall,
  pathOf,
  RESOURCES,
  rolledOut,
  undoCleanupPatch,
  type InstallOptions
} from '../../../src/core/kube/install.ts'
import { fieldsAt, type KubeObject } from '../../../src/core/kube/kube-api.ts'
import { isFields, type Fields } from '../../../src/core/model/field-check.ts'

const OPTIONS: InstallOptions = { namespace: 'rhizome-system', mode: 'gateway', settings: {} }

describe('installObjects', () => {
  it('puts everything of the namespace into the one asked for', () => {
    const text = JSON.stringify(install('openshift-webhook', { namespace: 'mesh' }))
    assert.doesNotMatch(text, /rhizome-system/)
    assert.equal(
      text.match(/"mesh"/g)?.length,
      JSON.stringify(install('openshift-webhook')).match(/"rhizome-system"/g)?.length
    )
  })

  it('bounds the agent by policies with the account of the namespace asked for, made before the rights', () => {
    const objects = install('kubernetes', { namespace: 'mesh' })
    for (const policy of objects.filter(({ kind }) => kind === 'ValidatingAdmissionPolicy'))
      assert.match(JSON.stringify(policy), /'system:serviceaccount:mesh:rhizome'/)
    const kinds = objects.map(({ kind }) => kind)
    assert.ok(kinds.indexOf('ValidatingAdmissionPolicyBinding') < kinds.indexOf('ClusterRole'))
    assert.deepEqual(
      objects.filter(isOptional).map(({ kind, metadata }) => `${kind} ${metadata.name}`),
      ['', 'Binding'].flatMap((kind) =>
        ['rhizome-secrets', 'rhizome-endpointslices'].map(
          (name) => `ValidatingAdmissionPolicy${kind} ${name}`
        )
      )
    )
  })

  it('marks every object, and the manifests know the path of each', () => {
    for (const variant of ['kubernetes', 'kubernetes-webhook', 'openshift', 'openshift-webhook']) {
      for (const object of install(variant, { token: 'rzm2_x' })) {
        const { labels } = object.metadata
        // What has the label goes with the installation, and with a definition the exports of all tenants would go.
        const isKept = object.metadata.name.endsWith('.multicluster.x-k8s.io')
        assert.deepEqual(
          [labels?.['app.kubernetes.io/part-of'], labels?.['app.kubernetes.io/managed-by']],
          [isKept ? undefined : 'rhizome', 'meshctl'],
          object.kind
        )
        assert.match(pathOf(object), /^\/apis?\//)
      }
    }
  })

  it('makes an object after those that it needs', () => {
    const kinds = install('openshift-webhook', { token: 'rzm2_x' }).map(({ kind }) => kind)
    assert.equal(kinds[0], 'Namespace')
    assert.ok(kinds.indexOf('DaemonSet') > kinds.lastIndexOf('Secret'))
    assert.equal(kinds.at(-1), 'MutatingWebhookConfiguration')
  })

  it('puts the token into a Secret and nowhere else', () => {
    const holders = install('kubernetes', { token: 'rzm2_secret' }).filter((object) =>
      JSON.stringify(object).includes('rzm2_secret')
    )
    assert.deepEqual(
      holders.map(({ kind, metadata }) => `${kind} ${metadata.name}`),
      ['Secret rhizome-token']
    )
    assert.ok(!install('kubernetes').some(({ metadata }) => metadata.name === 'rhizome-token'))
  })

  it('grants no right over the cluster’s DNS that nobody asked for', () => {
    const text = JSON.stringify(
      install('openshift', { clusterDns: 'off' }).filter(({ kind }) => /Role/.test(kind))
    )
    assert.doesNotMatch(text, /dnses|coredns/)
    assert.match(JSON.stringify(install('openshift')), /dnses/)
  })

  it('starts other pods when settings change, and runs on each node in the mode mesh', () => {
    const [one, two] = [{}, { 'log-level': 'debug' }].map((settings) =>
      agents(install('kubernetes', { settings }))
    )
    assert.notDeepEqual(one?.spec.template.metadata.annotations, two?.spec.template.metadata.annotations)
    assert.deepEqual(one?.spec.template.spec.nodeSelector, {
      'kubernetes.io/os': 'linux',
      'rhizome.io/gateway': ''
    })
    assert.deepEqual(agents(install('kubernetes', { mode: 'mesh' })).spec.template.spec.nodeSelector, {
      'kubernetes.io/os': 'linux'
    })
  })

  it('has in the mode nodes an agent on each node, of which those without the gateway label have the role node', () => {
    const [gateways, nodes] = install('kubernetes', { mode: 'nodes', settings: { role: 'gateway' } }).filter(
      ({ kind }) => kind === 'DaemonSet'
    )
    assert.equal(gateways?.metadata.name, 'rhizome')
    assert.equal(nodes?.metadata.name, 'rhizome-node')
    const pod = fieldsAt(nodes, 'spec', 'template', 'spec')
    assert.match(JSON.stringify(pod['affinity']), /"rhizome\.io\/gateway","operator":"NotIn","values":\[""\]/)
    // The settings choose no other role for these.
    assert.match(JSON.stringify(pod['containers']), /\{"name":"RHIZOME_ROLE","value":"node"\}/)
    assert.doesNotMatch(JSON.stringify(gateways), /RHIZOME_ROLE/)
    const services = install('kubernetes-webhook', { mode: 'nodes' }).filter(({ kind }) => kind === 'Service')
    for (const { spec } of services as unknown as { spec: { selector: unknown } }[])
      assert.notDeepEqual(spec.selector, fieldsAt(nodes, 'spec', 'selector', 'matchLabels'))
  })

  it('has its probes, ports and Services where the settings make the agent listen', () => {
    const probe = (listen: string): unknown => {
      const daemonSet = agents(install('kubernetes', { settings: { 'http-listen': listen } }))
      const pod = fieldsAt(daemonSet as unknown as Fields, 'spec', 'template', 'spec')
      const [container] = pod['containers'] as Fields[]
      return fieldsAt(container ?? {}, 'readinessProbe')['httpGet']
    }
    const cases: readonly (readonly [string, string | undefined, number])[] = [
      ['0.0.0.0:9999', undefined, 9999],
      ['0.0.0.0', undefined, 9465],
      ['[::]:77', undefined, 77],
      ['::', undefined, 9465],
      ['localhost:99', '127.0.0.1', 99],
      ['127.0.0.2:1', '127.0.0.2', 1],
      ['127.0.0.1', '127.0.0.1', 9465],
      ['::1', '::1', 9465],
      ['[fd00::5]:77', 'fd00::5', 77],
      ['192.0.2.7:88', '192.0.2.7', 88]
    ]
    for (const [listen, host, port] of cases) {
      const wanted = { ...(host === undefined ? {} : { host }), path: '/readyz', port }
      assert.deepEqual(probe(listen), wanted, listen)
    }
    const settings = {
      listen: '/ip4/0.0.0.0/tcp/7000,/ip6/::/tcp/7001',
      'wireguard-port': '51999',
      'dns-listen': '0.0.0.0:5300',
      'webhook-listen': '[::]:7444'
    }
    const objects = install('kubernetes-webhook', { settings }).filter(({ kind }) => kind !== 'ConfigMap')
    const ports = [...JSON.stringify(objects).matchAll(/"(?:hostPort|targetPort)":(\d+)/g)]
    assert.deepEqual(new Set(ports.map(([, port]) => Number(port))), new Set([7000, 51_999, 5300, 7444]))
  })

  it('gives the agent three capabilities and no privilege', () => {
    for (const variant of ['kubernetes', 'openshift-webhook']) {
      const { hostPID, hostIPC, containers } = agents(install(variant)).spec.template.spec
      assert.deepEqual([hostPID, hostIPC], [undefined, undefined])
      for (const { securityContext } of containers) {
        assert.deepEqual(securityContext, {
          runAsUser: 0,
          privileged: false,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW', 'NET_BIND_SERVICE'] }
        })
      }
    }
  })

  it('lists what it made by its label', () => {
    assert.deepEqual(listCall(RESOURCES[0] as never), {
      path: '/api/v1/namespaces',
      query: { labelSelector: 'app.kubernetes.io/part-of=rhizome' }
    })
  })
})

describe('cleanupPatch', () => {
  it('cleans with the agent’s own settings and rights, and then waits without any', () => {
    const daemonSet = agents(install('kubernetes'))
    const patch = cleanupPatch(daemonSet as never, true) as {
      spec: { template: { spec: Record<string, { name: string; args?: string[] }[]> } }
    }
    const { initContainers = [], containers = [] } = patch.spec.template.spec
    assert.deepEqual(
      initContainers.map(({ name }) => name),
      ['cleanup', 'purge']
    )
    assert.deepEqual(initContainers[0]?.args, ['--config', '/etc/rhizome/meshd.yaml', 'cleanup'])
    for (const needed of [/RHIZOME_SYSCTL_ROOT/, /NET_ADMIN/, /sysctl-net/])
      assert.match(JSON.stringify(initContainers[0]), needed)
    assert.doesNotMatch(JSON.stringify(containers), /NET_ADMIN|hostPath|volumeMounts/)
    assert.doesNotMatch(JSON.stringify(cleanupPatch(daemonSet as never, false)), /purge|delete/)
  })

  it('is idempotent: a repeated uninstall sends the patch that the first one sent', () => {
    fc.assert(
      fc.property(cases, ({ daemonSet, purge, purgedBefore }) => {
        const patch = cleanupPatch(daemonSet, purge) ?? assert.fail('no agent found')
        const before = cleanupPatch(daemonSet, purgedBefore) ?? assert.fail('no agent found')
        const patched = mergePatch(daemonSet, before) as Fields
        assert.deepEqual(cleanupPatch(patched, purge), patch)
        // A webhook that injects its sidecar again is no obstacle either.
        assert.deepEqual(cleanupPatch(withSidecarFirst(patched), purge), patch)
      })
    )
  })

  it('takes the agent by its name, wherever it stands among the containers', () => {
    fc.assert(
      fc.property(cases, ({ plain, daemonSet, purge }) => {
        assert.deepEqual(cleanupPatch(daemonSet, purge), cleanupPatch(plain, purge))
      })
    )
  })

  it('is no patch for a DaemonSet without an agent', () => {
    assert.equal(cleanupPatch({ spec: { template: { spec: { containers: [SIDECAR] } } } }, true), undefined)
    assert.equal(cleanupPatch({}, false), undefined)
  })

  it('is taken back by an installation, init containers included', () => {
    fc.assert(
      fc.property(cases, ({ plain, daemonSet, purge }) => {
        const patched = mergePatch(daemonSet, cleanupPatch(daemonSet, purge)) as Fields
        const undo = undoCleanupPatch(patched, plain) ?? assert.fail('no cleanup found')
        assert.deepEqual(mergePatch(patched, undo), plain)
        for (const running of [plain, daemonSet, undefined])
          assert.equal(undoCleanupPatch(running, plain), undefined)
      })
    )
  })

  it('is done when the controller says so of this very template', () => {
    const status = {
      observedGeneration: 2,
      desiredNumberScheduled: 3,
      updatedNumberScheduled: 3,
      numberReady: 3
    }
    assert.ok(rolledOut({ metadata: { generation: 2 }, status }))
    assert.ok(!rolledOut({ metadata: { generation: 3 }, status }))
    assert.ok(!rolledOut({ metadata: { generation: 2 }, status: { ...status, updatedNumberScheduled: 2 } }))
    assert.ok(!rolledOut({ metadata: { generation: 2 }, status: { ...status, numberReady: 2 } }))
    assert.ok(!rolledOut({ metadata: { generation: 2 } }))
  })
})

const SIDECAR = { name: 'istio-proxy', image: 'istio/proxyv2:1.30', args: ['proxy', 'sidecar'], env: [] }

/** A DaemonSet of the manifests as installed (`plain`), and as other programs have changed it (`daemonSet`). */
const cases = fc
  .record({
    variant: fc.constantFrom('kubernetes', 'kubernetes-webhook', 'openshift', 'openshift-webhook'),
    options: fc.record<Partial<InstallOptions>>(
      {
        image: fc.constant('registry.test/meshd:2'),
        mode: fc.constantFrom('gateway', 'nodes', 'mesh'),
        settings: fc.constantFrom({}, { 'http-listen': 'off' }, { 'log-level': 'debug' })
      },
      { requiredKeys: [] }
    ),
    others: fc.uniqueArray(fc.constantFrom('istio-proxy', 'linkerd-proxy', 'log-shipper')),
    agentAt: fc.nat(3),
    initContainers: fc.constantFrom(undefined, [], [SIDECAR]),
    purge: fc.boolean(),
    purgedBefore: fc.boolean()
  })
  .map(({ variant, options, others, agentAt, initContainers, purge, purgedBefore }) => {
    const plain = agents(install(variant, options)) as unknown as Fields
    const containers = others.map((name) => ({ ...SIDECAR, name }))
    const agent = fieldsAt(plain, 'spec', 'template', 'spec')['containers'] as object[]
    const daemonSet = withContainers(plain, {
      containers: [...containers.slice(0, agentAt), ...agent, ...containers.slice(agentAt)],
      ...(initContainers === undefined ? {} : { initContainers })
    })
    return { plain, daemonSet, purge, purgedBefore }
  })

function withSidecarFirst(daemonSet: Fields): Fields {
  const containers = fieldsAt(daemonSet, 'spec', 'template', 'spec')['containers'] as object[]
  return withContainers(daemonSet, { containers: [SIDECAR, ...containers] })
}

function withContainers(daemonSet: Fields, containers: object): Fields {
  return mergePatch(daemonSet, { spec: { template: { spec: containers } } }) as Fields
}

/** RFC 7396, as the API server applies the patch. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch
  const result: Record<string, unknown> = isFields(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key]
    else if (value !== undefined) result[key] = mergePatch(result[key], value)
  }
  return result
}

interface DaemonSet {
  readonly spec: {
    readonly template: {
      readonly metadata: { readonly annotations: object }
      readonly spec: {
        readonly nodeSelector: object
        readonly hostPID?: boolean
        readonly hostIPC?: boolean
        readonly containers: readonly { readonly securityContext: object }[]
      }
    }
  }
}

function install(variant: string, options: Partial<InstallOptions> = {}): readonly KubeObject[] {
  return installObjects(manifestsOf(variant), { ...OPTIONS, ...options })
}

const parsed = new Map<string, readonly KubeObject[]>()

function manifestsOf(variant: string): readonly KubeObject[] {
  const known = parsed.get(variant)
  if (known !== undefined) return known
  const manifests = parseAllDocuments(readFileSync(`deploy/manifests/${variant}.yaml`, 'utf8')).map(
    (document) => document.toJS() as KubeObject
  )
  parsed.set(variant, manifests)
  return manifests
}

function agents(objects: readonly KubeObject[]): DaemonSet {
  return objects.find(({ kind }) => kind === 'DaemonSet') as unknown as DaemonSet
}
