// The folder of the store: the names of its files, its version in the marker `store.json`, and the checks before it is
// used. The setting `state-dir` names the folder.
import { constants } from 'node:fs'
import { access, lstat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import { StoreError, storeError } from './errors.ts'
import { isMissing, readFileIfAny } from './files.ts'
import { makeFolder } from './make-folder.ts'
import { checkFolder, checkSecret } from './ownership.ts'

/** The version of the folder's layout and of the database. identity.json has a version of its own. */
export const STORE_VERSION = 1

/** Holds STORE_VERSION. It is written once the database exists, so a marker without a database means damage. */
export const MARKER = 'store.json'
export const IDENTITY = 'identity.json'
/** A copy of identity.json, from which a damaged one is restored. */
export const BACKUP = 'identity.bak.json'
export const COUNTERS = 'counters.json'

/**
 * Reads the marker: `none` is a new folder, `unreadable` a damaged marker. Rejects with StoreError STORE_NEWER when a
 * later version of this program has written the folder. Called before anything is written.
 */
export async function readMarker(folder: string): Promise<'none' | 'ours' | 'unreadable'> {
  const path = join(folder, MARKER)
  const text = await readFileIfAny(path)
  if (text === undefined) return 'none'
  const version = /"version"\s*:\s*(\d+)/.exec(text)?.[1]
  if (version === undefined) return 'unreadable'
  if (Number(version) > STORE_VERSION) throw newer(path, Number(version), STORE_VERSION)
  return 'ours'
}

/**
 * Checks that the folder can be written and that its disk has a free block. Rejects with StoreError STORE_READONLY,
 * DISK_FULL or STORE_FAILED. Called each second by `Store.mend`, so that a full disk is reported before a write fails.
 */
export async function checkTakesMore(folder: string): Promise<void> {
  try {
    await access(folder, constants.W_OK | constants.X_OK)
  } catch (error) {
    throw storeError(error, folder)
  }
  // Some file systems have no blocks to count and report 0 of 0 (statfs(2)).
  const { bfree, blocks } = await statfs(folder)
  if (blocks > 0 && bfree === 0) throw storeError(new Error('No space left on device'), folder)
}

/**
 * Returns whether a file exists; a symbolic link counts, wherever it leads. Rejects with StoreError when this cannot be
 * found out.
 */
export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw storeError(error, path)
  }
}

/**
 * Makes the folder with mode 0700, unless it exists, and checks that it and the files with keys are this user's alone.
 * Warnings are appended to `warnings`. Rejects with StoreError STATE_EXPOSED, STORE_READONLY, DISK_FULL or
 * STORE_FAILED.
 */
export async function prepareFolder(folder: string, warnings: string[]): Promise<void> {
  try {
    await checkFolder(folder, (warning) => warnings.push(warning))
    await checkWritable(folder)
    await makeFolder(folder, 0o700)
  } catch (error) {
    throw noFolder(error, folder) ?? storeError(error, folder)
  }
  await checkClosed(folder, warnings)
}

/**
 * Checks that the folder and the files with keys are this user's alone (ownership.ts). Called at a start, and each second
 * by `Store.mend`. A warning that `warnings` does not have yet is appended. Rejects with StoreError STATE_EXPOSED.
 */
export async function checkClosed(folder: string, warnings: string[]): Promise<void> {
  await checkFolder(folder, (warning) => {
    if (!warnings.includes(warning)) warnings.push(warning)
  })
  for (const name of [IDENTITY, BACKUP]) await checkSecret(join(folder, name))
}

/**
 * Returns the error for a folder that cannot be made because of its path: a dangling link, a file in its place, or a
 * file system that makes no folders. Returns undefined for other errors.
 */
function noFolder(thrown: unknown, folder: string): StoreError | undefined {
  const error = thrown instanceof StoreError ? thrown.cause : thrown
  const code = codeOf(error)
  if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'EEXIST' && code !== 'ELOOP') return undefined
  return new StoreError(
    'STORE_FAILED',
    `the folder ${folder} cannot be created: ${(error as Error).message}`,
    {
      path: folder,
      fix: 'check that each link of this path leads to a folder and that its disk is mounted, or set `state-dir` to another folder',
      cause: error
    }
  )
}

/**
 * Checks that the folder, or the nearest existing one above it, can be written. It is checked before mkdir(2), which
 * may answer ENOENT on a read-only file system and hide the cause.
 */
async function checkWritable(folder: string): Promise<void> {
  try {
    await access(folder, constants.W_OK | constants.X_OK)
  } catch (error) {
    if (!isMissing(error) || dirname(folder) === folder) throw error
    await checkWritable(dirname(folder))
  }
}

/** Returns the error for a file of version `found` when this program knows versions up to `known`. */
export function newer(path: string, found: number, known: number): StoreError {
  return new StoreError(
    'STORE_NEWER',
    `${path} has version ${found}, but this program knows only version ${known}`,
    {
      path,
      fix: 'run the newer program again, or set `state-dir` to another folder; nothing was changed'
    }
  )
}
