// Reports that the kernel may have changed, and in which part of the host, so that a pass repairs it within a second
// instead of at the next regular reading (10 s). src/app/host/host-watch.ts runs it. The sources are
//   ip monitor   links, addresses, routes, rules and forwarding: a child process that prints a line for each change
//   wg           WireGuard has no events: its peers and their prefixes are compared every POLL_MS, for 3 ms of CPU each
//   nftables     events of our tables where a netlink socket can be opened (kernel/netlink.ts); else the text of the
//                chains and rules of our tables, without elements. `nft monitor` would keep a copy of all elements:
//                200 MB for 100,000
// Invariants
//   1. A hint asks for a reading and says nothing more: our own changes cause hints, too, and a pass that finds no
//      change is cheap.
//   2. No error here ends the process or the watch: a child that ends is started again, a reading that fails is
//      repeated.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import type { HostPart } from '../../core/host/host-state.ts'
import { HostError } from './errors.ts'
import { openNftKernel } from './load-balancer/nftables/kernel.ts'
import type { HostNames, LoadBalancer, Run } from './ports.ts'
import { missing, toolEnvironment } from './tools/run.ts'

/** Receives what the watch sees. Both functions are called often and must return at once. */
export interface HostWatch {
  /** The kernel may have changed in these parts. Called at most every 250 ms for `ip`, every 500 ms for wg and nft. */
  readonly onHint: (parts: readonly HostPart[]) => void
  /** `watch` has failed with this error; undefined: it works, which is also reported if it has never failed. */
  readonly onFault: (watch: 'ip' | 'wg' | 'nft', error: HostError | undefined) => void
}

/** A HostWatch with the parts of the host that the watch reads. */
interface WatchOptions extends HostWatch {
  readonly run: Run
  readonly names: Pick<HostNames, 'nftTable'>
  /** undefined: the host is not started yet. */
  readonly loadBalancer: () => LoadBalancer | undefined
  /** Returns text that changes when a peer of the device or one of its prefixes does (TunnelPort.fingerprint). */
  readonly peers: (signal: AbortSignal) => Promise<string>
}

// When many things change at once, as when a container starts, `ip monitor` prints tens of lines: one pass handles all.
const HINT_INTERVAL_MS = 250
const POLL_MS = 500
// After each reading the pause is at least three times as long as the reading, so that readings take a quarter of the
// time at most, also where other programs have many rules.
const POLL_SHARE = 3
// The pause before `ip monitor` is started again doubles within these bounds. After a run of 15 s it is the shortest
// again.
const RESTART_MS_MIN = 500
const RESTART_MS_MAX = 15_000
const IP_PARTS: readonly HostPart[] = ['tunnel', 'routes', 'sysctls']
const IP_OBJECTS = ['link', 'address', 'route', 'rule', 'netconf']

/** Watches until `signal` aborts; then it resolves. Never rejects. */
export async function watchHost(options: WatchOptions, signal: AbortSignal): Promise<void> {
  await Promise.all([watchIp(options, signal), watchPeers(options, signal), watchNft(options, signal)])
}

async function watchIp({ onHint, onFault }: WatchOptions, signal: AbortSignal): Promise<void> {
  const hint = throttle(() => onHint(IP_PARTS), HINT_INTERVAL_MS)
  let delayMs = RESTART_MS_MIN
  while (!signal.aborted) {
    const beganMs = performance.now()
    const error = await monitor((line) => {
      onFault('ip', undefined)
      if (line !== '') hint.call()
    }, signal)
    if (signal.aborted) break
    if (performance.now() - beganMs > RESTART_MS_MAX) delayMs = RESTART_MS_MIN
    onFault('ip', error)
    hint.call() // changes while no child was listening have no line
    await wait(delayMs, signal)
    delayMs = Math.min(RESTART_MS_MAX, delayMs * 2)
  }
  hint.cancel()
}

/** Runs `ip monitor` and resolves when it has ended, with the reason. `onLine` gets each line that it prints. */
function monitor(onLine: (line: string) => void, signal: AbortSignal): Promise<HostError> {
  return new Promise((resolve) => {
    const child = spawn('ip', ['-o', 'monitor', ...IP_OBJECTS], {
      env: toolEnvironment(),
      stdio: ['ignore', 'pipe', 'ignore']
    })
    const stop = () => child.kill('SIGTERM')
    signal.addEventListener('abort', stop, { once: true })
    const lines = createInterface({ input: child.stdout })
    lines.on('line', onLine)
    lines.on('error', () => undefined) // 'close' of the child follows and reports the end
    const end = (error: HostError) => {
      signal.removeEventListener('abort', stop)
      resolve(error)
    }
    child.on('error', () => end(missing('ip')))
    child.on('close', (code, by) => end(ended(code, by)))
  })
}

function ended(code: number | null, by: NodeJS.Signals | null): HostError {
  return new HostError({
    code: 'TOOL_FAILED',
    tool: 'ip',
    message: `ip monitor ended (${by ?? `exit code ${String(code)}`}), so the agent sees changes of this host's network by other programs up to 10 s later`,
    fix: 'the agent starts it again by itself; if it ends again, see why: ip monitor link address route rule netconf'
  })
}

/** Compares the peers with those of the reading before. The first reading only sets the basis. */
async function watchPeers({ peers, onHint, onFault }: WatchOptions, signal: AbortSignal): Promise<void> {
  let before: string | undefined
  await poll(signal, async () => {
    try {
      const now = await peers(signal)
      if (before !== undefined && now !== before) onHint(['tunnel'])
      before = now
      onFault('wg', undefined)
    } catch (error) {
      if (!signal.aborted) told(error, { hint: () => onHint(['tunnel']), fault: (why) => onFault('wg', why) })
    }
  })
}

/** Watches our two tables: that of the filter by a socket of its own, that of the load balancer by its isTouched(). */
async function watchNft(options: WatchOptions, signal: AbortSignal): Promise<void> {
  const { onHint, onFault, loadBalancer, names } = options
  const filter = openNftKernel(`${names.nftTable}-filter`)
  filter?.reset()
  let before: string | undefined
  try {
    await poll(signal, async () => {
      try {
        const balancer = loadBalancer()
        if (filter === undefined && balancer !== undefined) {
          const now = await shapeOf(options, signal)
          if (before !== undefined && now !== before) onHint(['filter', 'virtualServers'])
          before = now
        }
        if (filter !== undefined && !(await filter.untouched())) {
          filter.reset() // before the reading that the hint asks for, so that no change falls between the two
          onHint(['filter'])
        }
        if ((await balancer?.isTouched?.()) === true) onHint(['virtualServers'])
        onFault('nft', undefined)
      } catch (error) {
        const hint = () => onHint(['filter', 'virtualServers'])
        if (!signal.aborted) told(error, { hint, fault: (why) => onFault('nft', why) })
      }
    })
  } finally {
    filter?.close()
  }
}

/** Lists the chains and rules of our tables without elements. This takes 5 ms, also if the host has large sets. */
async function shapeOf({ run, names }: WatchOptions, signal: AbortSignal): Promise<string> {
  const { stdout } = await run('nft', ['-t', 'list', 'ruleset', 'inet'], { signal })
  const tables = stdout.split(/^(?=table )/m)
  return tables.filter((text) => text.startsWith(`table inet ${names.nftTable}`)).join('')
}

/** Repeats `ask`, which never rejects, with a pause of at least POLL_MS. */
async function poll(signal: AbortSignal, ask: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    const beganMs = performance.now()
    await ask()
    await wait(Math.max(POLL_MS, (performance.now() - beganMs) * POLL_SHARE), signal)
  }
}

async function wait(ms: number, signal: AbortSignal): Promise<void> {
  await pause(ms, undefined, { signal, ref: false }).catch(() => undefined) // rejects only when aborted
}

/** Reports an error as a fault of the watch, but a tool that hangs as a hint: the next pass reports that fault. */
function told(
  error: unknown,
  tell: { readonly hint: () => void; readonly fault: (error: HostError) => void }
): void {
  if (error instanceof HostError && error.code === 'TOOL_TIMEOUT') tell.hint()
  else if (error instanceof HostError) tell.fault(error)
  else tell.fault(new HostError({ code: 'TOOL_FAILED', message: String(error), cause: error }))
}

/**
 * Returns a `call` that runs the callback at once, and then at most once every `intervalMs`. For all calls within an
 * interval the callback runs once at its end, so that the last change is never lost.
 */
function throttle(callback: () => void, intervalMs: number): { call: () => void; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined
  let again = false
  const fire = () => {
    again = false
    timer = setTimeout(() => {
      timer = undefined
      if (again) fire()
    }, intervalMs)
    callback()
  }
  return {
    call: () => {
      if (timer === undefined) fire()
      else again = true
    },
    cancel: () => clearTimeout(timer)
  }
}
