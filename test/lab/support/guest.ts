// Runs a program of this tree in a virtual machine whose kernel has kernel WireGuard, IPVS and every family of nftables, on any
// machine and any CPU: QEMU translates each instruction (TCG), so that neither /dev/kvm nor the CPU's features matter.
// The machine's own files are the guest's root, read-only, under a layer of the guest's memory; results come back through one folder.
//
//   /              virtiofsd ── virtio-fs "machine", read-only ──┐
//   results folder virtiofsd ── virtio-fs "results" ─────────────┴─ guest: overlay root, program, power-off
//
// Invariant: whatever happens inside, the machine is left as it was: three processes in groups of their own, ended by their ids.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { eventually } from '../../eventually.ts'
import { PROGRAMS } from '../../programs.ts'
import { bound } from './bound.ts'

export interface GuestRun {
  /** Program and arguments, found by PATH; `%results%` in an argument becomes the folder for results. */
  readonly argv: readonly string[]
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  /** More on the kernel's command line, as "ipv6.disable=1". */
  readonly kernelArguments?: string
  /** Default 20 min: boot, run and power-off. Alone a boot takes half a minute. */
  readonly deadlineMs?: number
}

export interface GuestResult {
  /** undefined: the program did not end. */
  readonly exitCode: number | undefined
  /** stdout and stderr of the program. */
  readonly output: string
  /** The kernel's console, for when it does not come up. */
  readonly console: string
  /** Files that it left in the results folder. */
  readonly files: ReadonlyMap<string, string>
}

/** In the environment of the program inside: time limits there are this many times longer than on the machine. */
export const GUEST_SLOWNESS = 10

const ROOT = resolve(import.meta.dirname, '../../..')
const QEMU = 'qemu-system-x86_64'
// Debian 12 has it in qemu-system-common, later releases in a package of its own.
const VIRTIOFSD = ['/usr/lib/qemu/virtiofsd', '/usr/libexec/virtiofsd']
const MEMORY_MB = 2048
const CONSOLE_MAX = 1 << 20
const ATTEMPTS = 3
const SEGMENTATION_FAULT = 128 + 11
// What the servers of files say.
const LOG = 'files.log'
// Loaded in one call: one at a time, on demand, each costs the guest a second.
const MODULES = `
  tun veth dummy bridge wireguard sch_netem nf_conntrack nf_conntrack_netlink
  ip_vs ip_vs_rr ip_vs_wrr ip_vs_mh ip_vs_lc ip_vs_sh nf_tables nft_chain_nat nft_nat
  nft_ct nft_fib_inet nft_hash nft_limit nft_log nft_masq nft_numgen nft_reject_inet`
  .trim()
  .replaceAll(/\s+/g, ' ')

/** Why a guest cannot run here; undefined = it can. */
export function guestRequirements(): string | undefined {
  if (process.arch !== 'x64') return 'the guest kernel needs x86-64 files around it'
  if (process.getuid?.() !== 0) return 'sharing the machine’s files with the guest needs root'
  const folders = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':')
  if (!folders.some((folder) => existsSync(join(folder, QEMU)))) return `${QEMU} is missing (qemu-system-x86)`
  if (virtiofsd() === undefined) return 'virtiofsd is missing (qemu-system-common)'
  return undefined
}

/** Errors: none for what happens inside; it is in the result. */
export async function runInGuest(options: GuestRun): Promise<GuestResult> {
  for (let attempt = 1; ; attempt += 1) {
    const result = await runOnce(options)
    // The translated CPU now and then breaks the code that V8 makes: that says nothing about the program.
    if (result.exitCode !== SEGMENTATION_FAULT || attempt === ATTEMPTS) return result
  }
}

async function runOnce(options: GuestRun): Promise<GuestResult> {
  const kernel = guestKernel()
  const folder = mkdtempSync(join(tmpdir(), 'rhizome-guest-'))
  const children: ChildProcess[] = []
  try {
    const results = join(folder, 'results')
    mkdirSync(results)
    mkdirSync(join(folder, 'machine'))
    writeFileSync(join(folder, 'init'), initScript(options, kernel.modules), { mode: 0o755 })
    children.push(...shareFiles(folder, results))
    await eventually(() => ['machine.sock', 'results.sock'].every((name) => existsSync(join(folder, name))))
    const text = await boot(folder, kernel, {
      children,
      deadlineMs: options.deadlineMs ?? 1_200_000,
      kernelArguments: options.kernelArguments ?? ''
    })
    const files = new Map(
      readdirSync(results).map((name) => [name, readFileSync(join(results, name), 'utf8')])
    )
    const exitCode = files.get('exit-code')
    return {
      exitCode: exitCode === undefined ? undefined : Number(exitCode),
      output: files.get('output') ?? '',
      console: `${text}\n${readFileSync(join(folder, LOG), 'utf8')}`,
      files
    }
  } finally {
    await Promise.all(children.map(end))
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Kernel {
  readonly kernel: string
  readonly initramfs: string
  readonly modules: string
}

function guestKernel(): Kernel {
  const text = execFileSync(join(ROOT, 'build/guest'), {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const of = (name: string): string => {
    const path = new RegExp(`^${name}=(.+)$`, 'm').exec(text)?.[1]
    if (path === undefined) throw new Error(`build/guest names no ${name}: ${text}`)
    return path
  }
  return { kernel: of('kernel'), initramfs: of('initramfs'), modules: of('modules') }
}

function virtiofsd(): string | undefined {
  return VIRTIOFSD.find((path) => existsSync(path))
}

/** Two servers of files: the machine's, read-only in a mount namespace of its own, and the folder of results. */
function shareFiles(folder: string, results: string): ChildProcess[] {
  const machine = join(folder, 'machine')
  const log = join(folder, LOG)
  const serve = (name: string, source: string, cache: string): string[] => [
    virtiofsd() ?? '',
    `--socket-path=${join(folder, `${name}.sock`)}`,
    '-f',
    '-o',
    `source=${source},cache=${cache},sandbox=chroot,log_level=err`
  ]
  const readOnly =
    'mount --make-rprivate / && mount --rbind / "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
  return [
    start(['unshare', '-m', 'sh', '-c', readOnly, machine, ...serve('machine', machine, 'always')], log),
    start(serve('results', results, 'none'), log)
  ]
}

function start(argv: readonly string[], logFile: string): ChildProcess {
  const [file = '', ...args] = bound(argv)
  // A group of its own: a Ctrl-C at the terminal must not end it before its guest has stopped using it.
  const log = openSync(logFile, 'a')
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', log], detached: true })
  closeSync(log)
  return child
}

function initScript({ argv, cwd, env }: GuestRun, modules: string): string {
  const program = argv.map((word) => quote(word.replaceAll('%results%', '/results'))).join(' ')
  const programs = PROGRAMS === undefined ? {} : { RHIZOME_TEST_PROGRAMS: PROGRAMS }
  const variables = Object.entries({ ...programs, ...env }).map(
    ([name, value]) => `export ${name}=${quote(value)}`
  )
  return `#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/scratch
export RHIZOME_SLOWNESS=${GUEST_SLOWNESS}
${variables.join('\n')}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/shm /dev/net /results /scratch
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /scratch
mount -t virtiofs results /results
exec >/results/output 2>&1 </dev/null
ln -sfn /proc/self/fd /dev/fd; ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout; ln -sfn /proc/self/fd/2 /dev/stderr
rm -rf /lib/modules; ln -s ${quote(modules)} /lib/modules
modprobe -a ${MODULES}
ip link set dev lo up
hostname guest
cd ${quote(cwd)} && ${program}
echo $? >/results/exit-code
cut -d' ' -f1 /proc/uptime >/results/uptime
sync
exec >/dev/console 2>&1
umount /results
echo o >/proc/sysrq-trigger
sleep 60
`
}

interface BootOptions {
  readonly kernelArguments: string
  /** The kernel's process is added to them. */
  readonly children: ChildProcess[]
  readonly deadlineMs: number
}

async function boot(
  folder: string,
  kernel: Kernel,
  { children, deadlineMs, kernelArguments }: BootOptions
): Promise<string> {
  const shared = (name: string): string =>
    `-chardev socket,id=${name},path=${join(folder, `${name}.sock`)} ` +
    `-device vhost-user-fs-pci,chardev=${name},tag=${name},queue-size=1024`
  const machine =
    '-M q35,memory-backend=mem -accel tcg,thread=multi -cpu max -smp 2 ' +
    `-m ${MEMORY_MB} -object memory-backend-memfd,id=mem,size=${MEMORY_MB}M,share=on ` +
    '-nodefaults -no-user-config -nographic -no-reboot -serial stdio'
  // trust_cpu: randomness at once; the rest saves seconds of a translated CPU's boot.
  const commandLine =
    'console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check random.trust_cpu=on'
  const [file = '', ...args] = bound([
    QEMU,
    ...`${machine} ${shared('machine')} ${shared('results')}`.split(' '),
    '-kernel',
    kernel.kernel,
    '-initrd',
    kernel.initramfs,
    '-append',
    `${commandLine} ${kernelArguments} guest.init=${join(folder, 'init')}`
  ])
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  children.push(child)
  let text = ''
  const timer = setTimeout(() => {
    text += `\nended after ${deadlineMs} ms`
    void end(child)
  }, deadlineMs)
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      if (text.length < CONSOLE_MAX) text += chunk
    })
  }
  try {
    await once(child, 'close') // rejects with the reason if it cannot be started
  } finally {
    clearTimeout(timer)
  }
  return text
}

/** The group is the process and what it started; we made it (detached). */
async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  process.kill(-child.pid, 'SIGKILL')
  await gone
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}
