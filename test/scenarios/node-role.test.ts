// A cluster with two gateways and a node that is no gateway: the pods of the node reach the other cluster and are reached,
// through a gateway of their own cluster, with the addresses of clients kept. A gateway dies, and the other carries them.
import assert from 'node:assert/strict'
import type { PeersAnswer, StatusAnswer } from '../../src/api/answers.ts'
import { serviceIp } from '../demo/checks.ts'
import { GATEWAYS, NodeCluster, WEB_OF_NODE } from '../demo/node-cluster.ts'
import type { NodeHost } from '../demo/node-host.ts'
import type { PodReply } from '../demo/pod.ts'
import { podAddress, wanAddress, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { done, look, raise } from './harness.ts'

const FAILOVER_MS = 60_000
const TELEMETRY = 'telemetry.platform.svc.cluster.west'

// The host `east` is the second gateway of the cluster edge.
describe('a node that is no gateway', function () {
  const { site, world } = raise('nodes', ['west', 'edge', 'east'], { start: false })
  const west = (): Site => site('west')
  const gateways = GATEWAYS
  let cluster: NodeCluster
  let node: NodeHost

  before(async () => {
    cluster = await NodeCluster.unite(world())
    node = cluster.node
  })
  after(() => node?.stop('SIGTERM'))

  it('is a leaf: connected to the gateways of its cluster only, and a WireGuard peer of these only', async () => {
    await eventually(async () => {
      const { peers } = await look<PeersAnswer>(node, 'peers')
      const connected = peers.filter((row) => row.connected && row.state !== 'self')
      assert.deepEqual(new Set(connected.map((row) => row.cluster)), new Set(['edge']))
      assert.equal(connected.length, 2)
      assert.ok(
        peers.filter((row) => row.cluster === 'edge' && row.state === 'up').length === 2,
        JSON.stringify(peers.map(({ cluster, node: name, state, reason }) => [cluster, name, state, reason]))
      )
      return true
    }, FAILOVER_MS)
    const keyOfNode = (await look<StatusAnswer>(node, 'status')).wireguardKey ?? 'none'
    const peersOf = async (of: Site) =>
      (await of.gateway.exec(['wg', 'show', of.device, 'peers'])).stdout.trim().split('\n')
    assert.equal((await peersOf(west())).length, 2)
    assert.ok(!(await peersOf(west())).includes(keyOfNode))
    for (const gateway of gateways) assert.ok((await peersOf(site(gateway))).includes(keyOfNode))
  })

  it('its pod reaches the other cluster by service address and name, by TCP and UDP, with its own address', async () => {
    await reachesWest()
    for (const host of [serviceIp.west, 'web.shop.svc.cluster.west'])
      assert.equal(clientOf(await node.pod.tcp(host, 80)), node.pod.address)
    assert.equal(clientOf(await node.pod.udp(TELEMETRY, 8125)), node.pod.address)
    const { addresses } = await node.pod.resolve(TELEMETRY)
    assert.equal(clientOf(await node.pod.udp(addresses[0] ?? '', 8125)), node.pod.address)
    assert.equal(clientOf(await node.pod.tcp(podAddress('west', 1), 8080)), node.pod.address)
  })

  it('a pod of the other cluster reaches its pod directly and by a service, with its own address', async () => {
    await isReached()
    const { address } = west().pod(0)
    assert.equal(clientOf(await west().pod(0).tcp(node.pod.address, 8080)), address)
    assert.equal(clientOf(await west().pod(0).udp(node.pod.address, 9125)), address)
    await eventually(async () => clientOf(await west().pod(0).tcp(WEB_OF_NODE, 80)) === address, FAILOVER_MS)
  })

  it('leaves the traffic between the nodes to the network plugin', async () => {
    // Without the routes of the plugin, the pods of one cluster do not reach each other: the tunnel takes none of it.
    assert.equal(clientOf(await node.pod.tcp(podAddress('edge', 0), 8080)), node.pod.address)
    assert.equal(clientOf(await site('edge').pod(0).tcp(node.pod.address, 8080)), podAddress('edge', 0))
    const cut = ['ip', 'route', 'del', '10.3.0.0/24']
    await node.namespace.exec(cut)
    assert.notEqual((await node.pod.tcp(podAddress('edge', 0), 8080, { timeoutMs: 1000 })).error, undefined)
    await node.namespace.exec(['ip', 'route', 'add', '10.3.0.0/24', 'via', wanAddress('edge')])
    assert.equal(clientOf(await node.pod.tcp(podAddress('edge', 0), 8080)), node.pod.address)
  })

  it('the gateway that carries it dies: the other one carries it, both ways, until it is back', async () => {
    const first = (await cluster.carrier()) ?? assert.fail()
    const sinceMs = performance.now()
    await site(first).powerOff()
    await Promise.all([reachesWest(), isReached()])
    console.log(
      `      both ways by the other one after ${((performance.now() - sinceMs) / 1000).toFixed(1)} s`
    )
    assert.notEqual(await cluster.carrier(), first)
    const watch = longestGap()
    await cluster.powerOn(first)
    await eventually(async () => (await cluster.carrier()) === first, FAILOVER_MS)
    await new Promise((resolve) => setTimeout(resolve, 5000))
    const { gapMs, failed } = await watch.stop()
    console.log(
      `      back: the longest time without an answer was ${(gapMs / 1000).toFixed(1)} s (${failed} failed)`
    )
    await Promise.all([reachesWest(), isReached()])
    assert.equal(clientOf(await node.pod.tcp(serviceIp.west, 80)), node.pod.address)
  })

  it('its agent is killed: its pods are served, and so they are after the start', async () => {
    await node.stop('SIGKILL')
    assert.equal(clientOf(await node.pod.tcp(serviceIp.west, 80)), node.pod.address)
    assert.equal(clientOf(await west().pod(0).tcp(node.pod.address, 8080)), west().pod(0).address)
    await node.start()
    await Promise.all([reachesWest(), isReached()])
  })

  it('becomes a gateway: what it had as a node is gone, here and on its gateways', async () => {
    await node.stop('SIGTERM')
    await node.start('--role', 'gateway')
    await hasNoNode()
    await eventually(async () => {
      const { stdout } = await node.namespace.exec(['ip', 'rule', 'show', 'pref', '5141'])
      const { stdout: addresses } = await node.namespace.exec(['ip', '-o', 'address', 'show', node.device])
      assert.equal(stdout, '')
      assert.ok(!addresses.includes('169.254.'), addresses)
      return true
    }, FAILOVER_MS)
    await Promise.all([reachesWest(), isReached()])
    const { stdout } = await west().gateway.exec(['wg', 'show', west().device, 'peers'])
    assert.equal(stdout.trim().split('\n').length, 3)
  })

  it('becomes a node again, and leaves nothing on the gateways when it leaves', async () => {
    await node.stop('SIGTERM')
    await node.start()
    await eventually(async () => {
      const { stdout } = await west().gateway.exec(['wg', 'show', west().device, 'peers'])
      assert.equal(stdout.trim().split('\n').length, 2)
      return true
    }, FAILOVER_MS)
    await Promise.all([reachesWest(), isReached()])
    await done(node.ctl('leave', '--yes'))
    await hasNoNode()
  })

  // ------------------------------------------------------------------ words of these checks

  function clientOf({ answers, error }: PodReply): string {
    assert.equal(error, undefined)
    return answers[0]?.client.replace('::ffff:', '') ?? 'nobody'
  }

  async function reachesWest(): Promise<void> {
    await eventually(async () => {
      const { error } = await node.pod.tcp(serviceIp.west, 80, { timeoutMs: 500 })
      assert.equal(error, undefined, `node → west: ${error}\n${await shown()}`)
      return true
    }, FAILOVER_MS)
  }

  async function isReached(): Promise<void> {
    await eventually(async () => {
      const { error } = await west().pod(0).tcp(node.pod.address, 8080, { timeoutMs: 500 })
      assert.equal(error, undefined, `west → node: ${error}\n${await shown()}`)
      return true
    }, FAILOVER_MS)
  }

  /** No gateway has a trace of a node. */
  async function hasNoNode(): Promise<void> {
    for (const gateway of gateways)
      await eventually(async () => {
        const { gateway: host, device } = site(gateway)
        const { stdout: rules } = await host.exec(['ip', 'rule', 'show', 'pref', '5141'])
        const { stdout: routes } = await host.exec(['ip', 'route', 'show', 'table', 'all', 'proto', '142'])
        const { stdout: peers } = await host.exec(['wg', 'show', device, 'allowed-ips'])
        assert.equal(rules, '')
        assert.ok(!routes.includes('10.3.1.'), routes)
        assert.ok(!peers.includes('10.3.1.'), peers)
        return true
      }, FAILOVER_MS)
  }

  /** Asks west without a pause until `stop`, which tells the longest time between two answers. */
  function longestGap(): { stop(): Promise<{ gapMs: number; failed: number }> } {
    const ended = new AbortController()
    let [gapMs, failed, lastMs] = [0, 0, performance.now()]
    const loop = (async () => {
      while (!ended.signal.aborted) {
        const { error } = await node.pod.tcp(serviceIp.west, 80, { timeoutMs: 300 })
        if (error !== undefined) failed++
        else {
          gapMs = Math.max(gapMs, performance.now() - lastMs)
          lastMs = performance.now()
        }
      }
    })()
    return {
      async stop() {
        ended.abort()
        await loop
        return { gapMs, failed }
      }
    }
  }

  /** For a failure: what the node has in its kernel. */
  async function shown(): Promise<string> {
    const run = async (...argv: readonly string[]) =>
      (await node.namespace.exec(argv, { check: false })).stdout
    return [
      await run('wg', 'show', node.device, 'allowed-ips'),
      await run('ip', 'rule'),
      await run('ip', 'route', 'show', 'table', '5142'),
      await run('ip', 'route', 'show', 'table', '5143')
    ].join('\n')
  }
})
