// An agent as a plain process on loopback: control plane and DNS for real, no data plane, no root.
import { spawn, type ChildProcess } from 'node:child_process'
import { Resolver } from 'node:dns/promises'
import { once } from 'node:events'
import { closeSync, cpSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { slowness } from '../eventually.ts'
import { freePort } from '../ports.ts'
import { command, type Cluster, type CommandResult } from './site.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const DEADLINE_MS = 60_000 * slowness()

export class LoopbackAgent {
  readonly cluster: Cluster
  readonly #folder: string
  readonly #ports: { readonly control: number; readonly dns: number; readonly feed: number }
  #process: ChildProcess | undefined

  private constructor(
    cluster: Cluster,
    folder: string,
    ports: { control: number; dns: number; feed: number }
  ) {
    this.cluster = cluster
    this.#folder = folder
    this.#ports = ports
  }

  static async create(parent: string, cluster: Cluster): Promise<LoopbackAgent> {
    const folder = join(parent, cluster)
    mkdirSync(folder)
    cpSync(join(ROOT, 'deploy/examples/shop', cluster), join(folder, 'manifests'), { recursive: true })
    return new LoopbackAgent(cluster, folder, {
      control: await freePort(),
      dns: await freePort(),
      feed: await freePort()
    })
  }

  get manifests(): string {
    return join(this.#folder, 'manifests')
  }

  /** Of the running meshd. */
  get pid(): number | undefined {
    return this.#process?.pid
  }

  get socket(): string {
    return join(this.#folder, 'meshd.sock')
  }

  /** The multiaddr at which meshd listens for other agents. */
  get control(): string {
    return `/ip4/127.0.0.1/tcp/${this.#ports.control}`
  }

  get tail(): string {
    return readFileSync(join(this.#folder, 'meshd.log'), 'utf8').split('\n').slice(-20).join('\n')
  }

  get dnsPort(): number {
    return this.#ports.dns
  }

  get feedUrl(): string {
    return `http://127.0.0.1:${this.#ports.feed}`
  }

  /** `more`: settings that differ from those of a site without Kubernetes; `env`: of the process. */
  async start(
    more: Readonly<Record<string, string>> = {},
    env: Readonly<Record<string, string>> = {}
  ): Promise<void> {
    const { control } = this
    const settings: Readonly<Record<string, string>> = {
      'state-dir': join(this.#folder, 'state'),
      socket: this.socket,
      manifests: this.manifests,
      listen: control,
      announce: control,
      dataplane: 'off',
      'dns-listen': `127.0.0.1:${this.#ports.dns}`,
      'dns-upstream': 'none',
      'dns-outlive-seconds': '0',
      'http-listen': 'off',
      'probe-port': '0',
      'node-name': `${this.cluster}-gw`,
      'feed-listen': `127.0.0.1:${this.#ports.feed}`,
      'log-format': 'text',
      ...more
    }
    const flags = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value])
    const log = openSync(join(this.#folder, 'meshd.log'), 'a')
    const child = spawn(join(ROOT, 'bin/meshd'), flags, {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...env }
    })
    closeSync(log)
    this.#process = child
    const deadline = performance.now() + DEADLINE_MS
    while ((await this.#ctl('status', '--json')).exitCode !== 0) {
      if (child.exitCode !== null || performance.now() > deadline)
        throw new Error(`meshd of ${this.cluster} did not start`)
    }
  }

  async stop(): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGTERM')
    await gone
  }

  kill(): void {
    this.#process?.kill('SIGKILL')
  }

  /** Errors: with what meshctl said. */
  async done(...args: readonly string[]): Promise<CommandResult> {
    const result = await this.#ctl(...args)
    if (result.exitCode !== 0)
      throw new Error(`meshctl ${args[0]} in ${this.cluster}: ${result.stderr}${result.stdout}`)
    return result
  }

  async resolve(name: string): Promise<{ readonly addresses: readonly string[]; readonly error?: string }> {
    const resolver = new Resolver({ timeout: 1000, tries: 2 })
    resolver.setServers([`127.0.0.1:${this.#ports.dns}`])
    try {
      return { addresses: (await resolver.resolve4(name)).toSorted() }
    } catch (error) {
      return { addresses: [], error: (error as NodeJS.ErrnoException).code ?? String(error) }
    }
  }

  /** Asks until all these addresses are in the answer. Errors: the last answer, after the deadline. */
  async untilNamed(name: string, wanted: readonly string[]): Promise<readonly string[]> {
    const deadline = performance.now() + DEADLINE_MS
    for (;;) {
      const { addresses, error } = await this.resolve(name)
      if (wanted.every((address) => addresses.includes(address))) return addresses
      if (performance.now() > deadline) throw new Error(`${name}: ${error ?? addresses.join(', ')}`)
    }
  }

  #ctl(...args: readonly string[]): Promise<CommandResult> {
    return command([join(ROOT, 'bin/meshctl'), '--socket', this.socket, ...args])
  }
}

/** Given out in this process; the kernel may give one that was closed again. */
