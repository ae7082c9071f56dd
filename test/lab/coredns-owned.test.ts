// An agent that owns a real CoreDNS: it writes the Corefile, CoreDNS reads it again, and names follow the clusters of the mesh.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { build } from '../built.ts'
import type { StatusAnswer } from '../../src/api/answers.ts'
import { WRITTEN_BY } from '../../src/core/coredns/corefile.ts'
import { putCorefile, tellCoredns } from '../../src/io/coredns/corefile-file.ts'
import { LoopbackAgent } from '../demo/loopback-agent.ts'
import { CLUSTERS, podCidr, serviceCidr, type Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { freePort } from '../ports.ts'
import { addressesOf, labProgram, runCoredns, type RunningCoredns } from './support/coredns.ts'
import { startInformers } from './support/informers.ts'
import { KUBE_LAB_BUILD_MS } from './support/kube-api.ts'

// The agent looks every second, CoreDNS every two; then the plugin lists, block after block. After an outage client-go waits for up to
// half a minute before it asks again.
const RELOAD_MS = 60_000
const WEB: Readonly<Record<Cluster, string>> = {
  west: '10.101.0.10',
  east: '10.102.0.10',
  edge: '10.103.0.10'
}

describe('a CoreDNS that the agent owns', function () {
  const agents = new Map<Cluster, LoopbackAgent>()
  let folder: string
  let file: string
  let port: number
  let settings: Readonly<Record<string, string>>
  let coredns: RunningCoredns
  let watch: { readonly stop: () => Promise<readonly string[]> }

  before(async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    await labProgram('coredns')
    build()
    folder = mkdtempSync(join(tmpdir(), 'rhizome-owned-'))
    mkdirSync(join(folder, 'coredns'))
    file = join(folder, 'coredns', 'Corefile')
    port = await freePort()
    settings = { corefile: file, 'corefile-listen': `127.0.0.1:${port}` }
    for (const cluster of CLUSTERS) agents.set(cluster, await LoopbackAgent.create(folder, cluster))
    await agentOf('west').start(settings)
    await agentOf('east').start()
    await agentOf('edge').start()
    await eventually(() => readFileSync(file, 'utf8') !== '')
    watch = watchTexts(file)
    coredns = await runCoredns({ file, port, probe: 'cluster.all' })
  })

  after(async () => {
    await watch?.stop()
    await Promise.all([...agents.values()].map((agent) => agent.stop()))
    await coredns?.stop()
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  it('has a Corefile without zones before there is a mesh, and with them when there is', async () => {
    assert.deepEqual(zones(), ['.'])
    const west = agentOf('west')
    await west.done(
      'init',
      '--cluster',
      'west',
      '--pod-cidr',
      podCidr('west'),
      '--service-cidr',
      serviceCidr('west')
    )
    await unite('east')
    await answers('web.shop.svc.cluster.east', WEB.east)
    await answers('web.shop.svc.cluster.west', WEB.west)
    await answers('web.shop.svc.cluster.all', `${WEB.west} ${WEB.east}`)
    assert.deepEqual(zones(), ['cluster.east', 'cluster.west', 'cluster.all', 'clusterset.local', '.'])
  })

  it('answers for a third cluster soon after it has joined, and for the others all the while', async () => {
    const failures: string[] = []
    let asked = 0
    const joined = new AbortController()
    const asking = (async () => {
      while (!joined.signal.aborted) {
        // CoreDNS resets what it has just accepted over TCP when it reloads: no answer, and no wrong one.
        const answer = await addressesOf(port, 'web.shop.svc.cluster.east').catch(() => WEB.east)
        if (answer !== WEB.east) failures.push(answer)
        asked++
      }
    })()
    try {
      await unite('edge')
      const began = performance.now()
      await answers('web.shop.svc.cluster.edge', WEB.edge)
      await answers('web.shop.svc.cluster.all', `${WEB.west} ${WEB.east} ${WEB.edge}`)
      console.log(`      joined → answer of CoreDNS: ${Math.round(performance.now() - began)} ms`)
    } finally {
      joined.abort()
      await asking
    }
    assert.ok(asked > 100)
    assert.deepEqual(failures, [], `of ${asked} answers`)
  })

  it('leaves the file alone while services come and go', async () => {
    // The zones of reverse names come with the prefixes of the cluster, which may be a moment after its services.
    await eventually(
      () => /103\.10\.in-addr\.arpa.* 3\.10\.in-addr\.arpa/.test(readFileSync(file, 'utf8')),
      RELOAD_MS
    )
    const [before, text] = [statSync(file), readFileSync(file, 'utf8')]
    writeFileSync(join(agentOf('edge').manifests, 'late.yaml'), LATE)
    await answers('late.shop.svc.cluster.edge', 'late.example.org')
    assert.equal(readFileSync(file, 'utf8'), text)
    const after = statSync(file)
    assert.deepEqual([after.ino, after.mtimeMs], [before.ino, before.mtimeMs])
  })

  it('keeps its zones and its file when the agent is killed and comes back, and so do informers of the feed', async () => {
    const west = agentOf('west')
    const informers = await startInformers(`${west.feedUrl}/clusters/edge`)
    try {
      await eventually(() => informers.synced, RELOAD_MS)
      const before = statSync(file)
      west.kill()
      rmSync(join(agentOf('edge').manifests, 'late.yaml'))
      assert.equal(await addressesOf(port, 'web.shop.svc.cluster.edge'), WEB.edge)
      await west.start(settings)
      await answers('late.shop.svc.cluster.edge', 'NXDOMAIN')
      assert.equal(statSync(file).ino, before.ino)
      const said = async (): Promise<readonly string[]> => {
        const list = await fetch(`${west.feedUrl}/clusters/edge/api/v1/services`)
        const { items } = (await list.json()) as {
          items: { metadata: { namespace: string; name: string } }[]
        }
        return items.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).sort()
      }
      await eventually(async () => {
        const { Service } = await informers.caches()
        assert.deepEqual(Object.keys(Service.objects).sort(), await said())
        assert.ok(!('shop/late' in Service.objects))
        return true
      }, RELOAD_MS)
    } finally {
      await informers.stop()
    }
  })

  it('has no zone of a cluster that left, and none in no mesh', async () => {
    await agentOf('edge').done('leave', '--yes')
    await eventually(() => !zones().includes('cluster.edge'), RELOAD_MS)
    await answers('web.shop.svc.cluster.all', `${WEB.west} ${WEB.east}`)
    await agentOf('west').done('leave', '--yes', '--force')
    await eventually(() => zones().join() === '.', RELOAD_MS)
    await answers('web.shop.svc.cluster.east', 'SERVFAIL')
  })

  it('was never read half written', async () => {
    const texts = await watch.stop()
    assert.ok(texts.length >= 4, `${texts.length} texts`)
    for (const text of texts) {
      assert.ok(text.startsWith(`${WRITTEN_BY}\n`), text)
      assert.match(text, /^\.:\d+ \{\n( {4}.*\n)+\}\n$(?![\s\S])/m)
    }
  })

  it('is warned of, and the agent goes on, where the file cannot be written or is somebody else’s', async () => {
    const agent = agentOf('edge')
    await agent.stop()
    const path = join(folder, 'later', 'Corefile')
    await agent.start({ corefile: path, 'corefile-listen': '127.0.0.1:53' })
    await eventually(async () =>
      (await warnings(agent)).some((text) => text.includes(`${path} cannot be written`))
    )
    mkdirSync(join(folder, 'later'))
    writeFileSync(path, '. {\n    whoami\n}\n')
    await eventually(async () =>
      (await warnings(agent)).some((text) => text.includes(`${path} was not written by this agent`))
    )
    rmSync(path)
    await eventually(async () => (await warnings(agent)).every((text) => !text.startsWith('corefile')))
    assert.ok(readFileSync(path, 'utf8').startsWith(WRITTEN_BY))
  })

  async function unite(cluster: Cluster): Promise<void> {
    const prefixes = ['--pod-cidr', podCidr(cluster), '--service-cidr', serviceCidr(cluster)]
    const token = (await agentOf('west').done('invite', cluster, ...prefixes)).stdout.trim()
    await agentOf(cluster).done('join', token)
  }

  function agentOf(cluster: Cluster): LoopbackAgent {
    return agents.get(cluster) ?? assert.fail(`no agent of ${cluster}`)
  }

  /** The first zone of each block, in the file as it is. */
  function zones(): readonly string[] {
    return [...readFileSync(file, 'utf8').matchAll(/^(\S+):\d+ .*\{$/gm)].map(([, zone = '']) => zone)
  }

  async function answers(name: string, expected: string): Promise<void> {
    await eventually(async () => {
      assert.equal(await addressesOf(port, name), expected, name)
      return true
    }, RELOAD_MS)
  }
})

describe('a CoreDNS with a pid file', function () {
  it('reads its Corefile again at once when it is told, without the plugin reload', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'rhizome-told-'))
    const [file, pidFile, port] = [join(folder, 'Corefile'), join(folder, 'pid'), await freePort()]
    const text = (address: string): string =>
      `${WRITTEN_BY}\n.:${port} {\n    hosts {\n        ${address} told.test\n    }\n}\n`
    let coredns: RunningCoredns | undefined
    try {
      await putCorefile(file, text('10.0.0.1'))
      coredns = await runCoredns({ file, port, pidFile, probe: 'told.test' })
      assert.equal(await addressesOf(port, 'told.test'), '10.0.0.1')
      await putCorefile(file, text('10.0.0.2'))
      assert.equal(await tellCoredns(pidFile), true)
      await eventually(async () => (await addressesOf(port, 'told.test')) === '10.0.0.2')
    } finally {
      await coredns?.stop()
      rmSync(folder, { recursive: true, force: true })
    }
  })
})

async function warnings(agent: LoopbackAgent): Promise<readonly string[]> {
  return (JSON.parse((await agent.done('status', '--json')).stdout) as StatusAnswer).warnings
}

/** Every text that the file is found to have, read as often as this process can. */
function watchTexts(path: string): { readonly stop: () => Promise<readonly string[]> } {
  const texts = new Set<string>()
  const stopping = new AbortController()
  const reading = (async () => {
    while (!stopping.signal.aborted) {
      texts.add(readFileSync(path, 'utf8'))
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  return {
    async stop() {
      stopping.abort()
      await reading
      return [...texts]
    }
  }
}

const LATE = `apiVersion: v1
kind: Service
metadata: { name: late, namespace: shop }
spec: { type: ExternalName, externalName: late.example.org }
`
