// Sockets, `dig` and a small upstream for the DNS tests. All on loopback, all bounded.
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

import { decode, encode, type Packet, type RecordType } from '@dnsquery/dns-packet'

import { createNames, type Names } from '../../../src/core/dns/names.ts'
import { createDnsServer, type DnsServer, type DnsServerOptions } from '../../../src/io/dns/server.ts'
import { frame, Framer } from '../../../src/io/dns/framing.ts'
import { shopMesh } from '../../core/dns/fixtures.ts'
import { slowness } from '../../eventually.ts'
import { freePort } from '../../ports.ts'

export const DEADLINE_MS = 30_000 * slowness()

export interface Running {
  readonly server: DnsServer
  readonly port: number
}

/** Starts a server on a free loopback port; stop it in `after`. */
export async function startServer(options: Partial<DnsServerOptions> = {}): Promise<Running> {
  const names: Names = createNames({ view: shopMesh() })
  const server = createDnsServer({
    listen: [{ address: '127.0.0.1', port: 0 }],
    names: () => names,
    ...options
  })
  await server.start()
  return { server, port: server.listening[0]?.port ?? 0 }
}

export function query(
  name: string,
  type: string,
  options: { udpBytes?: number; id?: number } = {}
): Uint8Array {
  const { udpBytes, id = 7 } = options
  const opt = { type: 'OPT' as const, name: '.', udpPayloadSize: udpBytes, data: [], options: [] }
  return encode({
    type: 'query',
    id,
    flags: 0x100,
    questions: [{ name, type, class: 'IN' }],
    additionals: udpBytes === undefined ? [] : [opt]
  })
}

/** One datagram and its answer; undefined when none comes within `waitMs`. */
export async function askUdp(
  port: number,
  message: Uint8Array,
  waitMs = DEADLINE_MS
): Promise<Uint8Array | undefined> {
  const socket = createSocket('udp4')
  try {
    const reply = once(socket, 'message', { signal: AbortSignal.timeout(waitMs) })
    socket.send(message, port, '127.0.0.1')
    const [bytes]: unknown[] = await reply
    return bytes instanceof Uint8Array ? bytes : undefined
  } catch {
    // Timed out: silence is an outcome here.
    return undefined
  } finally {
    socket.close()
  }
}

/** Sends all the bytes as given and collects `count` messages. */
export async function askTcp(
  port: number,
  bytes: readonly Uint8Array[],
  count: number
): Promise<Uint8Array[]> {
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  const framer = new Framer()
  const replies: Uint8Array[] = []
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`only ${replies.length} of ${count} answers`)),
      DEADLINE_MS
    )
    socket.on('error', reject)
    socket.on('close', () => resolve())
    socket.on('data', (chunk) => {
      framer.push(chunk)
      for (let reply = framer.next(); reply !== undefined; reply = framer.next()) replies.push(reply)
      if (replies.length >= count) resolve()
    })
    socket.on('close', () => clearTimeout(timer))
    for (const part of bytes) socket.write(part)
  }).finally(() => socket.destroy())
  return replies
}

export async function ask(port: number, name: string, type: RecordType): Promise<Packet> {
  const reply = await askUdp(port, query(name, type))
  if (reply === undefined) throw new Error(`no answer for ${name} ${type}`)
  return decode(reply)
}

export interface Dig {
  readonly status: string
  readonly flags: readonly string[]
  readonly edns: string | undefined
  /** Records of all sections, spaces collapsed. */
  readonly records: readonly string[]
  readonly text: string
}

export async function dig(port: number, ...args: readonly string[]): Promise<Dig> {
  const text = await new Promise<string>((resolve, reject) => {
    const all = ['@127.0.0.1', '-p', String(port), '+tries=1', '+time=3', ...args]
    execFile('dig', all, { timeout: DEADLINE_MS }, (error, stdout) => {
      if (error === null) resolve(stdout)
      else reject(new Error(stdout, { cause: error }))
    })
  })
  const lines = text.split('\n').map((line) => line.replaceAll(/\s+/g, ' ').trim())
  return {
    text,
    status: /status: (\w+)/.exec(text)?.[1] ?? '',
    flags: (/;; flags: ([a-z ]+);/.exec(text)?.[1] ?? '').split(' '),
    edns: /; EDNS: .*/.exec(text)?.[0],
    records: lines.filter((line) => line !== '' && !line.startsWith(';'))
  }
}

/** An upstream that answers each query with what `respond` makes of it; undefined: silence. */
export async function startUpstream(
  respond: (query: Uint8Array, transport: 'udp' | 'tcp') => Uint8Array | undefined
) {
  const tcp = createServer((socket) => {
    const framer = new Framer()
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk) => {
      framer.push(chunk)
      const message = framer.next()
      const reply = message === undefined ? undefined : respond(message, 'tcp')
      if (reply !== undefined) socket.write(frame(reply))
    })
  })
  const port = await freePort()
  tcp.listen(port, '127.0.0.1')
  await once(tcp, 'listening')
  const udp = createSocket('udp4')
  const asked: { readonly message: Uint8Array; readonly port: number }[] = []
  udp.on('message', (message, client) => {
    asked.push({ message, port: client.port })
    const reply = respond(message, 'udp')
    if (reply !== undefined) udp.send(reply, client.port, client.address)
  })
  udp.bind(port, '127.0.0.1')
  await once(udp, 'listening')
  return {
    address: `127.0.0.1:${port}`,
    asked,
    stop: () => {
      udp.close()
      tcp.close()
    }
  }
}

/** An answer of addresses to a query. */
export function addressReply(message: Uint8Array, addresses: readonly string[], flags = 0x180): Uint8Array {
  const { id = 0, questions = [] } = decode(message)
  const name = questions[0]?.name ?? '.'
  return encode({
    type: 'response',
    id,
    flags,
    questions,
    answers: addresses.map((data) => ({ name, type: 'A' as const, class: 'IN' as const, ttl: 60, data }))
  })
}

export async function eventually(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + DEADLINE_MS
  while (!condition()) {
    if (performance.now() > end) throw new Error(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
