// Names of the mesh while the agent is busy: the join of a million endpoints, a neighbour that floods it, a pass of 10,000 services. Each is
// asked of the responder process and, in the first two, of a responder in the agent's own thread at the same time; before each, both are
// asked while the agent is idle.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { setPriority, freemem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { createInterface, type Interface } from 'node:readline'
import type { PlanAnswer, StatusAnswer } from '../../src/api/answers.ts'
import { podCidr, serviceCidr, World } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { Lab, type Namespace } from '../lab/support/netns.ts'
import { AgentProcess, newAgents, withFolder } from './agents.ts'
import type { Asked } from './dns-asker.ts'
import { row, type Row, type Step } from './row.ts'

const ENDPOINTS = Number(process.env['BENCH_ENDPOINTS'] ?? (freemem() > 6e9 ? 1_000_000 : 100_000))
const SERVICES = Number(process.env['BENCH_SERVICES'] ?? 10_000)
const PATIENCE_MS = 300_000
const IDLE_MS = 5000
const FLOOD_MS = 10_000
const AIM_MS = 20

export const steps: readonly Step[] = [
  { title: `names during the join of ${ENDPOINTS} endpoints, and under a flood`, measure: joinAndFlood },
  { title: `names during a pass of ${SERVICES} services`, measure: pass }
]

async function joinAndFlood(): Promise<readonly Row[]> {
  return withFolder(async (folder) => {
    const [first, second] = newAgents(2, folder, true)
    if (first === undefined || second === undefined) throw new Error('two agents')
    const [site, joiner] = [new AgentProcess(), new AgentProcess()]
    const askers: Asker[] = []
    try {
      const { members } = await site.ask('start', { agents: [first], address: '127.0.0.1' }, PATIENCE_MS)
      await site.ask('catalogue', { agent: 0, endpoints: ENDPOINTS }, PATIENCE_MS)
      await joiner.ask('start', { agents: [second], address: '127.0.0.1' })
      await joiner.ask('publish', { agent: 0, change: 1 })
      const { threadPort, processPort, pid } = await joiner.ask('responders', {
        agent: 0,
        control: join(folder, 'dns')
      })
      const name = 'marker.bench.svc.cluster.c1'
      askers.push(
        await Asker.start({ port: processPort, name }),
        await Asker.start({ port: threadPort, name })
      )
      await pause(1000)
      const idle = await during(askers, () => pause(IDLE_MS))
      const emptyBytes = rssOf(pid)
      const services = Math.ceil(ENDPOINTS / 100)
      const joined = await during(askers, async () => {
        await joiner.ask('connect', { members })
        await joiner.ask(
          'await',
          { agent: 0, cluster: first.cluster, services, timeoutMs: PATIENCE_MS },
          PATIENCE_MS
        )
        await told(processPort, services)
      })
      const fullBytes = rssOf(pid)
      let change = 1
      const flooded = await during(askers, async () => {
        const endMs = performance.now() + FLOOD_MS
        const publish = async (): Promise<void> => {
          while (performance.now() < endMs) await site.ask('publish', { agent: 0, change: ++change })
        }
        await Promise.all(Array.from({ length: 50 }, publish))
      })
      const endpoints = ENDPOINTS.toLocaleString('en')
      return [
        ...figures(`during the join of ${endpoints} endpoints`, joined, idle),
        ...figures(
          `while a neighbour floods (${Math.round(change / (FLOOD_MS / 1000))} changes/s)`,
          flooded,
          idle
        ),
        row({ name: 'memory of the responder process without names', value: emptyBytes / 1e6, unit: 'MB' }),
        row({
          name: `memory of the responder process, ${endpoints} endpoints`,
          value: fullBytes / 1e6,
          unit: 'MB',
          baseline: { name: 'without names', value: emptyBytes / 1e6 }
        })
      ]
    } finally {
      for (const asker of askers) asker.end()
      await joiner.end()
      await site.end()
    }
  })
}

/** The last service is answered by the process. */
async function told(port: number, services: number): Promise<void> {
  const asker = await Asker.start({ port, name: `svc-${services - 1}.bench.svc.cluster.c0` })
  try {
    await eventually(async () => {
      await pause(500)
      const { count, failed } = await asker.period()
      return count > 0 && failed === 0
    }, PATIENCE_MS)
  } finally {
    asker.end()
  }
}

async function pass(): Promise<readonly Row[]> {
  execFileSync(process.execPath, ['build/bundle.ts'], { stdio: ['ignore', 'ignore', 'inherit'] })
  const lab = await Lab.create('benchdns')
  const world = await World.raise(lab, { clusters: ['west'] })
  let asker: Asker | undefined
  try {
    const site = world.site('west')
    await site.start()
    const prefixes = ['--pod-cidr', podCidr('west'), '--service-cidr', serviceCidr('west')]
    const founded = await site.ctl('init', '--cluster', 'west', ...prefixes)
    if (founded.exitCode !== 0) throw new Error(founded.stderr)
    await eventually(async () => (await site.ask<StatusAnswer>('status')).dns.state === 'on')
    const name = 'web.shop.svc.cluster.west'
    asker = await Asker.start({ address: '10.1.0.1', port: 53, name, where: site.gateway })
    await pause(1000)
    const idle = await during([asker], () => pause(IDLE_MS))
    const busy = await during([asker], async () => {
      writeFileSync(join(site.manifests, 'many.yaml'), manyServices(SERVICES))
      await eventually(async () => {
        await pause(1000)
        const { source } = await site.ask<StatusAnswer>('status')
        return source.services > SERVICES && (await site.ask<PlanAnswer>('plan')).inStep
      }, PATIENCE_MS)
    })
    return figures(`during a pass of ${SERVICES.toLocaleString('en')} services`, busy, idle)
  } finally {
    asker?.end()
    await world.close()
  }
}

function manyServices(count: number): string {
  return Array.from({ length: count }, (_, index) => {
    const [high, low] = [1 + (index >> 8), index & 255]
    return [
      'apiVersion: v1',
      'kind: Service',
      `metadata: { name: many-${index}, namespace: many }`,
      `spec: { clusterIP: 10.101.${high}.${low}, ports: [{ name: http, port: 80 }] }`,
      '---',
      'apiVersion: discovery.k8s.io/v1',
      'kind: EndpointSlice',
      `metadata: { name: many-${index}, namespace: many, labels: { kubernetes.io/service-name: many-${index} } }`,
      'addressType: IPv4',
      'ports: [{ name: http, port: 8080 }]',
      `endpoints: [{ addresses: [10.1.${high}.${low}] }]`,
      '---',
      ''
    ].join('\n')
  }).join('')
}

function figures(what: string, busy: readonly Asked[], idle: readonly Asked[]): readonly Row[] {
  const [process, thread] = busy
  const [calm] = idle
  if (process === undefined || calm === undefined) throw new Error('nobody asked')
  const rows = [
    row({
      name: `name of the mesh ${what}, p99`,
      value: process.p99,
      unit: 'ms',
      baseline: { name: 'idle', value: calm.p99 },
      aim: { text: `≤ ${AIM_MS} ms`, holds: (value) => value <= AIM_MS }
    }),
    row({
      name: `name of the mesh ${what}, unanswered of ${process.count}`,
      value: process.failed,
      unit: 'questions',
      aim: { text: '0', holds: (value) => value === 0 }
    })
  ]
  if (thread === undefined) return rows
  const baseline = { name: 'a responder in the agent’s own thread', value: thread.p99 }
  return [...rows, row({ name: `the same beside the thread, p99`, value: process.p99, unit: 'ms', baseline })]
}

/** What each asker saw while `act` went on. */
async function during(askers: readonly Asker[], act: () => Promise<unknown>): Promise<readonly Asked[]> {
  await Promise.all(askers.map((asker) => asker.period()))
  await act()
  return Promise.all(askers.map((asker) => asker.period()))
}

class Asker {
  readonly #child: ChildProcess
  readonly #lines: Interface

  private constructor(child: ChildProcess, lines: Interface) {
    this.#child = child
    this.#lines = lines
  }

  static async start({
    address = '127.0.0.1',
    port,
    name,
    where
  }: {
    readonly address?: string
    readonly port: number
    readonly name: string
    readonly where?: Namespace
  }): Promise<Asker> {
    const argv = [process.execPath, 'test/bench/dns-asker.ts', address, String(port), name]
    // A session of its own, as the responder has one: kernels share processor time among sessions.
    const options = { stdio: ['pipe', 'pipe', 'inherit'] as ('pipe' | 'inherit')[], detached: true }
    const child =
      where === undefined ? spawn(argv[0] ?? '', argv.slice(1), options) : where.spawn(argv, options)
    if (child.stdout === null) throw new Error('no output')
    // What is measured is the responder, not how long the asker waits for a core.
    if (child.pid !== undefined) first(child.pid)
    const lines = createInterface({ input: child.stdout })
    await once(lines, 'line', { signal: AbortSignal.timeout(30_000) })
    return new Asker(child, lines)
  }

  async period(): Promise<Asked> {
    const line = once(this.#lines, 'line', { signal: AbortSignal.timeout(30_000) })
    this.#child.stdin?.write('\n')
    const [text] = (await line) as [string]
    return JSON.parse(text) as Asked
  }

  end(): void {
    this.#child.kill()
  }
}

function first(pid: number): void {
  try {
    setPriority(pid, -10)
    writeFileSync(`/proc/${pid}/autogroup`, '-10')
  } catch {
    // Not root, or a kernel without it.
  }
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
}
