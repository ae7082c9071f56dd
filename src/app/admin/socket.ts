// The admin API's socket in the file system: made whole, kept, and made anew when its file or folder is removed.
// Invariants:
//  1. What is not a socket is never removed or replaced, and neither is a socket on which another process answers.
//  2. The file is bound under another name and renamed into place, so it is never open to others, not even for a moment; and closing
//     the server, which removes the name that was bound, cannot remove what another has put there since.
import { chmodSync, lstatSync, renameSync, rmSync, type Stats } from 'node:fs'
import type { RequestListener } from 'node:http'
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { makeFolder } from '../../io/store/make-folder.ts'
import { AppError, explain, listenOn } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import { close } from '../agent/health-http.ts'

// A cleaner of /run takes the file of a running agent; `meshctl` should miss it for a moment only.
const LOOK_MS = 1000
// What answers at all does so at once; a process that is stopped may not.
const ALIVE_MS = 1000
const FAULT = 'ADMIN_SOCKET'

export interface AdminSocket {
  stop(): Promise<void>
}

export interface AdminSocketOptions {
  readonly path: string
  readonly listener: RequestListener
  readonly health: Health
}

/** Errors: AppError SOCKET_IN_USE (another process answers there), SOCKET_PATH_TAKEN (it is no socket), LISTEN_FAILED. */
export async function openAdminSocket(options: AdminSocketOptions): Promise<AdminSocket> {
  let opened = await open(options)
  let looking: Promise<void> = Promise.resolve()
  let isLooking = false
  const look = async (): Promise<void> => {
    try {
      if (!isOurs(options.path, opened.file)) {
        await claimSocket(options.path) // first: what is there may be another's, and then this one stays as it is
        opened.server.close() // its name has gone; requests that are under way are answered
        opened = await open(options)
      }
      options.health.clear(FAULT)
    } catch (error) {
      options.health.setError(FAULT, error, {
        severity: 'error',
        fix: `make ${dirname(options.path)} writable; the socket is then made anew within seconds`
      })
    }
  }
  const timer = setInterval(() => {
    if (isLooking) return
    isLooking = true
    looking = look().finally(() => (isLooking = false))
  }, LOOK_MS)
  return {
    async stop() {
      clearInterval(timer)
      await looking
      if (isOurs(options.path, opened.file)) rmSync(options.path, { force: true })
      await close(opened.server)
    }
  }
}

/**
 * Whether an agent may take this path; nothing is changed but that the folder is made. Errors: AppError SOCKET_IN_USE,
 * SOCKET_PATH_TAKEN, LISTEN_FAILED.
 */
export async function claimSocket(path: string): Promise<void> {
  try {
    await makeFolder(dirname(path), 0o755)
  } catch (error) {
    throw listenFailed(path, error)
  }
  const file = stat(path)
  if (file === undefined) return
  if (!file.isSocket()) throw taken(path, file)
  if (await answers(path)) {
    throw new AppError(
      'SOCKET_IN_USE',
      `another meshd answers on ${path}`,
      'stop it, or give this one its own socket, state-dir and device'
    )
  }
}

interface Opened {
  readonly server: Server
  readonly file: Stats
}

async function open({ path, listener, health }: AdminSocketOptions): Promise<Opened> {
  const fresh = `${path}.new`
  await claimSocket(path)
  await claimSocket(fresh)
  rmSync(fresh, { force: true }) // of an agent that was killed just then
  const server = createServer(listener)
  const umask = process.umask(0o177)
  try {
    await listenOn(server, { path: fresh }, 'socket', (error) =>
      health.setError(FAULT, error, {
        severity: 'error',
        fix: 'see the limits of this process and of the host'
      })
    )
  } finally {
    process.umask(umask)
  }
  try {
    chmodSync(fresh, 0o600)
    renameSync(fresh, path)
    return { server, file: lstatSync(path) }
  } catch (error) {
    server.close()
    throw listenFailed(path, error)
  }
}

function isOurs(path: string, ours: Stats): boolean {
  const file = stat(path)
  return file !== undefined && file.ino === ours.ino && file.dev === ours.dev && file.isSocket()
}

/** undefined: there is nothing. */
function stat(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch (error) {
    if (explain(error).code === 'ENOENT') return undefined
    throw listenFailed(path, error)
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    const settle = (alive: boolean): void => {
      probe.destroy()
      resolve(alive)
    }
    probe.setTimeout(ALIVE_MS, () => settle(true)) // it holds the socket, and has no time
    probe.once('connect', () => settle(true))
    // Refused: nobody listens. Anything else, such as a full queue, says that somebody does.
    probe.once('error', (error: NodeJS.ErrnoException) =>
      settle(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT')
    )
  })
}

function taken(path: string, file: Stats): AppError {
  const what = file.isDirectory() ? 'a folder' : file.isSymbolicLink() ? 'a link' : 'a file'
  return new AppError(
    'SOCKET_PATH_TAKEN',
    `${path} is ${what}, not a socket; nothing was changed`,
    'move it away, or choose another path with the setting socket'
  )
}

function listenFailed(path: string, cause: unknown): AppError {
  return new AppError(
    'LISTEN_FAILED',
    `cannot make the socket ${path}: ${explain(cause).message}`,
    'check the setting socket, and that its folder can be written by this user',
    { cause }
  )
}
