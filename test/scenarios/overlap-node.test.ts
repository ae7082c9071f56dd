// A cluster with virtual prefixes that has two gateways and a node: both gateways translate in the same way, and the node, which
// sends its packets through one of them, does not translate at all. A gateway loses power, and the other carries both ways.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StatusAnswer } from '../../src/api/answers.ts'
import { serviceIp } from '../demo/checks.ts'
import { NodeHost } from '../demo/node-host.ts'
import type { PodReply } from '../demo/pod.ts'
import { podCidr, serviceCidr, wanAddress, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { done, init, look, raise } from './harness.ts'

const DEADLINE_MS = 60_000
const NODE = { address: '203.0.113.14', net: '10.3.1' } as const
const REAL = ['--real-pod-cidr', podCidr('edge'), '--real-service-cidr', serviceCidr('edge')]
const TRANSLATED = { '10.128.0.0/16': podCidr('edge'), '10.192.0.0/16': serviceCidr('edge') }
/** The node's pod and the service on it, as west knows them. */
const [POD, WEB] = ['10.128.1.11', '10.192.0.77']

// The host `east` is the second gateway of the cluster edge.
describe('a translated cluster with two gateways and a node', function () {
  const { site, world } = raise('overlap-node', ['west', 'edge', 'east'], { start: false })
  const west = (): Site => site('west')
  const gateways = ['edge', 'east'] as const
  let node: NodeHost

  before(async () => {
    node = await NodeHost.raise(world(), 'edge', 'node', NODE)
    // What a network plugin does: each host has routes to the pods of the others.
    const via = async (host: Pick<Site['gateway'], 'exec'>, net: string, to: string) =>
      host.exec(['ip', 'route', 'add', net, 'via', to])
    await via(node.namespace, '10.3.0.0/24', wanAddress('edge'))
    await via(site('edge').gateway, `${NODE.net}.0/24`, NODE.address)
    await via(site('east').gateway, '10.3.0.0/24', wanAddress('edge'))
    await via(site('east').gateway, `${NODE.net}.0/24`, NODE.address)
    for (const host of [node.namespace, ...gateways.map((gateway) => site(gateway).gateway)])
      await via(host, 'default', '203.0.113.1')
    announcePodOfNode()
    await Promise.all([west().start(), startGateway('edge'), startGateway('east')])
    await init(west())
    const token = (await done(west().ctl('invite', 'edge', ...REAL))).stdout.trim()
    await done(site('edge').ctl('join', token, ...REAL))
    await done(site('east').ctl('join', await gatewayToken()))
    await node.start()
    await done(node.ctl('join', await gatewayToken()))
  })
  after(() => node?.stop('SIGTERM'))

  it('all agents of the cluster have the pairs, which came with the key', async () => {
    for (const agent of [site('edge'), site('east'), node]) {
      const { translated } = await look<StatusAnswer>(agent, 'status')
      assert.deepEqual(translated, TRANSLATED)
    }
  })

  it('the pod of the node and west reach each other, and west knows it by its virtual address', async () => {
    await bothWays()
    assert.equal(clientOf(await node.pod.tcp('web.shop.svc.cluster.west', 80)), POD)
    assert.equal(clientOf(await node.pod.udp('telemetry.platform.svc.cluster.west', 8125)), POD)
    const { address } = west().pod(0)
    assert.equal(clientOf(await west().pod(0).udp(POD, 9125)), address)
    await eventually(async () => clientOf(await west().pod(0).tcp(WEB, 80)) === address, DEADLINE_MS)
  })

  it('the gateways translate, and the node does not', async () => {
    const table = async ({ exec }: Pick<Site['gateway'], 'exec'>) =>
      (await exec(['nft', 'list', 'table', 'inet', 'rhizome-filter'])).stdout
    for (const gateway of gateways)
      assert.match(await table(site(gateway).gateway), /snat ip prefix to 10\.128\.0\.0\/16/)
    assert.doesNotMatch(await table(node.namespace), /prefix to/)
  })

  it('each gateway in turn loses power: the other one carries both ways', async () => {
    for (const gateway of gateways) {
      await site(gateway).powerOff()
      await bothWays()
      await site(gateway).gateway.exec(['ip', 'link', 'set', 'wan0', 'up'])
      await startGateway(gateway)
      const net = gateway === 'edge' ? [] : ['10.3.0.0/24']
      for (const cidr of net)
        await site(gateway).gateway.exec(['ip', 'route', 'replace', cidr, 'via', wanAddress('edge')])
      await site(gateway).gateway.exec(['ip', 'route', 'replace', `${NODE.net}.0/24`, 'via', NODE.address])
      await bothWays()
    }
  })

  // ------------------------------------------------------------------ words of these checks

  function startGateway(gateway: (typeof gateways)[number]): Promise<void> {
    const second = ['--manifests', site('edge').manifests, '--node-name', 'edge-2', '--balance-local', 'off']
    return site(gateway).start(
      ...(gateway === 'edge' ? ['--node-name', 'edge-1', '--node-prefixes', '10.3.0.0/24'] : second)
    )
  }

  async function gatewayToken(): Promise<string> {
    return (await done(site('edge').ctl('invite', '--gateway'))).stdout.trim()
  }

  /** Within the deadline, the pod of the node is answered by west, and answers west, by TCP and with virtual addresses. */
  async function bothWays(): Promise<void> {
    await eventually(async () => {
      assert.equal(clientOf(await node.pod.tcp(serviceIp.west, 80, { timeoutMs: 500 })), POD)
      const reply = await west().pod(0).tcp(POD, 8080, { timeoutMs: 500 })
      assert.equal(clientOf(reply), west().pod(0).address)
      return true
    }, DEADLINE_MS)
  }

  /** A service of the cluster edge with the node's pod as its only endpoint. */
  function announcePodOfNode(): void {
    writeFileSync(
      join(site('edge').manifests, 'on-node.yaml'),
      `apiVersion: v1
kind: Service
metadata: { name: on-node, namespace: shop }
spec: { clusterIP: 10.103.0.77, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: on-node-1, namespace: shop, labels: { kubernetes.io/service-name: on-node } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: [${NODE.net}.11], conditions: { ready: true } }]
`
    )
  }

  function clientOf({ answers, error }: PodReply): string {
    assert.equal(error, undefined)
    return answers[0]?.client.replace('::ffff:', '') ?? 'nobody'
  }
})
