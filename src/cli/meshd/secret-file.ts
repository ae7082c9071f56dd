// Writes and reads the files that meshd has encrypted with a passphrase: root keys, backups. meshctl does it and meshd does
// not, because the file belongs to the operator and often lies on a removable disk that meshd, as a service, cannot see.
import { randomBytes } from 'node:crypto'
import { link, lstat, open, readFile, rename, stat, unlink } from 'node:fs/promises'
import { codeOf } from '../../core/model/coded-error.ts'
import { badArgument, CliError } from '../output/errors.ts'

/**
 * Writes a file that only its owner can read, and returns what is on the disk then. After a crash there is the whole file
 * or none. `force`: replace a file that exists, which stays until the new one is complete; undefined where a command does
 * not offer that. Errors: CliError BAD_ARGUMENT; nothing is left of the attempt.
 */
export async function writeSecretFile(
  file: string,
  content: string,
  { force }: { readonly force?: boolean } = {}
): Promise<string> {
  const temp = `${file}.${randomBytes(4).toString('hex')}.tmp`
  try {
    const handle = await open(temp, 'wx', 0o600)
    try {
      await handle.writeFile(content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await (force === true ? rename(temp, file) : putNew(temp, file))
    return await readFile(file, 'utf8')
  } catch (error) {
    await unlink(temp).catch(() => undefined)
    if (codeOf(error) === 'EEXIST') throw exists(file, { offersForce: force !== undefined, cause: error })
    const message = error instanceof Error ? error.message : String(error)
    throw new CliError(
      'BAD_ARGUMENT',
      `file: cannot write ${file}: ${message}`,
      'name a file in a folder that you may write, on a disk with room',
      { cause: error }
    )
  }
}

/**
 * Refuses a name that is taken, before meshd is asked and a person has typed a passphrase. Errors: CliError BAD_ARGUMENT.
 */
export async function checkFree(file: string, { force }: { readonly force: boolean }): Promise<void> {
  if (force) return
  try {
    await lstat(file)
  } catch {
    return // missing, or in a folder that the write complains about
  }
  throw exists(file, { offersForce: true })
}

/** Reads a file of at most `bytesMax` bytes. Errors: CliError BAD_ARGUMENT. */
export async function readSecretFile(file: string, bytesMax: number): Promise<string> {
  try {
    const { size } = await stat(file)
    if (size > bytesMax)
      throw badArgument(
        'file',
        `${file} has more than ${bytesMax} bytes`,
        'name a file that meshctl has written'
      )
    return await readFile(file, 'utf8')
  } catch (error) {
    if (error instanceof CliError) throw error
    const message = error instanceof Error ? error.message : String(error)
    throw new CliError('BAD_ARGUMENT', `file: cannot read ${file}: ${message}`, 'check the path', {
      cause: error
    })
  }
}

/** Gives the file its name, which must be free. A removable disk may have a file system without links (FAT). */
async function putNew(temp: string, file: string): Promise<void> {
  try {
    await link(temp, file)
  } catch (error) {
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(codeOf(error) ?? '')) throw error
    await checkFree(file, { force: false })
    return rename(temp, file)
  }
  await unlink(temp)
}

function exists(
  file: string,
  options: { readonly offersForce: boolean; readonly cause?: unknown }
): CliError {
  return new CliError(
    'BAD_ARGUMENT',
    `file: ${file} exists, and is not overwritten`,
    `name a file that does not exist${options.offersForce ? ', or repeat with --force when you need it no more' : ''}`,
    { cause: options.cause }
  )
}
