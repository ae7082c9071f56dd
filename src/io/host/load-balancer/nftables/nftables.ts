// The load balancer in nftables: DNAT by maps in a table of our own (table.ts), in the hook prerouting for packets of
// pods and in the hook output for those of the host itself.
// Schedulers: rr, wrr and lc draw a backend at random by weight, because nft counts no connections; mh hashes the
// address of the client. ClientIP affinity hashes it, too, over a table that is the same on every host. About 1/N of
// the clients move when one of N backends is added or removed. No client is recorded, so a flood of clients can fill no
// table, and affinity survives restarts and a change of gateway. Affinity has no timeout, so it lasts longer than
// `affinitySeconds` asks for (docs/decisions/0003-clientip-affinity-by-hash.md).
// Invariants
//   1. Every change is one transaction, or two where a virtual server loses slots (elementSteps): after each the kernel
//      balances every server, and no packet between two look-ups misses its slot. If only the first was carried out, the
//      next reading finds the slots that are left, and the next change deletes them.
//   2. The state in memory only saves work. `observe` returns the known state only if kernel.ts knows that no other
//      program has changed our table since it was read. In doubt the kernel is read again.
//   3. Changes go over netlink where a socket can be opened and the change is small (kernel.ts). nft would first read
//      the elements of every interval set of the host.
import type { VirtualServer } from '../../../../core/host/host-state.ts'
import { HostError } from '../../errors.ts'
import {
  elementCommands,
  elementSteps,
  elementsOf,
  IRREGULAR_AFFINITY,
  parseTable,
  serverOf,
  skeleton,
  stepCommands,
  type Element,
  type ElementStep,
  type NftTable
} from './table.ts'
import { aboutCommand, digest } from '../../tools/nft-listing.ts'
import { createShapeOf, removalOf, removalWithCopy } from '../../tools/nft-shape.ts'
import type { NftKernel } from './kernel.ts'
import type { HostNames, LoadBalancer, Run, VirtualServerChange } from '../../ports.ts'
import { compareVirtualServers, keyOfVirtualServer, netChanges, withChanges } from '../order.ts'

/** The arguments of this load balancer; kind.ts makes them from a PartContext. */
interface NftLoadBalancerOptions {
  readonly run: Run
  readonly names: Pick<HostNames, 'nftTable'>
  /** Opens the netlink sockets. Where it is absent or gives undefined, nft does all, and each `observe` reads all. */
  readonly openKernel?: () => NftKernel | undefined
  /** Takes a sentence for the operator when start() finds no netlink socket. */
  readonly warn?: (message: string) => void
}

/**
 * Returns a load balancer that is not started. Errors of its methods: HostError; TOOL_MISSING without nft, TOOL_FAILED
 * if the kernel refuses, TOOL_TIMEOUT if another program holds the lock of nftables for 10 s.
 */
export function createNftLoadBalancer(options: NftLoadBalancerOptions): LoadBalancer {
  const { run } = options
  const table = options.names.nftTable
  const about = digest(skeleton(table))
  const shapeOf = createShapeOf(run, table)
  /** The state of the last reading or change; undefined: the next call reads the kernel. */
  let known: Known | undefined
  let kernel: NftKernel | undefined

  return {
    kind: 'nftables',
    async start() {
      await run('nft', ['--version'])
      kernel ??= options.openKernel?.()
      if (kernel === undefined && options.openKernel !== undefined) options.warn?.(NO_NETLINK)
    },
    async observe(signal) {
      const before = known
      if (before?.sound === true && (await kernel?.untouched()) === true) return before.servers
      kernel?.reset()
      const now = await read(signal)
      // If `apply` ran during this reading, the reading may lack its change: then the next call reads again.
      known = known === before ? now : undefined
      return now.servers
    },
    async isTouched() {
      return known?.sound === true && kernel !== undefined && !(await kernel.untouched())
    },
    async apply(asked, signal) {
      const changes = netChanges(asked)
      if (changes.length === 0) return
      const now = known ?? (await readAnew(signal))
      // `known` stays undefined if the change fails, because the kernel may then have the old or the new state.
      known = undefined
      known = now.sound ? await update(now, changes, signal) : await rebuild(now, changes, signal)
    },
    describe({ want, have }) {
      const commands = elementCommands(table, believed(have), want ? elementsOf(want) : [])
      return commands.map((command) => shorten(`nft ${command}`))
    },
    async cleanup(signal) {
      known = undefined
      await nft(removalWithCopy(table), signal)
    },
    async stop() {
      kernel?.close()
      kernel = undefined
    }
  }

  function readAnew(signal: AbortSignal): Promise<Known> {
    kernel?.reset()
    return read(signal)
  }

  async function read(signal: AbortSignal): Promise<Known> {
    const listing = await list(signal)
    if (listing === undefined) return { servers: [], irregular: new Map(), carried: [], sound: false }
    const byServer = new Map<string, Element[]>()
    for (const element of listing.elements) {
      const group = byServer.get(element.server)
      if (group) group.push(element)
      else byServer.set(element.server, [element])
    }
    const servers = [...byServer.values()].map(serverOf).filter((server) => server !== undefined)
    const sound = listing.foreign === 0 && listing.about === `${about} ${listing.shape}`
    // A table with other chains than ours may balance nothing. It counts as empty, so that the plan adds all servers,
    // and `rebuild` makes it again with the servers that it had.
    if (!sound) return { servers: [], irregular: new Map(), carried: servers.filter(isRegular), sound }
    const irregular = new Map(
      servers
        .filter((server) => !isRegular(server))
        .map((server) => {
          const key = keyOfVirtualServer(server)
          return [key, byServer.get(key) ?? []]
        })
    )
    return { servers: servers.sort(compareVirtualServers), irregular, carried: [], sound }
  }

  /**
   * Sends the difference between the `have` and the `want` of the changes. If the kernel refuses it, the kernel's state
   * is read, and the difference from that state is sent, once. Returns undefined in this case, because the known state
   * was wrong.
   */
  async function update(
    now: Known,
    changes: readonly VirtualServerChange[],
    signal: AbortSignal
  ): Promise<Known | undefined> {
    const wanted = changes.flatMap(({ want }) => (want ? elementsOf(want) : []))
    const seen = changes.flatMap(({ have, want }) => {
      const server = have ?? want
      return (server && now.irregular.get(keyOfVirtualServer(server))) ?? believed(have)
    })
    try {
      await change(seen, wanted, signal)
    } catch (error) {
      if (!(error instanceof HostError) || error.code !== 'TOOL_FAILED') throw error
      const listing = await list(signal)
      if (listing === undefined) throw error
      const touched = new Set(changes.map(({ have, want }) => keyOf(have ?? want)))
      const actual = listing.elements.filter((element) => touched.has(element.server))
      await change(actual, wanted, signal)
      return undefined // another program changes the table, so the next call must read everything
    }
    const irregular = new Map(now.irregular)
    for (const { have, want } of changes) irregular.delete(keyOf(have ?? want))
    return { ...now, irregular, servers: withChanges(now.servers, changes) }
  }

  /** Turns the elements `have` into `want`, step by step. */
  async function change(
    have: readonly Element[],
    want: readonly Element[],
    signal: AbortSignal
  ): Promise<void> {
    for (const step of elementSteps(have, want)) await transaction(step, signal)
  }

  /** Carries out one step in one transaction, over netlink or else by nft. */
  async function transaction(step: ElementStep, signal: AbortSignal): Promise<void> {
    const { gone, fresh } = step
    if (signal.aborted) throw new HostError({ code: 'ABORTED', message: 'the change was cancelled' })
    const answer = await kernel?.change(gone, fresh).catch(() => 'refused' as const)
    if (answer === 'done') return
    if (answer === 'late')
      throw new HostError({ code: 'TOOL_TIMEOUT', tool: 'nft', message: LOCKED, fix: LOCKED_FIX })
    // The change is too large for netlink, or the kernel refused it, or there is no socket. nft carries out the change,
    // or its error says why the kernel refuses it.
    const text = `${stepCommands(table, step).join('\n')}\n`
    await (kernel === undefined ? nft(text, signal) : kernel.owning(() => nft(text, signal)))
  }

  /**
   * Makes the whole table in one transaction, with the servers that it had, with the changes, and with the mark
   * `about`. A table without the mark counts as empty when it is read.
   */
  async function rebuild(
    now: Known,
    changes: readonly VirtualServerChange[],
    signal: AbortSignal
  ): Promise<Known> {
    const servers = new Map(now.carried.map((server) => [keyOfVirtualServer(server), server]))
    for (const { want, have } of changes) {
      if (want) servers.set(keyOfVirtualServer(want), want)
      else servers.delete(keyOf(have))
    }
    const elements = [...servers.values()].flatMap(elementsOf)
    const shape = await shapeOf(skeleton(table), signal)
    const text = [
      `${removalOf(table)}${skeleton(table)}${aboutCommand(table, `${about} ${shape}`)}`,
      ...elementCommands(table, [], elements)
    ].join('\n')
    // A change of another program between this reset and the end of the load is seen, and the table is read anew.
    kernel?.reset()
    await (kernel === undefined ? nft(`${text}\n`, signal) : kernel.owning(() => nft(`${text}\n`, signal)))
    const made = [...servers.values()].sort(compareVirtualServers)
    return { servers: made, irregular: new Map(), carried: [], sound: true }
  }

  /** undefined: the table does not exist. */
  async function list(signal: AbortSignal): Promise<NftTable | undefined> {
    try {
      const args = ['-j', 'list', 'table', 'inet', table]
      return parseTable((await run('nft', args, { signal, deadlineMs: LIST_DEADLINE_MS })).stdout)
    } catch (error) {
      if (error instanceof HostError && /No such file or directory/.test(error.stderr)) return undefined
      throw error
    }
  }

  function nft(text: string, signal: AbortSignal): Promise<unknown> {
    return run('nft', ['-f', '-'], { stdin: text, stdinAsFile: true, signal })
  }
}

/** The known state of our table. */
interface Known {
  readonly servers: readonly VirtualServer[]
  /** Elements of the irregular servers (IRREGULAR_AFFINITY) by key. A change must delete exactly these. */
  readonly irregular: ReadonlyMap<string, readonly Element[]>
  /** Regular servers of a table that is not sound. They are kept when it is made again. */
  readonly carried: readonly VirtualServer[]
  /** True if the table exists and has our chains and no element of another program. */
  readonly sound: boolean
}

// Reading 10,000 services of 10 endpoints takes 4.5 s on an idle machine. The deadline is about four times that, for
// busy machines.
const LIST_DEADLINE_MS = 20_000
const LOCKED = 'nftables did not answer within 10 s: another program’s transaction holds its lock'
const LOCKED_FIX =
  'find the program that loads a large ruleset: ps -C nft,iptables-restore,ip6tables-restore; the agent tries again by itself'
const NO_NETLINK =
  'the package koffi has no binary for this machine: nft reads and changes the load balancer, which takes seconds with thousands of services'
// Longest command that `describe` shows in full.
const DESCRIBED_CHARACTERS_MAX = 600

/**
 * Returns the elements that the caller believes to be in the kernel. For an irregular server it returns none: the
 * kernel then refuses an element that exists with another value, and `update` reads the real elements.
 */
function believed(have: VirtualServer | undefined): readonly Element[] {
  return have === undefined || !isRegular(have) ? [] : elementsOf(have)
}

function isRegular(server: VirtualServer): boolean {
  return server.affinitySeconds !== IRREGULAR_AFFINITY
}

function keyOf(server: VirtualServer | undefined): string {
  return server === undefined ? '' : keyOfVirtualServer(server)
}

function shorten(command: string): string {
  if (command.length <= DESCRIBED_CHARACTERS_MAX) return command
  const elements = command.split(', ').length
  return `${command.slice(0, DESCRIBED_CHARACTERS_MAX)} … (${elements} elements) }`
}
