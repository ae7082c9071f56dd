// The two parts of the host edge that have more than one implementation, as ports: src/io/host/host.ts composes them.
import type { Filter, VirtualServer } from '../../core/host/host-state.ts'

/** A change of one virtual server: `want` undefined removes it, `have` undefined adds it. */
export interface VirtualServerChange {
  readonly want: VirtualServer | undefined
  readonly have: VirtualServer | undefined
}

/** Other programs that write the same tables as this load balancer. */
export interface Rivals {
  /** kube-proxy in IPVS mode: it deletes what is not its own. */
  readonly kubeProxy: boolean
  /** Virtual servers outside our service prefixes. */
  readonly foreign: number
  /** Virtual servers of ours that another program deleted since start(). */
  readonly lost: number
  /** Our service prefixes, which such a program must leave alone. */
  readonly prefixes: readonly string[]
}

export interface LoadBalancer {
  /** The name of its kind (load-balancer/registry.ts). */
  readonly kind: string
  /** Checks that tool and kernel can do it; loads what must be loaded. Creates nothing that `observe` would show. */
  start(): Promise<void>
  /**
   * Ours alone, sorted by (vip, protocol, port), read from the kernel. Nothing there yet: an empty list. Cheap where no other program has changed
   * anything of ours, and then the same list as before.
   */
  observe(signal: AbortSignal): Promise<readonly VirtualServer[]>
  /** Whether another program has changed something of ours since the last `observe`, where that can be seen at no cost. */
  isTouched?(): Promise<boolean>
  /** In order, in one bundle where the tool allows; each change is idempotent. */
  apply(changes: readonly VirtualServerChange[], signal: AbortSignal): Promise<void>
  /** The commands for people. */
  describe(change: VirtualServerChange): readonly string[]
  /** Removes everything of ours, also what a crashed process left. */
  cleanup(signal: AbortSignal): Promise<void>
  /** Absent where the tables are ours alone. */
  rivals?(signal: AbortSignal): Promise<Rivals>
  /** Gives back what start() opened; the kernel keeps everything. */
  stop?(): Promise<void>
}

export interface FilterPort {
  /** undefined: there is none of ours. */
  observe(signal: AbortSignal): Promise<Filter | undefined>
  set(filter: Filter | undefined, signal: AbortSignal): Promise<void>
  describe(filter: Filter | undefined): readonly string[]
  cleanup(signal: AbortSignal): Promise<void>
}

/** Every mark by which a thing in the kernel is known to be ours. */
export interface HostNames {
  /** The WireGuard device, ≤ 15 characters. */
  readonly device: string
  /** Our nft tables are called `<nftTable>` or start with `<nftTable>-`; families inet, ip and ip6 alike. */
  readonly nftTable: string
  /** IPVS has no mark of its own: a service is ours when its VIP lies in one of these. Grows as VIPs are added. */
  readonly vipPrefixes: () => readonly string[]
  /** Our routing table, for remote pod prefixes. */
  readonly routeTable: number
  readonly rulePreference: number
  /** rtproto of our routes. */
  readonly routeProtocol: number
  /** The one mark bit of ours, set on WireGuard's encapsulated packets. 0x2000 is none of kube-proxy's, Calico's or Cilium's. */
  readonly fwmark: number
}

/** What an implementation of such a part is made with. */
export interface PartContext {
  readonly run: Run
  readonly names: HostNames
  readonly warn: (message: string) => void
}

/** Names of a host with one mesh on it. */
export function hostNames(device: string, vipPrefixes: () => readonly string[]): HostNames {
  return {
    device,
    nftTable: 'rhizome',
    vipPrefixes,
    routeTable: 5142,
    rulePreference: 5142,
    routeProtocol: 142,
    fwmark: 0x2000
  }
}

export interface RunOptions {
  readonly stdin?: string
  /**
   * For tools that open /dev/stdin by name: Node's pipes are sockets, which cannot be opened so. The text then goes through
   * a file with mode 0600 that is unlinked before the tool starts.
   */
  readonly stdinAsFile?: boolean
  readonly signal?: AbortSignal
  /** Default: of the tool (tools.ts). */
  readonly deadlineMs?: number
  /** Exit codes other than 0 that are an answer, not a failure. Default none. */
  readonly okCodes?: readonly number[]
}

export interface RunResult {
  readonly stdout: string
  readonly stderr: string
  readonly exitCode: number
}

/** Runs a tool to its end, never through a shell. Rejects with HostError. Secrets go through stdin, never argv. */
export type Run = (tool: string, args: readonly string[], options?: RunOptions) => Promise<RunResult>
