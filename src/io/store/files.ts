// Small files that are whole or absent: temp, fsync, rename, fsync of the folder.
import { randomBytes } from 'node:crypto'
import { open, readFile, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import { storeError } from './errors.ts'

/** Mode 0600. Errors: StoreError DISK_FULL or STORE_READONLY; the file is as before then. */
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

/** Undefined: there is none. */
export async function readFileIfAny(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw storeError(error, path)
  }
}

export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (!isMissing(error)) throw storeError(error, path)
  }
}

/** A rename or unlink is durable only after this. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT'
}
