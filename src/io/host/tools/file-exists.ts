import { constants } from 'node:fs'
import { access } from 'node:fs/promises'

/** Whether this process may access the file so; `mode` is one of fs.constants. */
export async function fileExists(path: string, mode = constants.F_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false
  )
}
