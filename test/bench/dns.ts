// DNS at 10,000 services, asked by dnsperf: our responder, CoreDNS `forward` to it, CoreDNS with our feed, and CoreDNS with its
// own kubernetes plugin on a real API server that holds the same services.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { addressesOf, startCoredns, type RunningCoredns } from '../lab/support/coredns.ts'
import { eventually } from '../eventually.ts'
import { freePort } from '../ports.ts'
import { BENCH_ZONE, benchQuestions } from './dns-view.ts'
import { startBenchApi } from './dns-real-api.ts'
import { row, type Row } from './row.ts'

export interface DnsBenchOptions {
  readonly rounds?: number
  readonly seconds?: number
}

/** Some minutes, most of them to load the API server. Each round measures all subjects once, so that a busy neighbour hits them alike; the medians count. */
export async function rows(options: DnsBenchOptions = {}): Promise<readonly Row[]> {
  const { rounds = 5, seconds = 3 } = options
  const api = await startBenchApi()
  process.stderr.write(`bench: kube-apiserver loaded in ${(api.loadMs / 1000).toFixed(0)} s\n`)
  try {
    return await rowsBeside(api.kubeconfig, { rounds, seconds })
  } finally {
    await api.stop()
  }
}

async function rowsBeside(
  kubeconfig: string,
  { rounds, seconds }: Required<DnsBenchOptions>
): Promise<readonly Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'rhizome-bench-'))
  const questions = join(folder, 'questions')
  const [dnsPort, feedPort] = [await freePort(), await freePort()]
  const own = spawn(process.execPath, ['test/bench/dns-server.ts', String(dnsPort), String(feedPort)], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const coredns: RunningCoredns[] = []
  try {
    await writeFile(questions, benchQuestions(BENCH_ZONE))
    await once(own.stdout, 'data', { signal: AbortSignal.timeout(30_000) })
    const start = async (lines: readonly string[]): Promise<number> => {
      const server = await startCoredns((port) => block(port, lines), BENCH_ZONE)
      coredns.push(server)
      await eventually(async () => (await addressesOf(server.port, LAST_NAME)).includes('.'), 60_000)
      return server.port
    }
    const feedUrl = `http://127.0.0.1:${feedPort}/clusters/bench`
    const ports = new Map([
      [RESPONDER, dnsPort],
      [FORWARD, await start([`forward . 127.0.0.1:${dnsPort} {`, 'max_fails 0', '}'])],
      [FEED, await start(pluginLines(`endpoint ${feedUrl}`))],
      [REAL, await start(pluginLines(`kubeconfig ${kubeconfig}`))]
    ])
    const measured = new Map(Array.from(ports.keys(), (name) => [name, [] as Load[]]))
    for (let round = 0; round < rounds; round++) {
      for (const [name, port] of ports) measured.get(name)?.push(await dnsperf(port, questions, seconds))
    }
    const figures = (name: string, against: string, least: number): readonly Row[] => {
      const [own, other] = [load(measured.get(name)), load(measured.get(against))]
      return [
        row({
          name: `${name}, 10,000 services`,
          value: own.rate,
          unit: 'queries/s',
          baseline: { name: against, value: other.rate },
          aim: { text: `≥ ${least} of the baseline`, holds: (_, ratio = 0) => ratio >= least }
        }),
        row({
          name: `${name}, 10,000 services, mean latency under that load`,
          value: own.latencyMs,
          unit: 'ms',
          baseline: { name: against, value: other.latencyMs }
        })
      ]
    }
    return [...figures(RESPONDER, FORWARD, 1.2), ...figures(FEED, REAL, 0.95)]
  } finally {
    for (const server of coredns) await server.stop()
    own.kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  }
}

const RESPONDER = 'our DNS responder'
const FORWARD = 'CoreDNS forward to our responder'
const FEED = 'CoreDNS with our feed'
const REAL = 'CoreDNS with its plugin on kube-apiserver'
const LAST_NAME = `svc-9999.ns-49.svc.${BENCH_ZONE}`

/** `from`: where the plugin reads the services. */
function pluginLines(from: string): readonly string[] {
  return ['kubernetes {', from, 'ttl 5', 'startup_timeout 60s', '}']
}

function block(port: number, lines: readonly string[]): string {
  return `${BENCH_ZONE}:${port} {\n${['bind 127.0.0.1', ...lines].join('\n')}\n}\n`
}

interface Load {
  readonly rate: number
  readonly latencyMs: number
}

async function dnsperf(port: number, questions: string, seconds: number): Promise<Load> {
  const parameters = [
    '-s',
    '127.0.0.1',
    '-p',
    String(port),
    '-d',
    questions,
    '-l',
    String(seconds),
    '-c',
    '8',
    '-q',
    '64'
  ]
  const text = await new Promise<string>((resolve, reject) => {
    execFile('dnsperf', parameters, { timeout: (seconds + 20) * 1000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`dnsperf: ${stderr}`, { cause: error }))
    })
  })
  const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? Number.NaN)
  const noerror = number(/NOERROR \d+ \(([\d.]+)%\)/)
  if (!(noerror > 99.9)) throw new Error(`answers are not all NOERROR:\n${text}`)
  return {
    rate: number(/Queries per second:\s+([\d.]+)/),
    latencyMs: number(/Average Latency \(s\):\s+([\d.]+)/) * 1000
  }
}

function load(loads: readonly Load[] = []): Load {
  return {
    rate: median(loads.map(({ rate }) => rate)),
    latencyMs: median(loads.map(({ latencyMs }) => latencyMs))
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right)
  return sorted[sorted.length >> 1] ?? Number.NaN
}
