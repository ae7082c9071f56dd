// From an API server to traffic: three clusters, each a real API server, a gateway with a real tunnel and load balancer, and pods.
// What is written to the API of one is what a pod of another reaches.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { KubeClient } from '../../src/io/kube/client.ts'
import { serviceIp } from '../demo/checks.ts'
import type { PodReply } from '../demo/pod.ts'
import { CLUSTERS, podAddress, serviceCidr, type Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { inStep, raise, status, unite } from '../scenarios/harness.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'
import { COLLECTION, createShop } from './support/kube-shop.ts'

const SERVICES = COLLECTION.Service('shop')
const SLICES = COLLECTION.EndpointSlice('shop')
const CHANGES = 30
const AIM_BEYOND_WATCH_MS = 150
const FEED_PORT = 948
const VIP = '10.101.7.7'
const NAME = 'who.shop.svc.cluster.west'

describe('three clusters, from the API server to the traffic', function () {
  const { world, site } = raise('kube', CLUSTERS, { start: false })
  const apis = new Map<Cluster, KubeApi>()
  let client: KubeClient

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    const lab = await kubeLab()
    await Promise.all(
      CLUSTERS.map(async (cluster) => {
        const { gateway } = site(cluster)
        const api = await startKubeApi({ lab, serviceCidr: serviceCidr(cluster), namespace: gateway })
        apis.set(cluster, api)
        await createShop(api.client, cluster)
        const router = podAddress(cluster, 0).replace(/\d+$/, '1')
        const source = ['--source', 'kubernetes', '--kubeconfig', api.kubeconfig]
        await site(cluster).start(...source, '--feed-listen', `${router}:${FEED_PORT}`)
      })
    )
    client = apis.get('west')?.client ?? assert.fail('no API in west')
    await unite(site('west'), site('east'), site('edge'))
    await startClusterDns(lab.coredns)
  })

  after(() => Promise.all([...apis.values()].map((api) => api.stop())))

  it('a pod reaches what the API of another cluster was told, by address and by name', async () => {
    const body = {
      metadata: { name: 'who' },
      spec: {
        clusterIP: VIP,
        ports: [
          { name: 'tcp', port: 80, targetPort: 8080 },
          { name: 'udp', port: 9000, targetPort: 9125, protocol: 'UDP' }
        ]
      }
    }
    await client.request({ method: 'POST', path: SERVICES, body })
    await client.request({ method: 'POST', path: SLICES, body: slice(0) })
    const from = site('edge').pod(0)
    const answeredBy = async (ask: () => Promise<PodReply>): Promise<void> => {
      await eventually(async () => {
        assert.deepEqual((await ask()).answers, [{ pod: 'west-a', client: from.address }])
        return true
      })
    }
    await answeredBy(() => from.tcp(VIP, 80, { timeoutMs: 500 }))
    await answeredBy(() => from.tcp(NAME, 80, { timeoutMs: 2000 }))
    await answeredBy(() => from.udp(NAME, 9000, { timeoutMs: 2000 }))
  })

  it('new connections go where the API says, soon after it says so', async () => {
    const from = site('edge').pod(0)
    const watch = new PlainWatch(client)
    await watch.opened
    for (const cluster of CLUSTERS) await inStep(site(cluster))
    const times: { watch: number; remote: number }[] = []
    for (let change = 0; change < CHANGES; change++) {
      const index = 1 - (change % 2)
      const to = site('west').pod(index)
      const lastPass = await passOf('edge')
      const seen = watch.seen(to.address)
      const began = performance.now()
      await client.request({
        method: 'PATCH',
        path: `${SLICES}/who-1`,
        body: { endpoints: slice(index).endpoints },
        contentType: 'application/merge-patch+json'
      })
      await eventually(async () => (await from.tcp(VIP, 80, { timeoutMs: 500 })).answers[0]?.pod === to.name)
      times.push({ remote: performance.now() - began, watch: (await seen) - began })
      const { answers } = await from.tcp(VIP, 80, { count: 20 })
      assert.deepEqual([...new Set(answers.map(({ pod }) => pod))], [to.name])
      await eventually(async () => (await from.udp(VIP, 9000)).answers[0]?.pod === to.name)
      // One change at a time: none waits for the end of the pass before, which also ends the UDP flows to the old backend.
      await eventually(async () => (await passOf('edge')) !== lastPass)
    }
    watch.stop()
    const beyond = times.map(({ remote, watch }) => remote - watch)
    console.log(
      [
        `      API write in west → a plain watch: ${shown(times.map(({ watch }) => watch))}`,
        `      API write in west → a pod in edge answered by the new backend: ${shown(times.map(({ remote }) => remote))}`,
        `      beyond the watch: ${shown(beyond)}: ${(at(beyond, 0.99) / AIM_BEYOND_WATCH_MS).toFixed(2)} of the aim of ${AIM_BEYOND_WATCH_MS} ms`
      ].join('\n')
    )
  })

  it('a service without endpoints, and one that is deleted, refuses; all others stay', async () => {
    const [from, nearer] = [site('edge').pod(0), site('east').pod(0)]
    const refused = () =>
      eventually(async () => {
        for (const pod of [from, nearer])
          assert.equal((await pod.tcp(VIP, 80, { timeoutMs: 500 })).error, 'ECONNREFUSED')
        return true
      })
    await client.request({ method: 'DELETE', path: `${SLICES}/who-1` })
    await refused()
    assert.deepEqual((await from.resolve(NAME)).addresses, [VIP])
    await client.request({ method: 'DELETE', path: `${SERVICES}/who` })
    await eventually(async () => (await from.resolve(NAME)).error === 'ENOTFOUND')
    await refused()
    for (const cluster of CLUSTERS) {
      for (const other of CLUSTERS.filter((each) => each !== cluster)) {
        const { answers, error } = await site(cluster).pod(1).tcp(serviceIp[other], 80)
        assert.equal(error, undefined, `${cluster} → ${other}`)
        assert.equal(answers[0]?.client, podAddress(cluster, 1))
      }
    }
    for (const cluster of CLUSTERS) await inStep(site(cluster))
  })

  async function passOf(cluster: Cluster): Promise<string | undefined> {
    return (await status(site(cluster))).lastPass?.at
  }

  /** CoreDNS as the stock `kubernetes` plugin has it, in a pod of edge, on the feed of the gateway; another pod asks it. */
  async function startClusterDns(coredns: string): Promise<void> {
    const { lab, folder } = world()
    const zones = [...CLUSTERS, 'all'].map(
      (cluster) =>
        `cluster.${cluster}:53 {\n kubernetes cluster.${cluster} {\n endpoint http://10.3.0.1:${FEED_PORT}/clusters/${cluster}\n ttl 0\n }\n}`
    )
    const corefile = join(folder, 'Corefile')
    writeFileSync(corefile, zones.join('\n'))
    const server = await lab.namespace('edge-c')
    server.spawn([coredns, '-conf', corefile], { stdio: 'ignore' })
    await lab.resolvConf(await lab.namespace('edge-a'), `nameserver ${podAddress('edge', 2)}\n`)
  }
})

/** What anybody hears of the slice from the API server, with the same client and over the same way as the writes. */
class PlainWatch {
  readonly opened: Promise<void>
  readonly #ended = new AbortController()
  #waiting: { readonly address: string; readonly tell: (ms: number) => void } | undefined

  constructor(client: KubeClient) {
    const opened = Promise.withResolvers<void>()
    this.opened = opened.promise
    client
      .watch({
        path: SLICES,
        query: { watch: '1', fieldSelector: 'metadata.name=who-1' },
        silenceMs: 60_000,
        signal: this.#ended.signal,
        onOpen: opened.resolve,
        onEvent: (event) => {
          if (this.#waiting !== undefined && JSON.stringify(event).includes(`"${this.#waiting.address}"`))
            this.#waiting.tell(performance.now())
        }
      })
      .catch(opened.reject) // once it stands this says nothing
  }

  /** When an event first names this address, on the clock of performance.now(). */
  seen(address: string): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<number>()
    this.#waiting = { address, tell: resolve }
    return promise
  }

  stop(): void {
    this.#ended.abort()
  }
}

function slice(pod: number) {
  return {
    metadata: { name: 'who-1', labels: { 'kubernetes.io/service-name': 'who' } },
    addressType: 'IPv4',
    ports: [
      { name: 'tcp', port: 8080 },
      { name: 'udp', port: 9125, protocol: 'UDP' }
    ],
    endpoints: [{ addresses: [podAddress('west', pod)], conditions: { ready: true } }]
  }
}

function shown(times: readonly number[]): string {
  return `p50 ${at(times, 0.5).toFixed(0)} ms, p99 ${at(times, 0.99).toFixed(0)} ms, of ${times.length}`
}

function at(times: readonly number[], share: number): number {
  return times.toSorted((a, b) => a - b)[Math.ceil((times.length - 1) * share)] ?? 0
}
