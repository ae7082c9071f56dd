// Links on which this host takes its IPv6 default route from router advertisements. The kernel stops doing so on every link with accept_ra=1,
// and removes the routes it has, at the moment IPv6 forwarding is switched on; accept_ra=2 keeps them.
// Invariants
//   1. Nothing takes more advertisements than before us: only links with accept_ra=1 are named, and only while forwarding is ours.
//   2. A pod cannot become this host's router: bridge ports, bridges without a default route, and links with routes to single pods are left out.
import { z } from 'zod'
import type { Run } from '../ports.ts'

// Hosts have a few uplinks. A host that makes links without end must not fill the record of settings.
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

/** Kinds of links by which a host may be connected to a router; '' is a physical one. */
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

/** Names, in order. `device` is the tunnel's. */
export async function findUplinks(
  run: Run,
  device: string,
  signal?: AbortSignal
): Promise<readonly string[]> {
  const options = { okCodes: [1, 2], ...(signal === undefined ? {} : { signal }) }
  const list = async <T>(schema: z.ZodType<T[]>, ...args: readonly string[]): Promise<readonly T[]> => {
    const { exitCode, stdout } = await run('ip', args, options)
    const text = stdout.trim()
    return exitCode === 0 && text.startsWith('[{') ? schema.parse(JSON.parse(text)) : []
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
      if (routed.has(ifname)) return true
      const isUplink = master === undefined && UPLINK_KINDS.has(linkinfo?.info_kind ?? '')
      return isUplink && !toPods.has(ifname)
    })
    .map(({ ifname }) => ifname)
    .sort()
    .slice(0, UPLINKS_MAX)
}

/** `ip` leaves the length of a host's address out. */
function isHost(destination: string): boolean {
  return destination !== 'default' && !destination.includes('/')
}
