// Finds the links from which this host takes its IPv6 default route by router advertisements (RFC 4861). When IPv6
// forwarding is switched on, the kernel stops accepting advertisements on every link with accept_ra=1 and removes the
// routes that it has from them; accept_ra=2 keeps them (Documentation/networking/ip-sysctl.rst). tools/sysctl.ts sets 2
// on these links (docs/decisions/0031-ipv6-forwarding-and-accept-ra.md).
// Invariants
//   1. No link accepts more advertisements than before: sysctl.ts changes only links with accept_ra=1, and only while
//      forwarding is on because of this agent.
//   2. A pod cannot become the router of this host: bridge ports, bridges without a default route, and links with
//      routes to single addresses (pods) are left out.
import * as z from 'zod'
import { parseOutput } from '../errors.ts'
import type { Run } from '../ports.ts'

// Hosts have a few uplinks. The bound keeps the record of earlier sysctls (host.json) small on a host that keeps making
// new links.
const UPLINKS_MAX = 32

const LINKS = z.array(
  z.object({
    ifname: z.string(),
    flags: z.array(z.string()),
    master: z.string().optional(),
    linkinfo: z.object({ info_kind: z.string().optional() }).optional()
  })
)
const ROUTES = z.array(
  z.object({ dst: z.string(), dev: z.string().optional(), protocol: z.string().optional() })
)

/** Kinds of links through which a host may be connected to a router; '' is a physical one. A bridge is none of them. */
const UPLINK_KINDS: ReadonlySet<string> = new Set([
  '',
  'bond',
  'ipvlan',
  'macvlan',
  'macvtap',
  'team',
  'veth',
  'vlan'
])

/**
 * Returns the names of the links, sorted, 32 at most. `device` is the tunnel and never an uplink. A list that `ip`
 * cannot give (exit codes 1 and 2, as without IPv6) counts as empty. Errors: HostError of `ip`.
 */
export async function findUplinks(
  run: Run,
  device: string,
  signal?: AbortSignal
): Promise<readonly string[]> {
  const options = { okCodes: [1, 2], ...(signal === undefined ? {} : { signal }) }
  const list = async <T>(schema: z.ZodType<T[]>, ...args: readonly string[]): Promise<readonly T[]> => {
    const { exitCode, stdout } = await run('ip', args, options)
    const text = stdout.trim()
    return exitCode === 0 && text.startsWith('[{')
      ? parseOutput('ip', () => schema.parse(JSON.parse(text)))
      : []
  }
  const [links, defaults, routes] = await Promise.all([
    list(LINKS, '-d', '-j', 'link', 'show'),
    list(ROUTES, '-6', '-j', 'route', 'show', 'default'),
    list(ROUTES, '-4', '-j', 'route', 'show', 'table', 'main')
  ])
  const routed = new Set(defaults.filter(({ protocol }) => protocol === 'ra').map(({ dev }) => dev))
  const single = await list(ROUTES, '-6', '-j', 'route', 'show', 'table', 'main')
  const toPods = new Set([...routes, ...single].filter(({ dst }) => isHost(dst)).map(({ dev }) => dev))
  return links
    .filter(({ ifname, flags, master, linkinfo }) => {
      if (ifname === device || flags.includes('LOOPBACK')) return false
      // A link that has a default route from an advertisement now (protocol `ra`) is an uplink, also if its kind is not
      // in UPLINK_KINDS.
      if (routed.has(ifname)) return true
      const isUplink = master === undefined && UPLINK_KINDS.has(linkinfo?.info_kind ?? '')
      return isUplink && !toPods.has(ifname)
    })
    .map(({ ifname }) => ifname)
    .sort()
    .slice(0, UPLINKS_MAX)
}

/** Returns whether the destination is a single address: `ip` prints a single address without a prefix length. */
function isHost(destination: string): boolean {
  return destination !== 'default' && !destination.includes('/')
}
