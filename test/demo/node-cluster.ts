// A cluster with two gateways and a node that is no gateway, beside another cluster: the smallest mesh in which a gateway
// can go while its cluster stays reached, both ways.
//
//        wan 203.0.113.0/24
//   ┌──────────┬─────────┴─┬───────────┐
//  west .11   east .12   edge .13    node .14       east and edge are the gateways of the cluster edge
//   │ pods                 │ pods      │ 10.3.1.11, the endpoint of shop/on-node (10.103.0.77)
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StatusAnswer } from '../../src/api/answers.ts'
import { done, init, invite, joins, look } from '../scenarios/harness.ts'
import { NodeHost } from './node-host.ts'
import { wanAddress, type Site, type World } from './site.ts'

/** The hosts that are the gateways of the cluster edge. */
export const GATEWAYS = ['edge', 'east'] as const
export type Gateway = (typeof GATEWAYS)[number]

/** The address of the service shop/on-node, whose only endpoint is the pod of the node. */
export const WEB_OF_NODE = '10.103.0.77'
export const NODE_PREFIX = '10.3.1.0/24'
const NODE = { address: '203.0.113.14', net: '10.3.1' } as const

/** The cluster edge of a world with the sites west, edge and east. */
export class NodeCluster {
  readonly node: NodeHost
  readonly #world: World
  readonly #keys = new Map<string, Gateway>()

  private constructor(world: World, node: NodeHost) {
    this.#world = world
    this.node = node
  }

  /** Starts all agents, and makes one mesh of them. `flags` are those of every agent. */
  static async unite(world: World, flags: readonly string[] = []): Promise<NodeCluster> {
    const cluster = new NodeCluster(world, await NodeHost.raise(world, 'edge', 'node', NODE))
    await cluster.#connect()
    cluster.#announce()
    const west = world.site('west')
    await Promise.all([
      west.start(...flags),
      ...GATEWAYS.map((gateway) => cluster.startGateway(gateway, flags))
    ])
    await init(west)
    await joins(world.site('edge'), await invite(west, 'edge'))
    await done(world.site('east').ctl('join', await cluster.token()))
    await cluster.node.start(...flags)
    await done(cluster.node.ctl('join', await cluster.token()))
    return cluster
  }

  /** `wrapper`: as for `Site.startUnder`. */
  startGateway(
    gateway: Gateway,
    flags: readonly string[] = [],
    wrapper: readonly string[] = []
  ): Promise<void> {
    const own =
      gateway === 'edge'
        ? ['--node-name', 'edge-1', '--node-prefixes', '10.3.0.0/24']
        : ['--node-name', 'edge-2', '--balance-local', 'off', '--manifests', this.#site('edge').manifests]
    return this.#site(gateway).startUnder(wrapper, [...own, ...flags])
  }

  /** After `Site.powerOff`: the link, the routes of the network plugin, and the agent. */
  async powerOn(gateway: Gateway, flags: readonly string[] = []): Promise<void> {
    await this.reconnect(gateway)
    await this.startGateway(gateway, flags)
  }

  /** After its link was cut: the link, and the routes that went with it. */
  async reconnect(gateway: Gateway): Promise<void> {
    await this.#site(gateway).gateway.exec(['ip', 'link', 'set', 'wan0', 'up'])
    await this.#routes(gateway)
  }

  /** A token that makes its host one more gateway or node of the cluster edge. */
  async token(): Promise<string> {
    return (await done(this.#site('edge').ctl('invite', '--gateway'))).stdout.trim()
  }

  /** The gateway to which west sends packets for the pods of the node; undefined: none, for a moment. */
  async carrier(): Promise<Gateway | undefined> {
    const { gateway, device } = this.#site('west')
    const { stdout } = await gateway.exec(['wg', 'show', device, 'allowed-ips'])
    const [key = ''] = (stdout.split('\n').find((row) => row.includes(NODE_PREFIX)) ?? '').split('\t')
    return (await this.#gatewayKeys()).get(key)
  }

  /** Remembered, since an agent may be gone when it is asked for again. */
  async #gatewayKeys(): Promise<ReadonlyMap<string, Gateway>> {
    if (this.#keys.size < GATEWAYS.length)
      for (const gateway of GATEWAYS)
        this.#keys.set(
          (await look<StatusAnswer>(this.#site(gateway), 'status')).wireguardKey ?? 'none',
          gateway
        )
    return this.#keys
  }

  #site(name: 'west' | Gateway): Site {
    return this.#world.site(name)
  }

  /** What a network plugin does: each host has routes to the pods of the others. */
  async #connect(): Promise<void> {
    await this.node.namespace.exec(['ip', 'route', 'add', '10.3.0.0/24', 'via', wanAddress('edge')])
    await this.node.namespace.exec(DEFAULT)
    for (const gateway of GATEWAYS) await this.#routes(gateway)
  }

  async #routes(gateway: Gateway): Promise<void> {
    const { gateway: host } = this.#site(gateway)
    if (gateway !== 'edge')
      await host.exec(['ip', 'route', 'replace', '10.3.0.0/24', 'via', wanAddress('edge')])
    await host.exec(['ip', 'route', 'replace', NODE_PREFIX, 'via', NODE.address])
    await host.exec(DEFAULT)
  }

  /** A service of the cluster edge with the node's pod as its only endpoint. */
  #announce(): void {
    writeFileSync(
      join(this.#site('edge').manifests, 'on-node.yaml'),
      `apiVersion: v1
kind: Service
metadata: { name: on-node, namespace: shop }
spec: { clusterIP: ${WEB_OF_NODE}, ports: [{ name: http, port: 80, targetPort: 8080 }, { name: held, port: 81, targetPort: 8600 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: on-node-1, namespace: shop, labels: { kubernetes.io/service-name: on-node } }
addressType: IPv4
ports: [{ name: http, port: 8080 }, { name: held, port: 8600 }]
endpoints: [{ addresses: [${NODE.net}.11], conditions: { ready: true } }]
`
    )
  }
}

// Loose reverse path filtering asks for some route to a source, as most hosts have by their default route.
const DEFAULT = ['ip', 'route', 'replace', 'default', 'via', '203.0.113.1']
