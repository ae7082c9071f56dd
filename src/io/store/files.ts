// Reads and writes the small files of the store (identity, counters, marker). A file is written under a temporary name,
// synced and renamed, and then its folder is synced. So after a crash the file has either its old content or its new
// one, never a part.
import { randomBytes } from 'node:crypto'
import { open, readFile, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import { storeError } from './errors.ts'

/**
 * Replaces a file in one step, with mode 0600; the content is durable when the promise resolves. Rejects with
 * StoreError DISK_FULL, STORE_READONLY or STORE_FAILED.
 */
export async function writeFileAtomic(path: string, text: string): Promise<void> {
  const temp = `${path}.${randomBytes(4).toString('hex')}.tmp`
  try {
    const file = await open(temp, 'wx', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temp, path)
    await syncFolder(dirname(path))
  } catch (error) {
    await removeFile(temp)
    throw storeError(error, path)
  }
}

/** Returns the text of a file; undefined when there is no such file. Rejects with StoreError when it cannot be read. */
export async function readFileIfAny(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw storeError(error, path)
  }
}

/** Removes a file; a missing one is no error. Rejects with StoreError. */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (!isMissing(error)) throw storeError(error, path)
  }
}

/** Syncs a folder. A rename or unlink inside it is durable only after this (fsync(2)). */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Returns whether an error says that a file or folder does not exist. */
export function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT'
}
