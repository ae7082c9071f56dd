// Names that are not ours, asked upstream: the client's query goes on as it is, under an id of our own.
//
// Against forged replies: each query has its own connected socket, so the kernel picks a random source port and takes packets from
// this upstream only, and a random id; a reply must repeat the question. A refused port is an error at once.
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'

import { FLAG, HEADER_BYTES, u16 } from './query.ts'
import { frame, Framer } from './framing.ts'
import type { SocketAddress } from './upstreams.ts'

export interface ForwarderOptions {
  readonly upstreams: readonly SocketAddress[]
  /** Per upstream. */
  readonly timeoutMs?: number
  readonly inFlightMax?: number
}

export interface Forwarder {
  /**
   * The reply under the id of `message`, whose question ends at `questionEnd`; undefined when no upstream gave one in
   * time, or too many queries are under way.
   */
  exchange(
    message: Uint8Array,
    questionEnd: number,
    transport: 'udp' | 'tcp'
  ): Promise<Uint8Array | undefined>
  readonly upstreams: readonly SocketAddress[]
  readonly inFlight: number
  stop(): void
}

export function createForwarder(options: ForwarderOptions): Forwarder {
  const { upstreams, timeoutMs = 2000, inFlightMax = IN_FLIGHT_MAX } = options
  const stopped = new AbortController()
  /** Until when an upstream that failed is asked last, by performance.now(). */
  const avoidedUntil = new Map<SocketAddress, number>()
  let inFlight = 0

  return {
    upstreams,
    get inFlight() {
      return inFlight
    },
    stop: () => stopped.abort(),

    async exchange(message, questionEnd, transport) {
      if (inFlight >= inFlightMax || stopped.signal.aborted) return undefined
      inFlight++
      try {
        for (const upstream of inOrder()) {
          const reply = await ask(upstream, message, questionEnd, transport)
          if (reply !== undefined) {
            avoidedUntil.delete(upstream)
            return reply
          }
          if (stopped.signal.aborted) return undefined
          avoidedUntil.set(upstream, performance.now() + AVOID_MS)
        }
        return undefined
      } finally {
        inFlight--
      }
    }
  }

  /** As configured, but those that failed lately last. */
  function inOrder(): readonly SocketAddress[] {
    const now = performance.now()
    const isAvoided = (upstream: SocketAddress) => (avoidedUntil.get(upstream) ?? 0) > now
    return [...upstreams.filter((u) => !isAvoided(u)), ...upstreams.filter(isAvoided)]
  }

  async function ask(
    upstream: SocketAddress,
    message: Uint8Array,
    questionEnd: number,
    transport: 'udp' | 'tcp'
  ): Promise<Uint8Array | undefined> {
    const sent = new Uint8Array(message)
    setId(sent, randomInt(0x10000))
    const signal = AbortSignal.any([stopped.signal, AbortSignal.timeout(timeoutMs)])
    const isReply = (reply: Uint8Array) => answers(reply, sent, questionEnd)
    const reply = await (transport === 'udp' ? askUdp : askTcp)(upstream, sent, isReply, signal)
    if (reply === undefined) return undefined
    const renamed = new Uint8Array(reply)
    setId(renamed, u16(message, 0))
    return renamed
  }
}

type Ask = (
  upstream: SocketAddress,
  message: Uint8Array,
  isReply: (reply: Uint8Array) => boolean,
  signal: AbortSignal
) => Promise<Uint8Array | undefined>

const askUdp: Ask = (upstream, message, isReply, signal) =>
  new Promise((resolve) => {
    const socket = createSocket(isIPv6(upstream.address.replace(/%.*$/, '')) ? 'udp6' : 'udp4')
    let done = false
    const finish = (reply: Uint8Array | undefined) => {
      if (done) return
      done = true
      signal.removeEventListener('abort', abandon)
      socket.close()
      resolve(reply)
    }
    const abandon = () => finish(undefined)
    signal.addEventListener('abort', abandon)
    socket.on('error', abandon)
    // A packet that is no reply to this query is a forgery or late: wait on.
    socket.on('message', (reply) => {
      if (isReply(reply)) finish(reply)
    })
    socket.connect(upstream.port, upstream.address, () => {
      if (!done) socket.send(message)
    })
  })

const askTcp: Ask = (upstream, message, isReply, signal) =>
  new Promise((resolve) => {
    const socket = connect({ host: upstream.address, port: upstream.port })
    const finish = (reply: Uint8Array | undefined) => {
      signal.removeEventListener('abort', abandon)
      socket.destroy()
      resolve(reply)
    }
    const abandon = () => finish(undefined)
    const framer = new Framer()
    signal.addEventListener('abort', abandon)
    socket.on('error', abandon)
    socket.on('close', abandon)
    socket.on('data', (chunk) => {
      framer.push(chunk)
      const reply = framer.next()
      if (reply !== undefined) finish(isReply(reply) ? reply : undefined)
    })
    socket.write(frame(message))
  })

/** The same id, a response to a query, and the same question; servers may change the case of its letters. */
function answers(reply: Uint8Array, sent: Uint8Array, questionEnd: number): boolean {
  if (reply.length < questionEnd || u16(reply, 0) !== u16(sent, 0) || u16(reply, 4) !== 1) return false
  if ((u16(reply, 2) & (FLAG.QR | 0x7800)) !== FLAG.QR) return false
  for (let i = HEADER_BYTES; i < questionEnd; i++) {
    if (lower(reply[i] ?? 0) !== lower(sent[i] ?? 0)) return false
  }
  return true
}

function lower(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte
}

function setId(message: Uint8Array, id: number): void {
  message[0] = id >> 8
  message[1] = id & 0xff
}

/** Each is a socket and a timer; a thousand are 500 queries/s to upstreams that never answer, and stay below ulimit 1024. */
const IN_FLIGHT_MAX = 900
/** So that a dead first upstream costs one client its two seconds, not every client. */
const AVOID_MS = 10_000
