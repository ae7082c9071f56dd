// What a bundle says of the host, read without the agent: the kernel's state of what is ours, the versions, the names of the
// files in the state folder, and the journal. Each tool has a deadline, and one that is missing or fails is named.
// Invariants
//   1. WireGuard is asked for each public field by itself, and never for private or preshared keys.
//   2. Of the state folder only names, sizes and modes are read, never the content of a file.
import { execFile } from 'node:child_process'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Gathering } from './gather.ts'

/** `nft` lists a large table in a few seconds. */
const DEADLINE_MS = 10_000
/** More than a file of the bundle may have, so that a cut is seen there. */
const OUTPUT_BYTES_MAX = 32 << 20
const STATE_FILES_MAX = 2000

/** The names by which what is ours is found; io/host/ports.ts sets them for the agent. */
export interface HostNames {
  /** The tunnel device. */
  readonly device: string
  readonly stateDir: string
}

/** A file, and the commands whose output it has. */
interface HostFile {
  readonly name: string
  readonly what: string
  readonly commands: readonly (readonly string[])[]
}

function hostFiles(device: string): readonly HostFile[] {
  const wg = ['public-key', 'listen-port', 'fwmark', 'endpoints', 'allowed-ips', 'latest-handshakes']
  return [
    {
      name: 'host/versions.txt',
      what: 'versions of the kernel, the system and the tools',
      commands: [
        ['uname', '-a'],
        ['cat', '/etc/os-release'],
        ['ip', '-V'],
        ['wg', '--version'],
        ['nft', '--version'],
        ['ipvsadm', '--version']
      ]
    },
    {
      name: 'host/wireguard.txt',
      what: 'public state of the tunnel device',
      commands: [...wg, 'transfer', 'persistent-keepalive'].map((field) => ['wg', 'show', device, field])
    },
    {
      name: 'host/addresses.txt',
      what: 'devices and addresses of this host',
      commands: [
        ['ip', '-details', '-statistics', 'link', 'show', 'dev', device],
        ['ip', 'address']
      ]
    },
    {
      name: 'host/routes.txt',
      what: 'rules, and the routes of our tables and of the main one',
      commands: ['-4', '-6'].flatMap((family) => [
        ['ip', family, 'rule'],
        ...['5142', '5143', 'main'].map((table) => ['ip', family, 'route', 'show', 'table', table])
      ])
    },
    {
      name: 'host/nftables.txt',
      what: 'our tables of nftables',
      commands: ['rhizome', 'rhizome-filter'].map((table) => ['nft', 'list', 'table', 'inet', table])
    },
    { name: 'host/ipvs.txt', what: 'virtual servers of IPVS', commands: [['ipvsadm', '-Ln']] },
    {
      name: 'host/journal.txt',
      what: 'the last 2,000 lines of the unit meshd in the journal',
      commands: [['journalctl', '--unit=meshd', '--lines=2000', '--no-pager', '--output=short-iso']]
    }
  ]
}

/** Reads all of it, one tool after the other. Never rejects. */
export async function gatherHost(gathering: Gathering, { device, stateDir }: HostNames): Promise<void> {
  // These values are public, and all other texts of the bundle name them.
  for (const field of ['public-key', 'peers'])
    gathering.allow((await output(['wg', 'show', device, field])).text.split(/\s+/))
  for (const { name, what, commands } of hostFiles(device)) {
    const parts = []
    for (const command of commands) parts.push({ command, ...(await output(command)) })
    const failed = parts.filter(({ error }) => error !== undefined)
    if (failed.length === parts.length)
      gathering.miss(name, [...new Set(failed.map(({ error }) => error))].join('; '))
    else
      gathering.add(
        name,
        what,
        parts.map(({ command, text, error }) => `$ ${command.join(' ')}\n${error ?? text}\n`).join('\n')
      )
  }
  await gatherStateFolder(gathering, stateDir)
}

async function gatherStateFolder(gathering: Gathering, folder: string): Promise<void> {
  const name = 'host/state-folder.txt'
  try {
    const entries = (await readdir(folder, { recursive: true })).toSorted().slice(0, STATE_FILES_MAX)
    const lines = await Promise.all(
      ['.', ...entries].map(async (entry) => {
        const found = await lstat(join(folder, entry)).catch(() => undefined) // it is gone by now
        if (found === undefined) return ''
        return `${(found.mode & 0o7777).toString(8).padStart(4, '0')} ${found.uid} ${found.size} ${found.mtime.toISOString()} ${entry}\n`
      })
    )
    gathering.add(name, `mode, owner, bytes, time and name of the files in ${folder}`, lines.join(''))
  } catch (error) {
    gathering.miss(name, (error as Error).message)
  }
}

/** The output of one command. `error`: why there is none; the tool's own last words are in it. */
function output(command: readonly string[]): Promise<{ readonly text: string; readonly error?: string }> {
  const [tool = '', ...args] = command
  const options = { timeout: DEADLINE_MS, maxBuffer: OUTPUT_BYTES_MAX, env: { ...process.env, LC_ALL: 'C' } }
  return new Promise((resolve) => {
    execFile(tool, args, options, (error, stdout, stderr) => {
      if (error === null) return resolve({ text: stdout })
      const { code, killed } = error as NodeJS.ErrnoException & { killed?: boolean }
      const why =
        code === 'ENOENT'
          ? 'is not installed'
          : killed === true
            ? `did not end within ${DEADLINE_MS / 1000} s, or printed more than ${OUTPUT_BYTES_MAX} bytes`
            : `failed: ${stderr.trim().replaceAll(/\s+/g, ' ').slice(0, 300) || `exit code ${code}`}`
      resolve({ text: '', error: `${tool} ${why}` })
    })
  })
}
