// The product on real Kubernetes nodes: two clusters of two nodes each (kubelet, containerd, kube-proxy, CoreDNS), installed with the chart in the
// mode "nodes", where one node is the gateway and the other one reaches the other cluster through it.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { eventually } from '../eventually.ts'
import type { PodReply, PodRequest } from '../demo/pod.ts'
import { requireLab } from './support/require.ts'
import type { LabNode } from './support/nodes/node.ts'
import { NODE_PROGRAMS_BUILD_MS, nodesImpossible } from './support/nodes/programs.ts'
import { NAMES, serviceAddress, World, type ClusterName } from './support/nodes/world.ts'

// Until the tunnels stand and the zones are in CoreDNS of both clusters.
const REACHED_MS = 120_000

interface KubePod {
  readonly name: string
  readonly cluster: ClusterName
  readonly node: LabNode
  readonly address: string
}

// The nodes need what a user's machine may not have (cgroup v1). All other tests hold there, so this suite is left out in words.
const impossible = nodesImpossible()
if (impossible !== undefined) console.error(`LEFT OUT: real Kubernetes nodes: ${impossible}`)

;(impossible === undefined ? describe : leftOut)('real Kubernetes nodes', function () {
  let world: World
  let pods: readonly KubePod[]
  const former = new Map<string, string>()

  before(async function () {
    this.timeout(NODE_PROGRAMS_BUILD_MS)
    requireLab(this)
    execFileSync(process.execPath, ['build/bundle.ts'])
    world = await World.raise('kubelets')
    pods = (await Promise.all(NAMES.map(podsOf))).flat()
    for (const node of nodes()) former.set(node.name, await networkOf(node))
    await world.join()
  })
  after(async () => {
    if (world === undefined) return
    const seconds = nodes().reduce((sum, node) => sum + node.processorSeconds(), 0)
    console.log(`      processor time of the four nodes and their containers: ${seconds.toFixed(0)} s`)
    await world.close()
  })

  it('every pod reaches every pod, with its own address', async () => {
    for (const from of pods)
      for (const to of pods.filter((each) => each !== from))
        await eventually(async () => {
          const reply = await ask(from, { host: to.address })
          assert.deepEqual(
            reply.answers,
            [{ pod: to.name, client: from.address }],
            `${from.name} → ${to.name}: ${reply.error}`
          )
          return true
        }, REACHED_MS)
  })

  it('every pod reaches the service of the other cluster by address and by name, by TCP and UDP', async () => {
    for (const from of pods) {
      const there = otherThan(from.cluster)
      for (const host of [serviceAddress(there), `web.shop.svc.cluster.${there}`])
        for (const [kind, port] of [
          ['tcp', 80],
          ['udp', 9125]
        ] as const)
          await eventually(async () => {
            const reply = await ask(from, { kind, host, port, count: 12 })
            assert.equal(reply.error, undefined, `${from.name} → ${kind} ${host}`)
            assert.deepEqual(
              new Set(reply.answers.map(({ client }) => client)),
              new Set([from.address]),
              `${from.name} → ${kind} ${host}`
            )
            // Of the service's two pods, one is on the gateway and one on the other node.
            assert.equal(new Set(reply.answers.map(({ pod }) => pod)).size, 2)
            return true
          }, REACHED_MS)
    }
  })

  it('the clusterset IP of a service that both clusters export leads to the endpoints of both, by TCP and UDP', async () => {
    const webExport = {
      apiVersion: 'multicluster.x-k8s.io/v1beta1',
      kind: 'ServiceExport',
      metadata: { name: 'web', namespace: 'shop' }
    }
    await Promise.all(NAMES.map((name) => world.cluster(name).create([webExport])))
    const addresses = pods.map(({ address }) => address).sort()
    for (const name of NAMES)
      await eventually(async () => {
        assert.deepEqual(await mirroredAddresses(name), addresses)
        return true
      }, REACHED_MS)
    for (const from of pods) {
      const ip = await clustersetIp(from.cluster)
      for (const host of [ip, 'web.shop.svc.clusterset.local'])
        for (const [kind, port] of [
          ['tcp', 80],
          ['udp', 9125]
        ] as const)
          await eventually(async () => {
            const reply = await ask(from, { kind, host, port, count: 24 })
            assert.equal(reply.error, undefined, `${from.name} → ${kind} ${host}`)
            assert.deepEqual(
              new Set(reply.answers.map(({ pod }) => pod)),
              new Set(pods.map(({ name }) => name)),
              `${from.name} → ${kind} ${host}`
            )
            return true
          }, REACHED_MS)
    }
  })

  it('uninstalling leaves rules, routes, devices and tables as they were', async () => {
    await world.uninstall()
    for (const node of nodes()) assert.equal(await networkOf(node), former.get(node.name), node.name)
  })

  // ------------------------------------------------------------------ words of these checks

  function nodes(): readonly LabNode[] {
    return NAMES.flatMap((name) => world.cluster(name).nodes)
  }

  async function podsOf(cluster: ClusterName): Promise<readonly KubePod[]> {
    const { stdout } = await world.cluster(cluster).kubectl(['-n', 'shop', 'get', 'pods', '-o', 'json'])
    const { items } = JSON.parse(stdout) as {
      items: { metadata: { name: string }; spec: { nodeName: string }; status: { podIP: string } }[]
    }
    return items.map(({ metadata, spec, status }) => ({
      name: metadata.name,
      cluster,
      node: world.cluster(cluster).node(spec.nodeName),
      address: status.podIP
    }))
  }

  async function clustersetIp(cluster: ClusterName): Promise<string> {
    const { stdout } = await world
      .cluster(cluster)
      .kubectl(['-n', 'shop', 'get', 'serviceimport', 'web', '-o', 'jsonpath={.spec.ips[0]}'])
    return stdout
  }

  /** The addresses in the EndpointSlices of the import. */
  async function mirroredAddresses(cluster: ClusterName): Promise<readonly string[]> {
    const { stdout } = await world
      .cluster(cluster)
      .kubectl([
        '-n',
        'shop',
        'get',
        'endpointslices',
        '-l',
        'multicluster.kubernetes.io/service-name=web',
        '-o',
        'jsonpath={.items[*].endpoints[*].addresses[0]}'
      ])
    return stdout.split(' ').sort()
  }

  function ask({ cluster, node, address }: KubePod, request: Partial<PodRequest>): Promise<PodReply> {
    return world.cluster(cluster).ask(node, address, request)
  }
})

function otherThan(name: ClusterName): ClusterName {
  return name === 'west' ? 'east' : 'west'
}

/** What an agent may change on a node. The devices of pods come and go. */
async function networkOf({ namespace }: LabNode): Promise<string> {
  const script = `ip rule; ip -6 rule; ip route show table all; ip -6 route show table all proto 142; ip -br link | grep -v ^veth | cut -d' ' -f1
nft list tables; sysctl -a -r 'net.ipv4.(ip_forward|conf.(all|default|eth0|cni0)\\.)'`
  const { stdout } = await namespace.exec(['sh', '-c', script])
  return stdout
}

/** In place of `describe`: the suite has no tests here, not even pending ones. */
function leftOut(): void {}
