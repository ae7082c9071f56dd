// Replication between real agents: the daemon's control plane with its store on disk and libp2p on loopback or through a bad
// network, beside etcd and a plain TCP copy in the same run.
import { freemem } from 'node:os'
import { join } from 'node:path'
import { Lab, type Namespace } from '../lab/support/netns.ts'
import { AgentProcess, MANY_AGENTS, newAgents, sharedMs, withFolder, type AgentSpec } from './agents.ts'
import { badLine } from './bad-line.ts'
import { Etcd } from './etcd.ts'
import { rejoin, rejoinTitle } from './rejoin.ts'
import { row, type Measured, type Step } from './row.ts'

/** As many as there are cores to run them. */
const PROCESSES = 2
const CHANGES_PER_SECOND = 10
const SECONDS = 6
const IDLE_SECONDS = 8
// A million needs about 3 GB for both sides and etcd; a smaller machine still gets an answer.
const ENDPOINTS = Number(process.env['BENCH_ENDPOINTS'] ?? (freemem() > 6e9 ? 1_000_000 : 100_000))
// 100 ms, 100 Mbit/s and 1 % loss: half of the round trip and of the loss each way.
const LINE = { delayMs: 50, mbitPerSecond: 100, loss: 0.005 }
const ENDPOINTS_PER_SERVICE = 100
// The longest that anything below may take before it counts as hung.
const PATIENCE_MS = 90_000

export const steps: readonly Step[] = [
  step('25 real agents', () => delivery(25)),
  step('50 real agents', () => delivery(50)),
  step(`join with ${ENDPOINTS} endpoints`, () => coldJoin(ENDPOINTS)),
  step(`join of ${ENDPOINTS} endpoints from afar`, () => farJoin(ENDPOINTS)),
  step(rejoinTitle, rejoin)
]

function step(title: string, measure: () => Promise<readonly Measured[]>): Step {
  return { title, measure: async () => (await measure()).map(row) }
}

// ------------------------------------------------------------------ delivery

async function delivery(count: number): Promise<readonly Measured[]> {
  return withFolder(async (folder) => {
    const theirs = await etcdDelivery(count, folder)
    const specs = newAgents(count, folder)
    const processes = Array.from({ length: PROCESSES }, () => new AgentProcess(undefined, MANY_AGENTS))
    try {
      const shares = processes.map((_, at) => specs.filter((_spec, index) => index % PROCESSES === at))
      const started = await Promise.all(
        processes.map((each, at) => each.ask('start', { agents: shares[at] ?? [], address: '127.0.0.1' }))
      )
      const members = started.flatMap((each) => each.members)
      await Promise.all(processes.map((each) => each.ask('connect', { members })))
      await Promise.all(
        processes.flatMap((each, at) =>
          (shares[at] ?? []).flatMap((_, agent) =>
            specs.map(({ cluster }) => each.ask('await', { agent, cluster, services: 0, timeoutMs: 60_000 }))
          )
        )
      )
      const publish = (change: number) => {
        const at = change % PROCESSES
        return processes[at]?.ask('publish', {
          agent: Math.floor(change / PROCESSES) % (shares[at]?.length ?? 1),
          change
        })
      }
      await paced(count, (change) => publish(1 + change)) // everyone once: routes warm, caches filled
      await settled(2000)
      await Promise.all(processes.map((each) => each.ask('sightings', {})))
      const before = await Promise.all(processes.map((each) => each.ask('facts', {})))
      const first = 1000
      const total = SECONDS * CHANGES_PER_SECOND
      await Promise.all(processes.map((each, at) => each.profile(`delivery-${count}-${at}`)))
      const published = await paced(total, (change) => publish(first + change))
      await settled(2000)
      await Promise.all(processes.map((each, at) => each.profile(`delivery-${count}-${at}`)))
      const sightings = (await Promise.all(processes.map((each) => each.ask('sightings', {})))).flat()
      const after = await Promise.all(processes.map((each) => each.ask('facts', {})))
      const delays = sightings.flatMap(([change, seenMs]) => {
        const atMs = published[change - first]
        return atMs === undefined ? [] : [seenMs - atMs]
      })
      const cpuMs = sum(after.map(({ cpuMs }) => cpuMs)) - sum(before.map(({ cpuMs }) => cpuMs))
      await settled(1000)
      const idle = await Promise.all(processes.map((each) => each.ask('facts', {})))
      await settled(IDLE_SECONDS * 1000)
      const rested = await Promise.all(processes.map((each) => each.ask('facts', {})))
      const idleBytes = sum(rested.map(wireBytes)) - sum(idle.map(wireBytes))
      const title = `${count} real agents, ${CHANGES_PER_SECOND} changes/s`
      return [
        ...(
          [
            ['p50', 0.5],
            ['p99', 0.99]
          ] as const
        ).map(([name, part]): Measured => ({
          name: `${title}: published → in every view, ${name}`,
          value: quantile(delays, part),
          unit: 'ms',
          ...(theirs === undefined
            ? {}
            : { baseline: { name: `etcd → ${count} watchers`, value: quantile(theirs, part) } }),
          ...(name === 'p99' ? { aim: atMost(60, 'ms') } : {})
        })),
        {
          // Of an origin's changes that come faster than they are taken, only the last is sure to be seen.
          name: `${title}: last change of each agent that every agent has seen`,
          value: (100 * sightings.filter(([change]) => change >= first + total - count).length) / count ** 2,
          unit: '%',
          aim: { text: '100 %', holds: (value) => value === 100 }
        },
        { name: `${title}: CPU an agent and change`, value: cpuMs / total / count, unit: 'ms' },
        {
          name: `${title}: longest event-loop stall (the machine's two cores run all of them)`,
          value: Math.max(...after.map(({ eventLoopMaxMs }) => eventLoopMaxMs)),
          unit: 'ms'
        },
        {
          name: `${count} real agents, idle: sent by an agent, with 100 B a frame for noise, yamux and TCP/IP`,
          value: idleBytes / IDLE_SECONDS / count / 1000,
          unit: 'kB/s',
          aim: atMost(2, 'kB/s')
        }
      ]
    } finally {
      await Promise.all(processes.map((each) => each.end()))
    }
  })
}

/** 4 of length, 12 of yamux, 18 of noise, 52 of TCP and IP, 14 of Ethernet: what a small frame costs that goes alone. */
function wireBytes({
  bytesOut,
  framesOut
}: {
  readonly bytesOut: number
  readonly framesOut: number
}): number {
  return bytesOut + 100 * framesOut
}

async function etcdDelivery(watchers: number, folder: string): Promise<readonly number[] | undefined> {
  if (!Etcd.isInstalled) return undefined
  const etcd = await Etcd.start(folder)
  try {
    const delays: number[] = []
    const published = new Map<string, number>()
    const seen = (value: string, atMs: number) => {
      const from = published.get(value)
      if (from !== undefined) delays.push(atMs - from)
    }
    await Promise.all(Array.from({ length: watchers }, () => etcd.watch('bench/', seen)))
    const put = (change: number) => {
      published.set(`${change}`, sharedMs())
      return etcd.put(`bench/${change % watchers}`, `${change}`)
    }
    await paced(10, put)
    delays.length = 0
    await paced(SECONDS * CHANGES_PER_SECOND, (change) => put(1000 + change))
    await settled(500)
    return delays
  } finally {
    await etcd.stop()
  }
}

// ------------------------------------------------------------------ joining

async function coldJoin(endpoints: number): Promise<readonly Measured[]> {
  return withFolder(async (folder) => {
    const { first, second } = pairOf(folder)
    const site = await Site.open(first, endpoints)
    const [joiner, alone] = [new AgentProcess(), new AgentProcess()]
    try {
      const bare = await alone.ask('facts', {})
      const joined = await joinTo(joiner, second, site)
      const facts = await joiner.ask('facts', {})
      const rawMs = await rawCopy(site.process, alone, '127.0.0.1', joined.bytes)
      const etcd = await etcdList(folder, endpoints, joined.bytes)
      await joiner.ask('stop', {})
      await joiner.end()
      const warm = await warmStart(second)
      const killed = await killedJoin(site, { ...second, folder: join(folder, 'killed') }, joined.bytes)
      const what = `${millions(endpoints)} endpoints`
      return [
        {
          name: `cold join, ${what}: dial → whole view`,
          value: joined.ms / 1000,
          unit: 's',
          baseline: { name: `raw TCP copy of ${megabytes(joined.bytes)}`, value: rawMs / 1000 },
          aim: atMost(3, 's')
        },
        ...(etcd === undefined
          ? []
          : [
              {
                name: `cold join, ${what}`,
                value: joined.ms / 1000,
                unit: 's',
                baseline: { name: 'etcd: range of as many, parsed', value: etcd.ms / 1000 }
              }
            ]),
        { name: `cold join, ${what}: CPU of the joiner`, value: joined.cpuMs / 1000, unit: 's' },
        {
          name: `cold join, ${what}: longest event-loop stall of the joiner`,
          value: joined.stallMs,
          unit: 'ms'
        },
        {
          name: `cold join, ${what}: bytes of frames an endpoint`,
          value: joined.bytes / endpoints,
          unit: 'B'
        },
        {
          name: `memory, ${what}: RSS of an agent`,
          value: facts.rssBytes / 1e6,
          unit: 'MB',
          baseline: { name: 'the same program, empty', value: bare.rssBytes / 1e6 },
          aim: atMost(200, 'MB')
        },
        {
          name: `warm restart, ${what}: store opened → DNS answers`,
          value: warm.ms / 1000,
          unit: 's',
          aim: atMost(2, 's')
        },
        { name: `warm restart, ${what}: records restored`, value: warm.restoredMs / 1000, unit: 's' },
        {
          name: `join, ${what}, joiner killed with -9 half way: sent twice`,
          value: killed.againBytes / 1000,
          unit: 'kB',
          baseline: { name: 'one chunk', value: 64 },
          aim: { text: '≤ 1 chunk', holds: (_, ratio = Infinity) => ratio <= 1 }
        }
      ]
    } finally {
      await Promise.all([joiner.end(), alone.end(), site.process.end()])
    }
  })
}

async function farJoin(endpoints: number): Promise<readonly Measured[]> {
  const reason = Lab.requirements()
  if (reason !== undefined) {
    process.stderr.write(`bench: left out: ${reason}\n`)
    return []
  }
  const lab = await Lab.create('bench-far')
  const processes: AgentProcess[] = []
  try {
    return await withFolder(async (folder) => {
      const { first, second } = pairOf(folder)
      const { here, there, hereAddress, thereAddress } = await badLine(lab, LINE)
      const control = (await here.exec(['sysctl', '-n', 'net.ipv4.tcp_congestion_control'])).stdout.trim()
      const site = await Site.open(first, endpoints, { where: here, address: hereAddress })
      processes.push(site.process)
      const [joiner, alone] = [new AgentProcess(there), new AgentProcess(there)]
      processes.push(joiner, alone)
      const joined = await joinTo(joiner, second, site, thereAddress)
      const rawMs = await rawCopy(site.process, alone, hereAddress, joined.bytes)
      return [
        {
          name: `cold join, ${millions(endpoints)} endpoints, 100 ms, 100 Mbit/s, 1 % loss (${control})`,
          value: joined.ms / 1000,
          unit: 's',
          baseline: { name: `raw TCP copy of ${megabytes(joined.bytes)}`, value: rawMs / 1000 },
          aim: atMost(10, 's')
        }
      ]
    })
  } finally {
    await Promise.all(processes.map((each) => each.end()))
    await lab.close()
  }
}

/** An agent with a large catalogue. */
class Site {
  readonly process: AgentProcess
  readonly spec: AgentSpec
  readonly services: number
  members: Awaited<ReturnType<typeof start>>['members'] = []

  private constructor(process: AgentProcess, spec: AgentSpec, endpoints: number) {
    this.process = process
    this.spec = spec
    this.services = Math.ceil(endpoints / ENDPOINTS_PER_SERVICE)
  }

  static async open(
    spec: AgentSpec,
    endpoints: number,
    { where, address = '127.0.0.1' }: { where?: Namespace; address?: string } = {}
  ): Promise<Site> {
    const site = new Site(new AgentProcess(where), spec, endpoints)
    try {
      site.members = (await start(site.process, spec, address)).members
      await site.process.ask('catalogue', { agent: 0, endpoints }, PATIENCE_MS)
      return site
    } catch (error) {
      await site.process.kill()
      throw error
    }
  }
}

function start(agent: AgentProcess, spec: AgentSpec, address = '127.0.0.1') {
  return agent.ask('start', { agents: [spec], address }, PATIENCE_MS)
}

async function joinTo(joiner: AgentProcess, spec: AgentSpec, site: Site, address?: string) {
  await start(joiner, spec, address)
  const before = await joiner.ask('facts', {})
  await joiner.profile('join')
  const beganMs = sharedMs()
  await joiner.ask('connect', { members: site.members })
  const want = { agent: 0, cluster: site.spec.cluster, services: site.services, timeoutMs: PATIENCE_MS }
  const wholeMs = await joiner.ask('await', want, PATIENCE_MS + 1000)
  await joiner.profile('join')
  const after = await joiner.ask('facts', {})
  return {
    ms: wholeMs - beganMs,
    bytes: after.bytesIn - before.bytesIn,
    cpuMs: after.cpuMs - before.cpuMs,
    stallMs: after.eventLoopMaxMs
  }
}

async function rawCopy(
  from: AgentProcess,
  to: AgentProcess,
  address: string,
  bytes: number
): Promise<number> {
  const port = await from.ask('serveBytes', { address, bytes })
  return to.ask('fetchBytes', { address, port }, PATIENCE_MS)
}

/** Killed with half of it received, started again with the same store: bytes received in both lives beyond one whole join. */
async function killedJoin(site: Site, spec: AgentSpec, wholeBytes: number): Promise<{ againBytes: number }> {
  const first = new AgentProcess()
  let firstBytes = 0
  try {
    await start(first, spec)
    await first.ask('connect', { members: site.members })
    firstBytes = await first.ask(
      'awaitBytes',
      { bytes: wholeBytes / 2, timeoutMs: PATIENCE_MS },
      PATIENCE_MS + 1000
    )
  } finally {
    await first.kill()
  }
  const second = new AgentProcess()
  try {
    const { bytes } = await joinTo(second, spec, site)
    return { againBytes: Math.max(0, firstBytes + bytes - wholeBytes) }
  } finally {
    await second.end()
  }
}

async function warmStart(spec: AgentSpec): Promise<{ ms: number; restoredMs: number }> {
  const agent = new AgentProcess()
  try {
    await agent.ask('facts', {}) // the program is loaded
    const beganMs = sharedMs()
    const { startMs } = await start(agent, spec)
    const answeredMs = await agent.ask('dns', { agent: 0, name: 'svc-1.bench.svc.cluster.c0' }, PATIENCE_MS)
    return { ms: answeredMs - beganMs, restoredMs: startMs }
  } finally {
    await agent.end()
  }
}

async function etcdList(
  folder: string,
  endpoints: number,
  bytes: number
): Promise<{ ms: number } | undefined> {
  if (!Etcd.isInstalled) return undefined
  const etcd = await Etcd.start(folder)
  try {
    const count = Math.ceil(endpoints / ENDPOINTS_PER_SERVICE)
    const value = 'x'.repeat(Math.round(bytes / count))
    await etcd.putAll(Array.from({ length: count }, (_, index) => [`eps/${index}`, value] as const))
    const beganMs = sharedMs()
    const found = await etcd.list('eps/')
    if (found !== count) throw new Error(`etcd listed ${found} of ${count}`)
    return { ms: sharedMs() - beganMs }
  } finally {
    await etcd.stop()
  }
}

// ------------------------------------------------------------------ small things

function pairOf(folder: string): { first: AgentSpec; second: AgentSpec } {
  const [first, second] = newAgents(2, folder, true)
  if (first === undefined || second === undefined) throw new Error('two agents are two')
  return { first, second }
}

/** One after the other at the given rate, whether or not the one before has ended. */
async function paced<T>(
  count: number,
  act: (index: number) => Promise<T> | undefined
): Promise<readonly T[]> {
  const running: (Promise<T> | undefined)[] = []
  const beganMs = performance.now()
  for (let index = 0; index < count; index++) {
    await settled(beganMs + (index * 1000) / CHANGES_PER_SECOND - performance.now())
    running.push(act(index))
  }
  return Promise.all(running.filter((each) => each !== undefined))
}

/** Real time passes: what is measured here is what happens in it. */
function settled(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, Math.max(0, ms))
  })
}

function atMost(limit: number, unit: string) {
  return { text: `≤ ${limit} ${unit}`, holds: (value: number) => value <= limit }
}

function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Infinity
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function millions(count: number): string {
  return count >= 1e6 ? `${count / 1e6}M` : `${count / 1000}k`
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}
