// One process is one pod: it serves TCP and UDP, telling each client who answered and whom it saw, and it is a client when
// told so by a JSON line on standard input. Names resolve as in any pod: the C library, /etc/resolv.conf, port 53.
import { createSocket } from 'node:dgram'
import { lookup, Resolver } from 'node:dns/promises'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'

export interface PodRequest {
  readonly id: number
  readonly kind: 'tcp' | 'udp' | 'resolve'
  /** A name or an address. */
  readonly host: string
  readonly port: number
  /** Connections or datagrams, one after the other; each UDP request has a socket of its own unless `sourcePort` is set. */
  readonly count: number
  readonly timeoutMs: number
  /** UDP: one flow from this port, to see what becomes of a flow whose backend goes. */
  readonly sourcePort?: number
  /** For names. Default: that of the pod's first address. */
  readonly family?: 4 | 6
}

export interface PodAnswer {
  readonly pod: string
  /** The address that the answering pod saw. */
  readonly client: string
}

export interface PodReply {
  readonly id: number
  readonly answers: readonly PodAnswer[]
  /** kind resolve: the addresses. */
  readonly addresses: readonly string[]
  /** First failure: "ENOTFOUND", "ECONNREFUSED", "TIMEOUT", …; the rest was not tried. */
  readonly error?: string
  readonly ms: number
}

const [, program = '', podName = 'pod', ...podAddresses] = process.argv
const isIpv6 = podAddresses[0]?.includes(':') === true
if (/pod\.[jt]s$/.test(program)) {
  serve(podName, podAddresses)
  obey()
}

/** Answers on the ports of a pod. */
export function serve(pod: string, addresses: readonly string[]): void {
  const hello = (client: string): string => `${JSON.stringify({ pod, client } satisfies PodAnswer)}\n`
  for (const address of addresses) {
    for (const port of [8080, 8443, 9090]) {
      createServer((socket) => {
        socket.on('error', () => socket.destroy())
        socket.end(hello(socket.remoteAddress ?? ''))
      }).listen(port, address)
    }
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    socket.on('message', (_, from) => socket.send(hello(from.address), from.port, from.address))
    socket.bind(9125, address)
  }
}

/** Is a client for each line of standard input. */
function obey(): void {
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      void act(JSON.parse(line) as PodRequest).then((reply) =>
        process.stdout.write(`${JSON.stringify(reply)}\n`)
      )
    })
    .on('close', () => process.exit(0)) // whoever started this pod is gone
  process.stdout.write('ready\n')
}

/** Is a client, as the request says. */
export async function act(request: PodRequest): Promise<PodReply> {
  const started = performance.now()
  const answers: PodAnswer[] = []
  let addresses: string[] = []
  let error: string | undefined
  try {
    if (request.kind === 'resolve') addresses = await resolve(request)
    else {
      for (let i = 0; i < request.count; i++) {
        answers.push(request.kind === 'tcp' ? await askTcp(request) : await askUdp(request))
      }
    }
  } catch (failure) {
    error = (failure as NodeJS.ErrnoException).code ?? String(failure)
  }
  return {
    id: request.id,
    answers,
    addresses,
    ms: performance.now() - started,
    ...(error === undefined ? {} : { error })
  }
}

/** All A or AAAA records, and NXDOMAIN told apart from no data, which the C library does not do. */
async function resolve({ host, timeoutMs: timeout, family }: PodRequest): Promise<string[]> {
  const server = /^nameserver\s+(\S+)/m.exec(readFileSync('/etc/resolv.conf', 'utf8'))?.[1] ?? '127.0.0.1'
  const resolver = new Resolver({ timeout, tries: 1 })
  resolver.setServers([server.includes(':') ? `[${server}]` : server])
  return family === 6 ? resolver.resolve6(host) : resolver.resolve4(host)
}

const familyOf = ({ host, family = isIpv6 ? 6 : 4 }: PodRequest): 4 | 6 => (host.includes(':') ? 6 : family)

function askTcp(request: PodRequest): Promise<PodAnswer> {
  return new Promise((resolve, reject) => {
    const { host, port, timeoutMs } = request
    const socket = connect({ host, port, family: familyOf(request) })
    let text = ''
    socket.setTimeout(timeoutMs, () => socket.destroy(timeout()))
    socket.on('data', (chunk) => (text += chunk.toString()))
    socket.on('end', () => {
      resolve(JSON.parse(text) as PodAnswer)
      socket.destroy()
    })
    socket.on('error', reject)
  })
}

async function askUdp(request: PodRequest): Promise<PodAnswer> {
  const { host, port, timeoutMs, sourcePort } = request
  const { address } = await lookup(host, familyOf(request))
  const socket = createSocket(familyOf(request) === 6 ? 'udp6' : 'udp4')
  try {
    return await new Promise<PodAnswer>((resolve, reject) => {
      const timer = setTimeout(() => reject(timeout()), timeoutMs)
      socket.on('message', (message) => {
        clearTimeout(timer)
        resolve(JSON.parse(message.toString()) as PodAnswer)
      })
      socket.on('error', reject)
      // Connected, so that a refusal by ICMP becomes an error and not a timeout.
      socket.bind(sourcePort ?? 0, () => socket.connect(port, address, () => socket.send('who?')))
    })
  } finally {
    socket.close()
  }
}

function timeout(): NodeJS.ErrnoException {
  return Object.assign(new Error('no answer in time'), { code: 'TIMEOUT' })
}
