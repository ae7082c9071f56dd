// The edge that owns a Linux host's network, composed of its parts: settings, device and peers, routes, load balancer, filter.
import type { Host, HostOp, HostState } from '../../core/host.ts'
import type { Ip } from '../../core/model.ts'
import type { Surroundings } from '../../core/surroundings.ts'
import { describeOp } from './describe.ts'
import { HostError } from './errors.ts'
import { acquireLock, type Lock } from './lock.ts'
import { IPVS_SYSCTLS } from './lb-ipvs.ts'
import { openHostMemory, type HostMemory } from './memory.ts'
import { detectMtu } from './mtu.ts'
import { LINUX_PARTS, type HostParts, type PartContext } from './parts.ts'
import { hostNames, type HostNames, type LoadBalancer, type Run, type VirtualServerChange } from './ports.ts'
import { preflightHost } from './preflight.ts'
import { createRoutes, watchHost, type TableRoute } from './route.ts'
import { createRun } from './run.ts'
import { readSurroundings } from './surroundings.ts'
import { createSysctls } from './sysctl.ts'
import { createWireguard } from './wireguard.ts'

export interface HostOptions {
  /** WireGuard device, ≤ 15 characters, one per mesh. */
  readonly device: string
  /** 32 bytes in base64; asked for when the tunnel is set, never kept. */
  readonly privateKey: () => string | Promise<string>
  /** Where sysctls of before and owned service prefixes are kept. */
  readonly stateFolder: string
  /** Kept on the tunnel device while no other device of this host has them. Default none. */
  readonly tunnelAddresses?: readonly Ip[]
  /** Default auto: IPVS where the kernel has it, else nftables. */
  readonly loadBalancer?: 'auto' | 'ipvs' | 'nftables'
  /** Default auto: the kernel's WireGuard, else wireguard-go. */
  readonly wireguard?: 'auto' | 'kernel' | 'userspace'
  /** Marks of ours that differ from hostNames(). */
  readonly names?: Partial<Omit<HostNames, 'device' | 'vipPrefixes'>>
  /** Default: the real ones. */
  readonly parts?: HostParts
  /** Default /proc/sys. */
  readonly sysctlRoot?: string
  readonly run?: Run
  readonly nowMs?: () => number
  /** Told once of each thing that works less well here than it could. */
  readonly warn?: (message: string) => void
}

export interface LinuxHost extends Host {
  /** Whatever would stop start() and apply(), all at once; changes nothing and needs no start(). */
  preflight(): Promise<readonly HostError[]>
  /** Bytes: path MTU − 80, floor 1280. Needs no start(). */
  detectMtu(): Promise<number>
  /** What this host reaches without the mesh; `resolvers` is for the caller to add. Needs no start(). */
  surroundings(signal: AbortSignal): Promise<Omit<Surroundings, 'resolvers'>>
  /** Hints that something changed, at most one a second, until the signal. Rejects when the watch breaks. */
  watch(onChange: () => void, signal: AbortSignal): Promise<void>
}

interface Started {
  readonly lock: Lock
  readonly memory: HostMemory
  readonly loadBalancer: LoadBalancer
}

export function createHost(options: HostOptions): LinuxHost {
  if (!/^[A-Za-z0-9_.-]{1,15}$/.test(options.device))
    throw new Error(`not an interface name: ${options.device}`)
  const run = options.run ?? createRun()
  const parts = options.parts ?? LINUX_PARTS
  let started: Started | undefined
  const names: HostNames = {
    ...hostNames(options.device, () => [...(started?.memory.vipPrefixes ?? [])]),
    ...options.names
  }
  const wireguard = createWireguard({
    run,
    names,
    privateKey: options.privateKey,
    addresses: options.tunnelAddresses ?? [],
    implementation: options.wireguard ?? 'auto',
    nowMs: options.nowMs ?? Date.now
  })
  const routes = createRoutes(run, names)
  const context: PartContext = { run, names, warn: options.warn ?? (() => undefined) }
  const filter = parts.createFilter(context)

  function running(): Started {
    if (started === undefined) throw new Error('the host is not started')
    return started
  }

  /** All of one bundle's kind, in one command where the tool allows. */
  async function applyBundle(ops: readonly HostOp[], signal: AbortSignal): Promise<void> {
    const { memory, loadBalancer } = running()
    const [first] = ops
    switch (first?.kind) {
      case undefined:
        return
      case 'setSysctl':
        for (const op of pick(ops, 'setSysctl'))
          await createSysctls(memory, options.sysctlRoot).set(op.sysctl)
        return
      case 'setTunnel':
        return wireguard.setTunnel(first.tunnel, signal)
      case 'removeTunnel':
        return wireguard.removeTunnel(signal)
      case 'setFilter':
        return filter.set(first.filter, signal)
      case 'removeFilter':
        return filter.set(undefined, signal)
      case 'setPeer':
        return wireguard.setPeers(
          pick(ops, 'setPeer').map((op) => op.peer),
          signal
        )
      case 'removePeer':
        return wireguard.removePeers(
          pick(ops, 'removePeer').map((op) => op.publicKey),
          signal
        )
      case 'addVip':
        await memory.rememberVips(pick(ops, 'addVip').map((op) => op.vip.destination))
        return routes.add(tableRoutes(ops), signal)
      case 'addRoute':
        return routes.add(tableRoutes(ops), signal)
      case 'removeVip':
      case 'removeRoute':
        return routes.remove(tableRoutes(ops), signal)
      case 'setVirtualServer':
      case 'removeVirtualServer':
        return loadBalancer.apply(ops.flatMap(virtualServerChange), signal)
      default:
        first satisfies never
    }
  }

  return {
    get loadBalancer() {
      return running().loadBalancer.kind
    },

    async start() {
      if (started !== undefined) throw new Error('the host is started already')
      const [worst] = await preflightHost(options.wireguard ?? 'auto', options.loadBalancer ?? 'auto')
      if (worst !== undefined) throw worst
      const lock = await acquireLock()
      try {
        const memory = await openHostMemory(options.stateFolder)
        const kind = await parts.chooseLoadBalancer(options.loadBalancer ?? 'auto', run)
        const loadBalancer = parts.createLoadBalancer(kind, context)
        if (kind === 'ipvs')
          for (const sysctl of IPVS_SYSCTLS) await createSysctls(memory, options.sysctlRoot).set(sysctl)
        await loadBalancer.start()
        started = { lock, memory, loadBalancer }
      } catch (error) {
        await lock.release()
        throw error
      }
    },

    async observe(signal): Promise<HostState> {
      const { memory, loadBalancer } = running()
      const [tunnelAndPeers, routesAndVips, virtualServers, filterNow, sysctls] = await Promise.all([
        wireguard.observe(signal),
        routes.observe(signal),
        loadBalancer.observe(signal),
        filter.observe(signal),
        createSysctls(memory, options.sysctlRoot).observe()
      ])
      return { ...tunnelAndPeers, ...routesAndVips, virtualServers, filter: filterNow, sysctls }
    },

    async apply(ops, signal) {
      for (const bundle of bundles(ops)) {
        try {
          await applyBundle(bundle, signal)
        } catch (error) {
          throw inBundle(bundle, error)
        }
      }
    },

    peerStats: (signal) => wireguard.stats(signal),

    describe: (op) => describeOp(op, { names, filter, loadBalancer: started?.loadBalancer }),

    async stop() {
      const { lock, loadBalancer } = running()
      started = undefined
      await loadBalancer.stop?.()
      await lock.release()
    },

    async cleanup(signal) {
      const { memory, loadBalancer } = running()
      await routes.cleanup(signal)
      await loadBalancer.cleanup(signal)
      await wireguard.removeTunnel(signal)
      await filter.cleanup(signal)
      await createSysctls(memory, options.sysctlRoot).restore()
      await memory.forget()
    },

    preflight: () => preflightHost(options.wireguard ?? 'auto', options.loadBalancer ?? 'auto'),
    detectMtu: () => detectMtu(run),
    surroundings: (signal) => readSurroundings(run, names, signal),
    watch: watchHost
  }
}

/** Consecutive operations that one command can do together. */
export function bundles(ops: readonly HostOp[]): readonly (readonly HostOp[])[] {
  const result: HostOp[][] = []
  for (const op of ops) {
    const last = result.at(-1)
    if (last?.[0] !== undefined && sortOf(last[0]) === sortOf(op) && BUNDLED.has(op.kind)) last.push(op)
    else result.push([op])
  }
  return result
}

const BUNDLED: ReadonlySet<HostOp['kind']> = new Set([
  'setSysctl',
  'setPeer',
  'removePeer',
  'addRoute',
  'removeRoute',
  'addVip',
  'removeVip',
  'setVirtualServer',
  'removeVirtualServer'
])

function sortOf(op: HostOp): string {
  return op.kind === 'removeVirtualServer' ? 'setVirtualServer' : op.kind
}

function pick<K extends HostOp['kind']>(ops: readonly HostOp[], kind: K): Extract<HostOp, { kind: K }>[] {
  return ops.filter((op): op is Extract<HostOp, { kind: K }> => op.kind === kind)
}

function tableRoutes(ops: readonly HostOp[]): readonly TableRoute[] {
  return ops.flatMap((op): TableRoute[] => {
    if (op.kind === 'addRoute' || op.kind === 'removeRoute') return [{ table: 'tunnel', route: op.route }]
    if (op.kind === 'addVip' || op.kind === 'removeVip') return [{ table: 'vip', route: op.vip }]
    return []
  })
}

function virtualServerChange(op: HostOp): VirtualServerChange[] {
  if (op.kind === 'setVirtualServer') return [{ want: op.virtualServer, have: op.before }]
  if (op.kind === 'removeVirtualServer') return [{ want: undefined, have: op.virtualServer }]
  return []
}

/** Keeps code and fix of the cause, and says what was being done. */
function inBundle(bundle: readonly HostOp[], error: unknown): unknown {
  const what = `${bundle[0]?.kind}${bundle.length > 1 ? ` and ${bundle.length - 1} more of its kind` : ''}`
  if (!(error instanceof HostError)) {
    const message = error instanceof Error ? error.message : String(error)
    return new HostError({ code: 'APPLY_FAILED', message: `${what}: ${message}`, cause: error })
  }
  return new HostError({
    code: error.code,
    message: `${what}: ${error.message}`,
    stderr: error.stderr,
    cause: error,
    ...(error.fix === undefined ? {} : { fix: error.fix }),
    ...(error.tool === undefined ? {} : { tool: error.tool })
  })
}
