// Reads the token for `join` and `install` from the first of: argument, --token-file, RHIZOME_TOKEN, stdin. Errors
// never show its text, which may be a valid token with one wrong letter. Only the form is checked here; meshd verifies
// the token.
import { readFile } from 'node:fs/promises'
import { codeOf } from '../../core/model/coded-error.ts'
import { badArgument, CliError } from '../output/errors.ts'

// A token has about 2 KiB. meshd accepts at most 32 KiB (src/api/requests.ts).
const TOKEN_BYTES_MAX = 32 * 1024

const TOKEN_WAYS = 'use --token-file FILE, pipe the token to stdin, or set RHIZOME_TOKEN'

/**
 * Returns the token without white space. `argument` and `file` are the values of the command line; "-" means stdin for
 * both. RHIZOME_TOKEN counts only when neither is given. `otherwise` is what the fix adds where no token was given: what
 * the command does without one. Blocks until stdin ends when the token comes from there.
 * Errors: CliError BAD_ARGUMENT for two tokens, no token, an unreadable file or a text that cannot be a token.
 */
export async function readToken(
  argument: string | undefined,
  file: string | undefined,
  otherwise = ''
): Promise<string> {
  if (argument !== undefined && file !== undefined) {
    throw badArgument('--token-file', 'there is a token as an argument, too', 'give only one of the two')
  }
  const given = argument ?? (file === undefined ? process.env['RHIZOME_TOKEN'] : undefined)
  if (given !== undefined && given !== '-') {
    return checkToken(given, argument === undefined ? 'RHIZOME_TOKEN' : 'token')
  }
  if (file !== undefined && file !== '-') return checkToken(await readTokenFile(file), `--token-file ${file}`)
  // Without this check meshctl would wait for input, without a word to a user who does not know that stdin is read.
  // With "-" the user says that the token comes from stdin.
  if (process.stdin.isTTY && argument === undefined && file === undefined) {
    throw badArgument('token', 'no token was given', `${TOKEN_WAYS}${otherwise}`)
  }
  return checkToken(await readStdin(), 'token on stdin', otherwise)
}

/** Warns on stderr, because other users of the host can see the arguments of a process. */
export function warnOfArgument(): void {
  process.stderr.write(
    `note: a token on the command line shows in the process list and the shell history; ${TOKEN_WAYS}\n`
  )
}

async function readTokenFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const fix =
      codeOf(error) === 'ENOENT'
        ? 'check the path, or make the token with `meshctl invite <cluster>`'
        : 'make it readable for this user, or use sudo'
    throw new CliError('BAD_ARGUMENT', `--token-file: cannot read ${file}: ${message}`, fix, { cause: error })
  }
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length
    chunks.push(chunk)
    if (bytes > TOKEN_BYTES_MAX) break // checkToken refuses the text because of its length
  }
  return Buffer.concat(chunks).toString('utf8')
}

/**
 * Returns the token without white space, such as the line breaks that mail or a narrow terminal adds. `where` names the
 * source in the error. Errors: CliError BAD_ARGUMENT when the text is empty, too long or has characters beyond
 * printable ASCII.
 */
function checkToken(text: string, where: string, otherwise = ''): string {
  const token = text.replaceAll(/\s/g, '')
  if (token === '')
    throw badArgument(
      where,
      'the text is empty',
      `make one with \`meshctl invite <cluster>\` in a member cluster, and ${TOKEN_WAYS}${otherwise}`
    )
  if (token.length > TOKEN_BYTES_MAX) {
    throw badArgument(
      where,
      `the text is longer than ${TOKEN_BYTES_MAX} bytes, the limit for a token`,
      'give the one line that `meshctl invite` printed'
    )
  }
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw badArgument(
      where,
      'this is not a token: a token has only printable ASCII characters',
      'copy the token again, whole and as plain text'
    )
  }
  return token
}
