// A cluster of two nodes, a gateway on each, and another cluster: real kernels, real tunnels, one real API server. Every pod reaches and
// is reached by the gateway of its own node; what no node claims goes through one of them, and through the other when that one is gone.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { podAddress, serviceCidr, wanAddress, type Site } from '../demo/site.ts'
import { serviceIp } from '../demo/checks.ts'
import { eventually } from '../eventually.ts'
import { done, init, inStep, look, raise } from '../scenarios/harness.ts'
import type { PeersAnswer, StatusAnswer } from '../../src/api/answers.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'
import { COLLECTION } from './support/kube-shop.ts'

// 10.2.0.0/24 on the host east, 10.3.0.0/24 on the host edge.
const POD_CIDR = '10.2.0.0/15'
const NODES = ['east', 'edge'] as const
const VIPS = { east: '10.102.7.1', edge: '10.102.7.2' }
// src/core/host/tunnel-state.ts gives a silent tunnel 15 s, and looks are a second apart; the machine may be busy.
const FAILOVER_MS = 60_000

describe('the gateways of a cluster, with traffic', function () {
  const { site } = raise('gateways', ['west', ...NODES], { start: false })
  const west = (): Site => site('west')
  let api: KubeApi
  const keys = new Map<string, string>()

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    api = await startKubeApi({
      lab: await kubeLab(),
      serviceCidr: serviceCidr('east'),
      namespace: site('east').gateway
    })
    await bringApi(site('edge'))
    await create('/api/v1/namespaces', { metadata: { name: 'shop' } })
    for (const node of NODES) {
      const cidr = podAddress(node, 0).replace(/\d+$/, '0/24')
      await create('/api/v1/nodes', {
        metadata: { name: `${node}-gw` },
        spec: { podCIDR: cidr, podCIDRs: [cidr] }
      })
      await create(COLLECTION.Service('shop'), {
        metadata: { name: node },
        spec: { clusterIP: VIPS[node], ports: [{ name: 'tcp', port: 80, targetPort: 8080 }] }
      })
      await create(COLLECTION.EndpointSlice('shop'), {
        metadata: { name: `${node}-1`, labels: { 'kubernetes.io/service-name': node } },
        addressType: 'IPv4',
        ports: [{ name: 'tcp', port: 8080 }],
        endpoints: [{ addresses: [podAddress(node, 0)], conditions: { ready: true } }]
      })
      // The cluster's own network between its nodes.
      const other = node === 'east' ? 'edge' : 'east'
      const route = [podAddress(other, 0).replace(/\d+$/, '0/24'), 'via', wanAddress(other)]
      await site(node).gateway.exec(['ip', 'route', 'add', ...route])
    }
    await west().start()
    await init(west())
    const prefixes = ['--pod-cidr', POD_CIDR, '--service-cidr', serviceCidr('east')]
    const token = (await done(west().ctl('invite', 'east', ...prefixes))).stdout.trim()
    for (const node of NODES) await site(node).start(...kubernetes())
    await done(site('east').ctl('join', token))
    await eventually(
      async () => (await look<StatusAnswer>(site('edge'), 'status')).state === 'running',
      30_000
    )
    await eventually(async () => (await carriers()).size === 2, 30_000)
  })

  after(() => api?.stop())

  it('each pod reaches and is reached, on both nodes, with its own address', async () => {
    for (const node of NODES) {
      const [from, to] = [west().pod(0), site(node).pod(0)]
      await eventually(async () => {
        const { answers } = await from.tcp(VIPS[node], 80, { timeoutMs: 500 })
        assert.deepEqual(answers, [{ pod: to.name, client: from.address }])
        return true
      }, 30_000)
      await eventually(async () => {
        const { answers } = await to.tcp(serviceIp.west, 80, { timeoutMs: 500 })
        assert.equal(answers[0]?.client, to.address)
        return true
      }, 30_000)
    }
    await inStep(west())
  })

  it('every prefix has one peer: a node’s the gateway there, the cluster’s one of them, the same each time', async () => {
    await proven()
    const before = await carriers()
    const all = [...before.values()].flat()
    assert.equal(all.length, new Set(all).size, all.join(' '))
    for (const node of NODES)
      assert.ok((await carried(node)).includes(podAddress(node, 0).replace(/\d+$/, '0/24')))
    assert.equal(all.filter((prefix) => prefix === POD_CIDR).length, 1)
    await west().stop('SIGKILL')
    await west().start()
    await inStep(west(), 30_000)
    await eventually(async () => {
      assert.deepEqual(await carriers(), before)
      return true
    }, 30_000)
  })

  it('one loses power: the other carries its prefixes, and its own flows feel nothing; it comes back, and gets them back', async () => {
    await proven()
    const [gone, stays] = (await carried('east')).includes(POD_CIDR) ? NODES : NODES.toReversed()
    assert.ok(gone !== undefined && stays !== undefined)
    const before = await carriers()
    const ended = new AbortController()
    let [asked, failed] = [0, 0]
    const asking = (async () => {
      while (!ended.signal.aborted) {
        asked++
        const { error } = await west().pod(0).tcp(VIPS[stays], 80, { timeoutMs: 2000 })
        if (error !== undefined) failed++
      }
    })()
    const sinceMs = performance.now()
    let movedMs = 0
    try {
      await site(gone).powerOff()
      await eventually(async () => (await carried(stays)).includes(POD_CIDR), FAILOVER_MS)
      movedMs = performance.now() - sinceMs
      const own = podAddress(gone, 0).replace(/\d+$/, '0/24')
      await eventually(async () => !(await carried(gone)).includes(own), FAILOVER_MS)
      await site(gone).gateway.exec(['ip', 'link', 'set', 'wan0', 'up'])
      await site(gone).start(...kubernetes())
      await eventually(async () => {
        assert.deepEqual(await carriers(), before)
        return true
      }, FAILOVER_MS)
    } finally {
      ended.abort()
      await asking
    }
    console.log(
      `      prefix with the other gateway ${(movedMs / 1000).toFixed(1)} s after the power was lost; ${asked} requests to its own pods, ${failed} failed`
    )
    assert.equal(failed, 0)
    assert.ok(asked > 20)
  })

  // ------------------------------------------------------------------ words of these checks

  function kubernetes(): string[] {
    return ['--source', 'kubernetes', '--kubeconfig', api.kubeconfig]
  }

  /** Both tunnels have answered, and what follows from it is done. */
  async function proven(): Promise<void> {
    await eventually(async () => {
      const { peers } = await look<PeersAnswer>(west(), 'peers')
      const rows = peers.filter(({ cluster }) => cluster === 'east')
      return rows.length === 2 && rows.every(({ state, rttMs }) => state === 'up' && rttMs !== undefined)
    }, 30_000)
    await inStep(west(), 30_000)
  }

  /** Peer of west's device → its allowed prefixes, without the addresses for probes. */
  async function carriers(): Promise<ReadonlyMap<string, readonly string[]>> {
    const { stdout } = await west().gateway.exec(['wg', 'show', west().device, 'allowed-ips'])
    const rows = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(/\s+/))
    return new Map(
      rows.map(([key = '', ...prefixes]) => [key, prefixes.filter((each) => !each.endsWith('/32')).sort()])
    )
  }

  async function carried(node: (typeof NODES)[number]): Promise<readonly string[]> {
    const key =
      keys.get(node) ?? (await look<StatusAnswer>(site(node), 'status')).wireguardKey ?? assert.fail()
    keys.set(node, key) // the agent may be gone when it is asked for again
    return (await carriers()).get(key) ?? []
  }

  function create(path: string, body: object): Promise<unknown> {
    return api.client.request({ method: 'POST', path, body })
  }

  /** The API server's port on this host's loopback, too. */
  async function bringApi({ gateway }: Site): Promise<void> {
    const { port } = new URL(api.url)
    const program = `import { connect, createServer } from 'node:net'
createServer((near) => {
  const far = connect(${JSON.stringify(join(api.folder, `${port}.sock`))})
  for (const [a, b] of [[near, far], [far, near]]) a.on('error', () => b.destroy()).pipe(b)
}).listen(${port}, '127.0.0.1')`
    gateway.spawn([process.execPath, '--input-type=module', '-e', program])
  }
})
