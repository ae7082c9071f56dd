// Real agents for benches: their certificates, made once in the parent, and the processes that run some of them each.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { BUNDLE_OPTIONS } from '../../build/bundle-options.ts'
import type { Cidr, ClusterName, Origin } from '../../src/core/model/values.ts'
import type { Crypto } from '../../src/core/model/crypto.ts'
import { admitCluster, certifyAgent, certifyCluster, createInvite } from '../../src/core/trust/author/join.ts'
import { createMesh } from '../../src/core/trust/author/mesh.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import type { Namespace } from '../lab/support/netns.ts'
import type { Answers, Command, Commands } from './agent-process.ts'

const END_MS = 5000

/** Everything an agent needs, as JSON. Byte strings are base64. */
export interface AgentSpec {
  readonly cluster: string
  readonly origin: Origin
  readonly seed: string
  readonly meshId: string
  readonly k: number
  readonly rootKeys: readonly string[]
  readonly clusterSeed: string
  readonly credential: string
  /** The founding certificate of the mesh, whose cluster admitted all others: what a member has on disk after its join. */
  readonly founder: string
  readonly podPrefix: string
  readonly servicePrefix: string
  readonly folder: string
}

/** Agents of one mesh, each a cluster of its own; with `wide`, the first has prefixes for a million endpoints. */
export function newAgents(count: number, folder: string, wide = false): readonly AgentSpec[] {
  const crypto = rememberingCrypto()
  const prefixes = (index: number) => {
    const [high, low] = [index >>> 8, index & 255]
    return {
      pods: [(wide && index === 0 ? '10.64.0.0/10' : `10.${high}.${low}.0/24`) as Cidr],
      services: [(wide && index === 0 ? '172.16.0.0/16' : `172.${17 + high}.${low}.0/24`) as Cidr]
    }
  }
  const name = (index: number) => `c${index}` as ClusterName
  const roots = { k: 1, number: 1 }
  const mesh = createMesh({ crypto, roots, cluster: name(0), label: 'bench', ...prefixes(0) })
  const context = { crypto, roots: mesh.roots }
  const time = Math.floor(Date.now() / 1000)
  const joined = (index: number) => {
    const { item: inviteItem, inviteSeed } = createInvite(context, {
      ...mesh,
      cluster: name(index),
      ...prefixes(index),
      namespaces: [],
      notBefore: time,
      notAfter: time + 86_400
    })
    const clusterSeed = crypto.random(32)
    const { item: certItem } = certifyCluster(context, { inviteItem, inviteSeed, clusterSeed })
    const by = { sponsorSeed: mesh.clusterSeed, seen: index, time }
    return { clusterSeed, clusterItem: admitCluster(context, { certItem, ...by }).item }
  }
  return Array.from({ length: count }, (_, index) => {
    const { clusterSeed, clusterItem } = index === 0 ? mesh : joined(index)
    const seed = crypto.random(32)
    const cluster = { clusterItem, clusterSeed, agentSeed: seed }
    const { origin, bytes } = certifyAgent(context, {
      ...cluster,
      node: 'gw-1',
      roles: ['gateway'],
      generation: 1
    })
    const { pods, services } = prefixes(index)
    return {
      cluster: name(index),
      origin,
      seed: base64(seed),
      meshId: base64(mesh.roots.meshId),
      k: mesh.roots.k,
      rootKeys: mesh.roots.keys.map(base64),
      clusterSeed: base64(clusterSeed),
      credential: base64(bytes),
      founder: base64(mesh.clusterItem),
      podPrefix: pods[0] ?? '',
      servicePrefix: services[0] ?? '',
      folder: join(folder, `agent-${index}`)
    }
  })
}

const SIGNATURES_MAX = 100_000

/**
 * It verifies each signature once, where many members of a bench would each do it on a core of their own, and where
 * the authors of statements verify what they have just made.
 */
export function rememberingCrypto(): Crypto {
  const crypto = createCrypto()
  const verdicts = new Map<string, boolean>()
  return {
    ...crypto,
    verify(key, signature, ...parts) {
      const name = Buffer.from(crypto.sha256(key, signature, ...parts)).toString('base64')
      const known = verdicts.get(name)
      if (known !== undefined) return known
      if (verdicts.size >= SIGNATURES_MAX) verdicts.clear()
      const verdict = crypto.verify(key, signature, ...parts)
      verdicts.set(name, verdict)
      return verdict
    }
  }
}

// As bin/meshd starts the daemon: what is measured is what is run.
const LAUNCHER_FLAGS = ['--max-semi-space-size=4', '--max-old-space-size=1024']
process.env['MALLOC_ARENA_MAX'] ??= '2'
process.env['MALLOC_TRIM_THRESHOLD_'] ??= '131072'
/** For a process of many agents, which the launcher never starts: a young generation for all of them. */
export const MANY_AGENTS = ['--max-semi-space-size=32']

let bundle: string | undefined

/** One file, as the daemon is: read from its sources, the same program takes 50 MB more. */
function bundled(): string {
  if (bundle !== undefined) return bundle
  // Beside node_modules, where its native addon is found.
  const folder = mkdtempSync(join(BUNDLE_OPTIONS.absWorkingDir, 'dist.bench-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  bundle = join(folder, 'agent-process.mjs')
  const define = { RHIZOME_VERSION: '"bench"' }
  buildSync({ ...BUNDLE_OPTIONS, define, entryPoints: ['test/bench/agent-process.ts'], outfile: bundle })
  const responder = { entryPoints: ['src/io/dns/process/main.ts'], outfile: join(folder, 'meshd-dns.js') }
  buildSync({ ...BUNDLE_OPTIONS, define, ...responder })
  return bundle
}

/** A process of agents: commands in, answers out, in order. */
export class AgentProcess {
  readonly #child: ChildProcess
  readonly #waiting = new Map<
    number,
    { resolve: (answer: unknown) => void; reject: (error: Error) => void }
  >()
  #next = 1

  /** `where`: a network namespace, else this one. */
  constructor(where?: Namespace, flags: readonly string[] = []) {
    const argv = ['--expose-gc', ...LAUNCHER_FLAGS, ...flags, bundled()]
    const options = { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] as ('ignore' | 'inherit' | 'ipc')[] }
    this.#child =
      where === undefined
        ? spawn(process.execPath, argv, options)
        : where.spawn([process.execPath, ...argv], options)
    this.#child.on('message', (message: { id: number; answer?: unknown; error?: string }) => {
      const waiting = this.#waiting.get(message.id)
      this.#waiting.delete(message.id)
      if (message.error === undefined) waiting?.resolve(message.answer)
      else waiting?.reject(new Error(message.error))
    })
    this.#child.on('exit', (code, signal) => this.#fail(`the agent process has ended (${code ?? signal})`))
    this.#child.on('error', (error) => this.#fail(`the agent process: ${error.message}`))
  }

  ask<K extends keyof Commands>(kind: K, options: Commands[K], timeoutMs = 120_000): Promise<Answers[K]> {
    const id = this.#next++
    const command: Command<K> = { id, kind, options }
    return new Promise((resolve, reject) => {
      if (!this.#child.connected) return reject(new Error('the agent process has ended'))
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        reject(new Error(`no answer to ${kind} within ${timeoutMs} ms`))
      }, timeoutMs)
      this.#waiting.set(id, {
        resolve: (answer) => {
          clearTimeout(timer)
          resolve(answer as Answers[K])
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        }
      })
      this.#child.send(command)
    })
  }

  #fail(reason: string): void {
    for (const { reject } of this.#waiting.values()) reject(new Error(reason))
    this.#waiting.clear()
  }

  /** With BENCH_PROFILE=<folder>: the first call starts a CPU profile, the second writes it. */
  async profile(name: string): Promise<void> {
    const folder = process.env['BENCH_PROFILE']
    if (folder !== undefined) await this.ask('profile', { file: join(folder, `${name}.cpuprofile`) })
  }

  async end(): Promise<void> {
    if (this.#child.connected) {
      const ended = once(this.#child, 'exit', { signal: AbortSignal.timeout(END_MS) }).catch(() => undefined)
      this.#child.disconnect()
      await ended
    }
    await this.kill()
  }

  /** As kill -9 does. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }
}

/** Milliseconds on a clock that all processes of this machine share. */
export function sharedMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000
}

export async function withFolder<T>(act: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'rhizome-bench-'))
  try {
    return await act(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
