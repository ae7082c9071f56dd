// A small program of two roles, run inside namespaces by lb-bench.ts with plain node.
//   serve <ip> …   TCP and UDP servers at port 8080 of each address; the answer is "<ip> 8080 <client's address>"
//   ask            reads questions from stdin, one JSON a line, writes the answers, one JSON list a line
import { createSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { slowness } from '../../eventually.ts'

interface Question {
  readonly protocol: 'TCP' | 'UDP'
  readonly ip: string
  readonly port: number
  readonly count: number
  readonly sourcePort?: number
  readonly source?: string
}

const PORT = 8080
// A server behind a busy or a translated machine answers late; a lost datagram or a dropped SYN never.
const TCP_DEADLINE_MS = 8000 * slowness()
const UDP_DEADLINE_MS = 700 * slowness()

const [role, ...addresses] = process.argv.slice(2)
if (role === 'serve') serve(addresses)
else await answer()

function serve(ips: readonly string[]): void {
  let open = ips.length * 2
  const listening = () => {
    if (--open === 0) console.log('ready')
  }
  for (const ip of ips) {
    createServer((socket) => {
      socket.on('error', () => undefined)
      socket.end(`${ip} ${PORT} ${socket.remoteAddress ?? ''}`)
    }).listen(PORT, ip, listening)
    const udp = createSocket(ip.includes(':') ? 'udp6' : 'udp4')
    udp.on('message', (_, peer) => udp.send(`${ip} ${PORT} ${peer.address}`, peer.port, peer.address))
    udp.bind(PORT, ip, listening)
  }
}

async function answer(): Promise<void> {
  console.log('ready')
  for await (const line of createInterface({ input: process.stdin })) {
    const question = JSON.parse(line) as Question
    const answers: string[] = []
    for (let turn = 0; turn < question.count; turn++) {
      answers.push(await (question.protocol === 'TCP' ? askTcp(question) : askUdp(question)))
    }
    console.log(JSON.stringify(answers))
  }
}

function askTcp({ ip, port, source }: Question): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: ip, port, ...(source === undefined ? {} : { localAddress: source }) })
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    socket.setTimeout(TCP_DEADLINE_MS, () =>
      socket.destroy(Object.assign(new Error('timeout'), { code: 'TIMEOUT' }))
    )
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.on('close', () => resolve(text))
  })
}

function askUdp({ ip, port, sourcePort, source }: Question): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket(ip.includes(':') ? 'udp6' : 'udp4')
    const done = (text: string) => {
      clearTimeout(timer)
      socket.close(() => resolve(text))
    }
    const timer = setTimeout(() => done('TIMEOUT'), UDP_DEADLINE_MS)
    socket.once('message', (message) => done(message.toString()))
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message))
    // Connected, so that an ICMP error is told to us.
    socket.bind(sourcePort ?? 0, source, () => socket.connect(port, ip, () => socket.send('?')))
  })
}
