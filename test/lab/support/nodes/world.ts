// Two real clusters on one wide-area link, and the mesh between them, installed as an operator does it: with Helm, `meshctl init`,
// `meshctl invite` and a token. Used by test/lab/kubelets.test.ts and by `make lab`.
//
//            wan 203.0.113.0/24
//   ┌───────────┬───────────┬───────────┐
//  west-1 .11  west-2 .12  east-1 .21  east-2 .22      each has kubelet, containerd, kube-proxy; the first also the control plane
//   gateway     node        gateway     node           roles of the agents
//  10.1.1.0/24 10.1.2.0/24 10.2.1.0/24 10.2.2.0/24     pods
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Lab } from '../netns.ts'
import { addressIn, LabCluster, type ClusterPlan } from './cluster.ts'
import { makeImages, type ToolImage } from './images.ts'
import { shopObjects } from './objects.ts'
import { nodePrograms } from './programs.ts'
import { makeStore } from './store.ts'

export const NAMES = ['west', 'east'] as const
export type ClusterName = (typeof NAMES)[number]
const CHART = 'deploy/chart/rhizome'
const NAMESPACE = 'rhizome-system'
// This kernel may have no WireGuard.
const VALUES = ['--set=mode=nodes,userspaceWireguard=true']

export class World {
  readonly lab: Lab
  readonly folder: string
  readonly clusters: Readonly<Record<ClusterName, LabCluster>>

  private constructor(lab: Lab, folder: string, clusters: World['clusters']) {
    this.lab = lab
    this.folder = folder
    this.clusters = clusters
  }

  /** Both clusters with a pod on each node, and no mesh. dist/ must have been built. */
  static async raise(
    label: string,
    say: (what: string) => void = () => undefined,
    images: readonly ToolImage[] = []
  ): Promise<World> {
    const programs = await nodePrograms()
    const folder = mkdtempSync(join(tmpdir(), 'rhizome-nodes-'))
    const lab = await Lab.create(label)
    // After the listener of the lab, which ends what uses the folder.
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
    try {
      await lab.bridge(await lab.namespace('wan'), 'wan', '203.0.113.1/24')
      say('making the images of the containers')
      const store = await makeStore(folder, await makeImages(folder, programs, images), programs)
      say('starting two clusters of two nodes each')
      const parts = { lab, programs, folder, store }
      const [west, east] = await Promise.all(NAMES.map((name) => LabCluster.start(planOf(name), parts)))
      assert.ok(west !== undefined && east !== undefined)
      const world = new World(lab, folder, { west, east })
      await Promise.all(NAMES.map((name) => world.#startShop(name)))
      return world
    } catch (error) {
      await lab.close()
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  cluster(name: ClusterName): LabCluster {
    return this.clusters[name]
  }

  /** Installs the chart in both clusters: west makes the mesh, and east joins it with a token. */
  async join(): Promise<void> {
    await Promise.all(
      NAMES.map((name) => this.cluster(name).kubectl(['label', 'node', `${name}-1`, 'rhizome.io/gateway=']))
    )
    await this.#install('west')
    const { podsCidr, servicesCidr } = this.cluster('west').plan
    await this.meshctl('west', [
      'init',
      '--cluster=west',
      `--pod-cidr=${podsCidr}`,
      `--service-cidr=${servicesCidr}`
    ])
    const { stdout: token } = await this.meshctl('west', [
      'invite',
      'east',
      `--pod-cidr=${this.cluster('east').plan.podsCidr}`,
      `--service-cidr=${this.cluster('east').plan.servicesCidr}`
    ])
    const file = join(this.folder, 'east.token')
    writeFileSync(file, token.trim(), { mode: 0o600 })
    await this.#install('east', [`--set-file=token.value=${file}`])
    for (const name of NAMES)
      for (const set of ['rhizome', 'rhizome-node'])
        await this.cluster(name).kubectl([
          '-n',
          NAMESPACE,
          'rollout',
          'status',
          `ds/${set}`,
          '--timeout=120s'
        ])
  }

  /** meshctl in an agent of the cluster: in the gateway, or with `set` in the agent of the other node. */
  meshctl(name: ClusterName, args: readonly string[], set = 'rhizome') {
    return this.cluster(name).kubectl(['-n', NAMESPACE, 'exec', `ds/${set}`, '--', 'meshctl', ...args])
  }

  /** What the agents of a cluster say, for a failure. */
  async agents(name: ClusterName): Promise<string> {
    const kubectl = async (...args: readonly string[]): Promise<string> => {
      const { stdout, stderr } = await this.cluster(name).kubectl(args, { check: false })
      return stdout + stderr
    }
    const parts = [await kubectl('get', 'pods', '-A', '-o', 'wide')]
    for (const set of ['rhizome', 'rhizome-node']) {
      parts.push(await kubectl('-n', NAMESPACE, 'exec', `ds/${set}`, '--', 'meshctl', 'status'))
      parts.push(await kubectl('-n', NAMESPACE, 'logs', `ds/${set}`, '--tail=30'))
    }
    return parts.join('\n')
  }

  async uninstall(): Promise<void> {
    await Promise.all(
      NAMES.map((name) =>
        this.cluster(name).helm([
          'uninstall',
          'rhizome',
          `--namespace=${NAMESPACE}`,
          '--wait',
          '--timeout=150s'
        ])
      )
    )
  }

  async close(): Promise<void> {
    await Promise.all(NAMES.map((name) => this.cluster(name).stop()))
    await this.lab.close()
    rmSync(this.folder, { recursive: true, force: true })
  }

  async #startShop(name: ClusterName): Promise<void> {
    const cluster = this.cluster(name)
    const names = cluster.nodes.map((node) => node.name)
    await cluster.create(shopObjects(names, serviceAddress(name)))
    await cluster.kubectl(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod', '--all', '--timeout=120s'])
  }

  async #install(name: ClusterName, values: readonly string[] = []): Promise<void> {
    const where = [`--namespace=${NAMESPACE}`, '--create-namespace', '--wait', '--timeout=150s']
    try {
      await this.cluster(name).helm(['install', 'rhizome', CHART, ...where, ...VALUES, ...values])
    } catch (error) {
      throw new Error(`${String(error)}\n${await this.agents(name)}`, { cause: error })
    }
  }
}

/** The address of the Service web in shop. */
export function serviceAddress(name: ClusterName): string {
  return addressIn(planOf(name).servicesCidr, 80)
}

function planOf(name: ClusterName): ClusterPlan {
  const number = NAMES.indexOf(name) + 1
  return {
    name,
    podsCidr: `10.${number}.0.0/16`,
    servicesCidr: `10.10${number}.0.0/16`,
    nodes: [1, 2].map((node) => ({
      name: `${name}-${node}`,
      address: `203.0.113.${number}${node}`,
      podCidr: `10.${number}.${node}.0/24`
    }))
  }
}
