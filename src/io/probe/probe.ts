// The prober measures the health of each tunnel from inside: a UDP echo between the tunnel addresses of two agents. An
// answer proves that keys and routes work in both directions. It also answers the probes of other agents. ProbeService
// (app/session) gives it the targets; core/host/tunnel-state.ts judges the results, and core/host/path-mtu.ts the
// padded probes.
// A reply is as long as its request (packet.ts), so the prober amplifies no traffic. An older agent answers requests
// without padding only.
// Invariants
//   1. Each target has a connected socket of its own. Where no agent listens, the kernel of the other host refuses the
//      request with an ICMP error, which arrives as ECONNREFUSED on a connected socket only. A refusal is also an
//      answer through the tunnel.
//   2. Memory is bounded by the number of targets: two sockets, RTT_SAMPLES round trips and OPEN_MAX open requests for
//      each.
//   3. When an agent does not answer, the kernel of its host is asked, at a port on which nothing listens: its refusal
//      tells an agent that is stopped or busy from a tunnel that is dead.
//   4. What a request says is kept for targets only, by the address from which it came. WireGuard takes that address from
//      its owner alone.
import { createSocket, type Socket } from 'node:dgram'
import { CodedError, codeOf } from '../../core/model/coded-error.ts'
import { listenProblem } from '../../core/model/listen-problem.ts'
import type { Ip, PeerAddress } from '../../core/model/values.ts'
import { KernelProbe } from './kernel-probe.ts'
import { answered, dueSize, lost, startPathMtu, type PathMtu } from '../../core/host/path-mtu.ts'
import { newRequest, nonceOfReply, replyTo, saysMoved, seenIn, socketType } from './packet.ts'
import { Telling } from './telling.ts'

// Bytes of the IP and UDP headers: 20 + 8 for IPv4, 40 + 8 for IPv6. Padded probes are sized as whole IP packets.
const HEADER_BYTES = { udp4: 28, udp6: 48 } as const
// A reply that arrives later than this counts as lost.
const REPLY_TIMEOUT_MS = 5_000
// Most open requests of one target. Probes every 200 ms leave about 25 open in REPLY_TIMEOUT_MS.
const OPEN_MAX = 32
// Number of round trips that are kept. A busy event loop makes a round trip longer, never shorter, so the least one is
// closest to the round trip of the path.
const RTT_SAMPLES = 15
// Ticks an interval: eager probes are sent on each tick, regular ones on every fifth.
const TICKS = 5
// While a target does not answer, up to this many probes are sent, one a tick. With an interval of one second about 25
// probes are then lost in 5 seconds of silence, the time after which tunnel-state.ts judges it down.
const EAGER_PROBES = 24
// Unanswered probes after which `onSilent` is called.
const SILENT_PROBES = 4

/** The prober of another agent: its tunnel address and the UDP port that its record announces. */
export interface ProbeTarget {
  readonly address: Ip
  readonly port: number
  /** True: it is probed on each tick, because there is another way when it falls silent. */
  readonly isFast?: boolean
}

/** The results of one target. Times are milliseconds on the monotonic clock of performance.now(). */
export interface ProbeResult {
  /** Time of the latest reply; undefined when there was none. */
  readonly lastReplyMs: number | undefined
  /** Time of the latest refusal by the kernel at that address; undefined when there was none. */
  readonly lastRefusalMs: number | undefined
  /** The least of the last round trips, in milliseconds; undefined before the first reply. */
  readonly rttMs: number | undefined
  /** The median of the last round trips, which a few fast or slow ones do not move; undefined before the first reply. */
  readonly medianRttMs: number | undefined
  /** Requests sent since the latest reply or refusal. */
  readonly unanswered: number
  /** State of the search for the path MTU; undefined while the MTU of the tunnel is unknown. */
  readonly path: PathMtu | undefined
}

/** A running prober. */
export interface Prober {
  /**
   * Replaces the targets; a target that stays keeps its results. `mtu` is that of the tunnel device in bytes. With 0,
   * the default, no padded probes are sent.
   */
  setTargets(targets: readonly ProbeTarget[], mtu?: number): void
  /** Returns the result of one target; undefined when the address is no target. */
  result(address: Ip): ProbeResult | undefined
  /** Whether the latest request of a target, if it came after `sinceMs`, says that its host has moved. */
  saysMoved(address: Ip, sinceMs: number): boolean
  /** Closes all sockets. Resolves when the port is free again. */
  stop(): Promise<void>
}

/** The prober cannot listen on its address and port. `fix` names the setting to change. */
export class ProbeError extends CodedError<'PROBE_LISTEN'> {
  override readonly name = 'ProbeError'
  declare readonly fix: string

  constructor(message: string, { fix, cause }: { readonly fix: string; readonly cause: unknown }) {
    super({ code: 'PROBE_LISTEN', message, fix, cause })
  }
}

interface ProberOptions {
  /** The tunnel address of this host: the prober listens on it and sends from it. */
  readonly address: Ip
  /** UDP port to listen on. */
  readonly port: number
  /** Milliseconds between two probes of a target that answers. */
  readonly intervalMs: number
  /**
   * Called when a target answers or refuses for the first time, or again after more than two unanswered probes, and
   * when the verdict on its path MTU has changed.
   */
  readonly onReply?: (address: Ip) => void
  /** Called when several probes of a fast target were sent without an answer. */
  readonly onSilent?: (address: Ip) => void
  /** Whether this host has moved from the gateway at this address, which is told in each request. Default: it has not. */
  readonly hasMoved?: (address: Ip) => boolean
  /** Where WireGuard sees the host of a target now, which the target is told; undefined: not known. */
  readonly seen?: (address: Ip) => PeerAddress | undefined
  /** Called with the address at which the host of a target sees this one. */
  readonly onTold?: (from: Ip, address: PeerAddress) => void
}

/**
 * Starts to answer probes; probing starts with `setTargets`. Rejects with ProbeError PROBE_LISTEN when the socket
 * cannot be bound.
 */
export async function startProber(options: ProberOptions): Promise<Prober> {
  const socket = await listen(options)
  socket.on('message', (packet, from) => {
    const reply = replyTo(packet)
    const told = reply === undefined && targets.has(from.address as Ip) ? seenIn(packet) : undefined
    if (told !== undefined) options.onTold?.(from.address as Ip, told)
    if (reply === undefined) return
    send(socket, reply, from)
    targets.get(from.address as Ip)?.said(saysMoved(packet))
  })
  const targets = new Map<Ip, Target>()
  let stopped: Promise<void> | undefined
  const timer = setInterval(() => {
    const nowMs = performance.now()
    for (const target of targets.values()) target.tick(nowMs)
  }, options.intervalMs / TICKS)

  return {
    setTargets(wanted, mtu = 0) {
      const keep = new Set(wanted.map(({ address }) => address))
      for (const [address, target] of targets) {
        if (keep.has(address)) continue
        targets.delete(address)
        target.close()
      }
      for (const { address, port, isFast = false } of wanted) {
        const known = targets.get(address)
        if (known?.port === port) {
          known.isFast = isFast
          known.setMtu(mtu)
          continue
        }
        known?.close()
        const target = new Target({ address, port }, options)
        target.isFast = isFast
        target.setMtu(mtu)
        targets.set(address, target)
        target.tick(performance.now()) // the first packet also starts WireGuard's handshake
      }
    },
    result: (address) => targets.get(address)?.result(),
    saysMoved: (address, sinceMs) => targets.get(address)?.saysMoved(sinceMs) === true,
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
  const socket = createSocket(socketType(address))
  return new Promise((resolve, reject) => {
    // This listener stays after the bind: sending a reply to a peer that has gone may raise an error later. Then
    // reject() has no effect, and the peer notices the missing reply.
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      const message = `cannot listen on UDP ${address}:${port}: ${cause.message}`
      const fix =
        listenProblem(cause).code === 'ADDRESS_NOT_LOCAL'
          ? 'set node-address to an address that `ip address` shows, or add that address to an interface'
          : 'set probe-port to another port, or to 0 for no probes'
      reject(new ProbeError(message, { fix, cause }))
    })
    socket.bind(port, address, () => resolve(socket))
  })
}

/** One target: its socket, its open requests and its results. A failed socket is made again on a later tick. */
class Target {
  readonly port: number
  isFast = false
  readonly #address: Ip
  readonly #options: ProberOptions
  readonly #rtts: number[] = []
  /**
   * Requests without an answer yet, by nonce in hex. `size` is 0 for a small probe, else the bytes of the whole IP
   * packet.
   */
  readonly #open = new Map<string, { readonly sentMs: number; readonly size: number }>()
  #socket: Socket | undefined
  readonly #kernel: KernelProbe
  readonly #telling = new Telling()
  #isConnected = false
  #isClosed = false
  #lastReplyMs: number | undefined
  #lastRefusalMs: number | undefined
  #unanswered = 0
  /** Time of the latest request of this target, if it says that its host has moved; else undefined. */
  #movedMs: number | undefined
  /** The time from which the next probe is due. */
  #nextMs = 0
  #path: PathMtu | undefined

  constructor({ address, port }: ProbeTarget, options: ProberOptions) {
    this.port = port
    this.#address = address
    this.#options = options
    this.#kernel = new KernelProbe({ from: options.address, to: address, onRefused: () => this.#refused() })
  }

  /** Starts a new search for the path MTU when the tunnel's MTU (bytes; 0 = unknown) has changed. */
  setMtu(mtu: number): void {
    if (mtu === (this.#path?.ceiling ?? 0)) return
    this.#path = mtu === 0 ? undefined : startPathMtu(mtu, performance.now())
  }

  result(): ProbeResult {
    return {
      lastReplyMs: this.#lastReplyMs,
      lastRefusalMs: this.#lastRefusalMs,
      rttMs: this.#rtts.length === 0 ? undefined : Math.min(...this.#rtts),
      medianRttMs: this.#rtts.toSorted((a, b) => a - b)[Math.floor(this.#rtts.length / 2)],
      unanswered: this.#unanswered,
      path: this.#path
    }
  }

  /**
   * Sends the probes that are due. Called TICKS times an interval. At most one padded probe is open at a time, and none
   * while small ones are lost, because its loss would then prove nothing about its size.
   */
  tick(nowMs: number): void {
    this.#expire(nowMs)
    if (this.#isClosed || nowMs < this.#nextMs) return
    const { intervalMs } = this.#options
    const isEager = this.#unanswered >= 2 && this.#unanswered < EAGER_PROBES
    // The time is 1 ms earlier, because a timer may fire a little early; the probe would then wait for a whole tick.
    this.#nextMs = nowMs + (isEager || this.isFast ? intervalMs / TICKS : intervalMs) - 1
    if (this.#socket === undefined) this.#connect()
    if (!this.#isConnected) return // #connect calls tick() again once the socket is connected
    this.#send(0, nowMs)
    this.#unanswered++
    const telling = this.#telling.due(
      this.#isAnswering() ? this.#options.seen?.(this.#address) : undefined,
      nowMs
    )
    if (telling !== undefined) this.#socket?.send(telling, () => undefined)
    if (isEager) this.#kernel.ask()
    if (this.isFast && this.#unanswered === SILENT_PROBES) this.#options.onSilent?.(this.#address)
    const isLarge = ({ size }: { size: number }) => size > 0
    if (this.#path === undefined || this.#unanswered > 2 || [...this.#open.values()].some(isLarge)) return
    const size = dueSize(this.#path, nowMs)
    if (size !== undefined) this.#send(size, nowMs)
  }

  /** Takes what a request of this target says. */
  said(hasMoved: boolean): void {
    this.#movedMs = hasMoved ? performance.now() : undefined
  }

  saysMoved(sinceMs: number): boolean {
    return this.#movedMs !== undefined && this.#movedMs >= sinceMs
  }

  #isAnswering(): boolean {
    return this.#lastReplyMs !== undefined && this.#unanswered <= 2
  }

  /** Ends the target; results stay as they are. */
  close(): void {
    this.#isClosed = true
    this.#drop()
  }

  /**
   * Binds to this host's tunnel address with a free port and connects. Callbacks of a socket that was dropped do
   * nothing.
   */
  #connect(): void {
    const { address } = this.#options
    const socket = createSocket(socketType(address))
    this.#socket = socket
    socket.on('message', (packet) => this.#receive(packet))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') this.#refused()
      else if (this.#socket === socket && !this.#isConnected) this.#drop() // a later probe makes a new socket
    })
    socket.bind({ address, port: 0, exclusive: true }, () => {
      if (this.#socket !== socket) return
      socket.connect(this.port, this.#address, (error?: Error | null) => {
        if (this.#socket !== socket) return
        if (error) return this.#drop() // there is no route yet; a later probe makes a new socket
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
      // The socket was closed already.
    }
    this.#kernel.leave()
  }

  /**
   * Sends one request. `size` is the length of the whole IP packet in bytes; 0 sends the smallest probe. With OPEN_MAX
   * open requests the packet is sent, but its reply will be ignored.
   */
  #send(size: number, nowMs: number): void {
    const hasMoved = this.#options.hasMoved?.(this.#address) === true
    const { packet, nonce } = newRequest(size - HEADER_BYTES[socketType(this.#address)], { hasMoved })
    if (this.#open.size < OPEN_MAX) this.#open.set(nonce, { sentMs: nowMs, size })
    try {
      this.#socket?.send(packet, (error) => {
        if (codeOf(error) === 'ECONNREFUSED') this.#refused()
      })
    } catch {
      this.#drop() // send() throws when the socket is no longer connected; the next probe makes a new one
    }
  }

  /** Takes a reply. A packet without an open request of its nonce is ignored: it is late, repeated or forged. */
  #receive(packet: Buffer): void {
    const nonce = nonceOfReply(packet)
    const request = nonce === undefined ? undefined : this.#open.get(nonce)
    if (nonce === undefined || request === undefined) return
    this.#open.delete(nonce)
    const nowMs = performance.now()
    if (request.size > 0) return this.#measured((path) => answered(path, request.size, nowMs))
    this.#rtts.push(nowMs - request.sentMs)
    if (this.#rtts.length > RTT_SAMPLES) this.#rtts.shift()
    const cameBack = this.#lastReplyMs === undefined || this.#unanswered > 2
    // Keeps the latest round trip only: the path after an outage may be another one.
    if (cameBack) this.#rtts.splice(0, this.#rtts.length - 1)
    this.#lastReplyMs = nowMs
    this.#unanswered = 0
    this.#kernel.leave()
    if (cameBack) this.#options.onReply?.(this.#address)
  }

  /** The kernel of the other host refused a request: the tunnel works, and no agent listens there. */
  #refused(): void {
    const cameBack = this.#lastRefusalMs === undefined || this.#unanswered > 2
    this.#lastRefusalMs = performance.now()
    this.#unanswered = 0
    if (cameBack) this.#options.onReply?.(this.#address)
  }

  /**
   * Removes requests that count as lost. A lost padded probe is a finding about the path only when small ones got
   * through meanwhile.
   */
  #expire(nowMs: number): void {
    // A padded probe is lost after one interval, or after three round trips when those take longer; at most
    // REPLY_TIMEOUT_MS.
    const paddedMs = Math.max(this.#options.intervalMs, 3 * Math.min(...this.#rtts, REPLY_TIMEOUT_MS / 3))
    for (const [nonce, { sentMs, size }] of this.#open) {
      const ageMs = nowMs - sentMs
      if (ageMs <= (size > 0 ? Math.min(paddedMs, REPLY_TIMEOUT_MS) : REPLY_TIMEOUT_MS)) continue
      this.#open.delete(nonce)
      // A small probe was answered after this one had been sent, so the tunnel itself works.
      const isQuiet = this.#lastReplyMs !== undefined && this.#lastReplyMs > sentMs
      if (size > 0 && isQuiet) this.#measured((path) => lost(path, size, nowMs))
    }
  }

  /** Applies one finding of a padded probe to the search, and calls `onReply` when its result has changed. */
  #measured(change: (path: PathMtu) => PathMtu): void {
    const before = this.#path
    if (before === undefined) return
    this.#path = change(before)
    if (before.found !== this.#path.found || before.verdict !== this.#path.verdict)
      this.#options.onReply?.(this.#address)
  }
}

/** Sends a reply. An error is ignored: the sender of the request notices the missing reply. */
function send(socket: Socket, packet: Buffer, to: { readonly port: number; readonly address: string }): void {
  socket.send(packet, to.port, to.address, () => undefined)
}
