// The real CoreDNS for tests, and where the other programs of build/kube-lab are.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { decode, type Packet, type RecordType } from '@dnsquery/dns-packet'

import { eventually } from '../../eventually.ts'
import { freePort } from '../../ports.ts'
import { askTcp, query } from '../../io/dns/harness.ts'
import { frame } from '../../../src/io/dns/framing.ts'

export interface RunningCoredns {
  readonly port: number
  readonly pid: number
  /** What it has printed; the tail of it. */
  log(): string
  /** Writes another Corefile, for its `reload` plugin. */
  rewrite(corefile: string): Promise<void>
  stop(): Promise<void>
}

/** Path of a program of build/kube-lab. Minutes at the first time on a machine, an instant later. */
export async function labProgram(name: 'coredns' | 'kubectl' | 'informers'): Promise<string> {
  const output = await new Promise<string>((resolve, reject) => {
    execFile('build/kube-lab', { timeout: 40 * 60_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`build/kube-lab: ${stderr}`, { cause: error }))
    })
  })
  const path = new RegExp(`^${name}=(.+)$`, 'm').exec(output)?.[1]
  if (path === undefined) throw new Error(`build/kube-lab names no ${name}: ${output}`)
  return path
}

/** `corefile` is given the port, which is also that of keys without one. Ready when it answers anything at all for `probe`. */
export async function startCoredns(
  corefile: (port: number) => string,
  probe: string
): Promise<RunningCoredns> {
  const [port, folder] = await Promise.all([freePort(), mkdtemp(join(tmpdir(), 'rhizome-coredns-'))])
  const file = join(folder, 'Corefile')
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true })
  await writeFile(file, corefile(port))
  try {
    const coredns = await runCoredns({ file, port, probe })
    return {
      ...coredns,
      async stop() {
        await coredns.stop()
        await remove()
      }
    }
  } catch (error) {
    await remove()
    throw error
  }
}

export interface CorednsOptions {
  /** The Corefile, which somebody else writes. */
  readonly file: string
  /** Of keys without one. */
  readonly port: number
  /** It is ready when it answers anything at all for this name. */
  readonly probe: string
  readonly pidFile?: string
}

export async function runCoredns({ file, port, probe, pidFile }: CorednsOptions): Promise<RunningCoredns> {
  const args = [
    '-conf',
    file,
    '-dns.port',
    String(port),
    ...(pidFile === undefined ? [] : ['-pidfile', pidFile])
  ]
  const child = spawn(await labProgram('coredns'), args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = once(child, 'exit')
  let printed = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      printed = (printed + String(chunk)).slice(-20_000)
    })
  }
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await exited
  }
  try {
    await eventually(async () => {
      if (child.exitCode !== null) throw new Error(printed)
      const { type } = await askCoredns(port, probe, 'SOA')
      return type === 'response'
    }, 30_000)
  } catch (error) {
    await stop()
    throw new Error(`CoreDNS does not start: ${printed}`, { cause: error })
  }
  return {
    port,
    pid: child.pid ?? 0,
    log: () => printed,
    rewrite: (text) => writeFile(file, text),
    stop
  }
}

/** Over TCP, so that no answer is cut. */
export async function askCoredns(port: number, name: string, type: RecordType): Promise<Packet> {
  const [reply] = await askTcp(port, [frame(query(name, type))], 1)
  if (reply === undefined) throw new Error(`no answer for ${name} ${type}`)
  return decode(reply)
}

/** The addresses (or the alias) behind a name, sorted; or the rcode where it is not NOERROR. */
export async function addressesOf(port: number, name: string, type: 'A' | 'AAAA' = 'A'): Promise<string> {
  const { answers = [], ...rest } = await askCoredns(port, name, type)
  const rcode = 'rcode' in rest ? rest.rcode : 'NOERROR'
  if (rcode !== 'NOERROR') return rcode
  return answers
    .flatMap((record) => (record.type === type || record.type === 'CNAME' ? [record.data] : []))
    .sort()
    .join(' ')
}
