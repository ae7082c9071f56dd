// `meshctl root export|import|status`: the root keys of the mesh. They sign seats and founding clusters, and belong into a
// file under a passphrase, in two safe places, and on no agent. The requests are POST /v1/root/…. None of them signs a
// statement, so the other members notice nothing: only the place of the keys changes. Daily work needs a seat and no root;
// the roots are for the day on which every seat is lost or a seat has to be taken from a thief.
// The keys pass through meshctl only inside the encrypted file.
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { readPassphrase } from '../meshd/passphrase.ts'
import { readSecretFile, writeSecretFile } from '../meshd/secret-file.ts'
import { sentence } from '../meshd/statement.ts'
import { badArgument } from '../output/errors.ts'
import { formatFields } from '../output/table.ts'
import { fetchPart, rootsText } from './trust.ts'

/** Milliseconds. meshd derives the key of the file with scrypt, which takes about a second; twice for an export. */
const TIMEOUT_MS = 60_000
/** As many bytes as meshd takes. A file has less than 1 KiB. */
const FILE_BYTES_MAX = 32 * 1024

/** The flags of the commands; `keep` and `share` are of export only. There is no flag for the passphrase itself. */
interface Options {
  readonly share?: number
  /** The last line break of the file is not part of the passphrase. undefined: the terminal asks. */
  readonly passphraseFile?: string
  readonly keep?: boolean
}

/**
 * Adds the command `root`. `root status` prints one line: how many roots must sign, how many there are, how many are here.
 * Errors of meshd:
 *   NO_ROOT: this agent holds no root key, or has exported it already;
 *   ROOT_NOT_EXPORTED: `forget` would lose root keys that are in no file;
 *   ROOT_FILE_MALFORMED: the file is not of `root export`, or is damaged outside of its encrypted part;
 *   ROOT_FILE_OTHER: the file is of another mesh, or does not hold all roots of this agent;
 *   PASSPHRASE_WRONG: a wrong passphrase and a damaged encrypted part look the same;
 *   BAD_ARGUMENT: the passphrase has fewer than 12 characters;
 *   NOT_JOINED: this agent is in no mesh (exit code 4).
 */
export function addRoot(program: Command): void {
  const root = program
    .command('root')
    .summary('the root keys of the mesh, in a file under a passphrase')
    .description(
      'The root keys stand above all administrators: with them the mesh goes on when every administrator is gone. So they ' +
        'belong into a file that lies in two safe places, and on no agent.'
    )
  addExport(root)
  addImport(root)
  addForget(root)
  const status = root
    .command('status')
    .summary('where the root keys are')
    .description('Says how many root keys there are, how many must sign, and whether this agent holds them.')
    .action(async () => {
      const context = contextOf(status)
      print(context, await fetchPart(context, 'roots'), (answer) => ({
        body: formatFields([['Roots', rootsText(answer)]])
      }))
    })
  addExamples(root, [
    ['Into a file, and away from this agent', 'meshctl root export mesh.root'],
    ['Where they are', 'meshctl root status']
  ])
  addExamples(status, [['Are they on this agent?', 'meshctl root status']])
}

/**
 * `root export` writes the file, reads it back from the disk, and has meshd compare it with the keys before they are
 * removed: a full disk or a wrong path loses nothing. The terminal asks for the passphrase twice, because a typing error
 * would make the only copy of the keys useless. With `--keep` the keys stay, and meshd compares, too. The answer shows
 * the beginning of the SHA-256 of the file, by which an operator compares copies of it.
 */
function addExport(root: Command): void {
  const command = root
    .command('export')
    .summary('write the root keys into a file, and remove them here')
    .description(
      'Writes the root keys into a file that is encrypted with a passphrase (scrypt, AES-256-GCM), reads the file back, and ' +
        'removes the keys from this agent. Without the file and its passphrase, no administrator can be created above the present ones.'
    )
    .argument('<file>', 'file to write; it must not exist')
    .option('--passphrase-file <file>', 'file that holds the passphrase; without it the terminal is asked')
    .option('--share <i>', 'only root key i, from 1: one file for each of several holders', parseShare)
    .option('--keep', 'leave the keys on this agent, too; a share always stays until `root forget`')
    .action(async (file: string, options: Options) => {
      const context = contextOf(command)
      const passphrase = await readPassphrase(options.passphraseFile, { isNew: true })
      const share = options.share === undefined ? {} : { share: options.share }
      const made = await context.client.request(ENDPOINTS.rootExport, {
        send: { passphrase, ...share },
        field: 'file',
        doing: 'encrypting the keys',
        timeoutMs: TIMEOUT_MS
      })
      const written = await writeSecretFile(file, made.file)
      const answer = await context.client.request(ENDPOINTS.rootExported, {
        send: { file: written, passphrase, keep: options.keep === true, ...share },
        field: 'done',
        doing: 'reading the file back',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, ({ done }) => ({
        body: `Wrote ${file} (SHA-256 begins with ${made.check}): ${done}.`
      }))
    })
  addExamples(command, [
    ['On the agent where the mesh was made', 'meshctl root export mesh.root'],
    ['Of three root keys the second one, for its holder', 'meshctl root export --share 2 second.root']
  ])
}

/**
 * `root import` gives this agent the keys of files, in memory: then its `admin add` and `admin remove` sign as the roots. A
 * passphrase is asked for once for each file, since a wrong one does no harm. The files stay where they are.
 */
function addImport(root: Command): void {
  const command = root
    .command('import')
    .summary('take the root keys of files, into memory')
    .description(
      'Reads files of `meshctl root export`, so that this agent can sign as the roots. The keys are in memory only, until ' +
        '`meshctl root forget` or the next start of meshd. Where several root keys must sign, give the files of as many.'
    )
    .argument('<files...>', 'files of `meshctl root export`')
    .option(
      '--passphrase-file <file>',
      'file that holds the passphrase of all of them; without it the terminal is asked'
    )
    .action(async (paths: readonly string[], options: Options) => {
      const context = contextOf(command)
      // All files are read before the first is sent, so a mistyped path changes nothing.
      const files = await Promise.all(paths.map((path) => readSecretFile(path, FILE_BYTES_MAX)))
      for (const [index, file] of files.entries()) {
        const passphrase = await readPassphrase(options.passphraseFile, { isNew: false })
        const answer = await context.client.request(ENDPOINTS.rootImport, {
          send: { file, passphrase },
          field: 'done',
          doing: `opening ${paths[index]}`,
          timeoutMs: TIMEOUT_MS
        })
        // No statement is signed, so there is nothing that members have to be told.
        if (index === files.length - 1) print(context, answer, ({ done }) => ({ body: sentence(done) }))
      }
    })
  addExamples(command, [
    ['When every administrator is gone', 'meshctl root import mesh.root'],
    ['Two of three holders', 'meshctl root import first.root third.root']
  ])
}

/** `root forget` removes the keys from disk and memory. meshd refuses while one of them is in no file. */
function addForget(root: Command): void {
  const command = root
    .command('forget')
    .summary('remove the root keys from this agent, which are in files')
    .description(
      'Removes the root keys from the disk and the memory of this agent, and from the Secret of its cluster. It is refused ' +
        'while one of them is in no file.'
    )
    .option('--force', 'also when some are in no file, but as many as must sign are')
    .action(async (options: { readonly force?: boolean }) => {
      const context = contextOf(command)
      const answer = await context.client.request(ENDPOINTS.rootForget, {
        send: { force: options.force === true },
        field: 'done',
        doing: 'removing the keys'
      })
      print(context, answer, ({ done }) => ({ body: sentence(done) }))
    })
  addExamples(command, [['After the last share was exported, or after an import', 'meshctl root forget']])
}

function parseShare(text: string): number {
  if (/^[1-5]$/.test(text)) return Number(text)
  throw badArgument(
    '--share',
    `${JSON.stringify(text)} is no number from 1 to 5`,
    'number the root keys as `meshctl root status` does'
  )
}
