// An API server that fails a real agent in every way that issue-trackers know, seen from another cluster: what its agent holds, what its
// load balancer would have, what CoreDNS on its feed answers. Nothing goes that should stay, what was deleted meanwhile goes once
// the API is back, the agent never ends, and its status says what is wrong for as long as it is.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { PlanAnswer, ServicesAnswer, StatusAnswer } from '../../src/api/answers.ts'
import { MERGE_PATCH } from '../../src/core/kube/kube-api.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { command, podCidr, serviceCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { build } from '../built.ts'
import { done, look, ROOT } from '../scenarios/harness.ts'
import { addressesOf, startCoredns, type RunningCoredns } from './support/coredns.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'
import { COLLECTION, createShop } from './support/kube-shop.ts'
import { Relay } from './support/relay.ts'

const SERVICES = COLLECTION.Service('shop')
const SLICES = COLLECTION.EndpointSlice('shop')
const NAMESPACE = 'rhizome-system'
const BINDINGS = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings'
const ACCOUNT = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/rhizome`
// A Lease is given up 10 s after its last renewal; a reflector that failed for half a minute waits as long as that at most.
const NOTICED_MS = 40_000
/** How much longer the API stays silent: KUBE_OUTAGE_SECONDS=300 for minutes. */
const LONGER_MS = Number(process.env['KUBE_OUTAGE_SECONDS'] ?? 0) * 1000
/** An API server writes some dozens of objects when it starts: history that is older than that is behind. */
const WRITES_AHEAD = 100
// A little more than a reflector waits for an API that returns old data.
const LEAP_MS = 61_000

describe('an API server that fails, seen from another cluster', function () {
  this.bail(true) // each begins where the one before ended
  let api: KubeApi
  let relay: Relay
  let folder: string
  let west: LoopbackAgent
  let edge: LoopbackAgent
  let coredns: RunningCoredns
  let settings: Readonly<Record<string, string>>
  let env: Readonly<Record<string, string>>
  let pid: number | undefined

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    build()
    folder = mkdtempSync(join(tmpdir(), 'rhizome-outages-'))
    // As control planes that restart without a hole have it: watches are ended in order.
    const flags = ['--shutdown-watch-termination-grace-period=10s']
    api = await startKubeApi({ lab: await kubeLab(), serviceCidr: serviceCidr('west'), flags })
    relay = await Relay.start({ host: '127.0.0.1', port: 0 }, { host: '127.0.0.1', port: portOf(api.url) })
    await createShop(api.client, 'west')
    await post('/api/v1/nodes', { metadata: { name: 'n1' } })
    const install = ['install', '--no-token', '--kubeconfig', api.kubeconfig]
    await done(command([join(ROOT, 'bin/meshctl'), ...install]))
    settings = { source: 'kubernetes', kubeconfig: join(folder, 'kubeconfig'), namespace: NAMESPACE }
    await giveToken()
    west = await LoopbackAgent.create(folder, 'west')
    edge = await LoopbackAgent.create(folder, 'edge')
    const preload = join(import.meta.dirname, 'support/leaping-clock.ts')
    env = { NODE_OPTIONS: `--import=${preload}`, CLOCK_LEAP_MS: String(LEAP_MS) }
    await Promise.all([west.start(settings, env), edge.start()])
    pid = west.pid
    await west.done('init', '--cluster', 'west', '--pod-cidr', podCidr('west'))
    const prefixes = ['--pod-cidr', podCidr('edge'), '--service-cidr', serviceCidr('edge')]
    const token = (await west.done('invite', 'edge', ...prefixes)).stdout.trim()
    await edge.done('join', token)
    coredns = await startCoredns(
      (port) =>
        `cluster.west:${port} {\n kubernetes cluster.west {\n endpoint ${edge.feedUrl}/clusters/west\n ttl 0\n }\n}`,
      'cluster.west'
    )
    await wellAgain()
  })

  after(async () => {
    await Promise.all([west?.stop(), edge?.stop()])
    relay?.stop()
    await Promise.all([api?.stop(), coredns?.stop()])
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  it('killed, and started again', async () => {
    const doomed = await seenService('killed')
    await undisturbed(async () => {
      await api.kill()
      await says(/disconnected/)
      await api.deleteFromEtcd(`/registry/services/specs/shop/${doomed}`)
    })
    await api.restart()
    await follows(doomed)
  })

  it('restarted behind its load balancer, with the history gone that the watches would resume from', async () => {
    const doomed = await seenService('compacted')
    await undisturbed(async () => {
      relay.set('held')
      await api.shutDown()
      await api.deleteFromEtcd(`/registry/services/specs/shop/${doomed}`)
    })
    await api.restart({ compact: true })
    relay.set('open')
    await follows(doomed)
  })

  it('unreachable, with connections that neither pass a byte nor end', async function () {
    this.timeout(600_000 + LONGER_MS)
    const doomed = await seenService('unreachable')
    await undisturbed(async () => {
      relay.set('silent')
      await remove(`${SERVICES}/${doomed}`)
      // The watches wait for the silence of two missed bookmarks; the Lease notices first, and then nobody speaks for west.
      await says(/lease: .*no answer in/)
      await eventually(() => west.tail.includes('leader=false'), NOTICED_MS)
      await pause(LONGER_MS)
    })
    relay.set('open')
    await follows(doomed)
  })

  it('returning old data, and then the newest again', async () => {
    const late = await seenService('old-data')
    await api.backup()
    await wellAgain()
    await remove(`${SERVICES}/${late}`)
    const newer = await seenService('newer')
    for (let write = 0; write < WRITES_AHEAD; write++) await touch(`${SERVICES}/${newer}`)
    await eventually(async () => !(await view()).has(`shop/${late}`))
    await undisturbed(async () => {
      await api.exchange()
      await says(/has version \d+, which is older than version \d+/)
    })
    await api.exchange()
    await remove(`${SERVICES}/${newer}`)
    await follows(newer)
  })

  it('returning old data for a minute: its etcd was restored, and that is what counts now', async () => {
    const lost = await seenService('lost')
    for (let write = 0; write < WRITES_AHEAD; write++) await touch(`${SERVICES}/${lost}`)
    await undisturbed(async () => {
      await api.exchange()
      const kinds = ['namespaces', 'nodes', 'services', 'endpointslices']
      await says(
        new RegExp(
          kinds.map((kind) => `(?=.*/${kind}: the server has version \\d+, which is older)`).join('')
        )
      )
    })
    process.kill(pid ?? assert.fail('west does not run'), 'SIGUSR2')
    await eventually(async () => {
      const names = new Set((await view()).keys())
      assert.ok(names.has('shop/old-data'), 'what the backup has is back')
      assert.ok(!names.has(`shop/${lost}`), 'what it has not is gone')
      return true
    }, NOTICED_MS)
    await remove(`${SERVICES}/old-data`)
    await follows('old-data')
  })

  it('that takes the role away, and gives it back', async () => {
    const doomed = await seenService('forbidden')
    const { metadata, ...binding } = (await api.client.request({ path: `${BINDINGS}/rhizome` })) as {
      metadata: { name: string; labels: object }
    }
    await undisturbed(async () => {
      await remove(`${BINDINGS}/rhizome`)
      relay.cut()
      await says(/403/)
      await remove(`${SERVICES}/${doomed}`)
    })
    await post(BINDINGS, { ...binding, metadata: { name: metadata.name, labels: metadata.labels } })
    await follows(doomed)
  })

  it('that revokes the token, until another is in its place', async () => {
    const doomed = await seenService('revoked')
    await undisturbed(async () => {
      await remove(ACCOUNT)
      // It believes a token that it has seen for ten seconds, and one that it never saw not at all.
      await api.restart()
      await says(/401/)
      await remove(`${SERVICES}/${doomed}`)
    })
    await giveToken()
    await follows(doomed)
  })

  it('away while the agent itself is killed and started', async () => {
    const doomed = await seenService('both')
    await undisturbed(async () => {
      await api.kill()
      west.kill()
      await west.stop()
      await api.deleteFromEtcd(`/registry/services/specs/shop/${doomed}`)
      await west.start(settings, env)
      pid = west.pid
      await says(/disconnected/)
      const { addresses } = await west.resolve('web.shop.svc.cluster.edge')
      assert.deepEqual(addresses, ['10.103.0.10'])
    })
    await api.restart()
    await follows(doomed)
  })

  /** A new service with an endpoint, once all of it is known in edge. */
  async function seenService(name: string): Promise<string> {
    await post(SERVICES, { metadata: { name }, spec: { ports: [{ port: 80 }] } })
    await post(SLICES, {
      metadata: { name, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ port: 8080 }],
      endpoints: [{ addresses: ['10.1.0.99'] }]
    })
    await eventually(async () => /1 of 1/.test((await view()).get(`shop/${name}`) ?? ''))
    return name
  }

  /** The doomed service goes, a new one comes, nothing else changes, and all is said to be well. */
  async function follows(doomed: string): Promise<void> {
    const before = await view()
    before.delete(`shop/${doomed}`)
    await eventually(async () => {
      assert.deepEqual(await view(), before)
      return true
    }, NOTICED_MS)
    await eventually(async () => (await addressesOf(coredns.port, nameOf(doomed))) === 'NXDOMAIN')
    await wellAgain()
    const next = await seenService(`after-${doomed}`)
    await eventually(async () => (await addressesOf(coredns.port, nameOf(next))).startsWith('10.101.'))
    assert.equal(west.pid, pid)
  }

  /** Each watch has told something, too: one that has not counts as a failure, and the next pause is longer than the last. */
  async function wellAgain(): Promise<void> {
    await says(/^$/)
    for (const path of ['/api/v1/nodes/n1', '/api/v1/namespaces/shop']) await touch(path)
  }

  /** Nothing at all changes in edge while this is done: looked at all the time, and once more after it. */
  async function undisturbed(act: () => Promise<void>): Promise<void> {
    const [before, web] = [await view(), await addressesOf(coredns.port, nameOf('web'))]
    assert.equal(web, '10.101.0.10')
    let looks = 0
    const looked = async (): Promise<void> => {
      assert.deepEqual(await view(), before)
      assert.equal(await addressesOf(coredns.port, nameOf('web')), web)
      looks++
    }
    const acting = { done: false }
    const watching = (async () => {
      while (!acting.done) {
        await looked()
        await new Promise((resolve) => {
          setTimeout(resolve, 50)
        })
      }
    })()
    await Promise.all([
      watching,
      act().finally(() => {
        acting.done = true
      })
    ])
    await looked()
    assert.ok(looks > 1)
    assert.equal(west.pid, pid)
  }

  /** Of west, as edge has it: every service with its endpoints, and the backends that its load balancer would have. */
  async function view(): Promise<Map<string, string>> {
    const [{ services }, { steps }] = await Promise.all([
      look<ServicesAnswer>(edge, 'services'),
      look<PlanAnswer>(edge, 'plan')
    ])
    const servers = steps.flatMap(({ op }) => (op.kind === 'setVirtualServer' ? [op.virtualServer] : []))
    return new Map(
      services
        .filter(({ cluster }) => cluster === 'west')
        .map(({ namespace, name, clusterIps, ready, endpoints }) => {
          const backends = servers
            .filter(({ vip }) => clusterIps.includes(vip))
            .map(({ port, realServers }) => `${port}→${realServers.map(({ ip }) => ip).join('+')}`)
          return [`${namespace}/${name}`, `${ready} of ${endpoints} ${backends.join(' ')}`]
        })
    )
  }

  /** All that status has to complain about. */
  async function says(what: RegExp): Promise<void> {
    await eventually(async () => {
      const { source, warnings } = await look<StatusAnswer>(west, 'status')
      const text = [...source.problems.map(({ message }) => message), ...warnings].join('; ')
      assert.match(text, what)
      return true
    }, NOTICED_MS)
  }

  /** A service account that is made anew where it is missing; its token in the agent's kubeconfig, which names the relay. */
  async function giveToken(): Promise<void> {
    const file = await api.kubeconfigFor(await api.serviceAccountToken(NAMESPACE, 'rhizome'))
    const text = readFileSync(file, 'utf8').replaceAll(api.url, `https://127.0.0.1:${relay.port}`)
    writeFileSync(settings['kubeconfig'] ?? '', text, { mode: 0o600 })
  }

  function post(path: string, body: object): Promise<unknown> {
    return api.client.request({ method: 'POST', path, body })
  }

  function remove(path: string): Promise<unknown> {
    return api.client.request({ method: 'DELETE', path })
  }

  function touch(path: string): Promise<unknown> {
    const body = { metadata: { annotations: { touched: String(Math.random()) } } }
    return api.client.request({ method: 'PATCH', path, body, contentType: MERGE_PATCH })
  }
})

function nameOf(service: string): string {
  return `${service}.shop.svc.cluster.west`
}

function portOf(url: string): number {
  return Number(new URL(url).port)
}
