// `meshctl bundle` writes one archive for a support ticket: what the agent says, and what the kernel of this host has. It
// needs no agent: without one the archive has the host and names what is missing. The file is an argument and no value of
// -o, because -o is the output format of every command.
import { hostname } from 'node:os'
import { writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { API_VERSION } from '../../api/answers.ts'
import { codeOf } from '../../core/model/coded-error.ts'
import { gatherAgent } from '../bundle/agent.ts'
import { Gathering } from '../bundle/gather.ts'
import { gatherHost } from '../bundle/host.ts'
import { renderBundle, type BundleAnswer } from '../bundle/summary.ts'
import { addExamples, contextOf, isData, formatData, print, type Context } from '../meshd/context.ts'
import { badArgument, CliError } from '../output/errors.ts'
import { cleanDeep } from '../output/text.ts'
import { release } from '../release.ts'

/** The flags. They count only where the agent does not answer, because its settings name both. */
interface Options {
  readonly stateDir: string
  readonly device: string
}

// Those of the settings state-dir and device of meshd.
const DEFAULTS = { stateDir: '/var/lib/rhizome', device: 'rhizome0' } as const

/**
 * Adds the command `bundle`. Errors: CliError BAD_ARGUMENT when the file exists or cannot be written. A dead agent, a missing
 * tool and an answer that is refused are no errors: the archive names what it has not.
 */
export function addBundle(program: Command): void {
  const command = program
    .command('bundle')
    .argument(
      '[file]',
      'file to write, or "-" for standard output; a name with cluster and time when it is left out'
    )
    .summary('one archive for a support ticket, without secrets')
    .description(
      'Writes a .tar.gz with the answers of status, peers, services, routes, events, doctor, drift, plan and trust, the settings ' +
        'in force, the latest log lines and the metrics of meshd, and with routes, rules, nftables, IPVS and the public state of ' +
        'WireGuard as the kernel has them. It changes nothing, and works while meshd is dead, too. Keys, seeds and tokens are ' +
        'removed. Names of clusters, services and hosts, and addresses, are in it: look before you send it to others.'
    )
    .option('--state-dir <folder>', 'state folder of meshd, where it does not answer', DEFAULTS.stateDir)
    .option('--device <name>', 'tunnel device, where meshd does not answer', DEFAULTS.device)
    .action((file: string | undefined, options: Options) => write(contextOf(command), file, options))
  addExamples(
    command,
    [
      ['A file in this folder', 'meshctl bundle'],
      ['A file of this name', 'meshctl bundle /tmp/west.tar.gz'],
      [
        'From a pod of Kubernetes',
        'kubectl -n rhizome-system exec rhizome-x7k2p -- meshctl bundle - > west.tar.gz'
      ],
      ['What is in it', 'tar -tzvf west.tar.gz']
    ],
    'Exit codes: 0 when the file was written, also without an answer of meshd; its contents.json names what is missing.'
  )
}

/** Gathers, writes the archive and prints what is in it. `file` undefined: a name in the current folder. */
async function write(context: Context, file: string | undefined, options: Options): Promise<void> {
  const gathering = new Gathering()
  const nowMs = Date.now()
  // The agent first: it names the device and the state folder, and the public values of all later texts.
  const { names, cluster, deadBecause } = await gatherAgent(gathering, context.client)
  await gatherHost(gathering, { ...options, ...names })
  gathering.add('versions.txt', 'the version of meshctl', `meshctl ${release()}\nnode ${process.version}\n`)
  const folder = folderOf(cluster ?? hostname(), nowMs)
  const { archive, contents } = gathering.pack(folder, nowMs)
  const path = file ?? `${folder}.tar.gz`
  await put(path, archive)
  const answer: BundleAnswer = {
    apiVersion: API_VERSION,
    file: path,
    bytes: archive.length,
    ...(deadBecause === undefined ? {} : { agentError: deadBecause }),
    files: contents.files,
    missing: contents.missing,
    removed: contents.removed
  }
  if (path !== '-') return print(context, answer, (clean) => renderBundle(clean, context))
  // Standard output has the archive.
  const text = isData(context.format)
    ? formatData(context.format, answer)
    : renderBundle(cleanDeep(answer), context).body
  process.stderr.write(`${text}\n`)
}

/** "rhizome-bundle-west-20261123T041211Z": the folder in the archive, and the beginning of the file's name. */
function folderOf(name: string, nowMs: number): string {
  const time = new Date(nowMs).toISOString().replace(/[-:]|\.\d+/g, '')
  return `rhizome-bundle-${name.replaceAll(/[^\w.-]/g, '_').slice(0, 40)}-${time}`
}

/**
 * Writes a new file that only its owner may read, or to standard output, where a terminal is refused. A file that exists is
 * never overwritten, since it may be the one of an earlier ticket. Errors: CliError BAD_ARGUMENT.
 */
async function put(path: string, archive: Uint8Array): Promise<void> {
  if (path === '-') {
    if (process.stdout.isTTY)
      throw badArgument(
        'file',
        'an archive cannot be shown on a terminal',
        'write `meshctl bundle - > bundle.tar.gz`'
      )
    process.stdout.write(archive)
    return
  }
  try {
    await writeFile(path, archive, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    const isTaken = codeOf(error) === 'EEXIST'
    throw new CliError(
      'BAD_ARGUMENT',
      isTaken
        ? `file: ${path} exists, and is not overwritten`
        : `file: cannot write ${path}: ${(error as Error).message}`,
      isTaken
        ? 'name a file that does not exist'
        : 'name a file in a folder that you may write, on a disk with room',
      { cause: error }
    )
  }
}
