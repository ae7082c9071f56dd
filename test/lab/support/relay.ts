// A relay of streams: the way to a server in another network namespace, or a fault between a client and its server. As a program,
// `relay.ts <folder> <port> …`, it is the half inside the namespace: unix sockets of the file system know no namespaces.
import { once } from 'node:events'
import {
  connect,
  createServer,
  type AddressInfo,
  type ListenOptions,
  type NetConnectOpts,
  type Server,
  type Socket
} from 'node:net'
import { join } from 'node:path'
import type { Namespace } from './netns.ts'

/**
 * open: all passes. silent: connections stay and are taken, nothing passes, as behind a filter that drops. held: answers pass, whatever is
 * asked waits, as at a load balancer whose servers restart.
 */
export type RelayMode = 'open' | 'silent' | 'held'

export class Relay {
  readonly #server: Server
  readonly #target: NetConnectOpts
  readonly #sockets = new Map<Socket, 'near' | 'far'>()
  #waiting: Socket[] = []
  #mode: RelayMode = 'open'

  private constructor(target: NetConnectOpts) {
    this.#target = target
    this.#server = createServer({ pauseOnConnect: true }, (near) => {
      near.on('error', () => undefined) // it closes
      if (this.#mode === 'open') this.#join(near)
      else this.#waiting.push(near)
    })
  }

  static async start(listen: ListenOptions, target: NetConnectOpts): Promise<Relay> {
    const relay = new Relay(target)
    relay.#server.listen(listen)
    await once(relay.#server, 'listening')
    return relay
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  set(mode: RelayMode): void {
    this.#mode = mode
    for (const socket of this.#sockets.keys()) this.#pace(socket)
    if (mode !== 'open') return
    for (const near of this.#waiting) this.#join(near)
    this.#waiting = []
  }

  /** Ends the connections that stand. */
  cut(): void {
    for (const socket of [...this.#sockets.keys(), ...this.#waiting]) socket.destroy()
    this.#waiting = []
  }

  stop(): void {
    this.#server.close()
    this.cut()
  }

  #join(near: Socket): void {
    const far = connect(this.#target)
    for (const [side, from, to] of [
      ['near', near, far],
      ['far', far, near]
    ] as const) {
      this.#sockets.set(from, side)
      from.setNoDelay(true)
      from.on('data', (chunk) => {
        if (!to.write(chunk)) from.pause()
      })
      to.on('drain', () => this.#pace(from))
      from.on('end', () => to.end())
      from.on('error', () => undefined)
      from.on('close', () => {
        this.#sockets.delete(from)
        to.destroySoon()
      })
      this.#pace(from)
    }
  }

  #pace(socket: Socket): void {
    const waits = this.#mode === 'held' && this.#sockets.get(socket) === 'near'
    if (this.#mode === 'silent' || waits) socket.pause()
    else socket.resume()
  }
}

/** These ports of a namespace's loopback, on the same ports of the loopback here, until the lab ends. Returns what ends them here. */
export async function relayPorts(
  namespace: Namespace,
  folder: string,
  ports: readonly number[]
): Promise<() => void> {
  const inside = namespace.spawn([process.execPath, import.meta.filename, folder, ...ports.map(String)])
  if (inside.stdout === null) throw new Error('no output of the relay')
  await once(inside.stdout, 'data')
  const relays = await Promise.all(
    ports.map((port) => Relay.start({ host: '127.0.0.1', port }, { path: socketOf(folder, String(port)) }))
  )
  return () => {
    for (const relay of relays) relay.stop()
  }
}

function socketOf(folder: string, port: string): string {
  return join(folder, `${port}.sock`)
}

if (import.meta.main) {
  const [folder = '', ...ports] = process.argv.slice(2)
  for (const port of ports)
    await Relay.start({ path: socketOf(folder, port) }, { host: '127.0.0.1', port: Number(port) })
  process.stdout.write('ready\n')
}
