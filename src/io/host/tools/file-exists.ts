// Tells whether a file can be used. Callers ask for devices, kernel modules and programs on the PATH.
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'

/** Returns whether this process can access the file; `mode` is of fs.constants, such as X_OK. Never rejects. */
export async function fileExists(path: string, mode = constants.F_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false
  )
}
