// Many hosts on one machine: real network namespaces for tests and the demo. Nothing is created in the namespace of the
// machine itself; links live inside the lab and go with it.
// Invariant: a lab ends only what lives in its own namespaces, and whatever it made carries its id.
import { spawn, spawnSync, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { isTranslated, slowness } from '../../eventually.ts'
import { removeCgroups } from './nodes/cgroups.ts'

export interface ExecOptions {
  readonly input?: string
  /** Default 20 s: a lab command that takes longer hangs. */
  readonly timeoutMs?: number
  /** Default true: reject when the exit code is not 0. */
  readonly check?: boolean
  readonly env?: Readonly<Record<string, string>>
}

export interface ExecResult {
  readonly stdout: string
  readonly stderr: string
  readonly exitCode: number
}

export interface Namespace {
  /** "rz-<id>-<role>", as `ip netns` knows it. */
  readonly name: string
  /** Runs to the end. Rejects on a timeout, and on an exit code other than 0 unless `check` is false. */
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>
  /** Starts and returns; the lab's close() ends it. The child's pid is the program's own (`ip netns exec` and nsenter exec). */
  spawn(argv: readonly string[], options?: SpawnOptions): ChildProcess
}

type Cidrs = string | readonly string[] | undefined

const DEADLINE_MS = 20_000
const OUTPUT_MAX = 64 << 20
/** Which process owns which lab, so that the labs of a killed process can be swept. */
const OWNERS = '/run/rhizome-lab'
const WIREGUARD_SOCKETS = '/var/run/wireguard'
const TOOLS = ['ip', 'wg', 'wireguard-go', 'nft'] as const

export class Lab {
  readonly id: string
  readonly label: string
  readonly #namespaces = new Map<string, Namespace>()
  #closed = false

  private constructor(id: string, label: string) {
    this.id = id
    this.label = label
  }

  /** Why a lab cannot run here; undefined = it can. */
  static requirements(): string | undefined {
    if (process.platform !== 'linux') return 'network namespaces need Linux'
    if (process.getuid?.() !== 0) return 'network namespaces need root'
    if (!existsSync('/dev/net/tun')) return '/dev/net/tun is missing (modprobe tun)'
    const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':')
    const missing = TOOLS.filter(
      (tool) => !path.some((folder) => folder !== '' && existsSync(`${folder}/${tool}`))
    )
    if (missing.length > 0) return `missing tools: ${missing.join(', ')}`
    return undefined
  }

  /** A new, empty lab. `label` names the test in what `leftovers` reports. Sweeps the labs of dead processes first. */
  static async create(label: string): Promise<Lab> {
    const reason = Lab.requirements()
    if (reason !== undefined) throw new Error(`the lab cannot run here: ${reason}`)
    Lab.#sweep()
    mkdirSync(OWNERS, { recursive: true })
    for (;;) {
      const id = randomInt(36 ** 3, 36 ** 4).toString(36)
      try {
        writeFileSync(`${OWNERS}/${id}`, `${process.pid} ${label}\n`, { flag: 'wx' })
      } catch (error) {
        if (!existsSync(`${OWNERS}/${id}`)) throw error
        continue // taken
      }
      const lab = new Lab(id, label)
      open.add(lab)
      hookExit()
      return lab
    }
  }

  /** The namespace of this role, created at the first call, with `lo` up. Role: [a-z0-9-]+. */
  async namespace(role: string): Promise<Namespace> {
    const known = this.#namespaces.get(role)
    if (known !== undefined) return known
    if (this.#closed) throw new Error('the lab is closed')
    if (!/^[a-z0-9-]{1,40}$/.test(role)) throw new Error(`not a role: ${role}`)
    const name = `rz-${this.id}-${role}`
    const namespace: Namespace = {
      name,
      exec: (argv, options) => execute(inNamespace(name, argv), options),
      spawn: (argv, options) => {
        const [program = '', ...args] = inNamespace(name, argv)
        return followed(spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options }))
      }
    }
    this.#namespaces.set(role, namespace)
    await execute(['ip', 'netns', 'add', name])
    await execute(['ip', '-n', name, 'link', 'set', 'dev', 'lo', 'up'])
    return namespace
  }

  /** A device name of this lab, ≤ 15 characters: WireGuard's control sockets are shared by all namespaces. */
  device(suffix: string): string {
    const name = `rz${this.id}${suffix}`
    if (name.length > 15) throw new Error(`interface name longer than 15 characters: ${name}`)
    return name
  }

  /** A veth pair with one end in each namespace, up, with the addresses given ("10.0.0.1/24", "fd00::1/64"). */
  async link(
    a: Namespace,
    ifA: string,
    cidrA: Cidrs,
    b: Namespace,
    ifB: string,
    cidrB: Cidrs
  ): Promise<void> {
    await execute([
      'ip',
      '-n',
      a.name,
      'link',
      'add',
      'name',
      ifA,
      'type',
      'veth',
      'peer',
      'name',
      ifB,
      'netns',
      b.name
    ])
    await up(a, ifA, cidrA)
    await up(b, ifB, cidrB)
  }

  /** A bridge inside the namespace, up. */
  async bridge(namespace: Namespace, name: string, cidr?: string): Promise<void> {
    await execute([
      'ip',
      '-n',
      namespace.name,
      'link',
      'add',
      'name',
      name,
      'type',
      'bridge',
      'forward_delay',
      '0'
    ])
    await up(namespace, name, cidr)
  }

  /** Links `guest` to a bridge of `host`; the host's end is a port without an address. */
  async attach(
    host: Namespace,
    bridge: string,
    port: string,
    guest: { readonly namespace: Namespace; readonly device: string; readonly cidr: Cidrs }
  ): Promise<void> {
    await this.link(host, port, undefined, guest.namespace, guest.device, guest.cidr)
    const set = ['ip', '-n', host.name, 'link', 'set', 'dev', port]
    await execute([...set, 'master', bridge])
    // As the bridge CNI plugin has it: with br_netfilter a guest's packet to a service goes back through its own port.
    await execute([...set, 'type', 'bridge_slave', 'hairpin', 'on'])
  }

  /** What exec and spawn in this namespace see as /etc/resolv.conf. */
  async resolvConf(namespace: Namespace, text: string): Promise<void> {
    mkdirSync(`/etc/netns/${namespace.name}`, { recursive: true })
    writeFileSync(`/etc/netns/${namespace.name}/resolv.conf`, text)
  }

  /** Ends every process in the lab's namespaces, then removes namespaces and sockets. Safe to call twice. */
  async close(): Promise<void> {
    this.#closed = true
    for (let attempt = 0; attempt < 50; attempt++) {
      const pids = this.#signal(attempt < 25 ? 'SIGTERM' : 'SIGKILL')
      if (pids === 0) break
      await delay(40)
    }
    this.closeSync()
  }

  /** The same at once, for exit handlers. Commands of the lab that are under way end first: they could make what is removed here. */
  closeSync(): void {
    this.#closed = true
    if (!open.delete(this)) return
    endCommands(this.id)
    for (let attempt = 0; attempt < 50 && this.#signal('SIGKILL') > 0; attempt++) sleepSync(10)
    remove(this.id)
  }

  /** Namespaces, links, sockets and files of labs (of one lab, given its id) that still exist. */
  static async leftovers(id?: string): Promise<string[]> {
    const links = (await execute(['ip', '-o', 'link', 'show'])).stdout
      .split('\n')
      .map((line) => /^\d+: (rz[a-z0-9]{4}[^:@]*)/.exec(line)?.[1])
      .filter((name) => name !== undefined)
    return [
      ...list('/run/netns').filter((name) => name.startsWith('rz-')),
      ...list('/etc/netns').filter((name) => name.startsWith('rz-')),
      ...list(WIREGUARD_SOCKETS).filter((name) => /^rz[a-z0-9]{4}/.test(name)),
      ...links
    ].filter((name) => id === undefined || name.startsWith(`rz-${id}-`) || name.startsWith(`rz${id}`))
  }

  /** Removes the labs whose process was killed. */
  static #sweep(): void {
    for (const id of list(OWNERS)) {
      const pid = Number(readText(`${OWNERS}/${id}`).split(' ')[0])
      if (!Number.isInteger(pid) || pid <= 0 || existsSync(`/proc/${pid}`)) continue
      signalAll(namespacesOf(id), 'SIGKILL')
      remove(id)
    }
  }

  #signal(signal: NodeJS.Signals): number {
    return signalAll(namespacesOf(this.id), signal)
  }
}

const open = new Set<Lab>()
/** Children of this process that run, of all labs. */
const commands = new Set<ChildProcess>()

function followed(child: ChildProcess): ChildProcess {
  commands.add(child)
  for (const event of ['exit', 'error']) child.once(event, () => commands.delete(child))
  return child
}
let hooked = false

function hookExit(): void {
  if (hooked) return
  hooked = true
  const closeAll = () => {
    for (const lab of open) lab.closeSync()
  }
  process.on('exit', closeAll)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      closeAll()
      // Ours is gone now (once): with no other listener the signal ends the process as it would have.
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal)
    })
  }
}

function namespacesOf(id: string): string[] {
  return list('/run/netns').filter((name) => name.startsWith(`rz-${id}-`))
}

/** `ip` enters a namespace by itself, as `ip netns exec` does, and without starting a second program. */
function inNamespace(name: string, [program = '', ...args]: readonly string[]): string[] {
  if (program === 'ip') return ['ip', '-n', name, ...args]
  // `ip netns exec` mounts /sys and the files of /etc/netns, too. On a translated processor that is 40 % of such a call, and no test there needs it.
  if (isTranslated) return ['nsenter', `--net=/run/netns/${name}`, program, ...args]
  return ['ip', 'netns', 'exec', name, program, ...args]
}

/** How many processes of the namespaces were signalled. They are found as `ip netns pids` finds them, in one look for all. */
function signalAll(namespaces: readonly string[], signal: NodeJS.Signals): number {
  const theirs = new Set(namespaces.map((name) => identityOf(`/run/netns/${name}`)))
  theirs.delete(undefined)
  const pids = list('/proc').map(Number)
  return pids.filter(
    (pid) =>
      pid > 1 && pid !== process.pid && theirs.has(identityOf(`/proc/${pid}/ns/net`)) && kill(pid, signal)
  ).length
}

/** Of the network namespace that this file stands for. undefined: there is none, because its process or its lab has gone. */
function identityOf(file: string): string | undefined {
  try {
    const { dev, ino } = statSync(file)
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}

function kill(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false // it has gone by itself
  }
}

function remove(id: string): void {
  const deletions = namespacesOf(id).map((name) => `netns del ${name}\n`)
  attempt(['ip', '-force', '-batch', '-'], deletions.join(''))
  for (const name of list('/etc/netns')) {
    if (name.startsWith(`rz-${id}-`)) rmSync(`/etc/netns/${name}`, { recursive: true, force: true })
  }
  for (const name of list(WIREGUARD_SOCKETS)) {
    if (name.startsWith(`rz${id}`)) rmSync(`${WIREGUARD_SOCKETS}/${name}`, { force: true })
  }
  removeCgroups(`rz-${id}-`, { waits: true })
  rmSync(`${OWNERS}/${id}`, { force: true })
}

async function up(namespace: Namespace, device: string, cidrs: Cidrs): Promise<void> {
  for (const cidr of cidrs === undefined ? [] : typeof cidrs === 'string' ? [cidrs] : cidrs) {
    // nodad: an IPv6 address is usable at once.
    const flags = cidr.includes(':') ? ['nodad'] : []
    await execute(['ip', '-n', namespace.name, 'address', 'add', cidr, 'dev', device, ...flags])
  }
  await execute(['ip', '-n', namespace.name, 'link', 'set', 'dev', device, 'up'])
}

function execute(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const [file = '', ...args] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env: { ...process.env, ...options.env } })
    followed(child)
    const timer = setTimeout(
      () => {
        child.kill('SIGKILL')
        reject(new Error(`timed out: ${argv.join(' ')}`))
      },
      (options.timeoutMs ?? DEADLINE_MS) * slowness()
    )
    const out = { stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => {
        if (out[stream].length < OUTPUT_MAX) out[stream] += text
      })
    }
    child.stdin.on('error', () => undefined) // the program may end without reading its input
    child.stdin.end(options.input ?? '')
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.on('close', (code) => {
      clearTimeout(timer)
      const exitCode = code ?? -1
      if (exitCode === 0 || options.check === false) resolve({ ...out, exitCode })
      else reject(new Error(`exit code ${exitCode}: ${argv.join(' ')}\n${out.stderr}${out.stdout}`))
    })
  })
}

/** Those of one lab, also those that are on their way into a namespace. A killed child is a zombie until Node hears of its end. */
function endCommands(id: string): void {
  const ours = [...commands].filter(({ spawnargs }) => spawnargs.some((word) => word.includes(`rz-${id}-`)))
  for (const child of ours) child.kill('SIGKILL')
  for (let attempt = 0; attempt < 100 && ours.some(isAlive); attempt++) sleepSync(5)
}

function isAlive({ pid }: ChildProcess): boolean {
  return /^\d+ \(.*\) [^ZX]/.test(readText(`/proc/${pid}/stat`))
}

function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/** For closing: what is already gone is no error. */
function attempt(argv: readonly string[], input: string): void {
  const [file = '', ...args] = argv
  const timeout = DEADLINE_MS * slowness()
  spawnSync(file, args, { input, timeout, stdio: ['pipe', 'ignore', 'ignore'] })
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // closed by its owner meanwhile
  }
}
