// A long, thin and lossy line between two network namespaces, on kernels with and without netem: a WireGuard tunnel whose packets
// pass a relay that delays, paces and loses them. TCP inside it meets real loss, packet by packet.
import { fileURLToPath } from 'node:url'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { Lab, Namespace } from '../lab/support/netns.ts'
import { Random } from '../sim/random.ts'

export interface LineOptions {
  /** Each way. */
  readonly delayMs: number
  readonly mbitPerSecond: number
  /** Of the packets of each way. */
  readonly loss: number
}

export interface Line {
  readonly here: Namespace
  readonly there: Namespace
  readonly hereAddress: string
  readonly thereAddress: string
}

const WG_PORT = 51820
const RELAY_PORT = 5000

export async function badLine(lab: Lab, options: LineOptions): Promise<Line> {
  const [here, there, wan] = [
    await lab.namespace('here'),
    await lab.namespace('there'),
    await lab.namespace('wan')
  ]
  await lab.link(wan, 'here', '10.201.0.254/24', here, 'eth0', '10.201.0.1/24')
  await lab.link(wan, 'there', '10.202.0.254/24', there, 'eth0', '10.202.0.1/24')
  const relay = wan.spawn([process.execPath, fileURLToPath(import.meta.url), JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  if (relay.stdout !== null) await once(relay.stdout, 'data') // it listens
  const [first, second] = [await newKeys(here), await newKeys(there)]
  await tunnel(lab, {
    at: here,
    name: 'a',
    address: '10.200.0.1/24',
    privateKey: first.privateKey,
    peer: second.publicKey,
    relay: '10.201.0.254'
  })
  await tunnel(lab, {
    at: there,
    name: 'b',
    address: '10.200.0.2/24',
    privateKey: second.privateKey,
    peer: first.publicKey,
    relay: '10.202.0.254'
  })
  return { here, there, hereAddress: '10.200.0.1', thereAddress: '10.200.0.2' }
}

async function newKeys(at: Namespace): Promise<{ privateKey: string; publicKey: string }> {
  const privateKey = (await at.exec(['wg', 'genkey'])).stdout.trim()
  const publicKey = (await at.exec(['wg', 'pubkey'], { input: privateKey })).stdout.trim()
  return { privateKey, publicKey }
}

async function tunnel(
  lab: Lab,
  options: {
    readonly at: Namespace
    readonly name: string
    readonly address: string
    readonly privateKey: string
    readonly peer: string
    readonly relay: string
  }
): Promise<void> {
  const { at, peer } = options
  const device = lab.device(options.name)
  await at.exec(['wireguard-go', device])
  const settings = `peer ${peer} allowed-ips 10.200.0.0/24 endpoint ${options.relay}:${RELAY_PORT}`
  // wg opens the key as a file; a pipe is one, the socket that a child's standard input is here is not.
  const script = `cat | wg set ${device} listen-port ${WG_PORT} private-key /dev/stdin ${settings}`
  await at.exec(['sh', '-c', script], { input: options.privateKey })
  await at.exec(['ip', 'address', 'add', options.address, 'dev', device])
  await at.exec(['ip', 'link', 'set', 'dev', device, 'mtu', '1420', 'up'])
}

// ------------------------------------------------------------------ the relay, a process of its own

/** One way: packets leave in order, at the rate of the line, after its delay. */
class Way {
  readonly #options: LineOptions
  readonly #random = new Random(1)
  readonly #queue: { readonly packet: Buffer; readonly dueMs: number }[] = []
  readonly #send: (packet: Buffer) => void
  #freeMs = 0
  #waiting = false

  constructor(options: LineOptions, send: (packet: Buffer) => void) {
    this.#options = options
    this.#send = send
  }

  take(packet: Buffer): void {
    const { delayMs, mbitPerSecond, loss } = this.#options
    const nowMs = performance.now()
    this.#freeMs = Math.max(this.#freeMs, nowMs)
    // As a router does that buffers as much as the line holds.
    if (this.#random.chance(loss) || this.#freeMs - nowMs > 2 * delayMs) return
    this.#freeMs += (packet.length * 8) / (mbitPerSecond * 1000)
    this.#queue.push({ packet, dueMs: this.#freeMs + delayMs })
    this.#wait(delayMs)
  }

  #pump(): void {
    this.#waiting = false
    const nowMs = performance.now()
    let sent = 0
    for (const { packet, dueMs } of this.#queue) {
      if (dueMs > nowMs) break
      this.#send(packet)
      sent++
    }
    this.#queue.splice(0, sent)
    const [next] = this.#queue
    if (next !== undefined) this.#wait(next.dueMs - nowMs)
  }

  #wait(ms: number): void {
    if (this.#waiting) return
    this.#waiting = true
    setTimeout(() => this.#pump(), Math.max(1, ms))
  }
}

async function relay(options: LineOptions): Promise<void> {
  const [here, there] = [await open('10.201.0.254'), await open('10.202.0.254')]
  const onward = new Way(options, (packet) => there.send(packet, WG_PORT, '10.202.0.1'))
  const back = new Way(options, (packet) => here.send(packet, WG_PORT, '10.201.0.1'))
  here.on('message', (packet) => onward.take(packet))
  there.on('message', (packet) => back.take(packet))
  process.stdout.write('listening\n')
}

async function open(address: string): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 })
  socket.on('error', () => undefined) // a tunnel that is not up yet
  socket.bind(RELAY_PORT, address)
  await once(socket, 'listening')
  return socket
}

const [, program = '', options] = process.argv
if (program === fileURLToPath(import.meta.url) && options !== undefined) {
  const { delayMs, mbitPerSecond, loss } = JSON.parse(options) as LineOptions
  await relay({ delayMs, mbitPerSecond, loss })
}
