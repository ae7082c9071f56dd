// One instance per network namespace. The lock is an abstract Unix socket: the kernel keeps one name space of those per
// network namespace and frees them with the process, so that nothing stale is left by kill -9.
import { connect, createServer, type Server } from 'node:net'
import { HostError } from '../errors.ts'

const NAME = '\0rhizome-host-lock'
const ANSWER_DEADLINE_MS = 500

export interface Lock {
  release(): Promise<void>
}

/** Errors: SECOND_INSTANCE, naming the holder's pid if it answers. */
export async function acquireLock(): Promise<Lock> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.end(String(process.pid))
  })
  try {
    await listen(server)
  } catch (cause) {
    const pid = await holder()
    throw new HostError({
      code: 'SECOND_INSTANCE',
      message: `another agent${pid === undefined ? '' : ` (pid ${pid})`} owns this network namespace`,
      fix: 'stop the other agent, or run this one in a network namespace of its own',
      cause
    })
  }
  server.unref()
  return {
    release: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
      })
  }
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(NAME, () => {
      server.off('error', reject)
      server.on('error', () => undefined) // of one connection; the name stays taken
      resolve()
    })
  })
}

function holder(): Promise<number | undefined> {
  return new Promise((resolve) => {
    const socket = connect(NAME)
    const finish = (pid?: number) => {
      socket.destroy()
      resolve(pid)
    }
    socket.setTimeout(ANSWER_DEADLINE_MS, () => finish())
    socket.on('error', () => finish())
    socket.on('end', () => finish())
    socket.on('data', (data) => {
      const text = String(data)
      finish(/^\d{1,10}$/.test(text) ? Number(text) : undefined)
    })
  })
}
