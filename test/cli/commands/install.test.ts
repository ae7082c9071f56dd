// `meshctl install` and `uninstall` on the command line; what they do to a cluster is in test/lab/deploy.test.ts.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { makeToken } from '../token.ts'
import { EXIT } from '../../../src/cli/output/exit-codes.ts'
import { meshctl, type Run } from '../fake-meshd.ts'
import { FakeApi, NODES, refuse, type FakeObject, type Fault } from '../../io/kube/fake-api.ts'

const TOKEN = makeToken()

describe('meshctl install and uninstall', () => {
  let folder: string
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'meshctl-install-'))
  })
  after(() => rmSync(folder, { recursive: true }))

  it('renders the objects, with the token from stdin, a file or the environment in a Secret', async () => {
    const file = join(folder, 'token')
    writeFileSync(file, `${TOKEN}\n`)
    const runs = await Promise.all([
      meshctl(['install', '--dry-run'], { stdin: `${TOKEN}\n` }),
      meshctl(['install', '--dry-run', '--token', '-'], { stdin: TOKEN }),
      meshctl(['install', '--dry-run', '--token-file', file]),
      meshctl(['install', '--dry-run'], { env: { RHIZOME_TOKEN: TOKEN } })
    ])
    const [first] = runs
    for (const { code, stdout, stderr } of runs) {
      assert.deepEqual([code, stderr], [EXIT.ok, ''])
      assert.equal(stdout, first?.stdout)
    }
    const objects = parseAllDocuments(first?.stdout ?? '').map(
      (document) => document.toJS() as { kind: string; stringData?: object }
    )
    assert.deepEqual(
      objects.flatMap(({ stringData }) => (stringData === undefined ? [] : [stringData])),
      [{ token: TOKEN }]
    )
  })

  it('prints the objects as one List with --dry-run --json', async () => {
    const { code, stdout } = await meshctl(['install', '--dry-run', '--json', '--no-token'])
    assert.equal(code, EXIT.ok)
    const list = JSON.parse(stdout) as { kind: string; items: { kind: string }[] }
    assert.equal(list.kind, 'List')
    assert.ok(list.items.some(({ kind }) => kind === 'DaemonSet'))
  })

  it('checks the token before anything is applied; an expired one is the upgrade of agents that have joined', async () => {
    for (const [token, message] of [
      ['hello', /^error: token: /],
      [TOKEN.slice(0, -3), /^error: token: /],
      [`${TOKEN.slice(0, 40)}${TOKEN[40] === 'A' ? 'B' : 'A'}${TOKEN.slice(41)}`, /^error: token: /]
    ] as const) {
      const { code, stderr, stdout } = await meshctl(['install', '--dry-run'], { stdin: token })
      assert.equal(code, EXIT.refused, stderr)
      assert.equal(stdout, '')
      assert.match(stderr, message)
      assert.match(stderr, /\n {2}fix: /)
      assert.ok(!stderr.includes(token.slice(10)) || token === 'hello', 'a token is a secret')
    }
    const old = await meshctl(['install', '--dry-run'], { stdin: makeToken({ validSeconds: -10 }) })
    assert.equal(old.code, EXIT.ok, old.stderr)
  })

  it('checks settings as meshd would', async () => {
    for (const [setting, message] of [
      ['http-listn=0.0.0.0:9465', /meshd has no setting "http-listn"\n {2}fix: did you mean http-listen\?/],
      ['wireguard-port=0', /setting wireguard-port/],
      ['load-balancer=haproxy', /setting load-balancer/],
      ['device=too-long-for-a-device', /setting device/]
    ] as const) {
      const { code, stderr } = await meshctl(['install', '--dry-run', '--no-token', '--set', setting])
      assert.equal(code, EXIT.usage, stderr)
      assert.match(stderr, message)
    }
  })

  it('puts a setting in the place of what the manifests say in the environment, probes included', async () => {
    const { stdout } = await meshctl([
      'install',
      '--dry-run',
      '--json',
      '--no-token',
      '--set',
      'http-listen=0.0.0.0:9999'
    ])
    const { items } = JSON.parse(stdout) as { items: { kind: string }[] }
    const agent = JSON.stringify(items.find(({ kind }) => kind === 'DaemonSet'))
    assert.doesNotMatch(agent, /RHIZOME_HTTP_LISTEN/)
    assert.match(agent, /"readinessProbe":\{[^}]*"httpGet":\{"path":"\/readyz","port":9999\}/)
  })

  it('warns of a token on the command line', async () => {
    const { code, stderr } = await meshctl(['install', '--dry-run', '--token', TOKEN])
    assert.equal(code, EXIT.ok)
    assert.match(stderr, /shows in the process list/)
  })

  const wrong: readonly [readonly string[], number, RegExp][] = [
    [['install', '--dry-run'], EXIT.usage, /the text is empty\n {2}fix: make one with `meshctl invite/],
    [['install', '--no-token', '--dry-run', '-n', 'Mesh'], EXIT.usage, /--namespace: "Mesh".*\n {2}fix: /],
    [
      ['install', '--no-token', '--dry-run', '--set', 'x'],
      EXIT.usage,
      /--set: "x" is not key=value\n {2}fix: /
    ],
    [['install', '--no-token', '--dry-run', '--mode', 'star'], EXIT.usage, /gateway, nodes, mesh/],
    [['install', '--no-token', '--dry-run', '--cluster-dns', 'bind'], EXIT.usage, /auto, openshift, coredns/],
    [
      ['install', '--no-token', '--kubeconfig', '/nonexistent'],
      EXIT.failed,
      /kubeconfig cannot be used: there is no file \/nonexistent\n {2}fix: .*--kubeconfig/
    ],
    [['uninstall', '--kubeconfig', '/nonexistent'], EXIT.failed, /kubeconfig cannot be used/]
  ]
  for (const [args, exit, message] of wrong) {
    it(`says what is wrong with: ${args.join(' ')}`, async () => {
      const { code, stderr, stdout } = await meshctl(args)
      assert.match(stderr, message)
      assert.deepEqual([code, stdout], [exit, ''])
    })
  }

  it('says that a cluster cannot be reached, and asks before it removes anything', async () => {
    const kubeconfig = join(folder, 'kubeconfig')
    const name = 'x'
    writeFileSync(
      kubeconfig,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': name,
        clusters: [{ name, cluster: { server: 'https://127.0.0.1:1' } }],
        users: [{ name, user: {} }],
        contexts: [{ name, context: { cluster: name, user: name } }]
      })
    )
    const install = await meshctl(['install', '--no-token', '--kubeconfig', kubeconfig])
    assert.equal(install.code, EXIT.unreachable)
    assert.match(install.stderr, /cannot ask https:\/\/127\.0\.0\.1:1.*\n {2}fix: check the kubeconfig/)
    const uninstall = await meshctl(['uninstall', '--kubeconfig', kubeconfig])
    assert.equal(uninstall.code, EXIT.usage)
    assert.match(uninstall.stderr, /no terminal to ask on/)
    writeFileSync(join(folder, 'plain'), readFileSync(kubeconfig, 'utf8').replace('https:', 'http:'))
    const plain = await meshctl(['install', '--no-token', '--kubeconfig', join(folder, 'plain')])
    // As kubectl: a server without TLS is asked.
    assert.match(plain.stderr, /cannot ask http:\/\/127\.0\.0\.1:1/)
    const context = await meshctl(['uninstall', '--yes', '--kubeconfig', kubeconfig, '--context', 'other'])
    assert.match(context.stderr, /no context "other"/)
  })

  describe('with an API server', () => {
    let api: FakeApi
    before(async () => {
      api = await FakeApi.start()
      for (const path of ABSENT) api.fail('any', path, absent, Infinity)
    })
    after(() => api.close())

    const install = (...args: readonly string[]): Promise<Run> =>
      meshctl(['install', '--no-token', '--no-openshift', '--kubeconfig', api.kubeconfig, ...args])

    it('chooses the mode by all Nodes of a large cluster, which it reads page by page', async () => {
      for (let index = 0; index < 2000; index++) api.put(NODES, largeNode(index))
      const { code, stderr } = await install()
      assert.equal(code, EXIT.ok, stderr)
      assert.match(
        stderr,
        /1 of 2000 Nodes, such as node-1999, have no spec\.podCIDR, so the mode is gateway/
      )
      const sizes = api.requests.flatMap(
        (request) => /^list \/api\/v1\/nodes\?.*limit=(\d+)/.exec(request)?.[1] ?? []
      )
      assert.ok(sizes.length >= 10 && sizes.every((size) => Number(size) <= 200), sizes.join())
    })

    it('chooses the mode that works for the Nodes, says why, and counts no Node that cannot run an agent', async () => {
      const node = (
        name: string,
        podCIDR?: string,
        labels: Readonly<Record<string, string>> = {}
      ): FakeObject => ({
        metadata: { name, labels },
        spec: podCIDR === undefined ? {} : { podCIDR }
      })
      const linux = [node('a', '10.1.0.0/24'), node('b', '10.1.1.0/24')]
      const windows = node('w', undefined, { 'kubernetes.io/os': 'windows' })
      const gateway = node('g', '10.1.2.0/24', { 'rhizome.io/gateway': '' })
      const cases: readonly (readonly [readonly FakeObject[], readonly string[], string, RegExp])[] = [
        [[...linux, windows], [], 'mesh', /none is named as a gateway, so the mode is mesh/],
        [[...linux, windows], ['--gateway', 'a'], 'nodes', /Gateways are named \(a\), so the mode is nodes/],
        [[...linux, gateway], [], 'nodes', /Gateways are named \(g\)/],
        [
          [...linux, node('c')],
          ['--gateway', 'a'],
          'gateway',
          /1 of 3 Nodes, such as c, have no spec\.podCIDR/
        ],
        [[node('c'), windows], [], 'gateway', /The only Linux Node has no spec\.podCIDR/]
      ]
      for (const [nodes, args, mode, note] of cases) {
        const small = await FakeApi.start()
        for (const path of ABSENT) small.fail('any', path, absent, Infinity)
        for (const each of nodes) small.put(NODES, each)
        const { code, stderr } = await meshctl([
          'install',
          '--no-token',
          '--no-openshift',
          '--kubeconfig',
          small.kubeconfig,
          ...args
        ])
        const applied = small.requests.flatMap(
          (each) => /daemonsets\/(rhizome[-a-z]*)\?/.exec(each)?.[1] ?? []
        )
        await small.close()
        assert.equal(code, EXIT.ok, stderr)
        assert.match(stderr, note)
        assert.deepEqual(applied, mode === 'nodes' ? ['rhizome', 'rhizome-node'] : ['rhizome'], stderr)
      }
    })

    it('begins the list again when the token of the next page has expired', async () => {
      api.fail('page', NODES, refuse(410, 'The provided continue parameter is too old'))
      const { code, stderr } = await install()
      assert.equal(code, EXIT.ok, stderr)
      assert.match(stderr, /1 of 2000 Nodes/)
    })

    it('waits for each answer as long as --timeout says', async () => {
      const silent = await FakeApi.start()
      silent.fail('any', '*', () => {}, Infinity)
      const { code, stderr } = await meshctl([
        'install',
        '--no-token',
        '--kubeconfig',
        silent.kubeconfig,
        '--timeout',
        '1s'
      ])
      await silent.close()
      assert.match(stderr, /^error: cannot ask http:.*: no answer in 1000 ms/)
      assert.equal(code, EXIT.unreachable)
    })

    describe('with an installation in the namespace first', () => {
      let cluster: FakeApi
      const put = (base: string, kind: string, name: string, namespace: string | undefined): void => {
        const labels = { 'app.kubernetes.io/part-of': 'rhizome', 'app.kubernetes.io/managed-by': 'meshctl' }
        const metadata = { name, labels, ...(namespace === undefined ? {} : { namespace }) }
        cluster.put(`${base}/${kind}`, { metadata })
      }
      /** The requests for single objects, but for the question whether the agents are there. */
      const changes = (): string[] =>
        cluster.requests.filter(
          (request) =>
            /\/(?:rhizome[-\w]*|first|node-1)(?:\?|$)/.test(request) &&
            !request.includes('daemonsets/rhizome')
        )
      beforeEach(async () => {
        cluster = await FakeApi.start()
        for (const path of ABSENT)
          cluster.fail('any', path.replace('rhizome-system', 'typo'), absent, Infinity)
        cluster.put(NODES, { metadata: { name: 'node-1' }, spec: {} })
        put('/apis/rbac.authorization.k8s.io/v1', 'clusterroles', 'rhizome', undefined)
        put('/api/v1', 'namespaces', 'first', undefined)
      })
      afterEach(() => cluster.close())

      // Whatever is left of an installation shows that it is one.
      for (const [base, kind, name] of [
        ['/apis/apps/v1', 'daemonsets', 'rhizome'],
        ['/api/v1', 'serviceaccounts', 'rhizome'],
        ['/api/v1', 'secrets', 'rhizome-cluster-key']
      ] as const)
        for (const command of [
          ['uninstall', '--yes'],
          ['uninstall', '--yes', '--skip-hosts', '--keep-state'],
          ['install', '--no-token', '--no-openshift']
        ])
          it(`changes nothing with ${command.join(' ')} -n typo, for ${kind}/${name}`, async () => {
            put(base, kind, name, 'first')
            const { code, stderr } = await meshctl([
              ...command,
              '-n',
              'typo',
              '--kubeconfig',
              cluster.kubeconfig
            ])
            assert.match(
              stderr,
              /rhizome is installed in the namespace first; nothing was changed\n {2}fix: .*-n first/
            )
            assert.equal(code, EXIT.failed)
            assert.deepEqual(changes(), [])
          })

      it('removes one of two installations with its own objects only', async () => {
        for (const namespace of ['first', 'typo']) put('/api/v1', 'secrets', 'rhizome-cluster-key', namespace)
        put('/apis/rbac.authorization.k8s.io/v1', 'roles', 'rhizome-prefixes', 'kube-system')
        const { code, stderr } = await meshctl([
          'uninstall',
          '--yes',
          '-n',
          'typo',
          '--kubeconfig',
          cluster.kubeconfig
        ])
        assert.equal(code, EXIT.ok, stderr)
        assert.deepEqual(changes(), [
          'list /apis/coordination.k8s.io/v1/namespaces/typo/leases/rhizome-speaker?propagationPolicy=Background',
          'list /api/v1/namespaces/typo/secrets/rhizome-cluster-key?propagationPolicy=Background'
        ])
      })
    })

    it('removes the gateway label of all Nodes, page by page', async () => {
      const small = await FakeApi.start()
      for (const path of ABSENT) small.fail('any', path, absent, Infinity)
      for (let index = 0; index < 250; index++) small.put(NODES, largeNode(index))
      const { code, stderr } = await meshctl(['uninstall', '--yes', '--kubeconfig', small.kubeconfig])
      await small.close()
      assert.equal(code, EXIT.ok, stderr)
      assert.equal(small.count('list /api/v1/nodes/node-'), 250)
      assert.equal(small.count('list /api/v1/nodes?'), 3)
    })
  })
})

/** What a cluster without an installation does not have; the fake has an empty list at every path. */
const ABSENT = [
  '/api/v1/namespaces/rhizome-system',
  '/api/v1/namespaces/rhizome-system/configmaps/rhizome',
  '/apis/apps/v1/namespaces/rhizome-system/daemonsets/rhizome',
  '/apis/apps/v1/namespaces/rhizome-system/daemonsets/rhizome-node'
]

const absent: Fault = (request, response) =>
  request.method === 'PATCH' ? void response.end('{}') : refuse(404, 'not found')(request, response)

// Nodes of cloud providers have about this much: annotations, conditions and up to 50 images in status.
const PADDING = 'x'.repeat(20_000)

function largeNode(index: number): FakeObject {
  return {
    metadata: { name: `node-${index}`, annotations: { padding: PADDING } },
    spec: index === 1999 ? {} : { podCIDR: `10.${index >> 8}.${index & 255}.0/24` }
  }
}
