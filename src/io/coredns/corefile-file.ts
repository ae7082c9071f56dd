// The Corefile of a CoreDNS that the agent owns: its file, and the word to CoreDNS that there is another.
//
// Invariants
//   1. A reader of the path finds the whole old text or the whole new text, at any moment and after a crash.
//   2. A file that does not begin with our mark is never overwritten.
//   3. SIGUSR1 ends most programs, so it is sent only to a process named coredns, even if a stale pid file names another one.
import { open, readFile, rename, rm } from 'node:fs/promises'

import { codeOf } from '../../core/model/coded-error.ts'
import { WRITTEN_BY } from '../../core/coredns/corefile.ts'
import { FeedError } from './errors.ts'

/**
 * True: it was another before, and `mayReplace` said yes to that. Errors: FeedError COREFILE_FOREIGN, COREFILE_UNWRITABLE; the file
 * is as before then.
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
      message: `${path} was not written by this agent, so it is left alone`,
      fix: 'Move it away, or choose another path with the setting corefile.'
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

/** CoreDNS reads its Corefile again. False: there is none that runs. Errors: FeedError COREDNS_NOT_TOLD. */
export async function tellCoredns(pidFile: string): Promise<boolean> {
  try {
    const pid = Number((await readIfAny(pidFile))?.trim() || NaN)
    if (!Number.isSafeInteger(pid) || pid <= 1) return false
    if ((await readIfAny(`/proc/${pid}/comm`))?.trim() !== 'coredns') return false
    process.kill(pid, 'SIGUSR1')
    return true
  } catch (error) {
    // Gone between the look and the signal.
    if (codeOf(error) === 'ESRCH') return false
    throw new FeedError(
      'COREDNS_NOT_TOLD',
      {
        message: `CoreDNS, whose pid file is ${pidFile}, cannot be told of its new Corefile: ${reasonOf(error)}`,
        fix: 'Give this agent the right to signal it, or leave the setting coredns-pid-file empty: its reload plugin looks by itself.'
      },
      error
    )
  }
}

/** The file has no secrets, and CoreDNS may run as any user, so all users may read it. */
const MODE = 0o644

async function replace(path: string, text: string): Promise<void> {
  // One name, so that a crash leaves one file, which the next write takes away.
  const fresh = `${path}.new`
  await rm(fresh, { force: true })
  try {
    const file = await open(fresh, 'wx', MODE)
    try {
      await file.chmod(MODE)
      await file.writeFile(text)
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
      fix: 'Its folder must exist and be writable for this agent; see the setting corefile.'
    },
    error
  )
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
