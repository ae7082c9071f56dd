// Starts lb-traffic.ts in namespaces, and talks to it.
import type { ChildProcess } from 'node:child_process'
import { createInterface, type Interface } from 'node:readline'
import { slowness } from '../../eventually.ts'
import type { Question } from '../../contract/load-balancer.ts'
import { testProgram } from '../../programs.ts'
import type { Namespace } from './netns.ts'

/** TCP and UDP servers at port 8080 of each address, until the lab closes. */
export async function startServers(namespace: Namespace, ips: readonly string[]): Promise<void> {
  await started(namespace.spawn([process.execPath, TRAFFIC, 'serve', ...ips]))
}

export type Ask = (question: Question) => Promise<readonly string[]>

/** One client program, until the lab closes. Answers are "<server's ip> 8080 <client's address>" or an error's code. */
export async function startAsker(namespace: Namespace): Promise<Ask> {
  const child = namespace.spawn([process.execPath, TRAFFIC, 'ask'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = await started(child)
  return async (question) => {
    const reply = nextLine(lines)
    child.stdin?.write(`${JSON.stringify(question)}\n`)
    return JSON.parse(await reply) as readonly string[]
  }
}

const TRAFFIC = testProgram('lab/support/lb-traffic')
const STARTED_DEADLINE_MS = 20_000

async function started(child: ChildProcess): Promise<Interface> {
  if (child.stdout === null) throw new Error('no stdout')
  const lines = createInterface({ input: child.stdout })
  child.stderr?.on('data', (text: Buffer) => process.stderr.write(text))
  const line = await nextLine(lines)
  if (line !== 'ready') throw new Error(`the traffic program says: ${line}`)
  return lines
}

function nextLine(lines: Interface): Promise<string> {
  return new Promise((resolve, reject) => {
    const ended = () => finish(() => reject(new Error('the traffic program ended')))
    const said = (line: string) => finish(() => resolve(line))
    const timer = setTimeout(
      () => finish(() => reject(new Error('no answer'))),
      STARTED_DEADLINE_MS * slowness()
    )
    const finish = (settle: () => void) => {
      clearTimeout(timer)
      lines.off('line', said).off('close', ended)
      settle()
    }
    lines.once('line', said).once('close', ended)
  })
}
