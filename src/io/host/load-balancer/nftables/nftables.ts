// The load balancer in nftables: DNAT by maps in a table of our own, in prerouting for pods and in output for the host.
// Schedulers: rr, wrr and lc draw at random by weight (nft counts no connections), mh hashes the client's address.
// ClientIP affinity hashes the client's address over a table that is the same on every host and moves about 1/N of the
// clients when one of N backends comes or goes. It has no memory that a flood of clients could fill, outlives restarts and
// a change of gateway, and never expires early: `affinitySeconds` is kept, and lasts longer than asked.
// Invariants
//   1. Every change is one transaction: the kernel goes from one whole state to the next.
//   2. The state in memory only saves work. In doubt the kernel is read again: `observe` returns the known state only if kernel.ts says
//      that no other program has changed our table since it was read.
//   3. One change of a service is one netlink message where there is such a socket: nft would read the elements of every interval set
//      of the host first.
import type { VirtualServer } from '../../../../core/host/host-state.ts'
import { HostError } from '../../errors.ts'
import {
  elementChanges,
  elementCommands,
  elementsOf,
  IRREGULAR_AFFINITY,
  parseTable,
  serverOf,
  skeleton,
  type Element,
  type NftTable
} from './table.ts'
import { aboutCommand, digest } from '../../tools/nft-listing.ts'
import type { NftKernel } from './kernel.ts'
import type { HostNames, LoadBalancer, Run, VirtualServerChange } from '../../ports.ts'
import { compareVirtualServers, keyOfVirtualServer, netChanges, withChanges } from '../order.ts'

export interface NftLoadBalancerOptions {
  readonly run: Run
  readonly names: Pick<HostNames, 'nftTable'>
  /** undefined: nft does everything, and each `observe` reads everything. */
  readonly openKernel?: () => NftKernel | undefined
  /** Told once what works less well here than it could. */
  readonly warn?: (message: string) => void
}

/** Errors of its methods: HostError; TOOL_MISSING without nft, TOOL_FAILED where the kernel refuses. */
export function createNftLoadBalancer(options: NftLoadBalancerOptions): LoadBalancer {
  const { run } = options
  const table = options.names.nftTable
  const about = digest(skeleton(table))
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
      // Unless a change was made meanwhile: then the next look reads again.
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
      known = undefined
      known = now.sound ? await update(now, changes, signal) : await rebuild(now, changes, signal)
    },
    describe({ want, have }) {
      const commands = elementCommands(table, believed(have), want ? elementsOf(want) : [])
      return commands.map((command) => shorten(`nft ${command}`))
    },
    async cleanup(signal) {
      known = undefined
      await nft(`add table inet ${table}\ndelete table inet ${table}\n`, signal)
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
    const listing = await list([], signal)
    if (listing === undefined) return { servers: [], irregular: new Map(), carried: [], sound: false }
    const byServer = new Map<string, Element[]>()
    for (const element of listing.elements) {
      const group = byServer.get(element.server)
      if (group) group.push(element)
      else byServer.set(element.server, [element])
    }
    const servers = [...byServer.values()].map(serverOf).filter((server) => server !== undefined)
    const sound = listing.foreign === 0 && listing.about === `${about} ${listing.shape}`
    // A table that we would not have made so may balance nothing: it counts as empty, and is made anew with what it had.
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

  /** Element deltas against what the caller saw; where the kernel disagrees, once more against the kernel. */
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
      await transaction(seen, wanted, signal)
    } catch (error) {
      if (!(error instanceof HostError) || error.code !== 'TOOL_FAILED') throw error
      const listing = await list([], signal)
      if (listing === undefined) throw error
      const touched = new Set(changes.map(({ have, want }) => keyOf(have ?? want)))
      const actual = listing.elements.filter((element) => touched.has(element.server))
      await transaction(actual, wanted, signal)
      return undefined // another program changes the table: read everything before the next change
    }
    const irregular = new Map(now.irregular)
    for (const { have, want } of changes) irregular.delete(keyOf(have ?? want))
    return { ...now, irregular, servers: withChanges(now.servers, changes) }
  }

  async function transaction(
    have: readonly Element[],
    want: readonly Element[],
    signal: AbortSignal
  ): Promise<void> {
    const { gone, fresh } = elementChanges(have, want)
    if (gone.length + fresh.length === 0) return
    if (signal.aborted) throw new HostError({ code: 'ABORTED', message: 'the change was given up' })
    const answer = await kernel?.change(gone, fresh).catch(() => 'refused' as const)
    if (answer === 'done') return
    if (answer === 'late')
      throw new HostError({ code: 'TOOL_TIMEOUT', tool: 'nft', message: LOCKED, fix: LOCKED_FIX })
    // Too large, refused, or no socket: nft tells why it cannot.
    const text = `${elementCommands(table, have, want).join('\n')}\n`
    await (kernel === undefined ? nft(text, signal) : kernel.owning(() => nft(text, signal)))
  }

  /** The whole table, in one transaction, with the changes and with all that it served before. */
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
    const text = [
      `add table inet ${table}`,
      `delete table inet ${table}`,
      skeleton(table),
      ...elementCommands(table, [], elements)
    ]
    await nft(`${text.join('\n')}\n`, signal)
    kernel?.reset()
    const listing = await list(['-t'], signal)
    const mark = aboutCommand(table, `${about} ${listing?.shape}`)
    await (kernel === undefined ? nft(mark, signal) : kernel.owning(() => nft(mark, signal)))
    const made = [...servers.values()].sort(compareVirtualServers)
    return { servers: made, irregular: new Map(), carried: [], sound: true }
  }

  async function list(flags: readonly string[], signal: AbortSignal): Promise<NftTable | undefined> {
    try {
      const args = ['-j', ...flags, 'list', 'table', 'inet', table]
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

interface Known {
  readonly servers: readonly VirtualServer[]
  /** What the kernel holds for servers whose elements are not what any wish would make. */
  readonly irregular: ReadonlyMap<string, readonly Element[]>
  /** Served by a table that must be rebuilt. */
  readonly carried: readonly VirtualServer[]
  /** The table is there, and its chains are as we made them. */
  readonly sound: boolean
}

// 10,000 services × 10 endpoints are read in 4.5 s on an idle machine; this one may be busy.
const LIST_DEADLINE_MS = 20_000
const LOCKED = 'nftables did not answer within 10 s: another program’s transaction holds its lock'
const LOCKED_FIX =
  'look for a program that loads a large ruleset (nft, iptables-restore); the next pass tries again'
const NO_NETLINK =
  'the package koffi has no binary for this machine: nft reads and changes the load balancer, which takes seconds with thousands of services'
const DESCRIBED_CHARACTERS_MAX = 600

/** The elements that the caller believes to be there. An irregular server, not seen by us: none, so the kernel objects. */
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
