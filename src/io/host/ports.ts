// Interfaces between src/io/host/host.ts and the parts that it composes. LoadBalancer and FilterPort have several
// implementations, which src/io/host/parts.ts chooses. Run is the only way in which a part runs a tool to its end.
// HostNames holds the marks by which every part recognises what this agent owns in the kernel.
import type { Filter, VirtualServer } from '../../core/host/host-state.ts'
import type { Ip } from '../../core/model/values.ts'
import type { KernelReads } from './kernel/reads.ts'
import { TranslatedSources } from './translated-sources.ts'

/**
 * A change of one virtual server: `want` undefined removes it, `have` undefined adds it. `have` is what the caller
 * believes to be in the kernel. A load balancer carries out the change even where the kernel holds something else.
 */
export interface VirtualServerChange {
  readonly want: VirtualServer | undefined
  readonly have: VirtualServer | undefined
}

/**
 * Other programs that write the same tables as this load balancer. src/app/host/balancer-rivals.ts reads them every
 * 5 s and reports them as the fault IPVS_RIVAL.
 */
export interface Rivals {
  /** True when kube-proxy runs here in IPVS mode. It deletes every virtual server that is not its own. */
  readonly kubeProxy: boolean
  /** Number of virtual servers outside our service prefixes. */
  readonly foreign: number
  /** Number of our virtual servers that another program has deleted since start(). The number never falls. */
  readonly lost: number
  /** Our service prefixes, which the other program must exclude (kube-proxy: --ipvs-exclude-cidrs). */
  readonly prefixes: readonly string[]
}

/**
 * A layer-4 load balancer of the kernel. Errors of its methods: HostError. Calls may overlap, because a preview of a
 * plan can read the host while a pass changes it.
 */
export interface LoadBalancer {
  /** The name of its row in load-balancer/registry.ts. */
  readonly kind: string
  /**
   * Checks that the tool runs and loads kernel modules where the kind needs them. It creates nothing that `observe`
   * would show. Called once before the other methods; only `describe` and `cleanup` also work without it.
   */
  start(): Promise<void>
  /**
   * Returns our virtual servers as the kernel has them, sorted by (vip, protocol, port), without those of other
   * programs. The list is empty before the first change. An implementation that can tell that no other program has
   * changed anything returns the list that it knows, which saves the reading.
   */
  observe(signal: AbortSignal): Promise<readonly VirtualServer[]>
  /**
   * Returns whether another program has changed something of ours since the last `observe`. src/io/host/watch.ts asks
   * about every 500 ms. Absent where an answer would cost as much as `observe`.
   */
  isTouched?(): Promise<boolean>
  /**
   * Makes the changes in order, in one transaction where the tool has transactions. Each change is idempotent.
   * Rejects when any change was refused; src/io/host/attempt.ts then tries the halves of the list.
   */
  apply(changes: readonly VirtualServerChange[], signal: AbortSignal): Promise<void>
  /** Returns the commands of a change as text for people. */
  describe(change: VirtualServerChange): readonly string[]
  /**
   * Removes everything of ours from the kernel, also what a crashed agent left there. Works without start():
   * load-balancer/create.ts also cleans up after the kinds that this host does not use, and loads no module for them.
   */
  cleanup(signal: AbortSignal): Promise<void>
  /** Absent where no other program writes the same tables. */
  rivals?(signal: AbortSignal): Promise<Rivals>
  /** Closes what start() opened. The kernel keeps the virtual servers, so traffic continues. */
  stop?(): Promise<void>
}

/** The packet filter for traffic of the tunnel. Errors of its methods: HostError. */
export interface FilterPort {
  /** Reads the filter from the kernel. undefined: ours does not exist, or another program has changed it. */
  observe(signal: AbortSignal): Promise<Filter | undefined>
  /** Replaces the whole filter; undefined removes it. The host is never without a filter in between. */
  set(filter: Filter | undefined, signal: AbortSignal): Promise<void>
  /** Returns the commands that `set` runs as text for people. */
  describe(filter: Filter | undefined): readonly string[]
  /** Removes the filter, also one that a crashed agent left. */
  cleanup(signal: AbortSignal): Promise<void>
  /** Returns what the filter has dropped of packets that did not come out of the tunnel. undefined: no filter is set. */
  dropped(signal: AbortSignal): Promise<Dropped | undefined>
  /** Closes what `observe` opened. The kernel keeps the filter. */
  stop?(): Promise<void>
}

/**
 * Why the filter drops a packet that did not come out of the tunnel. `service`: a machine beside this host asked a
 * service address. `remote`: its source is a pod of another cluster. `local`: its source is a pod of this cluster, and
 * the route to that pod leads elsewhere.
 */
export const DROP_REASONS = ['service', 'remote', 'local'] as const
/** One of DROP_REASONS. */
export type DropReason = (typeof DROP_REASONS)[number]

/** Packets that the filter has dropped. */
export interface Dropped {
  /** Packets since the filter was set last, by reason. */
  readonly packets: Readonly<Record<DropReason, number>>
  /** Sources and devices of the packets that were dropped in the last 2 min, 64 of each reason and family at most. */
  readonly senders: readonly DroppedSender[]
}

/** A source address of dropped packets, and the device on which they came in. */
export interface DroppedSender {
  readonly reason: DropReason
  readonly source: Ip
  readonly device: string
}

/**
 * The marks by which a device, route, rule, table or packet in the kernel is recognised as ours. What carries none of
 * them is never changed.
 */
export interface HostNames {
  /** Name of the WireGuard device; the kernel allows 15 characters (IFNAMSIZ − 1). */
  readonly device: string
  /** Name of the load balancer's nft table, in the family inet. The table of the filter is `<nftTable>-filter`. */
  readonly nftTable: string
  /**
   * Service prefixes that this host has balanced. IPVS has no mark of its own, so a virtual server is ours when its
   * address lies in one of them. The list grows as VIPs are added and survives a restart (tools/memory.ts).
   */
  readonly vipPrefixes: () => readonly string[]
  /** Number of our routing table, which holds the pod prefixes of other clusters. */
  readonly routeTable: number
  /** Preference of the rule that leads to our table. Lower ones come first; table main has 32766 (ip-rule(8)). */
  readonly rulePreference: number
  /** Number of our second table, which holds the routes between gateways and nodes of this cluster (routes/rules.ts). */
  readonly innerTable: number
  /** Preference of the rules that lead to it, before the rule of our first table. */
  readonly innerPreference: number
  /** UDP port of the probe, whose packets use the second table, too; 0 = there is no probe. */
  readonly probePort: number
  /** Protocol number of our routes and our rules, 0 … 255 (ip-route(8), RTPROTO). */
  readonly routeProtocol: number
  /**
   * The only bit of a packet mark that we use. WireGuard sets it on its encapsulated packets, so that the rule does not
   * route them into the tunnel again. kube-proxy, Calico and Cilium do not use 0x2000.
   */
  readonly fwmark: number
}

/** The arguments with which host.ts creates a load balancer or a filter. */
export interface PartContext {
  readonly run: Run
  readonly names: HostNames
  /** Takes a sentence for the operator about something that works less well on this host than it could. */
  readonly warn: (message: string) => void
  /** What the filter tells the load balancer about the sources of flows. partContext() makes it. */
  readonly sources?: TranslatedSources
}

/** Returns the context of the parts of one host. */
export function partContext({
  warn = () => undefined,
  ...context
}: Pick<PartContext, 'run' | 'names'> & { readonly warn?: PartContext['warn'] | undefined }): PartContext {
  return { ...context, warn, sources: new TranslatedSources() }
}

/** Returns the marks that ARCHITECTURE.md lists under Ownership. HostOptions.names can replace single ones. */
export function hostNames(device: string, vipPrefixes: () => readonly string[]): HostNames {
  return {
    device,
    nftTable: 'rhizome',
    vipPrefixes,
    routeTable: 5142,
    rulePreference: 5142,
    innerTable: 5143,
    innerPreference: 5141,
    probePort: 0,
    routeProtocol: 142,
    fwmark: 0x2000
  }
}

/** The options of one call of a tool. */
export interface RunOptions {
  /** Text for standard input, in UTF-8. Default: empty. */
  readonly stdin?: string
  /**
   * Needed for tools that open /dev/stdin by name. Node makes standard input a socket, and a socket cannot be opened by
   * name. The text then goes through a file with mode 0600 that is unlinked before the tool starts. Default false.
   */
  readonly stdinAsFile?: boolean
  /** Kills the tool and rejects the call with ABORTED. */
  readonly signal?: AbortSignal
  /** Milliseconds after which the tool is killed. Default: that of the tool in tools/tools.ts. */
  readonly deadlineMs?: number
  /** Exit codes other than 0 with which the call still succeeds. Default none. */
  readonly okCodes?: readonly number[]
}

/** The output of a tool, decoded as UTF-8. `exitCode` is 0 or one of `okCodes`. */
export interface RunResult {
  readonly stdout: string
  readonly stderr: string
  readonly exitCode: number
}

/**
 * Runs a tool to its end, never through a shell. Rejects with HostError (createRun in tools/run.ts lists the codes).
 * Secrets go through `stdin`, because every user of the host can read the arguments of a process.
 */
export interface Run {
  (tool: string, args: readonly string[], options?: RunOptions): Promise<RunResult>
  /** Readings that need no tool. undefined: the tools run in another network namespace than this process. */
  readonly kernel?: KernelReads
}
