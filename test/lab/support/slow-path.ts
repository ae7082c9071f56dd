// A slow way between two gateways, on kernels without netem: their packets of UDP port 51820 pass a program that holds each of
// them for a time that can change. The program runs in the namespace of the bridge between them; the gateways send to it by DNAT,
// so they keep each other's addresses. As a program, `slow-path.ts <pairs>`, it reads the delays from its standard input.
import type { ChildProcess } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { testProgram } from '../../programs.ts'
import type { Namespace } from './netns.ts'

const PORT = 51_820
/** An address of the bridge that no gateway has. */
const HOST = '203.0.113.200'
const FIRST_PORT = 5100

/** A host of the bridge with its address there. */
interface End {
  readonly gateway: Pick<Namespace, 'exec'>
  readonly address: string
}

/** The addresses of two ends, and the ports that stand for them: what comes in at one leaves from the other. */
interface Pair {
  readonly addresses: readonly [near: string, far: string]
  readonly ports: readonly [towardsFar: number, towardsNear: number]
}

/** The slow ways from one host to some others. */
export class SlowPaths {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  /** `wan`: the namespace with the bridge `wan`. All ways begin without a delay. */
  static async between(wan: Namespace, near: End, others: readonly End[]): Promise<SlowPaths> {
    await wan.exec(['ip', 'address', 'add', `${HOST}/24`, 'dev', 'wan'])
    const pairs = others.map(({ address }, index): Pair => {
      const at = FIRST_PORT + 2 * index
      return { addresses: [near.address, address], ports: [at, at + 1] }
    })
    const child = wan.spawn([process.execPath, testProgram('lab/support/slow-path'), JSON.stringify(pairs)], {
      stdio: ['pipe', 'pipe', 'inherit']
    })
    if (child.stdout === null) throw new Error('the program has no output')
    await once(child.stdout, 'data') // it listens
    await redirect(
      near,
      pairs.map(({ addresses, ports }) => ({ to: addresses[1], port: ports[0] }))
    )
    for (const [index, far] of others.entries()) {
      const port = pairs[index]?.ports[1] ?? 0
      await redirect(far, [{ to: near.address, port }])
    }
    return new SlowPaths(child)
  }

  /** Sets the delay of each way, in the order of the hosts: milliseconds in each direction. */
  set(...delaysMs: readonly number[]): void {
    this.#child.stdin?.write(`${JSON.stringify(delaysMs)}\n`)
  }

  end(): void {
    this.#child.stdin?.end()
  }
}

async function redirect(
  { gateway }: End,
  ways: readonly { readonly to: string; readonly port: number }[]
): Promise<void> {
  const rules = ways.map(({ to, port }) => `ip daddr ${to} udp dport ${PORT} dnat to ${HOST}:${port}`)
  await gateway.exec(['nft', '-f', '-'], {
    input: `table ip slow {\n chain out {\n type nat hook output priority -100;\n ${rules.join('\n ')}\n }\n}\n`
  })
}

const [, script = '', list = '[]'] = process.argv
if (/slow-path\.[jt]s$/.test(script)) await carry(JSON.parse(list) as readonly Pair[])

async function carry(pairs: readonly Pair[]): Promise<void> {
  const delaysMs = pairs.map(() => 0)
  for (const [index, { addresses, ports }] of pairs.entries()) {
    const [outward, inward] = [await bound(ports[0]), await bound(ports[1])]
    const pass = (from: Socket, by: Socket, to: string): void => {
      from.on('message', (packet) => {
        setTimeout(() => by.send(packet, PORT, to), delaysMs[index] ?? 0)
      })
    }
    pass(outward, inward, addresses[1])
    pass(inward, outward, addresses[0])
  }
  process.stdout.write('ready\n')
  for await (const line of createInterface({ input: process.stdin }))
    delaysMs.splice(0, delaysMs.length, ...(JSON.parse(line) as number[]))
  process.exit(0)
}

async function bound(port: number): Promise<Socket> {
  const socket = createSocket('udp4')
  socket.on('error', () => undefined) // a refused packet is a lost one
  socket.bind(port, HOST)
  await once(socket, 'listening')
  return socket
}
