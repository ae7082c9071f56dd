// The health of a tunnel, measured inside it: a UDP echo between the tunnel addresses of two agents. Only what came through
// WireGuard reaches this port (src/io/host/filter.ts), so an answer proves key, route and peer at once.
// Packet: "rzp1" | 1 byte kind (0 request, 1 reply) | 8 random bytes. A reply is as long as its request: no amplification.
import { randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import type { Ip } from '../../core/model.ts'

const MAGIC = Buffer.from('rzp1')
const PACKET_BYTES = MAGIC.length + 1 + 8
// A reply later than this counts as lost; it also bounds the map of open requests.
const REPLY_TIMEOUT_MS = 5_000
// Weight of a new sample: as TCP's smoothed round trip (RFC 6298).
const RTT_GAIN = 1 / 8

export interface ProbeTarget {
  readonly address: Ip
  readonly port: number
}

export interface ProbeResult {
  /** Of the latest reply, on the clock of performance.now(): nobody can set it. */
  readonly lastReplyMs: number | undefined
  /** Smoothed, milliseconds. */
  readonly rttMs: number | undefined
  /** Requests sent since the latest reply. */
  readonly unanswered: number
}

export interface Prober {
  setTargets(targets: readonly ProbeTarget[]): void
  result(address: Ip): ProbeResult | undefined
  stop(): Promise<void>
}

export class ProbeError extends Error {
  override readonly name = 'ProbeError'
  readonly code = 'PROBE_LISTEN'
  readonly fix: string

  constructor(message: string, options: { readonly cause: NodeJS.ErrnoException }) {
    super(message, options)
    this.fix =
      options.cause.code === 'EADDRNOTAVAIL'
        ? 'no interface of this host has this address: name one that it has with the setting node-address'
        : 'choose another port with the setting probe-port, or 0 for no probe'
  }
}

export interface ProberOptions {
  readonly address: Ip
  readonly port: number
  readonly intervalMs: number
  /** Called when a target answers again or for the first time. */
  readonly onReply?: (address: Ip) => void
}

/** Errors: ProbeError when the port is taken. */
export async function startProber(options: ProberOptions): Promise<Prober> {
  const socket = createSocket(options.address.includes(':') ? 'udp6' : 'udp4')
  await new Promise<void>((resolve, reject) => {
    socket.once('error', (cause) =>
      reject(
        new ProbeError(`cannot listen on UDP ${options.address}:${options.port}: ${cause.message}`, { cause })
      )
    )
    socket.bind(options.port, options.address, () => {
      socket.removeAllListeners('error')
      resolve()
    })
  })
  // A send to a peer that is gone may come back as ECONNREFUSED or EHOSTUNREACH: the missing reply says as much.
  socket.on('error', () => undefined)
  const targets = new Map<Ip, Target>()
  const open = new Map<string, { address: Ip; sentMs: number }>()

  socket.on('message', (packet, from) => {
    if (packet.length !== PACKET_BYTES || !packet.subarray(0, 4).equals(MAGIC)) return
    if (packet[4] === 0) {
      const reply = Buffer.from(packet)
      reply[4] = 1
      send(socket, reply, from.port, from.address)
      return
    }
    const nonce = packet.toString('hex', 5)
    const request = open.get(nonce)
    if (request === undefined || request.address !== from.address) return
    open.delete(nonce)
    const target = targets.get(request.address)
    if (target === undefined) return
    const rtt = performance.now() - request.sentMs
    const cameBack = target.lastReplyMs === undefined || target.unanswered > 2
    target.rttMs =
      target.rttMs === undefined || cameBack ? rtt : target.rttMs + (rtt - target.rttMs) * RTT_GAIN
    target.lastReplyMs = performance.now()
    target.unanswered = 0
    if (cameBack) options.onReply?.(request.address)
  })

  const probe = (target: Target): void => {
    const nonce = randomBytes(8)
    open.set(nonce.toString('hex'), { address: target.address, sentMs: performance.now() })
    target.unanswered++
    send(socket, Buffer.concat([MAGIC, Buffer.of(0), nonce]), target.port, target.address)
  }
  const timer = setInterval(() => {
    const horizon = performance.now() - REPLY_TIMEOUT_MS
    for (const [nonce, request] of open) if (request.sentMs < horizon) open.delete(nonce)
    for (const target of targets.values()) probe(target)
  }, options.intervalMs)

  return {
    setTargets(wanted) {
      const keep = new Set(wanted.map((target) => target.address))
      for (const address of targets.keys()) if (!keep.has(address)) targets.delete(address)
      for (const { address, port } of wanted) {
        const known = targets.get(address)
        if (known !== undefined) {
          known.port = port
          continue
        }
        const target = { address, port, lastReplyMs: undefined, rttMs: undefined, unanswered: 0 }
        targets.set(address, target)
        probe(target) // the first packet also starts WireGuard's handshake
      }
    },
    result: (address) => targets.get(address),
    async stop() {
      clearInterval(timer)
      await new Promise<void>((resolve) => socket.close(() => resolve()))
    }
  }
}

interface Target {
  readonly address: Ip
  port: number
  lastReplyMs: number | undefined
  rttMs: number | undefined
  unanswered: number
}

function send(socket: Socket, packet: Buffer, port: number, address: string): void {
  socket.send(packet, port, address, () => undefined)
}
