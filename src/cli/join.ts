// `meshctl join`: this cluster enters a mesh with a token from `meshctl invite`.
import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { JoinedAnswer, JoinRequest } from '../app/api.ts'
import { addExamples, contextOf, print } from './context.ts'
import { badArgument, CliError, errnoOf } from './errors.ts'
import { renderJoined } from './joined.ts'

interface Options {
  readonly tokenFile?: string
}

// Dials up to every bootstrap address of the token, one after another.
const TIMEOUT_MS = 60_000
// A token is under 2 KiB; meshd takes 16 KiB at most.
const TOKEN_BYTES_MAX = 16 * 1024

const WAYS = 'use --token-file FILE, pipe the token to stdin, or set RHIZOME_TOKEN'

export function addJoin(program: Command): void {
  const command = program
    .command('join')
    .summary('enter a mesh with a token')
    .description(
      'Enters the mesh that the token names. The answer comes when a member has accepted this cluster; when none ' +
        'does, nothing is kept and the command can be repeated.\n\n' +
        'The token is taken from the first of: the argument, --token-file, RHIZOME_TOKEN, stdin. An argument is ' +
        'visible in the process list and in the history of the shell: prefer the others.'
    )
    .argument('[token]', 'token from `meshctl invite`; - reads it from stdin')
    .option('--token-file <file>', 'file that holds the token; - reads it from stdin')
    .action(async (argument: string | undefined, options: Options) => {
      const context = contextOf(command)
      if (argument !== undefined && argument !== '-' && context.format !== 'json') {
        process.stderr.write(
          `note: a token on the command line shows in the process list and the shell history; ${WAYS}\n`
        )
      }
      const body: JoinRequest = { token: await readToken(argument, options.tokenFile) }
      const answer = await context.client.request<JoinedAnswer>({
        path: '/v1/join',
        body,
        field: 'meshId',
        doing: 'waiting for a member of the mesh to accept this cluster',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) =>
        renderJoined(
          clean,
          `Cluster ${clean.cluster} has joined.`,
          '\nNext: meshctl peers --watch shows the tunnels come up, meshctl services what can be reached'
        )
      )
    })
  addExamples(command, [
    ['From a file', 'meshctl join --token-file east.token'],
    ['From another host', 'ssh west-gateway sudo meshctl invite east | sudo meshctl join'],
    ['In a container', 'RHIZOME_TOKEN=… meshctl join']
  ])
}

async function readToken(argument: string | undefined, file: string | undefined): Promise<string> {
  if (argument !== undefined && file !== undefined) {
    throw badArgument('--token-file', 'a token was given as an argument too', 'give only one of them')
  }
  const given = argument ?? (file === undefined ? process.env['RHIZOME_TOKEN'] : undefined)
  if (given !== undefined && given !== '-') {
    return checkToken(given, argument === undefined ? 'RHIZOME_TOKEN' : 'token')
  }
  if (file !== undefined && file !== '-') return checkToken(await readTokenFile(file), `--token-file ${file}`)
  if (process.stdin.isTTY && argument === undefined && file === undefined) {
    throw badArgument('token', 'none was given', WAYS)
  }
  return checkToken(await readStdin(), 'token on stdin')
}

async function readTokenFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const fix =
      errnoOf(error) === 'ENOENT'
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
    if (bytes > TOKEN_BYTES_MAX) break // checkToken says that it is too long
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Undoes line breaks from mail or a narrow terminal. Never shows the text: it may be a token with one wrong letter. */
function checkToken(text: string, where: string): string {
  const token = text.replaceAll(/\s/g, '')
  if (token === '')
    throw badArgument(
      where,
      'there is no token in it',
      'make one with `meshctl invite <cluster>` in a member cluster'
    )
  if (token.length > TOKEN_BYTES_MAX) {
    throw badArgument(
      where,
      `this is longer than any token (${TOKEN_BYTES_MAX} bytes)`,
      'give the one line that `meshctl invite` printed'
    )
  }
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw badArgument(
      where,
      'this is no token: it has characters that none has',
      'copy the token again, whole and as plain text'
    )
  }
  return token
}
