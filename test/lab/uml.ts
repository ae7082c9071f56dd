// Runs a program of this tree in a User Mode Linux kernel: the one with IPVS on machines whose own kernel has none.
// The machine's file system is its root, read-only; results come back through one folder.
// Invariant: the machine is left as it was, whatever happens inside: one process group, ended by its id at the deadline.
import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface UmlRun {
  /** Program and arguments, found by PATH; `%results%` in an argument becomes the folder for results. */
  readonly argv: readonly string[]
  readonly cwd: string
  /** Kernel modules beyond those of a plain host. */
  readonly modules: readonly string[]
  /** Default 120 s: boot, run and power-off. */
  readonly deadlineMs?: number
}

export interface UmlResult {
  /** undefined: the program did not end. */
  readonly exitCode: number | undefined
  /** stdout and stderr of the program. */
  readonly output: string
  /** The kernel's console, for when it does not come up. */
  readonly console: string
  /** Files that it left in the results folder. */
  readonly files: ReadonlyMap<string, string>
}

const KERNEL = '/usr/bin/linux.uml'
const MODULES = '/usr/lib/uml/modules'
const SCRATCH = ['/tmp', '/var/tmp']
const PLAIN = ['tun', 'veth', 'nf_conntrack', 'nf_conntrack_netlink']

/** Why UML cannot run here; undefined = it can. */
export function umlRequirements(): string | undefined {
  if (process.arch !== 'x64') return 'User Mode Linux needs x86-64'
  if (!existsSync(KERNEL) || !existsSync(MODULES)) return 'the package user-mode-linux is missing'
  return undefined
}

/** Errors: none for what happens inside; it is in the result. */
export async function runInUml(options: UmlRun): Promise<UmlResult> {
  const folder = mkdtempSync(join(tmpdir(), 'rhizome-uml-'))
  try {
    const results = join(folder, 'results')
    mkdirSync(results)
    mkdirSync(join(folder, 'lib/modules'), { recursive: true })
    for (const version of readdirSync(MODULES)) {
      symlinkSync(join(MODULES, version), join(folder, 'lib/modules', version))
    }
    writeFileSync(join(folder, 'init'), initScript(options, folder), { mode: 0o755 })
    const text = await boot(folder, options.deadlineMs ?? 120_000)
    const files = new Map(
      readdirSync(results).map((name) => [name, readFileSync(join(results, name), 'utf8')])
    )
    const exitCode = files.get('exit-code')
    return {
      exitCode: exitCode === undefined ? undefined : Number(exitCode),
      output: files.get('output') ?? '',
      console: text,
      files
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function initScript({ argv, cwd, modules }: UmlRun, folder: string): string {
  const program = argv.map((word) => quote(word.replaceAll('%results%', '/mnt'))).join(' ')
  // The root is read-only; what is mounted for scratch must not hide the tree.
  const scratch = SCRATCH.find((place) => !`${cwd}/`.startsWith(`${place}/`)) ?? '/tmp'
  const loads = [...PLAIN, ...modules].map((name) => `modprobe -d ${quote(folder)} ${name}`)
  return `#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RHIZOME_UML=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t hostfs -o ${quote(join(folder, 'results'))} none /mnt
exec >/mnt/output 2>&1
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
ln -s /proc/self/fd /dev/fd; ln -s /proc/self/fd/0 /dev/stdin
mount -t tmpfs tmpfs /run
${loads.join('\n')}
mount -t tmpfs tmpfs ${scratch}
export TMPDIR=${scratch}
ip link set dev lo up
cd ${quote(cwd)} && ${program}
echo $? >/mnt/exit-code
sync
echo o >/proc/sysrq-trigger
sleep 60
`
}

function boot(folder: string, deadlineMs: number): Promise<string> {
  const args = [
    'mem=1G',
    'root=/dev/root',
    'rootfstype=hostfs',
    'ro',
    `init=${join(folder, 'init')}`,
    `uml_dir=${folder}/`
  ]
  return new Promise((resolve, reject) => {
    const child = spawn(KERNEL, [...args, 'con=null', 'con0=fd:0,fd:1', 'quiet'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true
    })
    let text = ''
    const timer = setTimeout(() => {
      text += `\nended after ${deadlineMs} ms`
      // The group is the kernel and its user processes; we made it (detached).
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    }, deadlineMs)
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        if (text.length < 1 << 20) text += chunk
      })
    }
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.on('close', () => {
      clearTimeout(timer)
      resolve(text)
    })
  })
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}
