// The lock that lets one agent run in each network namespace. It is an abstract Unix socket (unix(7)): the kernel keeps
// their names separately for each network namespace and frees them when the process ends, so a kill -9 leaves no stale
// lock. The holder answers each connection with its pid.
import { connect, createServer, type Server } from 'node:net'
import { HostError } from '../errors.ts'

// The zero byte in front makes the name abstract: no file has it.
const NAME = '\0rhizome-host-lock'
// Milliseconds to wait for the pid of the holder. A holder that is stopped (SIGSTOP) does not answer; the error then
// names no pid.
const ANSWER_DEADLINE_MS = 500

/** The lock, held until `release` or the end of the process. */
export interface Lock {
  release(): Promise<void>
}

/** Takes the lock or rejects at once. Errors: SECOND_INSTANCE, with the pid of the holder if it answers in 500 ms. */
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
      message: `another agent${pid === undefined ? '' : ` (pid ${pid})`} already runs in this network namespace`,
      fix: 'stop the other agent, or start this one in another network namespace',
      cause
    })
  }
  // The lock alone must not keep the process running.
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
      server.on('error', () => undefined) // an error of one connection: the name stays taken
      resolve()
    })
  })
}

/** Returns the pid of the holder; undefined without an answer that is a number. */
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
