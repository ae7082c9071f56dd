// The rules of the packet filter for packets that do not come out of the tunnel, and the reading of what they dropped.
// A machine beside this host can write any source into its packets, so a packet is dropped when it comes in elsewhere
// than its source says. The chain runs before connection tracking (−200), so that a forged packet leaves no entry in
// the connection table, and before both load balancers, so that it reaches neither.
//   service  A service address is for the pods of this cluster, containers of this host, and the host itself.
//   remote   The source is a pod of another cluster. Only the tunnel proves such a source. The rule asks no route, so it
//            holds also while a tunnel is down or the device does not exist. Over the pod network between nodes
//            (`overlays`), another gateway of this cluster hands packets over that came out of its tunnel.
//   local    The source is a pod of this cluster or this host itself, but the route to it leads to another device, or
//            nowhere. `fib` asks the kernel with all routing rules, with the two addresses of the packet exchanged.
// The sets `from-…` remember the sources and devices of dropped packets for 2 min, 64 at most, for the operator. When
// such a set is full, `update` ends its rule without a verdict, so the drop is a rule of its own.
import * as z from 'zod'
import { parseIp } from '../../../core/model/cidr.ts'
import { DROP_REASONS, type Dropped, type DropReason, type Run } from '../ports.ts'
import { asRecord, keyOfRow, parseListing } from '../tools/nft-listing.ts'

/** Returns the counters and the sets that the chains use. */
export function underlayObjects(): readonly string[] {
  const sets = (reason: DropReason, family: 4 | 6) => `  set from-${reason}${family} {
    type ipv${family}_addr . ifname
    size 64
    flags dynamic,timeout
    timeout 2m
  }`
  return DROP_REASONS.flatMap((reason) => [
    `  counter ${counterOf(reason)} {\n  }`,
    sets(reason, 4),
    sets(reason, 6)
  ])
}

/**
 * Returns the chain of the hook prerouting, and one for each reason. `hasFib` false: the kernel cannot look up routes
 * in rules, and `local` is left out.
 */
export function underlayChains(device: string, hasFib: boolean): readonly string[] {
  const both = (rule: (ip: 'ip' | 'ip6', family: 4 | 6) => string) => [rule('ip', 4), rule('ip6', 6)]
  const dropping = DROP_REASONS.map((reason) =>
    [
      `  chain drop-${reason} {`,
      ...both((ip, family) => `    update @from-${reason}${family} { ${ip} saddr . iifname }`),
      `    counter name "${counterOf(reason)}" drop`,
      '  }'
    ].join('\n')
  )
  const toServices = both(
    (ip, n) =>
      `    iifname != @bridges ${ip} daddr @vips${n} ${ip} daddr != @own${n} ${ip} saddr != @local${n} goto drop-service`
  )
  const fromRemote = both(
    (ip, n) => `    iifname != @overlays ${ip} saddr @remote${n} ${ip} saddr != @kept${n} goto drop-remote`
  )
  const fromLocal = both(
    (ip, n) => `    iifname @checked ${ip} saddr @local${n} fib saddr . iif oif missing goto drop-local`
  )
  return [
    ...dropping,
    [
      '  chain underlay {',
      '    type filter hook prerouting priority -300; policy accept;',
      '    iifname "lo" accept',
      ...toServices,
      `    iifname "${device}" accept`,
      ...fromRemote,
      ...(hasFib ? fromLocal : []),
      '  }'
    ].join('\n')
  ]
}

const COUNTERS = z.object({
  nftables: z.array(
    z.object({ counter: z.object({ name: z.string(), packets: z.number() }).optional() }).loose()
  )
})

/**
 * Reads the counters, and the senders where a counter is not 0. `table` is the name of the table of the filter. Errors:
 * HostError; TOOL_FAILED where the table does not exist.
 */
export async function readDropped(run: Run, table: string, signal: AbortSignal): Promise<Dropped> {
  const found = await readCounters(run, table, signal)
  const packets = Object.fromEntries(
    DROP_REASONS.map((reason) => [reason, found.get(counterOf(reason)) ?? 0])
  ) as Record<DropReason, number>
  const asked = DROP_REASONS.filter((reason) => packets[reason] > 0)
  const senders = await Promise.all(asked.map((reason) => readSenders(run, table, reason, signal)))
  return { packets, senders: senders.flat() }
}

/** Returns the packets of each counter by its name: from the kernel where it tells all of them, else from nft. */
async function readCounters(
  run: Run,
  table: string,
  signal: AbortSignal
): Promise<ReadonlyMap<string, number>> {
  const known = await run.kernel?.counters(table)
  if (known !== undefined && DROP_REASONS.every((reason) => known.has(counterOf(reason)))) return known
  const { stdout } = await run('nft', ['-j', 'list', 'counters', 'table', 'inet', table], { signal })
  const rows = COUNTERS.safeParse(parseJson(stdout)).data?.nftables ?? []
  return new Map(
    rows.flatMap(({ counter }) => (counter === undefined ? [] : [[counter.name, counter.packets] as const]))
  )
}

function counterOf(reason: DropReason): string {
  return `dropped-${reason}`
}

async function readSenders(run: Run, table: string, reason: DropReason, signal: AbortSignal) {
  const rows = await Promise.all(
    ([4, 6] as const).map(async (family) => {
      const set = `from-${reason}${family}`
      const { stdout } = await run('nft', ['-j', 'list', 'set', 'inet', table, set], { signal })
      return parseListing(stdout).rows.get(set) ?? []
    })
  )
  return rows.flat().flatMap((row) => {
    const parts = asRecord(keyOfRow(row))['concat']
    const [address, device]: readonly unknown[] = Array.isArray(parts) ? parts : []
    const source = typeof address === 'string' ? parseIp(address) : undefined
    return source === undefined || typeof device !== 'string' ? [] : [{ reason, source, device }]
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
