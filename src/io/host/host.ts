// The edge that owns a Linux host's network, composed of its parts: settings, device and peers, routes, load balancer, filter.
import {
  HOST_PARTS,
  type Host,
  type HostOp,
  type HostPart,
  type HostState,
  type OpFailure
} from '../../core/host/host-state.ts'
import { partOf } from '../../core/host/host-ops.ts'
import { EMPTY_HOST } from '../../core/host/normalize.ts'
import type { Ip } from '../../core/model/values.ts'
import type { Surroundings } from '../../core/host/surroundings.ts'
import { attempt } from './attempt.ts'
import { findObstacles, type Obstacle, type ObstacleQuestion } from './obstacles.ts'
import { describeOp } from './describe.ts'
import { HostError } from './errors.ts'
import { acquireLock, type Lock } from './tools/lock.ts'
import { openHostMemory, type HostMemory } from './tools/memory.ts'
import { detectMtu } from './tunnel/mtu.ts'
import type { LoadBalancerName } from './load-balancer/registry.ts'
import { LINUX_PARTS, type HostParts } from './parts.ts'
import {
  hostNames,
  type HostNames,
  type LoadBalancer,
  type PartContext,
  type Rivals,
  type Run,
  type VirtualServerChange
} from './ports.ts'
import { preflightHost } from './preflight.ts'
import { createRoutes, type Refusals, type TableRoute } from './routes/routes.ts'
import { createRun } from './tools/run.ts'
import { readSurroundings } from './surroundings.ts'
import { createSysctls } from './tools/sysctl.ts'
import { findUplinks } from './routes/uplinks.ts'
import { watchHost, type HostWatch } from './watch.ts'
import { allOf, createWireguard } from './tunnel/wireguard/wireguard.ts'

export interface HostOptions {
  /** WireGuard device, ≤ 15 characters, one per mesh. */
  readonly device: string
  /** 32 bytes in base64; asked for when the tunnel is set, never kept. */
  readonly privateKey: () => string | Promise<string>
  /** Where sysctls of before and owned service prefixes are kept. */
  readonly stateFolder: string
  /** Kept on the tunnel device while no other device of this host has them. Default none. */
  readonly tunnelAddresses?: readonly Ip[]
  /** Default auto: the first of load-balancer/registry.ts that the kernel has. */
  readonly loadBalancer?: 'auto' | LoadBalancerName
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
  /** Other programs that may delete what the load balancer has set; undefined where there can be none. */
  rivals(signal: AbortSignal): Promise<Rivals | undefined>
  /** What others do on this host that takes packets of the mesh away. Only reads. */
  obstacles(question: ObstacleQuestion, signal: AbortSignal): Promise<readonly Obstacle[]>
  /** Writes what it must remember anew where it has been removed from the disk. */
  mendMemory(): Promise<void>
  /** Hints that the kernel may have changed, until the signal. Never rejects. */
  watch(watch: HostWatch, signal: AbortSignal): Promise<void>
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

  /** All of one bundle's kind, in one command where the tool allows. Throws where only the whole bundle can be said to have failed. */
  async function applyBundle(ops: readonly HostOp[], signal: AbortSignal): Promise<readonly OpFailure[]> {
    const { loadBalancer } = running()
    const [first] = ops
    switch (first?.kind) {
      case 'addVip':
      case 'addRoute':
      case 'removeVip':
      case 'removeRoute':
        return applyRoutes(ops, signal)
      case 'setSysctl':
        return each(pick(ops, 'setSysctl'), ({ sysctl }) => sysctls().set(sysctl))
      case 'setTunnel':
        await wireguard.setTunnel(first.tunnel, signal)
        return []
      case 'removeTunnel':
        await wireguard.removeTunnel(signal)
        return []
      case 'setFilter':
        await filter.set(first.filter, signal)
        return []
      case 'removeFilter':
        await filter.set(undefined, signal)
        return []
      case 'setPeer':
        await wireguard.setPeers(
          pick(ops, 'setPeer').map((op) => op.peer),
          signal
        )
        return []
      case 'removePeer':
        await wireguard.removePeers(
          pick(ops, 'removePeer').map((op) => op.publicKey),
          signal
        )
        return []
      case 'setVirtualServer':
      case 'removeVirtualServer':
        await loadBalancer.apply(ops.flatMap(virtualServerChange), signal)
        return []
      case undefined:
        return []
      default:
        return first satisfies never
    }
  }

  async function applyRoutes(ops: readonly HostOp[], signal: AbortSignal): Promise<readonly OpFailure[]> {
    const entries = new Map(ops.flatMap((op) => tableRoutes([op]).map((entry) => [entry, op] as const)))
    const added = pick(ops, 'addVip').map(({ vip }) => vip.destination)
    if (added.length > 0) await running().memory.rememberVips(added)
    const removing = ops[0]?.kind === 'removeRoute' || ops[0]?.kind === 'removeVip'
    const refusals: Refusals = removing
      ? await routes.remove([...entries.keys()], signal)
      : await routes.add([...entries.keys()], signal)
    return [...refusals].flatMap(([entry, error]): OpFailure[] => {
      const op = entries.get(entry)
      return op === undefined ? [] : [{ op, error, scope: 'operation' }]
    })
  }

  const sysctls = () => sysctlsOf(running().memory)

  function sysctlsOf(memory: HostMemory) {
    const uplinks = () => findUplinks(run, names.device)
    return createSysctls(memory, { root: options.sysctlRoot, uplinks })
  }

  function readPart(part: HostPart, signal: AbortSignal): Promise<Partial<HostState>> {
    switch (part) {
      case 'tunnel':
        return wireguard.observe(signal)
      case 'routes':
        return routes.observe(signal)
      case 'virtualServers':
        return running()
          .loadBalancer.observe(signal)
          .then((virtualServers) => ({ virtualServers }))
      case 'filter':
        return filter.observe(signal).then((found) => ({ filter: found }))
      case 'sysctls':
        return sysctls()
          .observe()
          .then((found) => ({ sysctls: found }))
      default:
        return part satisfies never
    }
  }

  async function look(parts: readonly HostPart[], signal: AbortSignal) {
    running()
    const answers = await Promise.allSettled(parts.map((part) => readPart(part, signal)))
    const found: Partial<HostState> = {}
    const failures: { part: HostPart; error: unknown }[] = []
    answers.forEach((answer, index) => {
      const part = parts[index]
      if (answer.status === 'fulfilled') Object.assign(found, answer.value)
      else if (part !== undefined) failures.push({ part, error: answer.reason })
    })
    return { found, failures }
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
        await loadBalancer.start()
        started = { lock, memory, loadBalancer }
      } catch (error) {
        await lock.release()
        throw error
      }
    },

    look,

    async observe(signal): Promise<HostState> {
      const { found, failures } = await look(HOST_PARTS, signal)
      if (failures[0] !== undefined) throw failures[0].error
      return { ...EMPTY_HOST, ...found }
    },

    async apply(ops, signal) {
      const failures: OpFailure[] = []
      const dead = new Map<HostPart, unknown>()
      for (const bundle of bundles(ops)) {
        const [first] = bundle
        if (first === undefined) continue
        const part = partOf(first)
        if (dead.has(part)) {
          const error = dead.get(part)
          failures.push(...bundle.map((op): OpFailure => ({ op, error, scope: 'part' })))
          continue
        }
        const failed = await attempt(bundle, (some) => applyBundle(some, signal))
        const whole = failed.find(({ scope }) => scope === 'part')
        if (whole !== undefined) dead.set(part, whole.error)
        failures.push(...failed.map((failure) => ({ ...failure, error: asHostError(failure.error) })))
      }
      return failures
    },

    peerStats: (signal) => wireguard.stats(signal),

    describe: (op) =>
      describeOp(op, {
        names,
        filter,
        wireguard,
        loadBalancer: started?.loadBalancer,
        sysctlRoot: options.sysctlRoot
      }),

    async stop() {
      const { lock, loadBalancer } = running()
      started = undefined
      await loadBalancer.stop?.()
      await lock.release()
    },

    async cleanup(signal) {
      const { memory, loadBalancer } = running()
      await allOf([
        () => routes.cleanup(signal),
        () => loadBalancer.cleanup(signal),
        () => wireguard.removeTunnel(signal),
        () => filter.cleanup(signal),
        () => sysctls().restore()
      ])
      await memory.forget()
    },

    preflight: () => preflightHost(options.wireguard ?? 'auto', options.loadBalancer ?? 'auto'),
    mendMemory: async () => started?.memory.mend(),
    detectMtu: () => detectMtu(run),
    obstacles: (question, signal) => findObstacles(run, names, question, signal),
    surroundings: (signal) => readSurroundings(run, names, signal),
    rivals: async (signal) => started?.loadBalancer.rivals?.(signal),
    watch: (watch, signal) =>
      watchHost(
        {
          ...watch,
          run,
          names,
          loadBalancer: () => started?.loadBalancer,
          peers: (aborted) => wireguard.fingerprint(aborted)
        },
        signal
      )
  }
}

/** Consecutive operations that one command can do together. */
function bundles(ops: readonly HostOp[]): readonly (readonly HostOp[])[] {
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

async function each<Op extends HostOp>(
  ops: readonly Op[],
  act: (op: Op) => Promise<void>
): Promise<readonly OpFailure[]> {
  const failures: OpFailure[] = []
  for (const op of ops) {
    try {
      await act(op)
    } catch (error) {
      failures.push({ op, error, scope: 'operation' })
    }
  }
  return failures
}

function asHostError(error: unknown): HostError {
  if (error instanceof HostError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new HostError({ code: 'APPLY_FAILED', message, cause: error })
}
