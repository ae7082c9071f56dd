// Reads a passphrase from a file or from the terminal, where it is not shown. It is in no argument and in no environment
// variable, because other users of the host can see those.
import { readFile } from 'node:fs/promises'
import { badArgument, CliError } from '../output/errors.ts'

/**
 * Returns the passphrase. `isNew`: the terminal asks twice. Errors: CliError BAD_ARGUMENT for an unreadable or empty file,
 * for two different inputs, and when there is no terminal; INTERRUPTED.
 */
export async function readPassphrase(
  file: string | undefined,
  { isNew }: { readonly isNew: boolean }
): Promise<string> {
  if (file !== undefined) return checked(await fromFile(file))
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw badArgument(
      '--passphrase-file',
      'there is no terminal to ask for the passphrase',
      'write it into a file that only you can read, and name the file'
    )
  const first = checked(await ask('Passphrase: '))
  if (isNew && (await ask('Once more: ')) !== first)
    throw badArgument('passphrase', 'the two inputs differ', 'try again')
  return first
}

async function fromFile(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).replace(/\r?\n$/, '')
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw new CliError(
      'BAD_ARGUMENT',
      `--passphrase-file: cannot read ${file}: ${message}`,
      'check the path',
      { cause: error }
    )
  }
}

function checked(text: string): string {
  if (text !== '') return text
  throw badArgument('passphrase', 'the passphrase is empty', 'use several words')
}

/** Asks on the terminal without echo. */
function ask(question: string): Promise<string> {
  process.stderr.write(question)
  const { stdin } = process
  stdin.setRawMode(true)
  stdin.setEncoding('utf8')
  stdin.resume()
  return new Promise((resolve, reject) => {
    let text = ''
    const end = (act: () => void) => {
      stdin.off('data', onData)
      stdin.setRawMode(false)
      stdin.pause()
      process.stderr.write('\n')
      act()
    }
    const onData = (data: string): void => {
      for (const character of data) {
        if (character === '\r' || character === '\n') return end(() => resolve(text))
        if (character === '\u0003' || character === '\u0004')
          return end(() => reject(new CliError('INTERRUPTED', 'nothing was changed')))
        text = character === '\u007f' ? text.slice(0, -1) : text + character
      }
    }
    stdin.on('data', onData)
  })
}
