// The health of a tunnel, measured inside it: a UDP echo between the tunnel addresses of two agents. An answer proves key, route and
// peer in both directions at once.
// Packet: "rzp1" | 1 byte kind (0 request, 1 reply) | 8 random bytes | padding. A reply is as long as its request: no amplification. An
// older agent answers requests without padding only.
// Invariants
//   1. Requests go out of a connected socket for each target: where no agent listens, the kernel at the other end refuses, and that is
//      an answer through the tunnel, too (ECONNREFUSED).
//   2. Bounded by the targets: one socket, RTT_SAMPLES round trips and OPEN_MAX open requests for each.
import { randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { CodedError, codeOf } from '../../core/model/coded-error.ts'
import { listenProblem } from '../../core/model/listen-problem.ts'
import type { Ip } from '../../core/model/values.ts'
import { answered, dueSize, lost, startPathMtu, type PathMtu } from '../../core/host/path-mtu.ts'

const MAGIC = Buffer.from('rzp1')
const PACKET_BYTES = MAGIC.length + 1 + 8
// A jumbo frame: the largest MTU that a tunnel is given.
const PACKET_BYTES_MAX = 9000
const HEADER_BYTES = { 4: 28, 6: 48 } as const
// A reply later than this counts as lost.
const REPLY_TIMEOUT_MS = 5_000
const OPEN_MAX = 32
// An event loop that is busy answers late, never early: the least of the last round trips is the line's own.
const RTT_SAMPLES = 15
// While a target does not answer, probes follow each other at a quarter of the interval, for so many: 5 s of silence are then 20 lost.
const EAGER_PROBES = 24

export interface ProbeTarget {
  readonly address: Ip
  readonly port: number
}

export interface ProbeResult {
  /** Of the latest reply, on the clock of performance.now(), which nothing sets. */
  readonly lastReplyMs: number | undefined
  /** Of the latest refusal by the kernel at that address. */
  readonly lastRefusalMs: number | undefined
  /** The least of the last round trips, milliseconds. */
  readonly rttMs: number | undefined
  /** Requests sent since the latest reply or refusal. */
  readonly unanswered: number
  /** undefined: not measured. */
  readonly path: PathMtu | undefined
}

export interface Prober {
  /** `mtu`: of the tunnel device, for the padded probes; 0: none. */
  setTargets(targets: readonly ProbeTarget[], mtu?: number): void
  result(address: Ip): ProbeResult | undefined
  stop(): Promise<void>
}

export class ProbeError extends CodedError<'PROBE_LISTEN'> {
  override readonly name = 'ProbeError'
  declare readonly fix: string

  constructor(message: string, { fix, cause }: { readonly fix: string; readonly cause: unknown }) {
    super({ code: 'PROBE_LISTEN', message, fix, cause })
  }
}

interface ProberOptions {
  readonly address: Ip
  readonly port: number
  readonly intervalMs: number
  /** Called when a target answers again or for the first time, and when what its path carries is known anew. */
  readonly onReply?: (address: Ip) => void
}

/** Errors: ProbeError when the port is taken. */
export async function startProber(options: ProberOptions): Promise<Prober> {
  const socket = await listen(options)
  socket.on('message', (packet, from) => {
    if (!isProbe(packet) || packet[4] !== 0) return
    const reply = Buffer.from(packet)
    reply[4] = 1
    send(socket, reply, from)
  })
  const targets = new Map<Ip, Target>()
  let stopped: Promise<void> | undefined
  const timer = setInterval(() => {
    const nowMs = performance.now()
    for (const target of targets.values()) target.tick(nowMs)
  }, options.intervalMs / 4)

  return {
    setTargets(wanted, mtu = 0) {
      const keep = new Set(wanted.map(({ address }) => address))
      for (const [address, target] of targets) {
        if (keep.has(address)) continue
        targets.delete(address)
        target.close()
      }
      for (const { address, port } of wanted) {
        const known = targets.get(address)
        if (known?.port === port) {
          known.setMtu(mtu)
          continue
        }
        known?.close()
        const target = new Target({ address, port }, options)
        target.setMtu(mtu)
        targets.set(address, target)
        target.tick(performance.now()) // the first packet also starts WireGuard's handshake
      }
    },
    result: (address) => targets.get(address)?.result(),
    async stop() {
      clearInterval(timer)
      for (const target of targets.values()) target.close()
      targets.clear()
      stopped ??= new Promise<void>((resolve) => {
        socket.close(() => resolve())
      })
      await stopped
    }
  }
}

function listen({ address, port }: ProberOptions): Promise<Socket> {
  const socket = createSocket(familyOf(address) === 6 ? 'udp6' : 'udp4')
  return new Promise((resolve, reject) => {
    // Stays for good: a send to a peer that is gone may come back as an error later, and the missing reply says as much.
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      const message = `cannot listen on UDP ${address}:${port}: ${cause.message}`
      const fix =
        listenProblem(cause).code === 'ADDRESS_NOT_LOCAL'
          ? 'set the setting node-address to an address that this host has, or put that address on an interface'
          : 'choose another with the setting probe-port, or 0 for no probe'
      reject(new ProbeError(message, { fix, cause }))
    })
    socket.bind(port, address, () => resolve(socket))
  })
}

class Target {
  readonly port: number
  readonly #address: Ip
  readonly #options: ProberOptions
  readonly #rtts: number[] = []
  /** By nonce: what was sent and is not answered yet. */
  readonly #open = new Map<string, { readonly sentMs: number; readonly size: number }>()
  #socket: Socket | undefined
  #isConnected = false
  #isClosed = false
  #lastReplyMs: number | undefined
  #lastRefusalMs: number | undefined
  #unanswered = 0
  #nextMs = 0
  #path: PathMtu | undefined

  constructor({ address, port }: ProbeTarget, options: ProberOptions) {
    this.port = port
    this.#address = address
    this.#options = options
  }

  setMtu(mtu: number): void {
    if (mtu === (this.#path?.ceiling ?? 0)) return
    this.#path = mtu === 0 ? undefined : startPathMtu(mtu, performance.now())
  }

  result(): ProbeResult {
    return {
      lastReplyMs: this.#lastReplyMs,
      lastRefusalMs: this.#lastRefusalMs,
      rttMs: this.#rtts.length === 0 ? undefined : Math.min(...this.#rtts),
      unanswered: this.#unanswered,
      path: this.#path
    }
  }

  tick(nowMs: number): void {
    this.#expire(nowMs)
    if (this.#isClosed || nowMs < this.#nextMs) return
    const { intervalMs } = this.#options
    const isEager = this.#unanswered >= 2 && this.#unanswered < EAGER_PROBES
    this.#nextMs = nowMs + (isEager ? intervalMs / 4 : intervalMs) - 1 // a timer may fire a little early
    if (this.#socket === undefined) this.#connect()
    if (!this.#isConnected) return // the next tick sends
    this.#send(0, nowMs)
    this.#unanswered++
    const isLarge = ({ size }: { size: number }) => size > 0
    if (this.#path === undefined || this.#unanswered > 2 || [...this.#open.values()].some(isLarge)) return
    const size = dueSize(this.#path, nowMs)
    if (size !== undefined) this.#send(size, nowMs)
  }

  close(): void {
    this.#isClosed = true
    this.#drop()
  }

  #connect(): void {
    const { address } = this.#options
    const socket = createSocket(familyOf(address) === 6 ? 'udp6' : 'udp4')
    this.#socket = socket
    socket.on('message', (packet) => this.#receive(packet))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') this.#refused()
      else if (this.#socket === socket && !this.#isConnected) this.#drop() // tried again at the next tick
    })
    socket.bind({ address, port: 0, exclusive: true }, () => {
      if (this.#socket !== socket) return
      socket.connect(this.port, this.#address, (error?: Error | null) => {
        if (this.#socket !== socket) return
        if (error) return this.#drop() // no route yet: tried again at the next tick
        this.#isConnected = true
        this.#nextMs = 0
        this.tick(performance.now())
      })
    })
  }

  #drop(): void {
    const socket = this.#socket
    this.#socket = undefined
    this.#isConnected = false
    try {
      socket?.close()
    } catch {
      // It was not open.
    }
  }

  /** `size`: of the whole packet; 0: as small as it gets. */
  #send(size: number, nowMs: number): void {
    const nonce = randomBytes(8)
    const bytes = Math.max(PACKET_BYTES, size - HEADER_BYTES[familyOf(this.#address)])
    const packet = Buffer.alloc(bytes)
    Buffer.concat([MAGIC, Buffer.of(0), nonce]).copy(packet)
    if (this.#open.size < OPEN_MAX) this.#open.set(nonce.toString('hex'), { sentMs: nowMs, size })
    try {
      this.#socket?.send(packet, (error) => {
        if (codeOf(error) === 'ECONNREFUSED') this.#refused()
      })
    } catch {
      this.#drop() // it is connected no more
    }
  }

  #receive(packet: Buffer): void {
    if (!isProbe(packet) || packet[4] !== 1) return
    const nonce = packet.toString('hex', 5, PACKET_BYTES)
    const request = this.#open.get(nonce)
    if (request === undefined) return
    this.#open.delete(nonce)
    const nowMs = performance.now()
    if (request.size > 0) return this.#measured((path) => answered(path, request.size, nowMs))
    this.#rtts.push(nowMs - request.sentMs)
    if (this.#rtts.length > RTT_SAMPLES) this.#rtts.shift()
    const cameBack = this.#lastReplyMs === undefined || this.#unanswered > 2
    if (cameBack) this.#rtts.splice(0, this.#rtts.length - 1)
    this.#lastReplyMs = nowMs
    this.#unanswered = 0
    if (cameBack) this.#options.onReply?.(this.#address)
  }

  #refused(): void {
    const cameBack = this.#lastRefusalMs === undefined || this.#unanswered > 2
    this.#lastRefusalMs = performance.now()
    this.#unanswered = 0
    if (cameBack) this.#options.onReply?.(this.#address)
  }

  #expire(nowMs: number): void {
    // A padded probe is lost after one interval, or after three round trips where those are longer.
    const paddedMs = Math.max(this.#options.intervalMs, 3 * Math.min(...this.#rtts, REPLY_TIMEOUT_MS / 3))
    for (const [nonce, { sentMs, size }] of this.#open) {
      const ageMs = nowMs - sentMs
      if (ageMs <= (size > 0 ? Math.min(paddedMs, REPLY_TIMEOUT_MS) : REPLY_TIMEOUT_MS)) continue
      this.#open.delete(nonce)
      const isQuiet = this.#lastReplyMs !== undefined && this.#lastReplyMs > sentMs // small ones came through meanwhile
      if (size > 0 && isQuiet) this.#measured((path) => lost(path, size, nowMs))
    }
  }

  #measured(change: (path: PathMtu) => PathMtu): void {
    const before = this.#path
    if (before === undefined) return
    this.#path = change(before)
    if (before.found !== this.#path.found || before.verdict !== this.#path.verdict)
      this.#options.onReply?.(this.#address)
  }
}

function isProbe(packet: Buffer): boolean {
  return (
    packet.length >= PACKET_BYTES &&
    packet.length <= PACKET_BYTES_MAX &&
    packet.subarray(0, MAGIC.length).equals(MAGIC)
  )
}

function send(socket: Socket, packet: Buffer, to: { readonly port: number; readonly address: string }): void {
  socket.send(packet, to.port, to.address, () => undefined)
}

function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4
}
