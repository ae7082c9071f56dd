// The test's side of host-process.ts: a host edge that runs inside a namespace of the lab.
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Surroundings } from '../../../src/core/host/surroundings.ts'
import type { Host, HostOp, HostPart, HostState, PeerStats } from '../../../src/core/host/host-state.ts'
import type { LoadBalancerName } from '../../../src/io/host/load-balancer/registry.ts'
import type { Rivals } from '../../../src/io/host/ports.ts'
import type { WgDump } from '../../../src/io/host/tunnel/wireguard/wg-dump.ts'
import { testProgram } from '../../programs.ts'
import type { Namespace } from './netns.ts'

export interface HostProcessOptions {
  readonly device: string
  readonly privateKey: string
  readonly stateFolder: string
  readonly tunnelAddresses?: readonly string[]
  /** Of the process. */
  readonly env?: Readonly<Record<string, string>>
  /** Without load balancer and filter. */
  readonly bare?: boolean
  /** Default nftables. */
  readonly loadBalancer?: LoadBalancerName
}

export interface RemoteFailure {
  readonly op: HostOp
  readonly scope: 'operation' | 'part' | 'untried'
  readonly code?: string
  readonly message: string
  readonly fix?: string
  readonly tool?: string
}

export interface Request {
  readonly id: number
  readonly method: string
  readonly args: readonly unknown[]
}

export interface RemoteHost {
  readonly process: ChildProcess
  start(): Promise<void>
  observe(): Promise<HostState>
  /** Rejects with the first failure. */
  apply(ops: readonly HostOp[]): Promise<void>
  describe(op: HostOp): Promise<readonly string[]>
  /** For passes that run in the test. */
  readonly edge: Pick<Host, 'look' | 'apply'>
  peerStats(): Promise<readonly PeerStats[]>
  /** The device as the kernel tells it by netlink, and as `wg` prints it. */
  wireguard(): Promise<{ readonly kernel: WgDump; readonly tool: WgDump }>
  surroundings(): Promise<Omit<Surroundings, 'resolvers'>>
  rivals(): Promise<Rivals | undefined>
  cleanup(): Promise<void>
  stop(): Promise<void>
  preflight(): Promise<readonly { code: string; fix?: string }[]>
  detectMtu(): Promise<number>
  watch(): Promise<void>
  hints(): Promise<number>
  /** Ends the process as a crash does. */
  kill(): Promise<void>
}

export class RemoteError extends Error {
  readonly code: string | undefined
  readonly fix: string | undefined
  readonly tool: string | undefined
  constructor(error: { message: string; code?: string; fix?: string; tool?: string }) {
    super(error.message)
    this.code = error.code
    this.fix = error.fix
    this.tool = error.tool
  }
}

interface Pending {
  resolve(value: unknown): void
  reject(error: Error): void
}

export function remoteHost(namespace: Namespace, options: HostProcessOptions): RemoteHost {
  // Not of the spawn: `ip netns exec` itself would be looked for in that PATH.
  const env = Object.entries(options.env ?? {}).map(([name, value]) => `${name}=${value}`)
  const child = namespace.spawn(['env', ...env, process.execPath, testProgram('lab/support/host-process')], {
    stdio: ['pipe', 'pipe', 'inherit']
  })
  const pending = new Map<number, Pending>()
  const exited = new Promise<void>((resolve) => {
    child.on('exit', () => {
      for (const waiting of pending.values()) waiting.reject(new Error('the host process ended'))
      pending.clear()
      resolve()
    })
  })
  if (child.stdout === null || child.stdin === null) throw new Error('no pipes')
  const { stdin } = child
  stdin.on('error', () => undefined) // ended: 'exit' rejects what is pending
  createInterface({ input: child.stdout }).on('line', (line) => {
    const answer = JSON.parse(line) as {
      id: number
      result?: unknown
      error?: { message: string }
    }
    const waiting = pending.get(answer.id)
    pending.delete(answer.id)
    if (answer.error === undefined) waiting?.resolve(answer.result)
    else waiting?.reject(new RemoteError(answer.error))
  })
  stdin.write(`${JSON.stringify(options)}\n`)
  let last = 0
  function call<T>(method: string, ...args: readonly unknown[]): Promise<T> {
    return new Promise((resolve, reject) => {
      last += 1
      pending.set(last, { resolve: (value) => resolve(value as T), reject })
      stdin.write(`${JSON.stringify({ id: last, method, args })}\n`)
    })
  }
  return {
    process: child,
    start: () => call('start'),
    observe: async () => {
      const state = restore(await call<HostState>('observe'))
      return { ...state, filter: state.filter }
    },
    apply: (ops) => call('apply', ops),
    describe: (op) => call('describe', op),
    edge: {
      look: async (parts) => {
        const { found, failures } = await call<{
          found: Partial<HostState>
          failures: readonly (RemoteFailure & { part: HostPart })[]
        }>('look', parts)
        return {
          found: restore(found),
          failures: failures.map((failure) => ({ part: failure.part, error: new RemoteError(failure) }))
        }
      },
      apply: async (ops) => {
        const failures = await call<readonly RemoteFailure[]>('failures', ops)
        return failures.map(({ op, scope, ...error }) => ({ op, scope, error: new RemoteError(error) }))
      }
    },
    peerStats: () => call('peerStats'),
    wireguard: () => call('wireguard'),
    surroundings: () => call('surroundings'),
    rivals: () => call('rivals'),
    cleanup: () => call('cleanup'),
    stop: () => call('stop'),
    preflight: () => call('preflight'),
    detectMtu: () => call('detectMtu'),
    watch: () => call('watch'),
    hints: () => call('hints'),
    kill: async () => {
      child.kill('SIGKILL')
      await exited
    }
  }
}

/** JSON drops fields that are undefined; a HostState has them all. */
function restore<T extends Partial<HostState>>(state: T): T {
  return {
    ...state,
    ...('peers' in state && state.peers
      ? {
          tunnel: state.tunnel,
          peers: state.peers.map((peer) => ({ ...peer, peerAddress: peer.peerAddress }))
        }
      : {}),
    ...('routes' in state && state.routes
      ? {
          routes: state.routes.map((route) => ({ ...route, source: route.source })),
          vips: state.vips?.map((vip) => ({ ...vip, source: vip.source }))
        }
      : {})
  }
}
