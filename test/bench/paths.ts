// What the path over TCP costs: bulk from pod to pod over a carried tunnel, beside the same over the direct tunnel in one run.
// Both ends run on one machine. The throughput depends on what else runs there; the processor time of a megabyte does not.
import { readdirSync, readFileSync } from 'node:fs'
import { Lab } from '../lab/support/netns.ts'
import { build } from '../built.ts'
import { eventually } from '../eventually.ts'
import { World, type Site } from '../demo/site.ts'
import { peer, reaches, unite } from '../scenarios/harness.ts'
import { row, type Row, type Step } from './row.ts'

const SECONDS = 5

export const steps: readonly Step[] = [{ title: 'tunnel over TCP', measure }]

async function measure(): Promise<readonly Row[]> {
  const reason = Lab.requirements()
  if (reason !== undefined) {
    process.stderr.write(`paths: left out: ${reason}\n`)
    return []
  }
  build()
  const lab = await Lab.create('paths-bench')
  const world = await World.raise(lab, { clusters: ['west', 'east'] })
  const [west, east] = [world.site('west'), world.site('east')]
  try {
    // Without the limit of the setting, which is there for the others.
    await Promise.all([west, east].map((site) => site.start('--tcp-path-rate', '10000')))
    await unite(west, east)
    await reaches(west, east)
    const direct = await bulk(west, east)
    for (const site of [west, east])
      await site.gateway.exec(['nft', '-f', '-'], {
        input:
          'table inet bench {\n chain in {\n type filter hook input priority -400;\n iifname wan0 udp dport 51820 drop\n }\n}\n'
      })
    await eventually(async () => (await peer(west, 'east'))?.path === 'tcp')
    await reaches(west, east)
    const carried = await bulk(west, east)
    return [
      row({
        name: 'paths: bulk over tcp',
        value: carried.megabits,
        unit: 'Mbit/s',
        baseline: { name: 'direct', value: direct.megabits },
        aim: { text: '≥ 0.3 of the baseline', holds: (_, ratio = 0) => ratio >= 0.3 }
      }),
      row({
        name: 'paths: processor time of meshd for 1 MB over tcp',
        value: carried.meshdMs,
        unit: 'ms',
        baseline: { name: 'wireguard-go, direct', value: direct.wireguardMs },
        aim: { text: '≤ 10 of the baseline', holds: (_, ratio = 0) => ratio <= 10 }
      })
    ]
  } finally {
    await world.close()
  }
}

/** What one bulk transfer has reached and cost, at both ends together. */
interface Bulk {
  readonly megabits: number
  /** Milliseconds of the processor for a megabyte. */
  readonly meshdMs: number
  readonly wireguardMs: number
}

/** One TCP connection on which a pod of `from` sends to a pod of `to`. */
async function bulk(from: Site, to: Site): Promise<Bulk> {
  const { address, namespace } = to.pod(0)
  const server = `let bytes = 0
require('net').createServer((socket) => socket.on('data', (data) => (bytes += data.length)).on('error', () => undefined))
  .listen(9100, '${address}', () => console.log('ready'))
process.stdin.resume().on('end', () => (console.log(bytes), process.exit()))`
  const client = `const socket = require('net').connect(9100, '${address}')
const chunk = Buffer.alloc(64 * 1024)
const more = () => { while (socket.write(chunk)); }
socket.on('connect', more).on('drain', more).on('error', () => undefined)
setTimeout(() => process.exit(), ${SECONDS * 1000})`
  const serving = namespace.spawn([process.execPath, '-e', server], { stdio: ['pipe', 'pipe', 'inherit'] })
  let text = ''
  serving.stdout?.on('data', (data) => (text += String(data)))
  await eventually(() => text.includes('ready'))
  const meshd = [from, to].flatMap(({ pid }) => pid ?? [])
  const wireguard = [from, to].flatMap(({ device }) => wireguardOf(device))
  const [meshdMs, wireguardMs] = [processorMs(meshd), processorMs(wireguard)]
  await from.pod(0).namespace.exec([process.execPath, '-e', client], { timeoutMs: 60_000 })
  const ended = new Promise((resolve) => serving.once('close', resolve))
  serving.stdin?.end()
  await ended
  const megabytes = Number(text.split('\n')[1]) / 1e6
  return {
    megabits: (megabytes * 8) / SECONDS,
    meshdMs: (processorMs(meshd) - meshdMs) / megabytes,
    wireguardMs: (processorMs(wireguard) - wireguardMs) / megabytes
  }
}

/** The processes of wireguard-go of one device; none where the kernel has WireGuard. */
function wireguardOf(device: string): readonly number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter(
      (pid) =>
        pid > 0 && read(`/proc/${pid}/cmdline`).split('\0').slice(0, 2).join(' ') === `wireguard-go ${device}`
    )
}

/** User and system time of processes since their start (proc(5): fields 14 and 15, in hundredths of a second). */
function processorMs(pids: readonly number[]): number {
  const ticks = pids.map((pid) => {
    const fields = read(`/proc/${pid}/stat`)
      .replace(/^.*\) /s, '')
      .split(' ')
    return Number(fields[11]) + Number(fields[12])
  })
  return ticks.reduce((sum, each) => sum + each, 0) * 10
}

/** '' for a process that has ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
