// Which zones a Corefile serves, and whether CoreDNS would load it. cluster-dns.ts reads Corefiles of other authors with it
// before it changes them (docs/decisions/0048).
// Invariant: for each file, either this reader and CoreDNS agree on whether it loads and which zones it serves, or the
// reader says that the file is unclear, and the agents leave it alone. The arguments of plugins are not judged.
// Source: coredns 1.15.0, core/dnsserver/register.go, for the zones of all blocks together.
import { zonesOfKey, type KeyZone } from './corefile-keys.ts'
import { parseCorefile, type Flaw, type ServerBlock } from './corefile-parser.ts'

/** One zone that a server block names. */
type ServedZone = KeyZone & {
  /** The line of the key, from 1. */
  readonly line: number
}

/** `served`: CoreDNS loads the file, as far as its blocks decide. The other two have the reason, with the line. */
type Corefile = { readonly kind: 'served'; readonly zones: readonly ServedZone[] } | Flaw

/**
 * Reads a Corefile. It never throws. `defaultPort` is that of keys without a port, as CoreDNS's flag -dns.port sets it.
 */
export function readCorefile(text: string, defaultPort = 53): Corefile {
  const blocks = parseCorefile(text)
  if ('kind' in blocks) return blocks
  const zones: (ServedZone & { readonly block: ServerBlock })[] = []
  for (const block of blocks)
    for (const { text: key, line } of block.keys) {
      const found = zonesOfKey(key, defaultPort)
      if (typeof found === 'string') return { kind: 'invalid', reason: `line ${line}: ${found}` }
      zones.push(...found.map((zone) => ({ ...zone, line, block })))
    }
  return (
    duplicate(zones) ?? {
      kind: 'served',
      zones: zones.map(({ zone, port, transport, line }) => ({ zone, port, transport, line }))
    }
  )
}

/**
 * Two blocks with one zone. With the plugin `view` that is allowed, and two blocks with `bind` may have different addresses,
 * which are not read here.
 */
function duplicate(zones: readonly (ServedZone & { readonly block: ServerBlock })[]): Flaw | undefined {
  const seen = new Map<string, (typeof zones)[number]>()
  for (const one of zones) {
    const { plugins } = one.block
    if (plugins.has('view')) continue
    const id = `${one.transport}://${one.zone === '.' ? '' : one.zone}.:${one.port}`
    const before = seen.get(id)
    const isBoundApart =
      before !== undefined &&
      before.block !== one.block &&
      plugins.has('bind') &&
      before.block.plugins.has('bind')
    if (before !== undefined && !isBoundApart)
      return {
        kind: 'invalid',
        reason: `the server blocks of line ${before.line} and line ${one.line} both have ${id}, and CoreDNS does not start with both`
      }
    if (before === undefined) seen.set(id, one)
  }
  return undefined
}

/**
 * The refusal to write beside a file that CoreDNS does not load, or whose zones cannot be known. `place`: the key and the
 * ConfigMap, for people.
 */
export function unread(
  { kind, reason }: Flaw,
  {
    place,
    configMap,
    namespace
  }: { readonly place: string; readonly configMap: string; readonly namespace: string }
): { readonly kind: 'refused'; readonly reason: string; readonly fix: string } {
  const edit = `kubectl -n ${namespace} edit configmap ${configMap}`
  return kind === 'invalid'
    ? {
        kind: 'refused',
        reason: `CoreDNS cannot load ${place}: ${reason}`,
        fix: `correct it: ${edit}; the agents write their block as soon as CoreDNS can load the file`
      }
    : {
        kind: 'refused',
        reason: `${place} may serve any zone, so nothing is written: ${reason}`,
        fix: `write there what the agents can read: ${edit}; or set cluster-dns: off, and add a forward of the zones to the Corefile`
      }
}
