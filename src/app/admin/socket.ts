// The socket file of the admin API. The agent creates it, and creates it again when its file or folder was removed.
// Invariants:
//  1. The agent never removes or replaces a file that is not a socket, nor a socket on which another process answers.
//  2. The socket is bound under another name and then renamed, so that other users can never open it. Closing the
//     server removes only the name that was bound, so it cannot remove a socket that another process has created at
//     the path since (docs/decisions/0056).
import { chmodSync, lstatSync, renameSync, rmSync, type Stats } from 'node:fs'
import type { RequestListener } from 'node:http'
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { makeFolder } from '../../io/store/make-folder.ts'
import { Loop } from '../../io/timing/loop.ts'
import { AppError, explain, listenOn } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import { close } from '../agent/health-http.ts'

// A job that cleans /run may remove the socket file of a running agent. `meshctl` should then fail for about one second
// only.
const LOOK_MS = 1000
// A live process accepts a connection within milliseconds. A process that is stopped (SIGSTOP) may not.
const ALIVE_MS = 1000
const FAULT = 'ADMIN_SOCKET'

/**
 * A socket file on which a server listens. `stop` closes the server and removes the file if it is still the agent's
 * own.
 */
export interface AdminSocket {
  stop(): Promise<void>
}

/**
 * The path of the socket, the listener for HTTP requests, and the registry of health, which gets the fault
 * ADMIN_SOCKET.
 */
interface AdminSocketOptions {
  readonly path: string
  readonly listener: RequestListener
  readonly health: Health
}

/**
 * Creates the socket, and checks each second that it still exists. Errors: AppError SOCKET_IN_USE (another process
 * answers on the path), SOCKET_PATH_TAKEN (the path is not a socket), LISTEN_FAILED.
 */
export async function openAdminSocket(options: AdminSocketOptions): Promise<AdminSocket> {
  let opened = await open(options)
  const look = async (): Promise<void> => {
    try {
      if (!isOurs(options.path, opened.file)) {
        // Throws when the path belongs to another process; the old server then stays open.
        await claimSocket(options.path)
        opened.server.close() // requests in progress are still answered
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
  const looks = new Loop({ act: look, intervalMs: LOOK_MS, firstMs: LOOK_MS })
  looks.start()
  return {
    async stop() {
      await looks.stop()
      if (isOurs(options.path, opened.file)) rmSync(options.path, { force: true })
      await close(opened.server)
    }
  }
}

/**
 * Checks that an agent may use this path, and creates its folder; nothing else is changed. The start of the agent calls
 * it before anything else. Errors: AppError SOCKET_IN_USE, SOCKET_PATH_TAKEN, LISTEN_FAILED.
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
      'stop that meshd, or give this one its own socket, state-dir and device'
    )
  }
}

/** A server, and the inode that its socket file had when it was created. */
interface Opened {
  readonly server: Server
  readonly file: Stats
}

/**
 * Binds <path>.new with mode 0600 and renames it to the path, which is atomic: rename(2) replaces a stale socket in one
 * step. The umask of the process is changed for the time of the bind, because the file would else be open to others
 * until chmod. Errors: those of `claimSocket`.
 */
async function open({ path, listener, health }: AdminSocketOptions): Promise<Opened> {
  const fresh = `${path}.new`
  await claimSocket(path)
  await claimSocket(fresh)
  rmSync(fresh, { force: true }) // an agent that was killed between bind and rename leaves this file
  const server = createServer(listener)
  const umask = process.umask(0o177)
  try {
    await listenOn(server, { path: fresh }, 'socket', (error) =>
      health.setError(FAULT, error, {
        severity: 'error',
        fix: 'raise the limit of open files of meshd (`LimitNOFILE=` of the systemd unit)'
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

/** Compares device and inode, because another process may have created a socket at the same path. */
function isOurs(path: string, ours: Stats): boolean {
  const file = stat(path)
  return file !== undefined && file.ino === ours.ino && file.dev === ours.dev && file.isSocket()
}

/** Returns undefined when the path does not exist. */
function stat(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch (error) {
    if (explain(error).code === 'ENOENT') return undefined
    throw listenFailed(path, error)
  }
}

/**
 * Whether a process listens on the socket. A socket file stays when its process is killed, so only a connection can
 * tell. Resolves within ALIVE_MS.
 */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    const settle = (alive: boolean): void => {
      probe.destroy()
      resolve(alive)
    }
    probe.setTimeout(ALIVE_MS, () => settle(true)) // a process holds the socket, but is too busy to accept
    probe.once('connect', () => settle(true))
    // ECONNREFUSED says that no process listens. Any other error, such as a full queue, says that one does.
    probe.once('error', (error: NodeJS.ErrnoException) =>
      settle(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT')
    )
  })
}

/**
 * The error for a path that is not a socket. It names the kind of file, so that the operator knows what would be lost.
 */
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
