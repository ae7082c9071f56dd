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
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { parseAllDocuments, stringify } from 'yaml'
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

/** What a world speaks: IPv4, IPv6 only (its wide-area link, too), or both inside the clusters over a link with IPv4. */
export type Families = 'ipv4' | 'ipv6' | 'dual'

/** "10.101.0.10" of the IPv4 world in the IPv6 world: "fd00:101::10". A text of any length, such as a manifest, is changed wherever it has one. */
export const inIpv6 = (text: string): string =>
  text
    .replace(/\b10\.(\d+)\.0\.0\/16\b/g, (_, net: string) => `fd00:${net}::/${Number(net) > 100 ? 112 : 56}`)
    .replace(/\b10\.(\d+)\.(\d+)\.(\d+)\b/g, (_, net: string, mid: string, host: string) =>
      mid === '0' ? `fd00:${net}::${host}` : `fd00:${net}::${mid}${host.padStart(3, '0')}`
    )
    .replace(/\b203\.0\.113\.(\d+)\b/g, '2001:db8:113::$1')

/** The texts of the families that pods and services of such a world have: of "10.1.0.11" also "fd00:1::11". */
const ofFamilies = (families: Families, text: string): string[] => [
  ...(families === 'ipv6' ? [] : [text]),
  ...(families === 'ipv4' ? [] : [inIpv6(text)])
]

export interface CommandResult {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export interface WorldOptions {
  readonly clusters?: readonly Cluster[]
  /** Gateways that look like a user's hosts (test/lab/support/user-host.ts). */
  readonly userHosts?: false | Pick<UserHostOptions, 'forwards'>
  /** Default: ipv4. */
  readonly families?: Families | undefined
  /** Every site has the pod and service prefixes, the pods and the services of this one. Default: each has its own. */
  readonly alike?: Cluster | undefined
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
    { clusters = CLUSTERS, userHosts = false, families = 'ipv4', alike }: WorldOptions = {}
  ): Promise<World> {
    const world = new World(lab, mkdtempSync(join(tmpdir(), `rhizome-${lab.id}-`)))
    process.once('exit', world.#remove)
    const wan = await lab.namespace('wan')
    await lab.bridge(wan, 'wan')
    for (const cluster of clusters)
      world.sites.set(cluster, await Site.raise(world, wan, { cluster, families, as: alike ?? cluster }))
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

interface SiteOptions {
  readonly cluster: Cluster
  /** Whose addresses and services the site has. */
  readonly as: Cluster
  readonly families: Families
}

const familyFlag = (address: string): string => (address.includes(':') ? '-6' : '-4')
const inLink = (address: string): string => `${address}/${address.includes(':') ? 64 : 24}`

/** A further address of a device. IPv6 gets `nodad`: a check for duplicates would delay its use. */
async function addAddress(namespace: Namespace, address: string, device: string): Promise<void> {
  await namespace.exec([
    'ip',
    'address',
    'add',
    inLink(address),
    'dev',
    device,
    ...(address.includes(':') ? ['nodad'] : [])
  ])
}

const manifestsIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.ya?ml$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))

/** A manifest of the IPv4 world as such a world has it: in a dual world a Service has both addresses and a slice for each family. */
function manifestOf(families: Families, text: string): string {
  if (families === 'ipv4') return text
  const documents = parseAllDocuments(text).map((document) => document.toJS() as KubeObject)
  const objects = documents.flatMap((each) => (each.kind === 'List' ? (each.items ?? []) : [each]))
  const all = objects.flatMap((object): object[] => {
    if (object.kind === 'EndpointSlice') {
      const ofIpv6 = JSON.parse(
        inIpv6(
          JSON.stringify({
            ...object,
            addressType: 'IPv6',
            metadata: { ...object.metadata, name: `${object.metadata.name}-6` }
          })
        )
      ) as object
      return families === 'ipv6' ? [ofIpv6] : [object, ofIpv6]
    }
    const clusterIp = object.spec?.clusterIP
    if (clusterIp === undefined || clusterIp === 'None') return [object]
    const clusterIPs = ofFamilies(families, clusterIp)
    return [{ ...object, spec: { ...object.spec, clusterIP: clusterIPs[0], clusterIPs } }]
  })
  return all.map((object) => `${stringify(object)}---\n`).join('')
}

interface KubeObject {
  readonly kind: string
  readonly metadata: { readonly name: string }
  readonly spec?: { readonly clusterIP?: string }
  readonly items?: readonly KubeObject[]
}

export class Site {
  readonly cluster: Cluster
  readonly gateway: Namespace
  readonly folder: string
  readonly device: string
  readonly families: Families
  readonly pods: Pod[] = []
  #agent: ChildProcess | undefined
  #userHost: UserHost | undefined

  private constructor(
    { cluster, families }: SiteOptions,
    gateway: Namespace,
    folder: string,
    device: string
  ) {
    this.cluster = cluster
    this.families = families
    this.gateway = gateway
    this.folder = folder
    this.device = device
  }

  static async raise({ lab, folder }: World, wan: Namespace, options: SiteOptions): Promise<Site> {
    const { cluster, families, as } = options
    const gateway = await lab.namespace(cluster)
    const site = new Site(options, gateway, join(folder, cluster), lab.device(cluster))
    mkdirSync(site.folder, { recursive: true })
    cpSync(join(ROOT, 'deploy/examples/shop', as), site.manifests, { recursive: true })
    for (const file of manifestsIn(site.manifests))
      writeFileSync(file, manifestOf(families, readFileSync(file, 'utf8')))
    await lab.attach(wan, 'wan', cluster, {
      namespace: gateway,
      device: 'wan0',
      cidr: families === 'ipv6' ? `${inIpv6(wanAddress(cluster))}/64` : `${wanAddress(cluster)}/24`
    })
    const routers = ofFamilies(families, `10.${NUMBER[as]}.0.1`)
    const [router = '', ...moreRouters] = routers
    await lab.bridge(gateway, 'pods0', inLink(router))
    for (const more of moreRouters) await addAddress(gateway, more, 'pods0')
    for (const [index, name] of PODS.entries()) {
      const namespace = await lab.namespace(`${cluster}-${name}`)
      const addresses = ofFamilies(families, podAddress(as, index))
      const [address = '', ...moreAddresses] = addresses
      await lab.attach(gateway, 'pods0', `pod-${name}`, { namespace, device: 'eth0', cidr: inLink(address) })
      for (const more of moreAddresses) await addAddress(namespace, more, 'eth0')
      for (const each of routers)
        await namespace.exec(['ip', familyFlag(each), 'route', 'add', 'default', 'via', each])
      await lab.resolvConf(namespace, `nameserver ${router}\noptions timeout:2 attempts:2\n`)
      site.pods.push(new Pod(`${cluster}-${name}`, namespace, addresses))
    }
    await Promise.all(site.pods.map((pod) => pod.start()))
    return site
  }

  async becomeUserHost(lab: Lab, options: Pick<UserHostOptions, 'forwards'>): Promise<void> {
    const { cluster: role, device } = this
    this.#userHost = await makeUserHost(lab, this.gateway, { role, device, ...options })
  }

  /** The prefixes of a cluster of this world as flags of `init` and `invite`. */
  prefixFlags(cluster: Cluster = this.cluster): string[] {
    return [
      ...ofFamilies(this.families, podCidr(cluster)).flatMap((cidr) => ['--pod-cidr', cidr]),
      ...ofFamilies(this.families, serviceCidr(cluster)).flatMap((cidr) => ['--service-cidr', cidr])
    ]
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
  /** One, or in a dual world that of IPv4 and that of IPv6. */
  readonly addresses: readonly string[]
  readonly namespace: Namespace
  readonly #waiting = new Map<number, (reply: PodReply) => void>()
  #process: ChildProcess | undefined
  #next = 1

  constructor(name: string, namespace: Namespace, addresses: readonly string[]) {
    this.name = name
    this.namespace = namespace
    this.addresses = addresses
  }

  get address(): string {
    return this.addresses[0] ?? ''
  }

  async start(): Promise<void> {
    const argv = [process.execPath, testProgram('demo/pod'), this.name, ...this.addresses]
    const child = this.namespace.spawn(argv, { stdio: ['pipe', 'pipe', 'inherit'] })
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

  tcp(
    host: string,
    port: number,
    options: { count?: number; timeoutMs?: number; family?: 4 | 6 } = {}
  ): Promise<PodReply> {
    return this.#ask({ kind: 'tcp', host, port, count: 1, timeoutMs: 3000 * slowness(), ...options })
  }

  udp(
    host: string,
    port: number,
    options: { count?: number; timeoutMs?: number; sourcePort?: number; family?: 4 | 6 } = {}
  ): Promise<PodReply> {
    return this.#ask({ kind: 'udp', host, port, count: 1, timeoutMs: 3000 * slowness(), ...options })
  }

  resolve(host: string, family: 4 | 6 = 4): Promise<PodReply> {
    return this.#ask({ kind: 'resolve', host, port: 0, count: 1, timeoutMs: 3000, family })
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
