// Writes the Corefile of a CoreDNS that the agent owns, and signals that CoreDNS. The text comes from
// core/coredns/corefile.ts; app/cluster-dns/managed-coredns.ts calls this file once a second.
//
// Invariants
//   1. A reader of the path finds the whole old text or the whole new text, at any moment and after a crash.
//   2. A file that does not begin with our mark is never overwritten.
//   3. SIGUSR1 ends most programs, so it is sent only to a process named coredns, even if a stale pid file names
//      another one.
import { open, readFile, rename, rm } from 'node:fs/promises'

import { codeOf } from '../../core/model/coded-error.ts'
import { WRITTEN_BY } from '../../core/coredns/corefile.ts'
import { FeedError } from './errors.ts'

/**
 * Makes the file at `path` have this text. `mayReplace` is asked before an existing other text of ours is replaced.
 * Resolves with true if the file was written, and with false if it had this text or `mayReplace` refused.
 * Errors: FeedError COREFILE_FOREIGN if another program wrote the file, COREFILE_UNWRITABLE if it cannot be read or
 * written. After an error the file is as before.
 */
export async function putCorefile(
  path: string,
  text: string,
  mayReplace: (before: string) => boolean = () => true
): Promise<boolean> {
  const before = await readIfAny(path).catch((error: unknown) => {
    throw unwritable(path, error)
  })
  if (before === text) return false
  if (before !== undefined && before.trim() !== '' && !before.startsWith(`${WRITTEN_BY}\n`)) {
    throw new FeedError('COREFILE_FOREIGN', {
      message: `${path} was not written by this agent, so the agent does not change it`,
      fix: 'move the file away, or set corefile to another path'
    })
  }
  if (before !== undefined && !mayReplace(before)) return false
  try {
    await replace(path, text)
  } catch (error) {
    throw unwritable(path, error)
  }
  return true
}

/**
 * Sends SIGUSR1 to the CoreDNS of this pid file, which then reads its Corefile again. Resolves with false if no CoreDNS
 * runs: there is no pid file, or it names no process called coredns. Errors: FeedError COREDNS_NOT_TOLD if a file
 * cannot be read or the signal is not permitted.
 */
export async function tellCoredns(pidFile: string): Promise<boolean> {
  try {
    const pid = Number((await readIfAny(pidFile))?.trim() || NaN)
    if (!Number.isSafeInteger(pid) || pid <= 1) return false
    if ((await readIfAny(`/proc/${pid}/comm`))?.trim() !== 'coredns') return false
    process.kill(pid, 'SIGUSR1')
    return true
  } catch (error) {
    // The process has ended between the check of its name and the signal.
    if (codeOf(error) === 'ESRCH') return false
    throw new FeedError(
      'COREDNS_NOT_TOLD',
      {
        message: `the agent cannot signal the CoreDNS of ${pidFile} to read its new Corefile: ${reasonOf(error)}`,
        fix: 'run the agent as root or as the user of CoreDNS, or leave coredns-pid-file empty: the reload plugin of CoreDNS then reads the file within 3 s'
      },
      error
    )
  }
}

/** The file has no secrets, and CoreDNS may run as any user, so all users may read it. */
const MODE = 0o644

/** Writes a new file beside the old one and renames it over the old one, which is atomic (rename(2)). */
async function replace(path: string, text: string): Promise<void> {
  // The name is always the same, so that a crash leaves at most one such file, which the next write removes.
  const fresh = `${path}.new`
  await rm(fresh, { force: true })
  try {
    const file = await open(fresh, 'wx', MODE)
    try {
      // The umask may have removed bits of MODE.
      await file.chmod(MODE)
      await file.writeFile(text)
      // Without this, a crash after the rename could leave an empty file.
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(fresh, path)
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  }
}

/** Returns the text of a file, or undefined if there is none. Throws other errors of the file system. */
async function readIfAny(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

function unwritable(path: string, error: unknown): FeedError {
  return new FeedError(
    'COREFILE_UNWRITABLE',
    {
      message: `the Corefile ${path} cannot be written: ${reasonOf(error)}`,
      fix: 'create the folder of this file and make it writable for the agent, or set corefile to another path'
    },
    error
  )
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
