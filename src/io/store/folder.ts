// The folder of the store: its files by name, its version, and whether the disk takes more.
import { constants } from 'node:fs'
import { access, lstat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import { StoreError, storeError } from './errors.ts'
import { isMissing, readFileIfAny } from './files.ts'
import { makeFolder } from './make-folder.ts'
import { checkFolder, checkSecret } from './ownership.ts'

/** Of the folder as a whole: db and marker. */
export const STORE_VERSION = 1

export const MARKER = 'store.json'
export const IDENTITY = 'identity.json'
export const BACKUP = 'identity.bak.json'
export const COUNTERS = 'counters.json'

/** Errors: StoreError STORE_NEWER; nothing has been written then. */
export async function readMarker(folder: string): Promise<'none' | 'ours' | 'unreadable'> {
  const path = join(folder, MARKER)
  const text = await readFileIfAny(path)
  if (text === undefined) return 'none'
  const version = /"version"\s*:\s*(\d+)/.exec(text)?.[1]
  if (version === undefined) return 'unreadable'
  if (Number(version) > STORE_VERSION) throw newer(path, Number(version), STORE_VERSION)
  return 'ours'
}

/** Errors: StoreError STORE_READONLY, DISK_FULL. */
export async function checkTakesMore(folder: string): Promise<void> {
  try {
    await access(folder, constants.W_OK | constants.X_OK)
  } catch (error) {
    throw storeError(error, folder)
  }
  const { bfree, blocks } = await statfs(folder)
  if (blocks > 0 && bfree === 0) throw storeError(new Error('No space left on device'), folder)
}

export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw storeError(error, path)
  }
}

export async function prepareFolder(folder: string, warnings: string[]): Promise<void> {
  try {
    await checkFolder(folder, (warning) => warnings.push(warning))
    await checkWritable(folder)
    await makeFolder(folder, 0o700)
  } catch (error) {
    throw noFolder(error, folder) ?? storeError(error, folder)
  }
  await checkFolder(folder, (warning) => warnings.push(warning))
  for (const name of [IDENTITY, BACKUP]) await checkSecret(join(folder, name))
}

/** A link that leads nowhere, a file in the way, or a file system that makes no folders: the disk is not at fault. */
function noFolder(thrown: unknown, folder: string): StoreError | undefined {
  const error = thrown instanceof StoreError ? thrown.cause : thrown
  const code = codeOf(error)
  if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'EEXIST' && code !== 'ELOOP') return undefined
  return new StoreError('STORE_FAILED', `the folder ${folder} cannot be made: ${(error as Error).message}`, {
    path: folder,
    fix: 'see that each link of this path leads to a folder and its disk is mounted, or choose another with the setting `state-dir`',
    cause: error
  })
}

/** The folder, or the nearest one above it: where the file system is read-only, mkdir may say ENOENT. */
async function checkWritable(folder: string): Promise<void> {
  try {
    await access(folder, constants.W_OK | constants.X_OK)
  } catch (error) {
    if (!isMissing(error) || dirname(folder) === folder) throw error
    await checkWritable(dirname(folder))
  }
}

export function newer(path: string, found: number, known: number): StoreError {
  return new StoreError('STORE_NEWER', `${path} is of version ${found}; this program knows ${known}`, {
    path,
    fix: 'run the newer program again, or give this one another folder; nothing was changed'
  })
}
