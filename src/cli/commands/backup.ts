// `meshctl backup create|restore`: the membership of this agent in a file under a passphrase, and back. The requests are
// POST /v1/backup/….
//
// `backup restore` and `meshctl restore` are two commands, because they have nothing in common: `meshctl restore` takes a
// Bar of a cluster back, on a running agent of an administrator.
import type { Command } from 'commander'
import type { BackupAnswer, RestoredAnswer } from '../../api/membership-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { readPassphrase } from '../meshd/passphrase.ts'
import { checkFree, readSecretFile, writeSecretFile } from '../meshd/secret-file.ts'
import { CliError } from '../output/errors.ts'
import { formatFields } from '../output/table.ts'
import { renderJoined } from './joined.ts'

/** Milliseconds. scrypt takes about a second, and a restore reads the cluster's prefixes and waits 5 s for a member. */
const TIMEOUT_MS = 60_000
/** As many bytes as meshd takes (src/api/requests.ts, which loads too slowly to be imported here). */
const FILE_BYTES_MAX = 64 * 1024 * 1024

/** The flags; `force` is of create only. There is no flag for the passphrase itself. */
interface Options {
  /** The last line break of the file is not part of the passphrase. undefined: the terminal asks. */
  readonly passphraseFile?: string
  readonly force?: boolean
}

/**
 * Adds the command `backup`. Errors of meshd:
 *   NOT_JOINED: an agent in no mesh has nothing to back up (exit code 4);
 *   ALREADY_JOINED: a backup is restored on an agent that is in no mesh;
 *   BACKUP_FOREIGN, BACKUP_DAMAGED, BACKUP_NEWER: the file is another one, was cut short or changed, or of a later version;
 *   PASSPHRASE_WRONG; BAD_ARGUMENT: the passphrase has fewer than 12 characters;
 *   CLUSTER_KEY_TAKEN: the Secret of this Kubernetes cluster holds another key;
 *   PREFIX_MISMATCH: this Kubernetes cluster has other prefixes than the cluster of the backup.
 */
export function addBackup(program: Command): void {
  const backup = program
    .command('backup')
    .summary('the membership of this agent in a file under a passphrase')
    .description(
      'A backup brings a cluster back after its disk is lost, without a new token: it has the key of the cluster, the ' +
        'administrators’ seats and open invites of this agent, and the trust set. A restored agent gets what it has ' +
        'missed from the other members, so the backup may be old.'
    )
  addCreate(backup)
  addRestoreFile(backup)
  addExamples(backup, [
    ['Now, and after each change of administrators', 'meshctl backup create west.backup'],
    ['After the disk is lost, on the new host', 'meshctl backup restore west.backup']
  ])
}

/**
 * `backup create` has meshd encrypt, writes the file and reads it back. An old file is replaced with `--force` only, and
 * stays until the new one is complete.
 */
function addCreate(backup: Command): void {
  const command = backup
    .command('create')
    .summary('write a backup of this agent’s membership')
    .description(
      'Writes a file that is encrypted with a passphrase (scrypt, AES-256-GCM) and that only you can read. Keep it away ' +
        'from this host. Its holder, with the passphrase, can become a gateway of this cluster and use its seats. It has no ' +
        'root keys: those are written by `meshctl root export`.'
    )
    .argument('<file>', 'file to write')
    .option('--passphrase-file <file>', 'file that holds the passphrase; without it the terminal is asked')
    .option('--force', 'replace the file if it exists')
    .action(async (file: string, options: Options) => {
      const context = contextOf(command)
      const force = options.force === true
      await checkFree(file, { force })
      const passphrase = await readPassphrase(options.passphraseFile, { isNew: true })
      const made = await context.client.request(ENDPOINTS.backupCreate, {
        send: { passphrase },
        field: 'file',
        doing: 'encrypting the backup',
        timeoutMs: TIMEOUT_MS
      })
      if ((await writeSecretFile(file, made.file, { force })) !== made.file)
        throw new CliError(
          'INCOMPLETE',
          `file: what ${file} holds is not what was written`,
          'check the disk, and write the backup to another one'
        )
      print(context, { ...made, file }, (answer) => renderCreated(answer))
    })
  addExamples(command, [
    ['On a removable disk', 'meshctl backup create /mnt/usb/west.backup'],
    [
      'Each night, from a timer',
      'meshctl backup create west.backup --force --passphrase-file /root/backup.pass'
    ]
  ])
}

/**
 * The contents in numbers, so that a person sees what is in the file, and what is not. A warning tells of an agent that is no
 * member any more, whose backup must not replace a good one.
 */
function renderCreated(answer: BackupAnswer) {
  const { rootsHere, warnings = [] } = answer
  const missing =
    rootsHere === 0
      ? undefined
      : `The ${rootsHere === 1 ? 'root key' : `${rootsHere} root keys`} on this agent ${rootsHere === 1 ? 'is' : 'are'} not in the backup: run meshctl root export`
  return {
    body: `Wrote ${answer.file} (SHA-256 begins with ${answer.check}).\n\n${formatFields([
      ['Cluster', answer.cluster],
      ['Mesh', answer.meshId],
      ['Statements', String(answer.statements)],
      ['Administrator keys', String(answer.seats)],
      ['Open invites', String(answer.invites)],
      ...warnings.map((warning) => ['Warning', warning] as const)
    ])}`,
    ...(missing === undefined ? {} : { note: `\n${missing}` })
  }
}

/** `backup restore` asks for the passphrase once, since a wrong one does no harm. The file stays where it is. */
function addRestoreFile(backup: Command): void {
  const command = backup
    .command('restore')
    .summary('enter the mesh with the membership of a backup')
    .description(
      'Makes this agent, which must be in no mesh, a gateway of the cluster in the backup. It keeps its own key (peer ID), so ' +
        'the agent that made the backup may still run: then the cluster has two gateways. It dials the members that the backup ' +
        'names, and gets from them what has changed since. When it fails, this agent stays as it was.'
    )
    .argument('<file>', 'file of `meshctl backup create`')
    .option('--passphrase-file <file>', 'file that holds the passphrase; without it the terminal is asked')
    .action(async (path: string, options: Options) => {
      const context = contextOf(command)
      const file = await readSecretFile(path, FILE_BYTES_MAX)
      const passphrase = await readPassphrase(options.passphraseFile, { isNew: false })
      const answer = await context.client.request(ENDPOINTS.backupRestore, {
        send: { file, passphrase },
        field: 'formerPeerId',
        doing: 'entering the mesh',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) =>
        renderJoined(clean, `Cluster ${clean.cluster} is back from the backup of ${clean.made}.`, next(clean))
      )
    })
  addExamples(command, [['On a new host, with meshd running', 'meshctl backup restore west.backup']])
}

/** The note after a restore. */
function next({ reached, formerPeerId }: RestoredAnswer): string {
  const lines = [
    ...(reached ? [] : ['No other member has answered yet; meshctl peers --watch shows when one does.']),
    `The agent that made the backup stays a gateway of this cluster. If it is gone for good: meshctl revoke ${formerPeerId}`
  ]
  return `\n${lines.join('\n')}`
}
