// Checks that the state folder and the files with keys in it belong to this user and are closed to others. folder.ts
// calls these checks before the store reads or writes anything.
// Invariant: nothing is opened, written or removed through a name that another user could have put there.
import { chmod, lstat, stat } from 'node:fs/promises'
import type { Stats } from 'node:fs'
import { StoreError, storeError } from './errors.ts'
import { isMissing } from './files.ts'

// Mode bits (inode(7)) of the group and of all others: any right, and the right to write.
const OTHERS = 0o077
const OTHERS_WRITE = 0o022

/**
 * Checks the state folder; a folder that does not exist passes. Rejects with StoreError STATE_EXPOSED when it is no
 * folder, is a link that belongs to a user other than this one and root, belongs to another user, or holds keys and can
 * be written by others, who may then have replaced its files. Any other folder that is open to others gets mode 0700,
 * with a warning when it holds keys. When the mode cannot be changed, a folder with keys is refused, and one without
 * keys gets a warning.
 */
export async function checkFolder(folder: string, warn: (warning: string) => void): Promise<void> {
  const [named, found] = await Promise.all([look(folder), look(folder, stat)])
  if (named === undefined || found === undefined) return
  const user = process.geteuid?.()
  if (!found.isDirectory())
    throw exposed(folder, 'is not a folder', 'move it away, or set `state-dir` to another folder')
  if (named.isSymbolicLink() && user !== undefined && named.uid !== user && named.uid !== 0)
    throw exposed(
      folder,
      `is a link of another user (uid ${named.uid})`,
      'remove the link, or set `state-dir` to its target'
    )
  if (user !== undefined && found.uid !== user)
    throw exposed(
      folder,
      `belongs to another user (uid ${found.uid}; the agent has uid ${user})`,
      `if it belongs to this agent: chown -R ${user} ${folder}; else set \`state-dir\` to another folder`
    )
  if ((found.mode & OTHERS) === 0) return
  const holdsKeys = (await look(`${folder}/identity.json`)) !== undefined
  if (holdsKeys && (found.mode & OTHERS_WRITE) !== 0)
    throw exposed(
      folder,
      `holds keys and can be written by other users (mode ${octal(found)})`,
      `check that its files belong to this agent, then run: chmod 700 ${folder}`
    )
  await chmod(folder, 0o700).catch((error: unknown) => {
    if (holdsKeys)
      throw exposed(
        folder,
        `holds keys and is open to other users (mode ${octal(found)})`,
        `chmod 700 ${folder}`,
        error
      )
    warn(`other users can read ${folder}, and its mode cannot be changed; its files have the mode 0600`)
  })
  if (holdsKeys)
    warn(`other users could read ${folder} (mode ${octal(found)}); the agent has set the mode 0700`)
}

/**
 * Checks a file with secrets; a missing file passes. Rejects with StoreError STATE_EXPOSED when it is a link, belongs
 * to another user, or gives the group or others any right. The mode is not corrected: the keys may have been read
 * already, and the operator must decide.
 */
export async function checkSecret(path: string): Promise<void> {
  const found = await look(path)
  if (found === undefined) return
  const user = process.geteuid?.()
  if (!found.isFile())
    throw exposed(
      path,
      found.isSymbolicLink() ? 'is a link' : 'is not a file',
      found.isSymbolicLink()
        ? 'put the file itself in this place: a link could lead to a file of another user'
        : `move ${path} away: the agent keeps a file in this place`
    )
  if (user !== undefined && found.uid !== user)
    throw exposed(
      path,
      `belongs to another user (uid ${found.uid}; the agent has uid ${user})`,
      `if it belongs to this agent: chown ${user} ${path}`
    )
  if ((found.mode & OTHERS) !== 0)
    throw exposed(
      path,
      `holds keys and is open to other users (mode ${octal(found)})`,
      `chmod 600 ${path}; if another user may have read it, run \`meshctl leave\` after the start and join with a new token`
    )
}

/** Returns the status of a path; undefined when there is nothing. `lstat` examines a link itself, `stat` its target. */
async function look(path: string, how: (path: string) => Promise<Stats> = lstat): Promise<Stats | undefined> {
  try {
    return await how(path)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw storeError(error, path)
  }
}

/** The permission bits as chmod(1) takes them, with four digits. */
function octal({ mode }: Stats): string {
  return (mode & 0o7777).toString(8).padStart(4, '0')
}

function exposed(path: string, what: string, fix: string, cause?: unknown): StoreError {
  return new StoreError('STATE_EXPOSED', `${path} ${what}; nothing was changed`, {
    path,
    fix,
    ...(cause === undefined ? {} : { cause })
  })
}
