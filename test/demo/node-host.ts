// A host of a site that is no gateway: its pods lie in a prefix of their own, and meshd runs there with `--role node`.
//
//        wan 203.0.113.0/24
//   ┌───────────┼───────────┐
//  west .11   edge .13     node .14      the node reaches edge's pods over wan, as with a network plugin that routes
//   │ pods0     │ pods0     │ pods0      10.3.1.0/24
//  3 pods      3 pods      1 pod         10.3.1.11
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { ChildProcess } from 'node:child_process'
import { slowness } from '../eventually.ts'
import type { Namespace } from '../lab/support/netns.ts'
import { command, Pod, type CommandResult, type World } from './site.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const START_DEADLINE_MS = 90_000

export interface NodePlace {
  /** On the wide-area link. */
  readonly address: string
  /** "10.3.1": the pods have addresses of this /24. */
  readonly net: string
}

export class NodeHost {
  readonly name: string
  readonly cluster: string
  readonly namespace: Namespace
  readonly folder: string
  readonly device: string
  readonly pod: Pod
  readonly #prefix: string
  #agent: ChildProcess | undefined

  private constructor(
    parts: Pick<NodeHost, 'name' | 'cluster' | 'namespace' | 'folder' | 'device' | 'pod'> & {
      readonly prefix: string
    }
  ) {
    this.name = parts.name
    this.cluster = parts.cluster
    this.namespace = parts.namespace
    this.folder = parts.folder
    this.device = parts.device
    this.pod = parts.pod
    this.#prefix = parts.prefix
  }

  static async raise(
    { lab, folder }: World,
    cluster: string,
    name: string,
    { address, net }: NodePlace
  ): Promise<NodeHost> {
    const namespace = await lab.namespace(name)
    await lab.attach(await lab.namespace('wan'), 'wan', name, {
      namespace,
      device: 'wan0',
      cidr: `${address}/24`
    })
    const router = `${net}.1`
    await lab.bridge(namespace, 'pods0', `${router}/24`)
    await namespace.exec(['sysctl', '-q', '-w', 'net.ipv4.ip_forward=1'])
    const inside = await lab.namespace(`${name}-a`)
    const cidr = `${net}.11/24`
    await lab.attach(namespace, 'pods0', 'pod-a', { namespace: inside, device: 'eth0', cidr })
    await inside.exec(['ip', 'route', 'add', 'default', 'via', router])
    await lab.resolvConf(inside, `nameserver ${router}\noptions timeout:2 attempts:2\n`)
    const pod = new Pod(`${name}-a`, inside, [`${net}.11`])
    await pod.start()
    const own = join(folder, name)
    mkdirSync(join(own, 'manifests'), { recursive: true })
    return new NodeHost({
      name,
      cluster,
      namespace,
      folder: own,
      device: lab.device(name),
      pod,
      prefix: `${net}.0/24`
    })
  }

  get socket(): string {
    return join(this.folder, 'meshd.sock')
  }

  /** Starts meshd with the role `node`, and waits until it answers. */
  async start(...flags: readonly string[]): Promise<void> {
    const log = openSync(join(this.folder, 'meshd.log'), 'a')
    const of = (name: string): string => join(this.folder, name)
    const settings = {
      role: 'node',
      'node-prefixes': this.#prefix,
      'state-dir': of('state'),
      socket: this.socket,
      manifests: of('manifests'),
      device: this.device,
      'node-name': this.name,
      'dns-upstream': 'none',
      'dns-outlive-seconds': '0',
      'log-format': 'text'
    }
    const argv = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value])
    const agent = this.namespace.spawn([join(ROOT, 'bin/meshd'), ...argv, ...flags], {
      stdio: ['ignore', log, log]
    })
    this.#agent = agent
    closeSync(log) // the child has its own
    const deadline = performance.now() + START_DEADLINE_MS * slowness()
    while ((await this.ctl('status')).exitCode !== 0)
      if (agent.exitCode !== null || agent.signalCode !== null || performance.now() > deadline)
        throw new Error(`meshd of ${this.name} did not start:\n${this.tail()}`)
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const agent = this.#agent
    this.#agent = undefined
    if (agent === undefined || agent.exitCode !== null || agent.signalCode !== null) return
    const gone = once(agent, 'exit')
    agent.kill(signal)
    await gone
  }

  ctl(...args: readonly string[]): Promise<CommandResult> {
    return command([join(ROOT, 'bin/meshctl'), '--socket', this.socket, ...args])
  }

  tail(lines = 30): string {
    const log = join(this.folder, 'meshd.log')
    return existsSync(log) ? readFileSync(log, 'utf8').split('\n').slice(-lines).join('\n') : ''
  }
}
