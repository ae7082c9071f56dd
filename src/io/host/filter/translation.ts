// The rules that translate the addresses of pods between tunnel and host, where other clusters know this one by virtual
// prefixes (core/model/translation.ts). In the tunnel there are virtual addresses only, and on this host real ones only, so
// every other rule, both load balancers and the programs of others see real addresses of this cluster:
//   from the tunnel  `unreal` drops what names a real address of this cluster: no other cluster can mean it. Then, with
//                    connection tracking, `translate-in` makes the destination real, before the routing decision, the chains
//                    forward and input, and IPVS (input 98). It runs beside the chain of the load balancer, which translates
//                    service addresses only; these never come out of a tunnel.
//   into the tunnel  Chain `keep` makes the source virtual in place of translating it to itself: after the load balancer
//                    has chosen a pod and after all filters, and before masquerading (100). IPVS sends its packets through
//                    the same hook (with net.ipv4.vs.conntrack), and finds replies at the hook forward (99), behind
//                    `translate-in`.
// The kernel does this with NETMAP: the bits behind the prefix stay. The first packet of a flow is translated so, and the
// kernel repeats it for the rest, in both directions, also inside the ICMP errors about the flow. As a mapping depends on
// nothing but the prefixes, another gateway translates a flow that moves to it in the same way.
import { familyOf } from '../../../core/model/cidr.ts'
import type { Filter, TranslatedPrefix } from '../../../core/host/host-state.ts'
import type { Cidr } from '../../../core/model/values.ts'

/** A real prefix and the virtual one that stands for it in the mesh. */
interface Pair {
  readonly real: Cidr
  readonly virtual: Cidr
}

type Translated = Pick<Filter, 'translatedPods'>

/** Returns the maps from virtual to real prefixes, one for each family; none without a translation. */
export function translationMaps(filter: Translated): readonly string[] {
  const pairs = pairsOf(filter)
  if (pairs.length === 0) return []
  return FAMILIES.map(({ n }) => {
    const rows = pairs
      .filter(({ real }) => familyOf(real) === n)
      .map(({ real, virtual }) => `${virtual} : ${real}`)
    const elements = rows.length === 0 ? '' : `    elements = { ${rows.join(', ')} }\n`
    return `  map ${MAP}${n} {\n    type ipv${n}_addr : interval ipv${n}_addr\n    flags interval\n${elements}  }`
  })
}

/** Returns the pairs that the maps hold, from [virtual, real] as a listing has them. */
export function translatedFrom(rows: readonly (readonly [Cidr, Cidr])[]): readonly TranslatedPrefix[] {
  return rows.map(([virtual, real]): TranslatedPrefix => `${real} ${virtual}`)
}

/** Returns the chains for packets from the tunnel; none without a translation. `priority`: that of DNAT, before others. */
export function inwardChains(device: string, filter: Translated, priority: number): readonly string[] {
  const pairs = pairsOf(filter)
  if (pairs.length === 0) return []
  // Nodes of this cluster are behind the tunnel with their real addresses.
  const unreal = pairs.map(({ real }) => {
    const { ip, n } = familyRules(real)
    return `    iifname "${device}" ${ip} saddr != @nodes${n} ${ip} daddr ${real} counter drop`
  })
  return [
    [
      '  chain unreal {',
      '    type filter hook prerouting priority -290; policy accept;',
      ...unreal,
      '  }'
    ].join('\n'),
    [
      '  chain translate-in {',
      `    type nat hook prerouting priority ${priority}; policy accept;`,
      ...FAMILIES.map(
        ({ ip, n }) => `    iifname "${device}" dnat ${ip} prefix to ${ip} daddr map @${MAP}${n}`
      ),
      '  }'
    ].join('\n')
  ]
}

/** Returns the rules of chain `keep` for packets into the tunnel. */
export function outwardRules(device: string, filter: Translated): readonly string[] {
  return pairsOf(filter).map(({ real, virtual }) => {
    const { ip, n } = familyRules(real)
    return `    oifname "${device}" ${ip} saddr ${real} ${ip} daddr @remote${n} snat ${ip} prefix to ${virtual}`
  })
}

/** Returns the condition that a source in the tunnel is none of the virtual prefixes of this cluster; empty: there are none. */
export function notVirtual(filter: Translated, family: 4 | 6): string {
  return pairsOf(filter)
    .filter(({ virtual }) => familyOf(virtual) === family)
    .map(({ virtual }) => `${familyRules(virtual).ip} saddr != ${virtual} `)
    .join('')
}

/** The names of the maps without the family. */
export const MAP = 'translated'

const FAMILIES = [
  { ip: 'ip', n: 4 },
  { ip: 'ip6', n: 6 }
] as const

function familyRules(cidr: Cidr): (typeof FAMILIES)[number] {
  return FAMILIES[familyOf(cidr) === 4 ? 0 : 1]
}

function pairsOf({ translatedPods = [] }: Translated): readonly Pair[] {
  return translatedPods.map((text) => {
    const [real, virtual] = text.split(' ') as [Cidr, Cidr]
    return { real, virtual }
  })
}
