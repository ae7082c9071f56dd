// The Linux host whose network this agent owns: sysctls, tunnel device and peers, routes, load balancer, packet filter.
// src/app/host/pass.ts calls `look` to read the kernel and `apply` to change it. Each operation goes to its part, which runs the tools.
// Invariant: the lock of the network namespace is held from start() to stop(), so no second agent changes this host.
import {
  HOST_PARTS,
  type Host,
  type HostOp,
  type HostPart,
  type HostState,
  type Look,
  type OpFailure,
  type PeerStats
} from '../../core/host/host-state.ts'
import { partOf } from '../../core/host/host-ops.ts'
import { EMPTY_HOST } from '../../core/host/normalize.ts'
import type { Ip } from '../../core/model/values.ts'
import type { Surroundings } from '../../core/host/surroundings.ts'
import { asHostError, attempt } from './attempt.ts'
import { bundles, pick, tableRoutes, virtualServerChange } from './bundles.ts'
import { findObstacles, type Obstacle, type ObstacleQuestion } from './obstacles.ts'
import { describeOp } from './describe.ts'
import type { HostError } from './errors.ts'
import { acquireLock, type Lock } from './tools/lock.ts'
import { openHostMemory, type HostMemory } from './tools/memory.ts'
import type { TunnelKind } from './tunnel/kind.ts'
import { detectMtu } from './tunnel/mtu.ts'
import type { TunnelOp, TunnelPort } from './tunnel/port.ts'
import { TUNNELS } from './tunnel/registry.ts'
import type { LoadBalancerName } from './load-balancer/registry.ts'
import { LINUX_PARTS, type HostParts } from './parts.ts'
import {
  hostNames,
  partContext,
  type Dropped,
  type HostNames,
  type FilterPort,
  type LoadBalancer,
  type PartContext,
  type Rivals,
  type Run
} from './ports.ts'
import { preflightHost } from './preflight.ts'
import { createRoutes, type Refusals, type Routes } from './routes/routes.ts'
import { createRun } from './tools/run.ts'
import { readSurroundings } from './surroundings.ts'
import { createSysctls, type Sysctls } from './tools/sysctl.ts'
import { findUplinks } from './routes/uplinks.ts'
import { watchHost, type HostWatch } from './watch.ts'
import { allOf } from './tools/all-of.ts'

/** The arguments of createHost(). src/app/host/data-plane.ts makes them from the settings. */
interface HostOptions {
  /** Name of the WireGuard device: 1 … 15 letters, digits, "_", "." or "-". */
  readonly device: string
  /** Returns 32 bytes in base64. It is called when the tunnel is set, and the key is not kept. */
  readonly privateKey: () => string | Promise<string>
  /** Folder of host.json, which has the earlier values of sysctls and our service prefixes (tools/memory.ts). */
  readonly stateFolder: string
  /** Addresses that the tunnel device gets while no other device of this host has them. Default none. */
  readonly tunnelAddresses?: readonly Ip[]
  /** Default `auto`: the first kind of load-balancer/registry.ts that this kernel can run. */
  readonly loadBalancer?: 'auto' | LoadBalancerName
  /** Default `auto`: the kernel's WireGuard, or wireguard-go where the kernel has none. */
  readonly wireguard?: 'auto' | 'kernel' | 'userspace'
  /** Marks that differ from those of hostNames(). */
  readonly names?: Partial<Omit<HostNames, 'device' | 'vipPrefixes'>>
  /** Default: LINUX_PARTS. */
  readonly parts?: HostParts
  /** Default /proc/sys. */
  readonly sysctlRoot?: string
  /** Default: createRun() of tools/run.ts. */
  readonly run?: Run
  /** Unix milliseconds. Default: Date.now. */
  readonly nowMs?: () => number
  /** Takes a sentence for the operator about something that works less well on this host than it could. */
  readonly warn?: (message: string) => void
}

/** The Host of src/core, with the questions that only a real kernel answers. Errors: HostError. */
export interface LinuxHost extends Host {
  /** Returns every error that would make start() or apply() fail. Changes nothing; needs no start(). */
  preflight(): Promise<readonly HostError[]>
  /** Returns the MTU for the tunnel device in bytes: path MTU − 80, at least 1280. Needs no start(). */
  detectMtu(): Promise<number>
  /** Returns what this host reaches without the mesh. The caller adds `resolvers`. Needs no start(). */
  surroundings(signal: AbortSignal): Promise<Omit<Surroundings, 'resolvers'>>
  /** Returns what other programs do to the load balancer; undefined where there can be none, or before start(). */
  rivals(signal: AbortSignal): Promise<Rivals | undefined>
  /** Returns rules and routes of other programs that stop packets of the mesh. It only reads. */
  obstacles(question: ObstacleQuestion, signal: AbortSignal): Promise<readonly Obstacle[]>
  /** Returns what the filter has dropped of packets beside the tunnel; undefined where there is no filter. */
  dropped(signal: AbortSignal): Promise<Dropped | undefined>
  /** Writes host.json again where it has been removed or could not be written. The agent calls it every second. */
  mendMemory(): Promise<void>
  /** Reports that the kernel may have changed, until `signal` aborts. Never rejects. */
  watch(watch: HostWatch, signal: AbortSignal): Promise<void>
}

interface Started {
  readonly lock: Lock
  readonly memory: HostMemory
  readonly loadBalancer: LoadBalancer
}

/** Returns a host that is not started. Throws an Error if `device` is not a name for an interface. */
export function createHost(options: HostOptions): LinuxHost {
  if (!/^[A-Za-z0-9_.-]{1,15}$/.test(options.device))
    throw new Error(`not an interface name: ${options.device}`)
  return new HostEdge(options)
}

class HostEdge implements LinuxHost {
  readonly #options: HostOptions
  readonly #run: Run
  readonly #parts: HostParts
  readonly #names: HostNames
  readonly #context: PartContext
  readonly #tunnelKind: TunnelKind = TUNNELS[0]
  readonly #tunnel: TunnelPort
  readonly #routes: Routes
  readonly #filter: FilterPort
  /** undefined before start() and after stop(). */
  #started: Started | undefined

  constructor(options: HostOptions) {
    this.#options = options
    this.#run = options.run ?? createRun()
    this.#parts = options.parts ?? LINUX_PARTS
    this.#names = {
      ...hostNames(options.device, () => [...(this.#started?.memory.vipPrefixes ?? [])]),
      ...options.names
    }
    this.#context = partContext({ run: this.#run, names: this.#names, warn: options.warn })
    this.#tunnel = this.#tunnelKind.create({
      run: this.#run,
      names: this.#names,
      privateKey: options.privateKey,
      addresses: options.tunnelAddresses ?? [],
      implementation: options.wireguard ?? 'auto',
      nowMs: options.nowMs ?? Date.now
    })
    this.#routes = createRoutes(this.#run, this.#names)
    this.#filter = this.#parts.createFilter(this.#context)
  }

  get loadBalancer(): string {
    return this.#running().loadBalancer.kind
  }

  async start(): Promise<void> {
    if (this.#started !== undefined) throw new Error('the host is started already')
    const [worst] = await this.preflight()
    if (worst !== undefined) throw worst
    const lock = await acquireLock()
    try {
      const memory = await openHostMemory(this.#options.stateFolder)
      const kind = await this.#parts.chooseLoadBalancer(this.#options.loadBalancer ?? 'auto', this.#run)
      const loadBalancer = this.#parts.createLoadBalancer(kind, this.#context)
      await loadBalancer.start()
      this.#started = { lock, memory, loadBalancer }
    } catch (error) {
      await lock.release()
      throw error
    }
  }

  async look(parts: readonly HostPart[], signal: AbortSignal): Promise<Look> {
    this.#running()
    const answers = await Promise.allSettled(parts.map((part) => this.#readPart(part, signal)))
    const found: Partial<HostState> = {}
    const failures: { part: HostPart; error: unknown }[] = []
    answers.forEach((answer, index) => {
      const part = parts[index]
      if (answer.status === 'fulfilled') Object.assign(found, answer.value)
      else if (part !== undefined) failures.push({ part, error: answer.reason })
    })
    return { found, failures }
  }

  async observe(signal: AbortSignal): Promise<HostState> {
    const { found, failures } = await this.look(HOST_PARTS, signal)
    if (failures[0] !== undefined) throw failures[0].error
    return { ...EMPTY_HOST, ...found }
  }

  async apply(ops: readonly HostOp[], signal: AbortSignal): Promise<readonly OpFailure[]> {
    const failures: OpFailure[] = []
    // Parts whose tool hangs or is missing, with the error. Other operations of these parts are not tried in this call.
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
      const failed = await attempt(bundle, (some) => this.#applyBundle(some, signal))
      const whole = failed.find(({ scope }) => scope === 'part')
      if (whole !== undefined) dead.set(part, whole.error)
      failures.push(...failed.map((failure) => ({ ...failure, error: asHostError(failure.error) })))
    }
    return failures
  }

  describe(op: HostOp): readonly string[] {
    return describeOp(op, {
      names: this.#names,
      filter: this.#filter,
      tunnel: this.#tunnel,
      loadBalancer: this.#started?.loadBalancer,
      sysctlRoot: this.#options.sysctlRoot
    })
  }

  async stop(): Promise<void> {
    const { lock, loadBalancer } = this.#running()
    this.#started = undefined
    await Promise.all([loadBalancer.stop?.(), this.#filter.stop?.()])
    await lock.release()
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    const { memory, loadBalancer } = this.#running()
    // The routes are removed first, so that no traffic comes to the load balancer and the tunnel, which are removed
    // next. The filter stays until the tunnel is removed.
    await allOf([
      () => this.#routes.cleanup(signal),
      () => loadBalancer.cleanup(signal),
      () => this.#tunnel.removeTunnel(signal),
      () => this.#filter.cleanup(signal),
      () => this.#sysctls().restore()
    ])
    // If a step failed, allOf() has thrown, and host.json stays for the next cleanup.
    await memory.forget()
  }

  peerStats(signal: AbortSignal): Promise<readonly PeerStats[]> {
    return this.#tunnel.stats(signal)
  }

  preflight(): Promise<readonly HostError[]> {
    const { wireguard = 'auto', loadBalancer = 'auto' } = this.#options
    return preflightHost({ kind: this.#tunnelKind, implementation: wireguard }, loadBalancer)
  }

  async mendMemory(): Promise<void> {
    await this.#started?.memory.mend()
  }

  detectMtu(): Promise<number> {
    return detectMtu(this.#run, this.#tunnelKind.overheadBytes)
  }

  obstacles(question: ObstacleQuestion, signal: AbortSignal): Promise<readonly Obstacle[]> {
    return findObstacles(this.#run, this.#names, question, signal)
  }

  dropped(signal: AbortSignal): Promise<Dropped | undefined> {
    return this.#filter.dropped(signal)
  }

  surroundings(signal: AbortSignal): Promise<Omit<Surroundings, 'resolvers'>> {
    return readSurroundings(this.#run, this.#names, signal)
  }

  async rivals(signal: AbortSignal): Promise<Rivals | undefined> {
    return this.#started?.loadBalancer.rivals?.(signal)
  }

  watch(watch: HostWatch, signal: AbortSignal): Promise<void> {
    return watchHost(
      {
        ...watch,
        run: this.#run,
        names: this.#names,
        loadBalancer: () => this.#started?.loadBalancer,
        peers: (aborted) => this.#tunnel.fingerprint(aborted)
      },
      signal
    )
  }

  #running(): Started {
    if (this.#started === undefined) throw new Error('the host is not started')
    return this.#started
  }

  #sysctls(): Sysctls {
    const { memory } = this.#running()
    const uplinks = () => findUplinks(this.#run, this.#names.device)
    return createSysctls(memory, { root: this.#options.sysctlRoot, uplinks })
  }

  async #readPart(part: HostPart, signal: AbortSignal): Promise<Partial<HostState>> {
    switch (part) {
      case 'tunnel':
        return this.#tunnel.observe(signal)
      case 'routes':
        return this.#routes.observe(signal)
      case 'virtualServers':
        return { virtualServers: await this.#running().loadBalancer.observe(signal) }
      case 'filter':
        return { filter: await this.#filter.observe(signal) }
      case 'sysctls':
        return { sysctls: await this.#sysctls().observe() }
      default:
        return part satisfies never
    }
  }

  /**
   * Carries out a bundle, in one command where the tool allows it. Returns the operations that the tool refused;
   * rejects if the tool does not tell which operations it refused.
   */
  async #applyBundle(ops: readonly HostOp[], signal: AbortSignal): Promise<readonly OpFailure[]> {
    const { loadBalancer } = this.#running()
    const [first] = ops
    switch (first?.kind) {
      case 'addVip':
      case 'addRoute':
      case 'removeVip':
      case 'removeRoute':
        return this.#applyRoutes(ops, signal)
      case 'setSysctl':
        return each(pick(ops, 'setSysctl'), ({ sysctl }) => this.#sysctls().set(sysctl))
      case 'setTunnel':
      case 'removeTunnel':
      case 'setPeer':
      case 'removePeer':
        await this.#applyTunnel(first, ops, signal)
        return []
      case 'setFilter':
        await this.#filter.set(first.filter, signal)
        return []
      case 'removeFilter':
        await this.#filter.set(undefined, signal)
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

  async #applyTunnel(first: TunnelOp, ops: readonly HostOp[], signal: AbortSignal): Promise<void> {
    switch (first.kind) {
      case 'setTunnel':
        return this.#tunnel.setTunnel(first.tunnel, signal)
      case 'removeTunnel':
        return this.#tunnel.removeTunnel(signal)
      case 'setPeer': {
        const peers = pick(ops, 'setPeer').map(({ peer }) => peer)
        return this.#tunnel.setPeers(peers, signal)
      }
      case 'removePeer': {
        const keys = pick(ops, 'removePeer').map(({ publicKey }) => publicKey)
        return this.#tunnel.removePeers(keys, signal)
      }
      default:
        return first satisfies never
    }
  }

  async #applyRoutes(ops: readonly HostOp[], signal: AbortSignal): Promise<readonly OpFailure[]> {
    const entries = new Map(ops.flatMap((op) => tableRoutes([op]).map((entry) => [entry, op] as const)))
    const added = pick(ops, 'addVip').map(({ vip }) => vip.destination)
    // The VIPs are on disk before the kernel has them: after a crash, cleanup must still know our IPVS services.
    if (added.length > 0) await this.#running().memory.rememberVips(added)
    const removing = ops[0]?.kind === 'removeRoute' || ops[0]?.kind === 'removeVip'
    const refusals: Refusals = removing
      ? await this.#routes.remove([...entries.keys()], signal)
      : await this.#routes.add([...entries.keys()], signal)
    return [...refusals].flatMap(([entry, error]): OpFailure[] => {
      const op = entries.get(entry)
      return op === undefined ? [] : [{ op, error, scope: 'operation' }]
    })
  }
}

/** Runs `act` on every operation, also after one has failed, and returns the failures. */
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
