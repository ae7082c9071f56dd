// One cluster with two gateways on one real API server, with the chart's rights only, and one agent of another cluster: one key, one
// speaker, and a change of speaker of which the other cluster sees nothing but what differs.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseAllDocuments } from 'yaml'
import { build } from '../built.ts'
import type { PeersAnswer, ServicesAnswer, StatusAnswer } from '../../src/api/answers.ts'
import {
  clusterSecretData,
  readClusterSecret,
  type ClusterSecret
} from '../../src/core/trust/cluster-secret-data.ts'
import { admitCluster } from '../../src/core/trust/author/join.ts'
import { encodeItem, openItem } from '../../src/core/trust/set/form.ts'
import { APPLY_PATCH, fieldsAt, type KubeObject } from '../../src/core/kube/kube-api.ts'
import { pathOf } from '../../src/core/kube/install.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { podCidr, serviceCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { KUBE_LAB_BUILD_MS, kubeLab, startKubeApi, type KubeApi } from './support/kube-api.ts'

const crypto = createCrypto()
const NAMESPACE = 'rhizome-system'
const SECRET = `/api/v1/namespaces/${NAMESPACE}/secrets/rhizome-cluster-key`
const LEASE = `/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/rhizome-speaker`
// So many that sending all of them again could not be overlooked.
const SERVICES = 400
// A Lease runs out after 15 s; the machine may be busy.
const PATIENCE_MS = 60_000
// Between two looks at 400 services: a look costs two processes some milliseconds.
const LOOK_MS = 20
const NEEDED = new Set([
  'Namespace',
  'ServiceAccount',
  'ClusterRole',
  'ClusterRoleBinding',
  'Role',
  'RoleBinding',
  'Secret'
])

interface Gateway {
  readonly name: string
  readonly agent: LoopbackAgent
  readonly folder: string
  peerId: string
}

describe('two gateways of one cluster on a real API server', function () {
  let api: KubeApi
  let folder: string
  let west: LoopbackAgent
  let settings: Record<string, string>
  const gateways: Gateway[] = []
  let metricsPort: number

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    build()
    const lab = await kubeLab()
    folder = mkdtempSync(join(tmpdir(), 'rhizome-kube-gateways-'))
    api = await startKubeApi({ lab, serviceCidr: serviceCidr('east') })
    await install()
    await create('/api/v1/namespaces', { metadata: { name: 'shop' } })
    for (let start = 0; start < SERVICES; start += 20)
      await Promise.all(Array.from({ length: 20 }, (_, index) => addService(start + index)))
    metricsPort = 20_000 + Math.floor(Math.random() * 10_000)
    west = await LoopbackAgent.create(folder, 'west')
    await west.start({ 'http-listen': `127.0.0.1:${metricsPort}` })
    const prefixes = (cluster: 'west' | 'east') => [
      '--pod-cidr',
      podCidr(cluster),
      '--service-cidr',
      serviceCidr(cluster)
    ]
    await west.done('init', '--cluster', 'west', ...prefixes('west'))
    const token = (await west.done('invite', 'east', ...prefixes('east'))).stdout.trim()
    writeFileSync(join(folder, 'token'), token, { mode: 0o600 })
    settings = {
      source: 'kubernetes',
      kubeconfig: await api.kubeconfigFor(await api.serviceAccountToken(NAMESPACE, 'rhizome')),
      namespace: NAMESPACE
    }
  })

  after(async () => {
    await Promise.all([west?.stop(), ...gateways.map(({ agent }) => agent.stop())])
    await api?.stop()
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  // What each agent says of itself, and the end of its log, beside the failure.
  afterEach(async function () {
    if (this.currentTest?.state !== 'failed') return
    for (const agent of [west, ...gateways.map((each) => each.agent)]) {
      const status = await agent.done('status', '--json').catch((error: Error) => ({ stdout: error.message }))
      console.log(`      ${agent.socket}: ${status.stdout}\n${agent.tail}`)
    }
    console.log(JSON.stringify(await askWest<PeersAnswer>('peers').catch(String)))
  })

  it('that start together with one token come up with one key', async () => {
    for (const name of ['gw-1', 'gw-2']) gateways.push(await gateway(name))
    await Promise.all(gateways.map((each) => start(each, { 'token-file': join(folder, 'token') })))
    await Promise.all(gateways.map(joined))
    const found = await sharedKey()
    const seed = Buffer.from(found.clusterSeed).toString('base64')
    for (const each of gateways) {
      assert.equal(identityOf(each).clusterSeed, seed)
      assert.ok(!readFileSync(join(each.folder, 'meshd.log'), 'utf8').includes(seed))
    }
    await eventually(async () => (await sharedKey()).membership.kind === 'member', PATIENCE_MS)
  })

  it('are one cluster with two agents for the others, without a conflict, and have one Lease', async () => {
    await eventually(async () => {
      assert.deepEqual((await eastRows()).map(({ node }) => node).toSorted(), ['gw-1', 'gw-2'])
      return true
    }, PATIENCE_MS)
    const rows = await eastRows()
    assert.deepEqual(
      rows.filter(({ state }) => state === 'conflict'),
      []
    )
    assert.equal(new Set(rows.map(({ peerId }) => peerId)).size, 2)
    let holder = ''
    await eventually(async () => {
      ;({ holder } = await lease())
      return gateways.some(({ peerId }) => peerId === holder)
    }, PATIENCE_MS)
    await eventually(async () => (await eastServices()).length === SERVICES, PATIENCE_MS)
    // Each other's gateway is shown for what it is: no tunnel that is down.
    await eventually(async () => {
      const { peers } = await ask<PeersAnswer>(gateways[0] ?? assert.fail(), 'peers')
      assert.equal(peers.find(({ node }) => node === 'gw-2')?.state, 'off')
      return true
    }, PATIENCE_MS)
  })

  it('kill -9 of the speaker: the other takes its term, nothing is missed, and only what differs is sent', async () => {
    const catalogueBytes = (await calm()) / 2 // the speaker's, and the copy of the one that stands by
    assert.ok(catalogueBytes > 30_000, `${catalogueBytes} bytes are no catalogue`)
    const before = await lease()
    const [speaker, other] = split(before.holder)
    const idle = await idleRate()
    const [sinceMs, sinceBytes] = [performance.now(), await bytesIn()]
    const seconds = (): number => (performance.now() - sinceMs) / 1000
    let takenSeconds = 0
    const looks = await unseen(SERVICES, async () => {
      speaker.agent.kill()
      await eventually(async () => (await lease()).holder === other.peerId, PATIENCE_MS)
      takenSeconds = seconds()
      await seenInWest(SERVICES)
    })
    assert.equal((await lease()).term, before.term + 1)
    const sent = (await bytesIn()) - sinceBytes - idle * seconds()
    console.log(
      `      Lease with the other ${takenSeconds.toFixed(1)} s after the kill; ${looks} looks without a hole; ` +
        `received beyond idle ${Math.round(sent)} bytes, of a catalogue of ${Math.round(catalogueBytes)}`
    )
    assert.ok(sent < catalogueBytes / 5, `${sent} of ${catalogueBytes} bytes were sent`)
  })

  it('the old speaker returns: no hole, no duplicate, nothing sent twice; and the deleted Secret is back', async () => {
    const before = await lease()
    const [, old] = split(before.holder)
    const { peerId } = old
    await api.client.request({ method: 'DELETE', path: SECRET })
    const sinceBytes = await bytesIn()
    let received = 0
    const looks = await unseen(SERVICES + 1, async () => {
      await start(old)
      await joined(old)
      await eventually(async () => (await sharedKey()).membership.kind === 'member', PATIENCE_MS)
      received = (await calm()) - sinceBytes
    })
    assert.equal(old.peerId, peerId, 'it is who it was')
    assert.equal((await lease()).holder, before.holder, 'nobody takes a Lease that is kept')
    const rows = await eastServices()
    assert.equal(new Set(rows.map(({ namespace, name }) => `${namespace}/${name}`)).size, rows.length)
    await eventually(async () => (await eastRows()).length === 2, PATIENCE_MS)
    console.log(
      `      old speaker back: ${looks} looks without a hole; received ${received} bytes, the idle ones among them`
    )
  })

  it('a restart of one after the other hands the Lease over at once, and both are who they were', async () => {
    const peerIds = gateways.map(({ peerId }) => peerId)
    await unseen(SERVICES + 1, async () => {
      for (const each of gateways) {
        await each.agent.stop()
        const [, other] = split(each.peerId)
        await eventually(async () => (await lease()).holder === other.peerId, PATIENCE_MS)
        await start(each)
        await joined(each)
      }
      await eventually(async () => {
        const rows = await eastRows()
        return rows.length === 2 && rows.every(({ connected, lag }) => connected && lag === 0)
      }, PATIENCE_MS)
    })
    assert.deepEqual(
      gateways.map(({ peerId }) => peerId),
      peerIds
    )
  })

  it('a Lease that is lost with its holder does not start over below what was said', async () => {
    const before = await lease()
    const [speaker, other] = split(before.holder)
    await unseen(SERVICES + 1, async () => {
      speaker.agent.kill()
      await api.client.request({ method: 'DELETE', path: LEASE })
      await eventually(async () => (await lease()).holder === other.peerId, PATIENCE_MS)
      await seenInWest(SERVICES + 1)
    })
    const { term } = await lease()
    assert.ok(term > before.term, `${term} after ${before.term}`)
    await start(speaker)
    await joined(speaker)
  })

  it('an earlier admission in the Secret is taken by all, and the others see nothing of it', async () => {
    const shared = await sharedKey()
    const item = earlierAdmission(shared)
    const { membership } = shared
    assert.ok(membership.kind === 'member')
    const secret = (await api.client.request({ path: SECRET })) as KubeObject
    const data = clusterSecretData({ ...shared, membership: { ...membership, item } })
    await api.client.request({ method: 'PUT', path: SECRET, body: { ...secret, data } })
    await unseen(SERVICES + 2, async () => {
      // Who starts looks at once, and the others once a minute.
      for (const each of gateways) {
        await each.agent.stop()
        await start(each)
        await eventually(
          () => identityOf(each).clusterItem === Buffer.from(item).toString('base64'),
          PATIENCE_MS
        )
      }
      await eventually(async () => {
        const rows = await eastRows()
        return rows.length === 2 && rows.every(({ connected, lag }) => connected && lag === 0)
      }, PATIENCE_MS)
    })
    assert.deepEqual(
      (await eastRows()).filter(({ state }) => state === 'conflict'),
      []
    )
  })

  it('a third comes up without any token, once the API server answers, and leaves the key to the others when it leaves', async () => {
    const third = await gateway('gw-3')
    gateways.push(third)
    await api.kill()
    await start(third)
    await eventually(async () => {
      const { state, warnings } = await ask<StatusAnswer>(third, 'status')
      assert.equal(state, 'unjoined')
      return warnings.some((warning) => /^cluster key: .*ECONNREFUSED.*check the API server/.test(warning))
    }, PATIENCE_MS)
    await api.restart()
    await joined(third)
    await eventually(async () => (await eastRows()).length === 3, PATIENCE_MS)
    await eventually(async () => {
      assert.deepEqual((await ask<StatusAnswer>(third, 'status')).warnings, [])
      return true
    }, PATIENCE_MS)
    const before = await sharedKey()
    await third.agent.done('leave', '--yes')
    await eventually(async () => (await eastRows()).length === 2, PATIENCE_MS)
    assert.deepEqual((await sharedKey()).clusterSeed, before.clusterSeed)
    assert.equal((await eastServices()).length, SERVICES + 2)
  })

  // ------------------------------------------------------------------ words of these checks

  async function install(): Promise<void> {
    const documents = parseAllDocuments(readFileSync('deploy/manifests/kubernetes.yaml', 'utf8'))
    for (const document of documents) {
      const object = 'toJS' in document ? (document.toJS() as KubeObject | null) : null
      if (object === null || !NEEDED.has(object.kind)) continue
      await api.client.request({
        method: 'PATCH',
        path: pathOf(object),
        query: { fieldManager: 'test' },
        contentType: APPLY_PATCH,
        body: object
      })
    }
  }

  async function gateway(name: string): Promise<Gateway> {
    mkdirSync(join(folder, name))
    const agent = await LoopbackAgent.create(join(folder, name), 'east')
    return { name, agent, folder: join(folder, name, 'east'), peerId: '' }
  }

  function start({ name, agent }: Gateway, more: Readonly<Record<string, string>> = {}): Promise<void> {
    return agent.start({ ...settings, 'node-name': name, ...more })
  }

  async function joined(of: Gateway): Promise<void> {
    await eventually(async () => {
      const { state, peerId = '' } = await ask<StatusAnswer>(of, 'status')
      of.peerId = peerId
      return state === 'running'
    }, PATIENCE_MS)
  }

  /** The one with this PeerId, and the other. */
  function split(peerId: string): readonly [Gateway, Gateway] {
    const one = gateways.find((each) => each.peerId === peerId) ?? assert.fail(`${peerId} is no gateway`)
    return [one, gateways.find((each) => each !== one) ?? assert.fail('there is one gateway only')]
  }

  function identityOf({ folder: own }: Gateway): {
    readonly clusterSeed: string
    readonly clusterItem: string
  } {
    const file = JSON.parse(readFileSync(join(own, 'state/identity.json'), 'utf8')) as {
      identity: ReturnType<typeof identityOf>
    }
    return file.identity
  }

  async function sharedKey(): Promise<ClusterSecret> {
    const secret = (await api.client.request({ path: SECRET })) as KubeObject
    const found = readClusterSecret(fieldsAt(secret, 'data'), crypto)
    if (found.kind !== 'secret') assert.fail(`the Secret is ${found.kind}`)
    return found.secret
  }

  /** Another admission of the key of east by west, which comes first by its place and its id. */
  function earlierAdmission({ roots, membership }: ClusterSecret): Uint8Array {
    assert.ok(membership.kind === 'member')
    const opened = openItem({ crypto, roots }, membership.item)
    assert.ok(opened.kind === 'item')
    const certItem = encodeItem(opened.statements.slice(0, -1).map(({ envelope }) => envelope))
    const file = JSON.parse(readFileSync(join(folder, 'west/state/identity.json'), 'utf8')) as {
      readonly identity: { readonly clusterSeed: string }
    }
    const sponsorSeed = new Uint8Array(Buffer.from(file.identity.clusterSeed, 'base64'))
    const { seen, id } = membership.place
    // The id depends on the time: each second earlier is another draw, and one of two is smaller on average.
    for (let time = Math.floor(Date.now() / 1000); ; time--) {
      const made = admitCluster({ crypto, roots }, { certItem, sponsorSeed, seen, time })
      if (made.id < id) return made.item
    }
  }

  async function lease(): Promise<{ readonly holder: string; readonly term: number }> {
    const { spec } = (await api.client.request({ path: LEASE })) as {
      spec: { holderIdentity: string; leaseTransitions: number }
    }
    return { holder: spec.holderIdentity, term: spec.leaseTransitions }
  }

  async function eastRows(): Promise<PeersAnswer['peers']> {
    const { peers } = await askWest<PeersAnswer>('peers')
    return peers.filter(({ cluster }) => cluster === 'east')
  }

  async function eastServices(): Promise<ServicesAnswer['services']> {
    const { services } = await askWest<ServicesAnswer>('services')
    return services.filter(({ cluster }) => cluster === 'east')
  }

  /** Does this while west's view is looked at again and again: no look may find fewer services than these. Returns the count of looks. */
  async function unseen(atLeast: number, act: () => Promise<void>): Promise<number> {
    const ended = new AbortController()
    let [looks, holes] = [0, 0]
    const loop = (async () => {
      while (!ended.signal.aborted) {
        looks++
        if ((await eastServices()).length < atLeast) holes++
        await pause(LOOK_MS)
      }
    })()
    try {
      await act()
    } finally {
      ended.abort()
      await loop
    }
    assert.equal(holes, 0, `${holes} holes in ${looks} looks`)
    assert.ok(looks > 4, `${looks} looks`)
    return looks
  }

  /** A further service, the `count`th but for one, and west's view of it. */
  async function seenInWest(count: number): Promise<void> {
    await addService(count)
    await eventually(async () => (await eastServices()).length === count + 1, PATIENCE_MS)
  }

  async function bytesIn(): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
    return Number(
      /^rhizome_frames_bytes_total\{direction="in"\} (\d+)/m.exec(text)?.[1] ?? assert.fail('no metric')
    )
  }

  /** Bytes received once next to nothing more comes: the copy of who stands by has arrived, too. */
  async function calm(): Promise<number> {
    let bytes = await bytesIn()
    for (let quiet = 0; quiet < 12;) {
      await new Promise((resolve) => {
        setTimeout(resolve, 1000) // a rate takes time to measure
      })
      const now = await bytesIn()
      quiet = now - bytes < 4000 ? quiet + 1 : 0
      bytes = now
    }
    return bytes
  }

  /** Bytes a second of pings and heads. */
  async function idleRate(): Promise<number> {
    const [sinceMs, since] = [performance.now(), await bytesIn()]
    await new Promise((resolve) => {
      setTimeout(resolve, 3000)
    })
    return ((await bytesIn()) - since) / ((performance.now() - sinceMs) / 1000)
  }

  function askWest<T>(path: string): Promise<T> {
    return askSocket(join(folder, 'west/meshd.sock'), path)
  }

  function ask<T>({ folder: own }: Gateway, path: string): Promise<T> {
    return askSocket(join(own, 'meshd.sock'), path)
  }

  function create(path: string, body: object): Promise<unknown> {
    return api.client.request({ method: 'POST', path, body })
  }

  async function addService(index: number): Promise<void> {
    const name = `web-${index}`
    await create('/api/v1/namespaces/shop/services', {
      metadata: { name },
      spec: { ports: [{ name: 'http', port: 80 }] }
    })
    await create('/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices', {
      metadata: { name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080 }],
      endpoints: [{ addresses: [`10.2.${index >> 8}.${index & 255}`], conditions: { ready: true } }]
    })
  }
})

/** What `meshctl <path> --json` prints, without the cost of a process. */
function askSocket<T>(socketPath: string, path: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path: `/v1/${path}`, timeout: 10_000 }, (response) => {
      let text = ''
      response.on('data', (chunk) => (text += String(chunk)))
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(text) as T)
        else reject(new Error(`${path}: ${text}`))
      })
    })
    asked.on('error', reject)
    asked.on('timeout', () => asked.destroy(new Error(`no answer to ${path}`)))
    asked.end()
  })
}
