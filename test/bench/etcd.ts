// The baseline: etcd, the central store that rivals use, through its v3 JSON gateway. One server, as kind as can be to it: no
// quorum, clients on the same machine.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { Agent, request, type ClientRequest, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { eventually } from '../eventually.ts'
import { freePort } from '../ports.ts'
import type { Namespace } from '../lab/support/netns.ts'
import { sharedMs } from './agents.ts'

const PROGRAM = '/usr/bin/etcd'
// etcd's own bound (--max-txn-ops).
const TXN_OPS_MAX = 128

export class Etcd {
  readonly address: string
  readonly port: number
  readonly #child: ChildProcess
  readonly #keepAlive = new Agent({ keepAlive: true, maxSockets: 4 })
  readonly #watches: ClientRequest[] = []

  private constructor(child: ChildProcess, address: string, port: number) {
    this.#child = child
    this.address = address
    this.port = port
  }

  static get isInstalled(): boolean {
    return existsSync(PROGRAM)
  }

  static async start(folder: string, address = '127.0.0.1', where?: Namespace): Promise<Etcd> {
    const [port, peerPort] = [await freePort(), await freePort()]
    const client = `http://${address}:${port}`
    const peer = `http://${address}:${peerPort}`
    const argv = Object.entries({
      '--data-dir': join(folder, 'etcd'),
      '--name': 'one',
      '--log-level': 'error',
      '--listen-client-urls': client,
      '--advertise-client-urls': client,
      '--listen-peer-urls': peer,
      '--initial-advertise-peer-urls': peer,
      '--initial-cluster': `one=${peer}`
    }).flat()
    const options = { stdio: 'ignore' as const }
    const child =
      where === undefined ? spawn(PROGRAM, argv, options) : where.spawn([PROGRAM, ...argv], options)
    process.once('exit', () => child.kill('SIGKILL')) // a bench that fails leaves no server behind
    const etcd = new Etcd(child, address, port)
    if (where === undefined)
      await eventually(async () => (await etcd.call('kv/range', { key: encode('none') })) !== '', 20_000)
    return etcd
  }

  put(key: string, value: string): Promise<string> {
    return this.call('kv/put', { key: encode(key), value: encode(value) })
  }

  /** Many keys, in transactions of as many as it takes. */
  async putAll(entries: readonly (readonly [key: string, value: string])[]): Promise<void> {
    for (let from = 0; from < entries.length; from += TXN_OPS_MAX) {
      const success = entries
        .slice(from, from + TXN_OPS_MAX)
        .map(([key, value]) => ({ request_put: { key: encode(key), value: encode(value) } }))
      await this.call('kv/txn', { success })
    }
  }

  /** Calls back with each value put under the prefix and when it was seen. Resolves when it watches. */
  async watch(prefix: string, seen: (value: string, atMs: number) => void): Promise<void> {
    const watch = this.#request('watch')
    this.#watches.push(watch)
    watch.on('error', () => undefined) // ended by stop()
    watch.write(
      `${JSON.stringify({ create_request: { key: encode(prefix), range_end: encode(`${prefix}\u00ff`) } })}\n`
    )
    const [response] = (await once(watch, 'response')) as [IncomingMessage]
    response.on('error', () => undefined)
    const lines = createInterface({ input: response })
    lines.on('error', () => undefined)
    await new Promise<void>((resolve) => {
      lines.on('line', (line) => {
        const { result } = JSON.parse(line) as {
          result?: { created?: boolean; events?: { kv: { value: string } }[] }
        }
        if (result?.created === true) resolve()
        for (const { kv } of result?.events ?? [])
          seen(Buffer.from(kv.value, 'base64').toString(), sharedMs())
      })
    })
  }

  /** The whole range under a prefix, parsed. */
  async list(prefix: string): Promise<number> {
    const answer = await this.call('kv/range', { key: encode(prefix), range_end: encode(`${prefix}\u00ff`) })
    const { kvs } = JSON.parse(answer) as { kvs?: { key: string; value: string }[] }
    return (kvs ?? []).filter(({ value }) => Buffer.from(value, 'base64').length > 0).length
  }

  async call(path: string, body: object): Promise<string> {
    const call = this.#request(path)
    call.end(JSON.stringify(body))
    const [response] = (await once(call, 'response')) as [IncomingMessage]
    response.setEncoding('utf8')
    let text = ''
    for await (const chunk of response) text += chunk
    if (response.statusCode !== 200) throw new Error(`etcd: ${path}: ${text.slice(0, 200)}`)
    return text
  }

  async stop(): Promise<void> {
    for (const watch of this.#watches) watch.destroy()
    this.#keepAlive.destroy()
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }

  #request(path: string): ClientRequest {
    const agent = path === 'watch' ? false : this.#keepAlive
    return request({ host: this.address, port: this.port, path: `/v3/${path}`, method: 'POST', agent })
  }
}

function encode(text: string): string {
  return Buffer.from(text, 'latin1').toString('base64')
}
