// A site of the demo: a gateway host with meshd, and pods behind it, all network namespaces of one lab.
//
//        wan 203.0.113.0/24
//   ┌───────────┼───────────┐
//  west .11   east .12   edge .13      gateway: meshd, tunnel, DNS on 10.N.0.1
//   │ pods0     │ pods0     │ pods0    bridge 10.N.0.0/24
//  3 pods      3 pods      3 pods      10.N.0.11, .12, .13
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync
} from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { isTranslated, slowness } from '../eventually.ts'
import type { Lab, Namespace } from '../lab/support/netns.ts'
import { makeUserHost, type UserHost, type UserHostOptions } from '../lab/support/user-host.ts'
import { testProgram } from '../programs.ts'
import type { PodReply, PodRequest } from './pod.ts'

export const CLUSTERS = ['west', 'east', 'edge'] as const
export type Cluster = (typeof CLUSTERS)[number]

const ROOT = resolve(import.meta.dirname, '../..')
// Both take a second or two, and many times that on a busy machine; an agent that spins must fail the run, not hang it.
const STOP_DEADLINE_MS = 30_000
const START_DEADLINE_MS = 90_000
const PODS = ['a', 'b', 'c'] as const
const NUMBER: Record<Cluster, number> = { west: 1, east: 2, edge: 3 }

export const podCidr = (cluster: Cluster): string => `10.${NUMBER[cluster]}.0.0/16`
export const serviceCidr = (cluster: Cluster): string => `10.10${NUMBER[cluster]}.0.0/16`
export const podAddress = (cluster: Cluster, index: number): string => `10.${NUMBER[cluster]}.0.${11 + index}`
export const wanAddress = (cluster: Cluster): string => `203.0.113.${10 + NUMBER[cluster]}`

export interface CommandResult {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export interface WorldOptions {
  readonly clusters?: readonly Cluster[]
  /** Gateways that look like a user's hosts (test/lab/support/user-host.ts). */
  readonly userHosts?: false | Pick<UserHostOptions, 'forwards'>
}

/** Three sites on one wide-area link. `close()` of the lab removes the namespaces; `close()` here the files too. */
export class World {
  readonly lab: Lab
  readonly folder: string
  readonly sites = new Map<Cluster, Site>()

  readonly #remove = (): void => {
    this.lab.closeSync() // whoever still writes there
    rmSync(this.folder, { recursive: true, force: true })
  }

  private constructor(lab: Lab, folder: string) {
    this.lab = lab
    this.folder = folder
  }

  static async raise(
    lab: Lab,
    { clusters = CLUSTERS, userHosts = false }: WorldOptions = {}
  ): Promise<World> {
    const world = new World(lab, mkdtempSync(join(tmpdir(), `rhizome-${lab.id}-`)))
    process.once('exit', world.#remove)
    const wan = await lab.namespace('wan')
    await lab.bridge(wan, 'wan')
    for (const cluster of clusters) world.sites.set(cluster, await Site.raise(world, wan, cluster))
    if (userHosts !== false)
      for (const site of world.sites.values()) await site.becomeUserHost(lab, userHosts)
    return world
  }

  site(cluster: Cluster): Site {
    const site = this.sites.get(cluster)
    if (site === undefined) throw new Error(`no site ${cluster}`)
    return site
  }

  async close(): Promise<void> {
    const stopped = await Promise.allSettled([...this.sites.values()].map((site) => site.stop('SIGTERM')))
    await this.lab.close()
    process.off('exit', this.#remove)
    this.#remove()
    for (const site of stopped) if (site.status === 'rejected') throw site.reason
  }
}

export class Site {
  readonly cluster: Cluster
  readonly gateway: Namespace
  readonly folder: string
  readonly device: string
  readonly pods: Pod[] = []
  #agent: ChildProcess | undefined
  #userHost: UserHost | undefined

  private constructor(cluster: Cluster, gateway: Namespace, folder: string, device: string) {
    this.cluster = cluster
    this.gateway = gateway
    this.folder = folder
    this.device = device
  }

  static async raise({ lab, folder }: World, wan: Namespace, cluster: Cluster): Promise<Site> {
    const gateway = await lab.namespace(cluster)
    const site = new Site(cluster, gateway, join(folder, cluster), lab.device(cluster))
    mkdirSync(site.folder, { recursive: true })
    cpSync(join(ROOT, 'deploy/examples/shop', cluster), site.manifests, { recursive: true })
    await lab.attach(wan, 'wan', cluster, {
      namespace: gateway,
      device: 'wan0',
      cidr: `${wanAddress(cluster)}/24`
    })
    const router = `10.${NUMBER[cluster]}.0.1`
    await lab.bridge(gateway, 'pods0', `${router}/24`)
    for (const [index, name] of PODS.entries()) {
      const namespace = await lab.namespace(`${cluster}-${name}`)
      const address = podAddress(cluster, index)
      await lab.attach(gateway, 'pods0', `pod-${name}`, { namespace, device: 'eth0', cidr: `${address}/24` })
      await namespace.exec(['ip', 'route', 'add', 'default', 'via', router])
      await lab.resolvConf(namespace, `nameserver ${router}\noptions timeout:2 attempts:2\n`)
      site.pods.push(new Pod(`${cluster}-${name}`, namespace, address))
    }
    await Promise.all(site.pods.map((pod) => pod.start()))
    return site
  }

  async becomeUserHost(lab: Lab, options: Pick<UserHostOptions, 'forwards'>): Promise<void> {
    const { cluster: role, device } = this
    this.#userHost = await makeUserHost(lab, this.gateway, { role, device, ...options })
  }

  get manifests(): string {
    return join(this.folder, 'manifests')
  }

  get state(): string {
    return join(this.folder, 'state')
  }

  /** Of the running meshd. */
  get pid(): number | undefined {
    return this.#agent?.pid
  }

  get socket(): string {
    return join(this.folder, 'meshd.sock')
  }

  get log(): string {
    return join(this.folder, 'meshd.log')
  }

  pod(index: number): Pod {
    const pod = this.pods[index]
    if (pod === undefined) throw new Error(`no pod ${index}`)
    return pod
  }

  /** The command line of meshd here; of a flag given twice, the latter counts. */
  meshd(...flags: readonly string[]): string[] {
    return [
      join(ROOT, 'bin/meshd'),
      '--state-dir',
      this.state,
      '--socket',
      this.socket,
      '--manifests',
      this.manifests,
      '--device',
      this.device,
      // A user's host has a name of its own.
      ...(this.#userHost === undefined ? ['--node-name', `${this.cluster}-gw`] : []),
      '--dns-upstream',
      'none',
      // Nothing outlives a run; the scenario of the responder's own says otherwise.
      '--dns-outlive-seconds',
      '0',
      '--log-format',
      'text',
      ...flags
    ]
  }

  /** Starts meshd as a service manager would, and waits until it answers. */
  start(...flags: readonly string[]): Promise<void> {
    return this.startUnder([], flags)
  }

  /** The same under another program, such as `env` or `setpriv`. */
  async startUnder(wrapper: readonly string[], flags: readonly string[] = []): Promise<void> {
    const log = openSync(this.log, 'a')
    this.#agent = this.gateway.spawn(
      [...(this.#userHost?.wrapper ?? []), ...wrapper, ...this.meshd(...flags)],
      { stdio: ['ignore', log, log] }
    )
    closeSync(log) // the child has its own
    const deadline = performance.now() + START_DEADLINE_MS * slowness()
    while (!(await answers(this.socket))) {
      if (this.#agent.exitCode !== null || this.#agent.signalCode !== null || performance.now() > deadline) {
        throw new Error(`meshd of ${this.cluster} did not start:\n${this.tail()}`)
      }
    }
  }

  /** The exit code with which the running meshd ends by itself. */
  async exited(): Promise<number | null> {
    const agent = this.#agent
    if (agent === undefined) throw new Error(`no meshd runs in ${this.cluster}`)
    const [code] = (await once(agent, 'exit')) as [number | null]
    return code
  }

  /** Ends meshd. After SIGKILL the kernel's state stays as it was. */
  async stop(signal: NodeJS.Signals): Promise<void> {
    const agent = this.#agent
    this.#agent = undefined
    if (agent === undefined || agent.exitCode !== null || agent.signalCode !== null) return
    const gone = once(agent, 'exit')
    agent.kill(signal)
    const tooLong = setTimeout(() => agent.kill('SIGKILL'), STOP_DEADLINE_MS * slowness())
    const [, killedBy] = (await gone) as [number | null, NodeJS.Signals | null]
    clearTimeout(tooLong)
    if (killedBy === 'SIGKILL' && signal !== 'SIGKILL') {
      throw new Error(`meshd of ${this.cluster} did not end in time after ${signal}:\n${this.tail()}`)
    }
  }

  /** The whole host loses power: agent and tunnel die at once, the link goes dark. */
  async powerOff(): Promise<void> {
    await this.gateway.exec(['ip', 'link', 'set', 'wan0', 'down'])
    await this.stop('SIGKILL')
    await this.gateway.exec(['ip', 'link', 'delete', this.device], { check: false })
  }

  async powerOn(): Promise<void> {
    await this.gateway.exec(['ip', 'link', 'set', 'wan0', 'up'])
    await this.start()
  }

  ctl(...args: readonly string[]): Promise<CommandResult> {
    const patience = isTranslated ? ['--timeout', '5m'] : []
    return command([join(ROOT, 'bin/meshctl'), '--socket', this.socket, ...patience, ...args])
  }

  /** `ctl` with --json, parsed. Errors: with what meshctl said. */
  async ask<T>(...args: readonly string[]): Promise<T> {
    const result = await this.ctl(...args, '--json')
    if (result.exitCode !== 0)
      throw new Error(`meshctl ${args[0]} in ${this.cluster}: ${result.stderr}${result.stdout}`)
    return JSON.parse(result.stdout) as T
  }

  tail(lines = 30): string {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8').split('\n').slice(-lines).join('\n') : ''
  }
}

export class Pod {
  readonly name: string
  readonly address: string
  readonly namespace: Namespace
  readonly #waiting = new Map<number, (reply: PodReply) => void>()
  #process: ChildProcess | undefined
  #next = 1

  constructor(name: string, namespace: Namespace, address: string) {
    this.name = name
    this.namespace = namespace
    this.address = address
  }

  async start(): Promise<void> {
    const child = this.namespace.spawn([process.execPath, testProgram('demo/pod'), this.name, this.address], {
      stdio: ['pipe', 'pipe', 'inherit']
    })
    if (child.stdout === null) throw new Error('no output of the pod')
    this.#process = child
    const lines = createInterface({ input: child.stdout })
    const ready = once(lines, 'line')
    lines.on('line', (line) => {
      if (!line.startsWith('{')) return
      const reply = JSON.parse(line) as PodReply
      this.#waiting.get(reply.id)?.(reply)
      this.#waiting.delete(reply.id)
    })
    await ready
  }

  tcp(host: string, port: number, options: { count?: number; timeoutMs?: number } = {}): Promise<PodReply> {
    return this.#ask({ kind: 'tcp', host, port, count: 1, timeoutMs: 3000 * slowness(), ...options })
  }

  udp(
    host: string,
    port: number,
    options: { count?: number; timeoutMs?: number; sourcePort?: number } = {}
  ): Promise<PodReply> {
    return this.#ask({ kind: 'udp', host, port, count: 1, timeoutMs: 3000 * slowness(), ...options })
  }

  resolve(host: string): Promise<PodReply> {
    return this.#ask({ kind: 'resolve', host, port: 0, count: 1, timeoutMs: 3000 })
  }

  #ask(request: Omit<PodRequest, 'id'>): Promise<PodReply> {
    const id = this.#next++
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve)
      this.#process?.stdin?.write(`${JSON.stringify({ id, ...request })}\n`)
    })
  }
}

/** Whether the agent at this socket answers. A look is cheap, and starting meshctl is not. */
async function answers(socketPath: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const asked = get({ socketPath, path: '/v1/status', timeout: 5000 * slowness() }, (response) => {
    response.resume()
    resolve(response.statusCode === 200)
  })
  asked.on('timeout', () => asked.destroy(new Error('no answer')))
  asked.on('error', () => setTimeout(() => resolve(false), 20))
  return promise
}

export function command(argv: readonly string[]): Promise<CommandResult> {
  const [file = '', ...args] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1' }
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk) => (stdout += String(chunk)))
    child.stderr.on('data', (chunk) => (stderr += String(chunk)))
    child.on('error', reject)
    child.on('close', (code) => resolve({ exitCode: code ?? -1, stdout, stderr }))
  })
}
