// Says that the kernel may have changed, and in which part, so that a pass repairs it within a second.
//   ip monitor   links, addresses, routes, rules and forwarding: a child that prints a line for each change
//   wg           has no events: its peers and their prefixes are compared every POLL_MS, 3 ms of CPU each
//   nftables     where netlink is there (tools/netlink.ts), the events of our tables; else the chains and rules of our tables, without elements.
//                `nft monitor` keeps a copy of all elements: 200 MB for 100,000
// Invariants
//   1. A hint is only a hint: our own changes cause some, too, and a pass that finds nothing changed is cheap.
//   2. Nothing here ends the process or the watch: a child that ends is started again, a question that fails is asked again.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import type { HostPart } from '../../core/host/host-state.ts'
import { HostError } from './errors.ts'
import { openNftKernel } from './load-balancer/nftables/kernel.ts'
import type { HostNames, LoadBalancer, Run } from './ports.ts'
import { missing, toolEnvironment } from './tools/run.ts'

export interface HostWatch {
  /** At most one every HINT_INTERVAL_MS for each set of parts. */
  readonly onHint: (parts: readonly HostPart[]) => void
  /** A watch that does not work, with its error; undefined: it works again. */
  readonly onFault: (watch: 'ip' | 'wg' | 'nft', error: HostError | undefined) => void
}

export interface WatchOptions extends HostWatch {
  readonly run: Run
  readonly names: Pick<HostNames, 'nftTable'>
  readonly loadBalancer: () => LoadBalancer | undefined
  /** Changes with the peers of the device. */
  readonly peers: (signal: AbortSignal) => Promise<string>
}

const HINT_INTERVAL_MS = 250
const POLL_MS = 500
// A question that takes long, as beside many rules of others, is asked less often: a quarter of the time at most.
const POLL_SHARE = 3
const RESTART_MS_MIN = 500
const RESTART_MS_MAX = 15_000
const IP_PARTS: readonly HostPart[] = ['tunnel', 'routes', 'sysctls']
const IP_OBJECTS = ['link', 'address', 'route', 'rule', 'netconf']

/** Until the signal. */
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
    hint.call() // what happened meanwhile was not seen
    await wait(delayMs, signal)
    delayMs = Math.min(RESTART_MS_MAX, delayMs * 2)
  }
  hint.cancel()
}

/** Resolves when the child has ended, with why. */
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
    lines.on('error', () => undefined) // 'close' of the child tells
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
    message: `ip monitor ended (${by ?? `exit code ${String(code)}`}), so changes of this host's network by others are seen later, within 10 s`,
    fix: 'nothing needs to be done: it is started again; if it goes on, try: ip monitor link address route rule netconf'
  })
}

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
          filter.reset() // before the look that the hint asks for
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

/** Lists the chains and rules of our tables without elements. This takes 5 ms, regardless of the size of the host's sets. */
async function shapeOf({ run, names }: WatchOptions, signal: AbortSignal): Promise<string> {
  const { stdout } = await run('nft', ['-t', 'list', 'ruleset', 'inet'], { signal })
  const tables = stdout.split(/^(?=table )/m)
  return tables.filter((text) => text.startsWith(`table inet ${names.nftTable}`)).join('')
}

async function poll(signal: AbortSignal, ask: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    const beganMs = performance.now()
    await ask()
    await wait(Math.max(POLL_MS, (performance.now() - beganMs) * POLL_SHARE), signal)
  }
}

async function wait(ms: number, signal: AbortSignal): Promise<void> {
  await pause(ms, undefined, { signal, ref: false }).catch(() => undefined) // aborted
}

/** A tool that hangs is a matter of the next pass, which says so. */
function told(
  error: unknown,
  tell: { readonly hint: () => void; readonly fault: (error: HostError) => void }
): void {
  if (error instanceof HostError && error.code === 'TOOL_TIMEOUT') tell.hint()
  else if (error instanceof HostError) tell.fault(error)
  else tell.fault(new HostError({ code: 'TOOL_FAILED', message: String(error), cause: error }))
}

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
