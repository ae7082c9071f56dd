// A bounded series of probes to one agent, for `meshctl ping`. The prober of the other agent answers them as it answers
// those of probe.ts; the results of the prober here are not touched.
// Times are taken on the monotonic clock when Node hands a packet to the kernel and when it takes the reply from it. A
// busy event loop, here or there, makes a round trip longer and never shorter, so the least one is closest to the path.
// Node gives no kernel timestamps of datagrams (SO_TIMESTAMPNS), and a program beside the agent only for them is not worth
// its cost.
// Invariant: `ping` never rejects, and ends at most `waitMs` after the last packet was sent.
import { createSocket, type Socket } from 'node:dgram'
import { setTimeout as delay } from 'node:timers/promises'
import { codeOf } from '../../core/model/coded-error.ts'
import type { Ip } from '../../core/model/values.ts'
import { newRequest, nonceOfReply, socketType } from './packet.ts'

/** Where the packets go, how many and how fast. */
interface PingOptions {
  /** The tunnel address of this host. */
  readonly from: Ip
  /** The tunnel address and the probe port of the other agent. */
  readonly to: { readonly address: Ip; readonly port: number }
  readonly count: number
  readonly intervalMs: number
  /** How long a reply to the last packet is waited for. */
  readonly waitMs: number
}

/** What came back. */
export interface PingResult {
  /** One entry for each packet in the order of sending, in milliseconds; undefined: no reply. */
  readonly rttsMs: readonly (number | undefined)[]
  /** Packets that the kernel of the other host refused, as no agent listens there. Each of them went through the tunnel. */
  readonly refused: number
  /** The first error of the kernel of this host, such as EHOSTUNREACH or ENOKEY; left out: it took all packets. */
  readonly error?: string
}

/** Sends the packets and waits for the replies. */
export async function ping(options: PingOptions): Promise<PingResult> {
  const series = new Series(options)
  try {
    await series.run()
  } finally {
    series.close()
  }
  return series.result()
}

/** One series, with its socket. A socket that an error has closed is not made again: the rest of the packets is lost. */
class Series {
  readonly #options: PingOptions
  readonly #socket: Socket
  /** The packets without a reply yet: the number and the time of sending, by nonce. At most `count`. */
  readonly #open = new Map<string, { readonly index: number; readonly sentMs: number }>()
  readonly #rttsMs: (number | undefined)[] = []
  readonly #answered = Promise.withResolvers<undefined>()
  #refused = 0
  #error: string | undefined

  constructor(options: PingOptions) {
    this.#options = options
    this.#socket = createSocket(socketType(options.from))
    this.#socket.on('message', (packet) => this.#receive(packet))
    this.#socket.on('error', (error) => this.#failed(error))
  }

  async run(): Promise<void> {
    const { from, to, count, intervalMs, waitMs } = this.#options
    const ready = Promise.withResolvers<boolean>()
    this.#socket.once('error', () => ready.resolve(false))
    this.#socket.bind({ address: from, port: 0, exclusive: true }, () => {
      this.#socket.connect(to.port, to.address, (error?: Error | null) => {
        if (error) this.#failed(error)
        ready.resolve(!error)
      })
    })
    if (!(await ready.promise)) {
      this.#rttsMs.length = count
      return
    }
    for (let index = 0; index < count; index++) {
      if (index > 0) await delay(intervalMs)
      this.#send(index)
    }
    if (this.#isAnswered) return
    const ended = new AbortController()
    await Promise.race([
      this.#answered.promise,
      delay(waitMs, undefined, { signal: ended.signal }).catch(() => undefined)
    ])
    ended.abort()
  }

  result(): PingResult {
    const rttsMs = Array.from({ length: this.#options.count }, (_, index) => this.#rttsMs[index])
    return { rttsMs, refused: this.#refused, ...(this.#error === undefined ? {} : { error: this.#error }) }
  }

  close(): void {
    try {
      this.#socket.close()
    } catch {
      // An error has closed it.
    }
  }

  #send(index: number): void {
    const { packet, nonce } = newRequest(0)
    this.#rttsMs[index] = undefined
    this.#open.set(nonce, { index, sentMs: performance.now() })
    try {
      this.#socket.send(packet, (error) => {
        if (error) this.#failed(error)
      })
    } catch (error) {
      this.#failed(error) // send() throws when the socket is no longer connected
    }
  }

  /** Takes a reply. A packet without an open request of its nonce is ignored: it is repeated or forged. */
  #receive(packet: Buffer): void {
    const nowMs = performance.now()
    const nonce = nonceOfReply(packet) ?? ''
    const request = this.#open.get(nonce)
    if (request === undefined) return
    this.#open.delete(nonce)
    this.#rttsMs[request.index] = nowMs - request.sentMs
    this.#end()
  }

  /** A refusal does not name its packet, so the oldest open one is taken: refusals come in the order of sending. */
  #failed(error: unknown): void {
    const code = codeOf(error) ?? String(error)
    if (code === 'ECONNREFUSED') {
      const [oldest] = this.#open.keys()
      if (oldest === undefined) return
      this.#open.delete(oldest)
      this.#refused++
    } else this.#error ??= code
    this.#end()
  }

  get #isAnswered(): boolean {
    return this.#rttsMs.length === this.#options.count && this.#open.size === 0
  }

  #end(): void {
    if (this.#isAnswered) this.#answered.resolve(undefined)
  }
}
