// Makes a folder and those above it, as `mkdir -p` does. The option `recursive` of Node's mkdir is not used: where the
// kernel answers ENOENT below a folder that exists, as /proc and autofs do, Node tries again without end, and mkdirSync
// then blocks the process.
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'

/**
 * Makes `path` and its missing parents, each with `mode`; a folder that exists keeps its mode. Rejects with the error
 * of mkdir(2). Called for the state folder and for the folder of the admin socket.
 */
export async function makeFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, mode)
  } catch (error) {
    const code = codeOf(error)
    if (code === 'EEXIST' && (await isFolder(path))) return
    const above = dirname(path)
    // ENOENT although the parent exists: this file system makes no folders.
    if (code !== 'ENOENT' || above === path || (await isFolder(above))) throw error
    await makeFolder(above, mode)
    // Another process may have made the folder meanwhile.
    await mkdir(path, mode).catch(async (again: unknown) => {
      if (!(await isFolder(path))) throw again
    })
  }
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false
  )
}
