// mkdir -p that ends. Node's own, with `recursive`, asks for ever where the kernel answers ENOENT below a folder that exists, as /proc
// and autofs do; the synchronous one holds the whole process.
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'

/** With the folders above it, unless they exist. Errors: those of mkdir(2). */
export async function makeFolder(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, mode)
  } catch (error) {
    const code = codeOf(error)
    if (code === 'EEXIST' && (await isFolder(path))) return
    const above = dirname(path)
    if (code !== 'ENOENT' || above === path || (await isFolder(above))) throw error
    await makeFolder(above, mode)
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
