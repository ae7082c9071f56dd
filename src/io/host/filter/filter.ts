// The packet filter: one nftables table of our own. It decides which packets may come out of the tunnel, and keeps
// other programs from changing packets on their way into it. src/io/host/host.ts sets it as desired. Its chains are in
// chains.ts and underlay.ts, its sets in sets.ts. The set `about` has the mark of the table in its comment (`aboutOf`), by which a later pass
// sees whether another program changed the table.
import { normalizeFilter } from '../../../core/host/normalize.ts'
import type { Filter } from '../../../core/host/host-state.ts'
import { HostError } from '../errors.ts'
import { openNftKernel, type NftKernel } from '../load-balancer/nftables/kernel.ts'
import { canLookUpRoutes, canMakeChain } from '../tools/nft-trial.ts'
import { createShapeOf, removalOf, removalWithCopy } from '../tools/nft-shape.ts'
import { ABOUT_SET, aboutCommand, digest, parseListing, type NftListing } from '../tools/nft-listing.ts'
import { chains } from './chains.ts'
import type { FilterPort, HostNames, Run } from '../ports.ts'
import type { TranslatedSources } from '../translated-sources.ts'
import { listsOf, setsOf } from './sets.ts'
import { createTranslatedFlows } from './translated-flows.ts'
import { readDropped, underlayChains, underlayObjects } from './underlay.ts'

/** The arguments of a filter. A PartContext has them. */
interface FilterOptions {
  readonly run: Run
  readonly names: Pick<HostNames, 'nftTable' | 'device'>
  /** Takes a sentence for the operator, once, if this kernel cannot filter, or only in part. */
  readonly warn?: (message: string) => void
  /** Gets the prefixes that the filter translates. */
  readonly sources?: Pick<TranslatedSources, 'use'>
  /**
   * Opens the observer of the table, by which a reading is used again until another program changes the table. Where it
   * is absent or gives undefined, each `observe` runs nft.
   */
  readonly openKernel?: () => Pick<NftKernel, 'reset' | 'untouched' | 'close'> | undefined
  /** Monotonic milliseconds. Default: performance.now. */
  readonly nowMs?: () => number
}

/** What a reading found. */
interface Found {
  readonly filter: Filter | undefined
  /** False: another program changed the table, or it was made by another version or for another device. */
  readonly isOurs: boolean
  /** Monotonic milliseconds at its end. */
  readonly atMs: number
}

// A reading is used again for a minute at most, so that an nft that hangs is told while nothing needs it, and what no event
// of the kernel tells is found.
const READING_LIVES_MS = 60_000

interface TableContext {
  readonly names: FilterOptions['names']
  /** Whether rules can look up routes in this kernel. */
  readonly hasFib: boolean
}

/** Returns the filter that this kernel can run: nftables, or none with a warning. The first use finds out which. */
export function createFilter(options: FilterOptions): FilterPort {
  let chosen: Promise<FilterPort> | undefined
  const port = () => (chosen ??= choose(options))
  return {
    observe: async (signal) => (await port()).observe(signal),
    set: async (filter, signal) => (await port()).set(filter, signal),
    describe: (filter) => describeFilter({ names: options.names, hasFib: true }, filter),
    cleanup: async (signal) => (await port()).cleanup(signal),
    dropped: async (signal) => (await port()).dropped(signal),
    stop: async () => (await chosen?.catch(() => undefined))?.stop?.()
  }
}

const FLAGGED = /"table": \{[^{}]*"flags":/

/** Returns the filter by nftables. Errors of its methods: HostError of nft. */
export function createNftFilter(options: FilterOptions): FilterPort {
  const { run, names, nowMs = () => performance.now() } = options
  const table = tableOf(names)
  const shapeOf = createShapeOf(run, table)
  const flows = createTranslatedFlows(run)
  const nft = (text: string, signal: AbortSignal) =>
    run('nft', ['-f', '-'], { stdin: text, stdinAsFile: true, signal })
  let found: Promise<TableContext> | undefined
  const context = () => (found ??= contextOf(options))
  /** The last reading; undefined: the next one runs nft. */
  let known: Found | undefined
  let kernel: ReturnType<NonNullable<FilterOptions['openKernel']>>

  /** Returns the last reading where the kernel knows of no change since, else reads the table. */
  async function read(signal: AbortSignal): Promise<Found> {
    kernel ??= options.openKernel?.()
    const before = known
    const isFresh = before !== undefined && nowMs() - before.atMs < READING_LIVES_MS
    if (isFresh && (await kernel?.untouched()) === true) return before
    kernel?.reset()
    const listing = await list(signal)
    const filter = listing && filterOf(listing)
    // A table that is not ours counts as missing and is set again.
    const isOurs =
      listing !== undefined &&
      filter !== undefined &&
      listing.about === aboutOf(await context(), filter, listing.shape)
    const now = { filter, isOurs, atMs: nowMs() }
    // If `set` ran during this reading, the reading may lack its change: then the next call reads again.
    known = known === before && kernel !== undefined ? now : undefined
    return now
  }

  async function list(signal: AbortSignal): Promise<NftListing | undefined> {
    const listed = await orMissing(run('nft', ['-j', 'list', 'table', 'inet', table], { signal }))
    if (listed === undefined) return undefined
    try {
      return parseListing(listed.stdout)
    } catch (error) {
      // nft 1.0.6 prints the flag `dormant` from memory that it has not set, and may end in the middle of its output.
      // Our table never has a flag, so another program has changed it.
      if (FLAGGED.test(listed.stdout)) return undefined
      throw error
    }
  }

  return {
    async observe(signal) {
      const { filter, isOurs } = await read(signal)
      options.sources?.use(filter)
      flows.known(filter)
      await flows.retry(signal)
      return isOurs ? filter : undefined
    },
    async set(filter, signal) {
      known = undefined
      if (filter === undefined) {
        await nft(removalOf(table), signal)
        await flows.changed(undefined, signal)
        return
      }
      const text = tableText(await context(), filter)
      const mark = aboutCommand(table, aboutOf(await context(), filter, await shapeOf(text, signal)))
      await nft(`${removalOf(table)}${text}${mark}`, signal)
      options.sources?.use(filter)
      await flows.changed(filter, signal)
    },
    describe: (filter) => describeFilter({ names, hasFib: true }, filter),
    async cleanup(signal) {
      known = undefined
      await nft(removalWithCopy(table), signal)
    },
    dropped: (signal) => orMissing(readDropped(run, table, signal)),
    async stop() {
      known = undefined
      kernel?.close()
      kernel = undefined
    }
  }
}

/** Returns undefined where the table does not exist. */
async function orMissing<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading
  } catch (error) {
    if (error instanceof HostError && error.stderr.includes('No such file or directory')) return undefined
    throw error
  }
}

async function contextOf({ run, names, warn }: FilterOptions): Promise<TableContext> {
  const hasFib = await canLookUpRoutes(run)
  if (!hasFib) warn?.(NO_FIB)
  return { names, hasFib }
}

/**
 * Returns a filter for a kernel without nftables (docs/decisions/0025-hosts-without-nftables.md). `observe` returns
 * the filter that was set, so that the plan has nothing to do. The first filter that is set gives a warning. Errors of `set`:
 * HostError NO_TRANSLATION for a cluster whose addresses are translated.
 */
export function createNoFilter(options: Pick<FilterOptions, 'warn'>): FilterPort {
  let desired: Filter | undefined
  let warned = false
  return {
    observe: async () => desired,
    async set(filter) {
      if (filter?.translatedPods !== undefined) throw cannotTranslate()
      desired = filter
      if (filter === undefined || warned) return
      warned = true
      options.warn?.(NO_FILTER)
    },
    describe: () => [`# ${NO_FILTER}`],
    async cleanup() {
      desired = undefined
    },
    dropped: async () => undefined
  }
}

/** Without nftables a translated cluster would send packets that no other cluster takes, so it is refused. */
function cannotTranslate(): HostError {
  return new HostError({
    code: 'NO_TRANSLATION',
    message:
      'this kernel has no nftables, so the addresses of this cluster cannot be translated, and other clusters do not reach its pods',
    fix: 'run the gateways of this cluster on a kernel with nftables, or let it join with prefixes that no other cluster has'
  })
}

const NO_FIB =
  'rules of nftables cannot look up routes in this kernel (module nft_fib_inet), so packets with the forged source of a pod of this cluster are not dropped'

export const NO_FILTER =
  'this kernel has no nftables, so there is no packet filter: only WireGuard’s AllowedIPs limit the traffic from the tunnel'

async function choose(options: FilterOptions): Promise<FilterPort> {
  return (await canMakeChain(options.run, 'filter', 'input'))
    ? createNftFilter({ openKernel: () => openNftKernel(tableOf(options.names)), ...options })
    : createNoFilter(options)
}

function describeFilter(context: TableContext, filter: Filter | undefined): readonly string[] {
  const removing = removalOf(tableOf(context.names))
  if (filter === undefined) return [`nft -f - <<'END'\n${removing}END`]
  return [
    `nft -f - <<'END'\n${removing}${tableText(context, filter)}END`,
    '# and in the same transaction the digest of what nft lists of such a table, as an element of its set "about"'
  ]
}

function tableOf(names: FilterOptions['names']): string {
  return `${names.nftTable}-filter`
}

function tableText(context: TableContext, filter: Filter): string {
  return [
    `table inet ${tableOf(context.names)} {`,
    ABOUT_SET,
    ...setsOf(filter),
    ...underlayObjects(),
    chainsOf(context, filter),
    '}\n'
  ].join('\n')
}

function chainsOf({ names, hasFib }: TableContext, filter: Filter): string {
  return [...underlayChains(names.device, hasFib), chains(names.device, filter)].join('\n')
}

/**
 * Returns the mark of the table: UDP port of the probe, MTU in bytes, what is reachable, digest of our chains, and digest of all that nft
 * listed of the table but its elements (`shape`).
 */
function aboutOf(context: TableContext, filter: Filter, shape: string): string {
  return `${filter.probePort} ${filter.mtu} ${filter.reach ?? 'pods'} ${digest(chainsOf(context, filter))} ${shape}`
}

/**
 * Returns the filter that a listing of nft shows; undefined if the table has no mark (`aboutOf`), because the mark has
 * the port of the probe, the MTU and what is reachable.
 */
function filterOf({ rows, about }: NftListing): Filter | undefined {
  const said = /^(\d+) (\d+) (pods|services) /.exec(about ?? '')
  if (!said) return undefined
  return normalizeFilter({
    ...listsOf(rows),
    probePort: Number(said[1]),
    mtu: Number(said[2]),
    ...(said[3] === 'services' ? { reach: 'services' } : {})
  })
}
